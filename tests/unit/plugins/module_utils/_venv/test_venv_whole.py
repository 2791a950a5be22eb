# SPDX-License-Identifier: GPL-3.0-or-later
"""One real environment of tiny wheels under each Python that runs node code; layer ``venv`` has all the others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from venv_bench import Bench, diff, states

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
