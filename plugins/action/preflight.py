# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what was asked for, on the controller alone: no connection, no call on a node."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem, refusal
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.documents import Unjudged, refusals
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.ports import misplaced
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables, of_collection


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self.validate_argument_spec({})
        variables = task_vars or {}
        given = Variables(str(variables.get("inventory_hostname")), variables, self._templar.template)
        owners = of_collection()
        # A role's call says nothing new of what does not even fit.
        problems, unjudged = list(given.misfits(owners)), []
        if not problems:
            found = [
                *refusals(owners, given, self._loader, self._templar),
                *misplaced(owners, given, self._loader, self._templar),
            ]
            problems = [one for one in found if isinstance(one, Problem)]
            unjudged = [one.text(given.host) for one in found if isinstance(one, Unjudged)]
        if not problems and not variables.get("ansible_check_mode") and (unnamed := _unnamed_machine(given)):
            problems = [unnamed]
        if problems:
            return {**result, **refusal(problems)}
        for text in (*given.nearly_ours(owners), *unjudged):
            self._display.warning(text)
        return {**result, "changed": False, "unjudged": unjudged}


def _unnamed_machine(given: Variables) -> Problem | None:
    """A real run against the machine one sits at must name it."""
    local, name = str(given.value("spark_local", False)).lower(), os.uname().nodename
    if local not in ("true", "yes", "1", "on", "y", "t") or given.value("spark_local_apply") == name:
        return None
    return Problem(
        "preflight.local",
        wanted="A named target for a run that changes things",
        found=f"{given.value('spark_local_apply') or 'no name'} in spark_local_apply",
        why="this inventory is for looking, and the machine it means is the one you sit at",
        fix=f"add --check to look, or -e spark_local_apply={name} to change this machine",
    )
