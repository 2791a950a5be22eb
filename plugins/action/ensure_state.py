# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the variables of the calling role against its argument specs before the module runs.

preflight has done so for a play of this collection. A role in somebody else's play is judged here,
with everything that only its play knows, and an error of the module is led back to a variable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem, refusal
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables, beside


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        given = Variables(str(variables.get("inventory_hostname")), variables, self._templar.template)
        folder = self._role_folder()
        if folder and (problems := list(given.misfits(beside(folder), only=folder.name))):
            return {**result, **refusal(problems)}
        background = self._task.async_val and not self._connection.has_native_async
        result = merge_hash(result, self._execute_module(task_vars=variables, wrap_async=background))
        if not background:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return _led_back(result, given, folder) if folder else result

    def _role_folder(self) -> Path | None:
        """Of the role whose task this is, if the document is that role's."""
        role = self._task._role
        folder = Path(role._role_path) if role is not None else None
        return folder if folder and folder.name == self._task.args.get("role") else None


def _led_back(result: dict[str, Any], given: Variables, folder: Path) -> dict[str, Any]:
    """An operator writes variables, not documents: say which one holds the value that was refused."""
    error = result.get("error")
    if not isinstance(error, dict) or error.get("kind") != "input":
        return result
    source = given.source(str(error["found"]), folder)
    if not source:
        return result
    error = {**error, "found": error["found"] + source}
    told = Problem(error["key"], error["wanted"], error["found"], error["why"], error["fix"])
    # Ansible has kept the words of the module beside its result, and would show those.
    return {**{k: v for k, v in result.items() if k != "exception"}, "error": error, "msg": told.text()}
