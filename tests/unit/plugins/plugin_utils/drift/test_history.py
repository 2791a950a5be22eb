# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of a report's own runs - first seen, age, trend - survives clocks and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import history

DAY = 86400
START = 1_780_000_000


def run(folder: Path, at: int, *, complete: bool = True, host: str = "spark-1", **states: str) -> dict[str, Any]:
    """One run with these control states; returns its controls by id."""
    controls = [{"id": f"r/{name}", "state": state} for name, state in states.items()]
    report = {
        "run": {"id": str(at), "started": "x", "mode": "check", "playbook": "p", "seconds": 1, "complete": complete},
        "summary": {state: list(states.values()).count(state) for state in ("in_sync", "drifted", "unknown")},
        "hosts": [{"name": host, "controls": controls}],
    }
    problems = history.apply(report, folder, at) + history.remember_run(report, folder)
    return {**{control["id"]: control for control in controls}, "trend": report.get("trend"), "problems": problems}


def test_first_run_has_no_age_and_later_ones_count(tmp_path: Path) -> None:
    assert "first_seen" not in run(tmp_path, START, a="drifted", b="in_sync")["r/a"]
    later = run(tmp_path, START + DAY, a="drifted", b="drifted", c="in_sync")
    assert later["r/a"]["age_seconds"] == DAY
    assert later["r/a"]["first_seen"] == "2026-05-28T20:26:40Z"
    assert later["r/b"]["age_seconds"] == 0
    assert "first_seen" not in later["r/c"]


def test_a_finding_ends_when_seen_in_sync(tmp_path: Path) -> None:
    run(tmp_path, START, a="drifted")
    run(tmp_path, START + DAY, a="in_sync")
    assert run(tmp_path, START + 2 * DAY, a="drifted")["r/a"]["age_seconds"] == 0


def test_a_finding_stays_open_through_unknown_waived_absence_and_not_selected(tmp_path: Path) -> None:
    run(tmp_path, START, a="drifted")
    for number, state in enumerate(("unknown", "waived", "not_selected"), 1):
        run(tmp_path, START + number, a=state)
    run(tmp_path, START + 4)
    run(tmp_path, START + 5, host="other", a="in_sync")
    assert run(tmp_path, START + DAY, a="drifted")["r/a"]["age_seconds"] == DAY


def test_a_clock_that_jumps_back_never_makes_an_age_negative(tmp_path: Path) -> None:
    run(tmp_path, START, a="drifted")
    assert run(tmp_path, START - DAY, a="drifted")["r/a"]["age_seconds"] == 0
    assert run(tmp_path, START, a="drifted")["r/a"]["age_seconds"] == DAY


def test_what_an_interrupted_run_did_not_reach_does_not_begin_then(tmp_path: Path) -> None:
    run(tmp_path, START, a="in_sync", b="drifted")
    run(tmp_path, START + 1, complete=False, a="unknown", b="unknown")
    later = run(tmp_path, START + DAY, a="unknown", b="drifted")
    assert later["r/a"]["age_seconds"] == 0
    assert later["r/b"]["age_seconds"] == DAY


def test_damaged_files_cost_ages_not_the_report(tmp_path: Path) -> None:
    run(tmp_path, START, a="drifted")
    path = tmp_path / "open.jsonl"
    path.write_bytes(b"\xff{half\n[]\n" + path.read_bytes() + b'{"host": "x", "seen": "soon", "open": {"r/a": null}}\n')
    (tmp_path / "runs.jsonl").write_text("\0\n")
    later = run(tmp_path, START + DAY, a="drifted")
    assert later["r/a"]["age_seconds"] == DAY
    assert "history/open.jsonl: 2 damaged lines were dropped" in later["problems"]
    assert run(tmp_path, START + DAY, host="x", a="drifted")["problems"] == []


def test_a_trend_is_one_of_runs_that_looked_at_the_same(tmp_path: Path) -> None:
    def drifted(at: int, **states: str) -> list[int]:
        return [past["drifted"] for past in run(tmp_path, START + at, **states)["trend"]]

    assert drifted(1, a="drifted", b="drifted") == []
    assert drifted(2, a="drifted", b="not_selected") == []  # --tags
    assert drifted(3, host="other", a="drifted", b="drifted") == []  # --limit
    assert drifted(4, a="unknown", b="unknown") == [2]  # refused before anything was looked at
    assert drifted(5, a="drifted", b="in_sync") == [2]
    assert drifted(6, a="drifted", b="in_sync", c="in_sync") == []  # a new release asks for more
    for number in range(history.TREND + 2):
        drifted(7 + number, a="drifted", b="in_sync")
    assert drifted(99, a="in_sync", b="in_sync") == [1] * history.TREND


def test_memory_is_bounded(tmp_path: Path) -> None:
    for number in range(history.RUNS_KEPT + 5):
        report = {
            "run": dict.fromkeys(("started", "mode", "playbook", "seconds", "complete"), "") | {"id": str(number)},
            "summary": {"drifted": 1},
            "hosts": [{"name": "spark-1", "controls": [{"id": "r/a", "state": "drifted"}]}],
        }
        if number % 200 == 0 or number > history.RUNS_KEPT:
            history.remember_run(report, tmp_path)
        else:
            with (tmp_path / "runs.jsonl").open("a") as handle:
                handle.write(f'{{"id": "{number}"}}\n')
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == history.RUNS_KEPT
    run(tmp_path, START, a="drifted")
    run(tmp_path, START + (history.FORGET_DAYS + 1) * DAY, host="new", a="drifted")
    assert '"spark-1"' not in (tmp_path / "open.jsonl").read_text()


def test_a_history_that_cannot_be_written_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problems = run(tmp_path / "file" / "below", START, a="drifted")["problems"]
    assert [problem.split(":")[0] for problem in problems] == ["history was not read", "history was not saved"]
