# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at somebody's files with their rights, and not with root's.

A virtual environment belongs to a service account. Root that runs a program out of it runs
whatever that account put there. ``become_user`` would do, but fails in a check of a node on
which the account is yet to be made; so the module itself steps down.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
import pwd
import traceback
from collections.abc import Callable

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY, walk


def with_rights_of_owner(path: str, function: Callable[[], dict[str, object]]) -> dict[str, object]:
    """``function()`` as the owner of ``path`` (links followed) when root calls for somebody else.

    The result must be JSON. A SparkError of the function is raised here as it was there.
    """
    owner = 0 if os.geteuid() else somebody_else(path)
    if owner == 0:
        return function()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        code = 1
        try:
            _step_down(owner)
            try:
                answer: dict[str, object] = {"result": function()}
            except SparkError as error:
                answer = {"problem": error.problem.as_dict(error.kind)}
            with os.fdopen(write_end, "w", encoding="utf-8") as pipe:
                json.dump(answer, pipe)
            code = 0
        except BaseException:
            traceback.print_exc()  # Ansible shows it as module_stderr
        finally:
            # Nothing of the parent (its clean-up, its buffers) may run twice.
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        text = pipe.read()
    _pid, status = os.waitpid(child, 0)
    if status or not text:
        raise NodeError(
            "rights.no_answer",
            wanted=f"a look at {path} with the rights of its owner (uid {owner})",
            found=f"the process ended with status {status} and {len(text)} characters",
            why="without it nothing can be said, and root does not run programs of other users",
            fix="run the same task with -vvv as that user and report what it prints",
        )
    return _answer(json.loads(text))


def somebody_else(path: str) -> int:
    """The first user but root who can decide what ``path`` leads to; 0 when only root can."""
    try:
        return walk(path, HostReader()).decides
    except Unreadable:
        return NOBODY  # what cannot even be looked at is no reason to trust it


def _step_down(uid: int) -> None:
    try:
        account = pwd.getpwuid(uid)
        os.initgroups(account.pw_name, account.pw_gid)
        gid = account.pw_gid
    except KeyError:
        os.setgroups([])
        gid = NOBODY
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _answer(answer: dict[str, dict[str, object]]) -> dict[str, object]:
    if "result" in answer:
        return answer["result"]
    problem = {name: str(text) for name, text in answer["problem"].items()}
    kind, key = problem.pop("kind"), problem.pop("key")
    error = SparkError(key, **problem)
    error.kind = kind
    raise error
