# SPDX-License-Identifier: GPL-3.0-or-later
"""One real environment of tiny wheels under each Python that runs node code; layer ``venv`` has all the others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from venv_bench import Bench, control, diff, states

ALL_BUT_INTERPRETER = {"place", "packages", "files", "current", "use"}


def test_a_check_of_nothing_predicts_everything_and_touches_nothing(bench: Bench) -> None:
    alpha, beta = bench.wheel("alpha", "3.6.0", programs={"alpha": "alpha:main"}), bench.wheel("beta", "2.0")
    before = bench.listing()
    plan = bench.check(alpha, beta, imports=["alpha"], entry_points=["alpha"])
    assert bench.listing() == before
    assert diff(plan, "packages") == {"alpha": ("absent", "3.6.0"), "beta": ("absent", "2.0")}
    assert states(plan) == dict.fromkeys(ALL_BUT_INTERPRETER, "drifted")
    actions = [step.action for step in plan.steps]
    assert actions[-5:] == ["create_environment", "install_stage", "complete", "prove", "switch"]


def test_what_may_not_be_looked_at_is_in_nobodys_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(look: Callable[[HostReader, str], Any]) -> Callable[[HostReader, str], Any]:
        def looked(reader: HostReader, path: str) -> Any:
            if path.startswith(str(bench.home)):
                raise Unreadable(f"{path}: Permission denied")
            return look(reader, path)

        return looked

    for name in ("stat", "listdir", "readlink"):
        monkeypatch.setattr(HostReader, name, closed(getattr(HostReader, name)))
    found = control(bench.check(bench.wheel("alpha", "1.0")), "current")
    assert (found.state, found.blocked_by) == ("unknown", "")
    assert "Permission denied" in found.reason and "moved aside" not in found.reason


def test_a_run_does_what_the_check_predicted_and_is_then_done(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0", programs={"alpha": "alpha:main"})
    options = {"imports": ["alpha"], "entry_points": ["alpha"]}
    predicted = bench.check(alpha, **options)
    assert bench.apply(alpha, **options) == predicted
    after = bench.listing()
    again = bench.apply(alpha, **options)
    assert (again.steps, states(again)) == ((), {})
    assert bench.listing() == after
    said = subprocess.run([bench.home / "current/bin/alpha"], check=True, capture_output=True, text=True)
    assert said.stdout == "alpha\n"
    assert {c.cause for c in predicted.controls} <= {"never_applied", "adopted"}
    assert {c.cause for c in again.controls} == {""}
    mine = bench.subject(alpha).record
    assert json.loads(Path(record.path_of(mine)).read_text())["role"] == mine
