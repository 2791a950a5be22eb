# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at what is somebody's, and run it, with their rights and not with root's.

A virtual environment belongs to a service account. Root that runs a program out of it runs
whatever that account put there. ``become_user`` would do, but fails in a check of a node on
which the account is yet to be made, and one task meets programs of several users; so each
look steps down by itself, to who decides what the paths in question lead to.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import ask
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import (
    InputError,
    NodeError,
    SparkError,
    Unreadable,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY, walk


class NoLook(NodeError):
    """There was no look, and why."""


class Shared(NoLook):
    """Several users decide what a path leads to: nobody's rights are the right ones."""

    def __init__(self, path: str, who: str) -> None:
        self.path, self.who = path, who
        super().__init__(
            "rights.shared",
            wanted=f"to look at {path} with the rights of who decides what it is",
            found=f"not only root and one other user decide that, but {who}",
            why="with the rights of one of them, or of root, a program of another would run",
            fix="give every folder, link and file on the way to root, or all to one user, and let nobody else write",
        )


@dataclass(frozen=True)
class Looked:
    """``value``: what the look returned, through JSON; ``user``: with whose rights it was made."""

    value: Any
    user: int


def look(paths: Sequence[str], question: Callable[[], object], seconds: float, *, user: int = 0) -> Looked:
    """``question()`` as the one user but root who decides what the ``paths`` lead to.

    As ``user`` when only root decides, and as the caller when that is not root. In a process of
    its own, within a time limit: what is looked at may be on a share whose server is gone, and
    its owner may stop every process that has their rights. A SparkError of the question is
    raised here as it was there. What the question imports must be imported already: the user may
    not be allowed to read this module, nor the Python that runs it.
    """

    def ask_it() -> dict[str, object]:
        try:
            uid = os.geteuid() or decides(paths, HostReader()) or user
            if uid != os.geteuid():
                _step_down(uid)
            return {"user": uid, "value": question()}
        except Shared as shared:
            return {"shared": [shared.path, shared.who]}
        except SparkError as error:
            return {"problem": error.problem.as_dict(error.kind)}

    answer = ask(ask_it, seconds)
    if answer.silence or answer.bug:
        raise NoLook(
            "rights.no_answer",
            wanted=f"a look at {paths[0]} with the rights of who decides what that is",
            found=answer.silence or answer.bug.strip().splitlines()[-1],
            why="without it nothing can be said, and root does not run programs of other users",
            fix="see whether the files can be read by their owner; else report this with what -vvv prints",
        )
    if "shared" in answer.value:
        raise Shared(*answer.value["shared"])
    if "problem" in answer.value:
        raise _error(answer.value["problem"])
    return Looked(answer.value["value"], answer.value["user"])


def act(user: int, action: Callable[[], None], seconds: float, what: str) -> None:
    """``action()`` as ``user``, in a process of its own, when root calls for somebody else.

    What root writes below a folder of somebody else can be led anywhere. The time limit is for what
    hangs in the kernel: the commands that the action runs must have shorter ones of their own.
    """
    if os.geteuid() or not user:
        action()
        return

    def done() -> dict[str, object]:
        try:
            _step_down(user)
            action()
        except SparkError as error:
            return {"problem": error.problem.as_dict(error.kind)}
        return {}

    answer = ask(done, seconds)
    if answer.silence or answer.bug:
        raise NodeError(
            "rights.not_done",
            wanted=f"{what}, with the rights of {_name(user)}",
            found=answer.silence or answer.bug.strip().splitlines()[-1],
            why="root does not write for somebody who could lead it anywhere",
            fix="see whether that user can do it by hand; else report this with what -vvv prints",
        )
    if "problem" in answer.value:
        raise _error(answer.value["problem"])


def decides(paths: Sequence[str], reader: Reader) -> int:
    """The one user but root who decides what the paths lead to, 0 when only root does; or Shared."""
    found: dict[int, str] = {}
    for path in paths:
        try:
            way = walk(path, reader)
            first, by = way.decides, way.by
            if first and first != NOBODY:
                found.setdefault(first, by)
                # What that user decides, another may decide as well, further on.
                way = walk(path, reader, {0, first}, _own_group(first))
        except Unreadable as error:
            raise Shared(path, str(error)) from error
        if way.decides:
            others = f"{_name(way.decides)} by {way.by}"
            raise Shared(path, others if way.decides == first else f"{_name(first)} by {by}, {others}")
        if len(found) > 1:
            raise Shared(path, ", ".join(f"{_name(uid)} by {place}" for uid, place in found.items()))
    return next(iter(found), 0)


def _own_group(uid: int) -> Collection[int]:
    """The group that was made with the user and for nobody else: what it can write is theirs alone."""
    try:
        account = pwd.getpwuid(uid)
        group = grp.getgrgid(account.pw_gid)
    except KeyError:
        return ()
    alone = group.gr_name == account.pw_name and set(group.gr_mem) <= {account.pw_name}
    return (group.gr_gid,) if alone else ()


def _name(uid: int) -> str:
    if uid == NOBODY:
        return "a group or everybody"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


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
    tempfile.tempdir = None  # the caller's may be for root only


def _error(problem: dict[str, str]) -> SparkError:
    kind, key = problem.pop("kind"), problem.pop("key")
    error = {known.kind: known for known in (InputError, NodeError)}.get(kind, SparkError)(key, **problem)
    error.kind = kind
    return error
