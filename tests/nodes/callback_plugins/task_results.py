# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes every task result of a run as one JSON line, for tests to read instead of text."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: task_results
type: notification
short_description: Every task result as a JSON line
description:
  - Appends to the file that the environment variable C(TASK_RESULTS) names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "task_results"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, status: str, result: Any) -> None:
        # 2.19 renamed the private attributes; the old names are properties that warn.
        host, task, values = result.host.get_name(), result.task, result.result
        line = {"host": host, "task": task.get_name(), "action": task.action, "status": status, "result": values}
        with open(os.environ["TASK_RESULTS"], "a", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write("changed" if result.result.get("changed") else "ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write("unreachable", result)
