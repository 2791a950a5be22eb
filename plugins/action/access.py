# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves that there is still a way in, from where the next run will come: by coming in anew.

A change of SSH or firewall undoes itself on the node unless a run comes by another login. This makes that
run: the kept connection is closed, and the same module is called by a new one with the same parameters.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError

# OpenSSH 9.8 and later answers nobody at an address for a while after refusals that add up to 15 s, 5 s each
# (PerSourcePenalties): who asks more often is out for longer.
PAUSE_SECONDS = 5.0
# What the node needs after its time is up, with a busy machine in mind.
UNDO_SECONDS = 20.0


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        result |= self._execute_module(task_vars=task_vars)
        if not self._task.check_mode and result.get("access", {}).get("pending"):
            result = self._prove(result, task_vars)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _prove(self, result: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """``result``: of the run that has changed something. It becomes that of the whole, proven or failed."""
        end = time.monotonic() + float(self._task.args.get("proof_seconds") or 60)
        why = ""
        while time.monotonic() < end:
            try:
                again = self._anew(task_vars, proving=True)
            except AnsibleConnectionFailure as error:
                why = " ".join(str(error).split())
                time.sleep(PAUSE_SECONDS)
                continue
            if again.get("access", {"pending": True})["pending"]:
                why = str(again.get("msg") or "the new connection is no new login (a connection that is kept open?)")
                time.sleep(PAUSE_SECONDS)
                continue
            if again.get("failed"):
                # In, and something else of the role is not as declared.
                return {**result, **{k: again[k] for k in ("failed", "msg", "error") if k in again}, **_left(again)}
            return {**result, "access": again["access"]}
        error = NodeError(
            "access.no_new_login",
            wanted="a new login by SSH, with the parameters of the inventory, after SSH or firewall was changed",
            found=why[:600] or "none in time",
            why="whoever is out would stay out, so the node has put back what was there before",
            fix="see on the node why it refuses (journalctl -u ssh), correct what is declared, then run the play again",
        )
        told = {"error": error.problem.as_dict(error.kind), "msg": error.problem.text()}
        return {**result, "failed": True, **told, **self._put_back(end + UNDO_SECONDS, task_vars)}

    def _anew(self, task_vars: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        self._connection.reset()
        done: dict[str, Any] = self._execute_module(module_args={**self._task.args, **more}, task_vars=task_vars)
        return done

    def _put_back(self, end: float, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """The controls as the node has them after it put everything back, by the old way in."""
        self._task.check_mode, before = True, self._task.check_mode
        try:
            while time.monotonic() < end:
                try:
                    found = self._anew(task_vars)
                    if "controls" in found and not found["access"]["pending"]:
                        return {"access": found["access"], **_left(found)}
                except AnsibleConnectionFailure:
                    pass
                time.sleep(PAUSE_SECONDS)
        finally:
            self._task.check_mode = before
        return {}


def _left(again: dict[str, Any]) -> dict[str, Any]:
    return {"left": again["left"] if "left" in again else again["controls"]} if "controls" in again else {}
