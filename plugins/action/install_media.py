# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders installation media on the controller alone: no connection, no call on a node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import (
    InputError,
    Problem,
    SparkError,
    doing,
    refusal,
)
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install import declared, place, render


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(
            {"declared": {"type": "dict", "required": True}, "directory": {"type": "str", "required": True}}
        )
        task_vars = task_vars or {}
        host = str(task_vars.get("inventory_hostname"))
        user = self._templar.template(task_vars.get("ansible_user"))
        install, problems = declared.parse(options["declared"], host, user)
        problems += _shared(install, host, task_vars) if install else []
        if install is None or problems:
            return {**result, **refusal([_on(host, problem) for problem in problems])}
        folder = Path(str(options["directory"])).expanduser().absolute() / host
        tree = render.tree(install)
        try:
            with doing(f"Installation media in {folder}"):
                changes = place.changes(tree, folder)
                if changes and not self._task.check_mode:
                    place.write(tree, folder)
                    if left := place.changes(tree, folder):
                        raise InputError("install.unsettled", **_unsettled(folder, left))
        except SparkError as error:
            return {**result, **refusal([error.problem])}
        return {
            **result,
            "changed": bool(changes),
            "folder": str(folder),
            "files": sorted(tree),
            "commands": render.commands(install, str(folder)),
            "diff": [
                {
                    "before_header": f"{folder}/{change.path}",
                    "after_header": f"{folder}/{change.path}",
                    "before": change.before,
                    "after": change.after,
                }
                for change in changes
            ],
        }


def _shared(install: declared.Install, host: str, task_vars: Mapping[str, Any]) -> Iterator[Problem]:
    """What must be of this host alone: a second one with it was copied and not changed, or takes its folder."""
    if not re.fullmatch(r"\w[\w.-]*", host):
        why = "what installs a host is kept in a folder of its name, and two hosts would share one"
        fix = "call it otherwise in the inventory; ansible_host and spark_install.hostname say the rest"
        yield Problem("install.input", "a host whose name can be that of a folder", repr(host), why, fix)
    for other in task_vars.get("ansible_play_hosts_all", ()):
        theirs = task_vars["hostvars"][other].get("spark_install") if other != host else None
        if isinstance(theirs, Mapping):
            for name, default in (("hostname", other), ("disk_serial", None)):
                mine = getattr(install, name)
                if mine and str(theirs.get(name) or default) == mine:
                    wanted = f"spark_install.{name}: one of its own"
                    why = "one of the two would take the other's place"
                    yield Problem(
                        "install.input", wanted, f"{mine!r}, as of {other},", why, f"correct it for {host} or {other}"
                    )


def _on(host: str, problem: Problem) -> Problem:
    return Problem(problem.key, problem.wanted, f"{problem.found} on {host}", problem.why, problem.fix)


def _unsettled(folder: Path, left: list[place.Change]) -> dict[str, str]:
    return {
        "wanted": f"{folder} as it was declared, after it was written",
        "found": ", ".join(change.path for change in left[:5]),
        "why": "what is on the medium would not be what was shown",
        "fix": "see who else writes there, and run the playbook again",
    }
