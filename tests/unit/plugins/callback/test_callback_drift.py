# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback tells the operator when the report is not what it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.callback import drift
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.events import EventWriter
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.produce import Outcome


class Display:
    verbosity = 0

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> drift.CallbackModule:
    made = drift.CallbackModule(display=Display())
    options = {"report": True, "formats": ["html"], "waivers": None}
    monkeypatch.setattr(made, "get_option", options.get)
    monkeypatch.setattr(made, "_writer", EventWriter(tmp_path))
    return made


def test_every_problem_of_the_report_is_told(callback, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = ["history was not saved: no space", "html was not written: X", "junit was not written: Y"]
    monkeypatch.setattr(drift.produce, "produce", lambda *_, **__: Outcome({}, "", problems))
    callback.trouble("a hook")
    callback._report()
    assert callback._display.warnings[1:] == problems


def test_trouble_of_every_task_is_told_once_and_noted_each_time(callback, tmp_path: Path) -> None:
    for number in range(3):
        callback.trouble(f"hook {number}")
    assert callback._display.warnings == ["the drift report is incomplete: hook 0"]
    assert (tmp_path / "events.jsonl").read_text().count('"note"') == 3
