# SPDX-License-Identifier: GPL-3.0-or-later
"""Waivers count as written, until their day, and say what is wrong with them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import waivers

GOOD = "- {control: 'ptxas/*', host: 'spark-*', reason: r, owner: o, expires: 2026-06-30}\n"


def report(*states: str) -> dict[str, Any]:
    controls = [{"id": f"ptxas/c{number}", "state": state} for number, state in enumerate(states)]
    host = {"name": "spark-1", "state": "reached", "reason": "", "controls": controls}
    return {"run": {"started": "2026-06-30T23:59:59Z"}, "hosts": [host], "catalogue": {}, "waivers": {}}


def write(folder: Path, content: str) -> Path:
    path = folder / "waivers.yml"
    path.write_text(content)
    return path


def test_drifted_and_unknown_are_waived_and_the_rest_is_not(tmp_path: Path) -> None:
    document = report("drifted", "unknown", "in_sync", "not_selected")
    waivers.apply(document, write(tmp_path, GOOD))
    controls = document["hosts"][0]["controls"]
    assert [control["state"] for control in controls] == ["waived", "waived", "in_sync", "not_selected"]
    assert [control["waiver"]["state"] for control in controls[:2]] == ["drifted", "unknown"]
    assert document["waivers"]["unused"] == []


def test_a_waiver_holds_through_its_last_day_and_is_a_finding_after(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    document = report("drifted")
    waivers.apply(document, path, date(2026, 7, 1))
    control, finding = document["hosts"][0]["controls"]
    assert control["state"] == "drifted"
    assert (finding["id"], finding["state"]) == ("waivers/expired", "drifted")
    assert "ptxas/* on spark-* (o, expires 2026-06-30)" in finding["reason"]
    assert "waivers/expired" in document["catalogue"]


def test_an_expired_waiver_is_a_finding_only_on_the_hosts_it_named(tmp_path: Path) -> None:
    document = report("in_sync")
    document["hosts"].append({"name": "other", "state": "reached", "reason": "", "controls": []})
    waivers.apply(document, write(tmp_path, GOOD), date(2027, 1, 1))
    assert [len(host["controls"]) for host in document["hosts"]] == [2, 0]


def test_an_unused_waiver_is_listed(tmp_path: Path) -> None:
    document = report("in_sync")
    waivers.apply(document, write(tmp_path, GOOD))
    assert document["waivers"]["unused"] == ["waivers.yml:1: ptxas/* on spark-* (o, expires 2026-06-30)"]
    assert document["waivers"]["problems"] == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: [", "waivers.yml:1: not YAML: "),
        ("waivers: []", "waivers.yml:1: not a list of waivers"),
        ("- just text", "waivers.yml:1: [0]: not a mapping"),
        (GOOD + "\n- {control: x/y}", "waivers.yml:3: [1].owner: required, missing"),
        (
            GOOD.replace("2026-06-30", "2026-02-30"),
            "waivers.yml:1: [0].expires: not a date like 2026-12-31",
        ),
        (GOOD.replace("2026-06-30", "tomorrow"), "waivers.yml:1: [0].expires: not a date"),
        (GOOD.replace("2026-06-30", "2026-06-30 10:00:00"), "waivers.yml:1: [0].expires: not a date"),
        (GOOD.replace("reason: r", "reason: ''"), "waivers.yml:1: [0].reason: empty"),
        (GOOD.replace("reason: r", "reason: ~"), "waivers.yml:1: [0].reason: empty"),
        (GOOD.replace("reason: r", "reason: [r]"), "waivers.yml:1: [0].reason: not a text"),
        (GOOD.replace("owner: o", "owner: o, owner: p"), "waivers.yml:1: [0].owner: given twice"),
        (GOOD.replace("owner: o", "owner: o, until: never"), "waivers.yml:1: [0].until: unknown key"),
        ("\x00", "waivers.yml"),
        ("- " + "[" * 5000, "waivers.yml"),
    ],
)
def test_problems_name_line_and_field(tmp_path: Path, content: str, problem: str) -> None:
    found, problems = waivers.read(write(tmp_path, content))
    assert any(line.startswith(problem) for line in problems), problems
    assert len(found) == (1 if content.startswith(GOOD) else 0)


def test_other_files(tmp_path: Path) -> None:
    assert waivers.read(None) == ([], [])
    assert waivers.read(tmp_path / "none.yml") == ([], ["none.yml: no such file"])
    assert waivers.read(write(tmp_path, "")) == ([], [])
    (tmp_path / "bytes.yml").write_bytes(b"- \xff")
    assert waivers.read(tmp_path / "bytes.yml") == ([], ["bytes.yml: not UTF-8"])
    assert waivers.read(tmp_path)[1]
    assert "larger than" in waivers.read(write(tmp_path, "#" * (2 << 20)))[1][0]


def test_a_bad_entry_does_not_cost_the_good_one(tmp_path: Path) -> None:
    document = report("drifted")
    waivers.apply(document, write(tmp_path, GOOD + "- {}\n"))
    assert document["hosts"][0]["controls"][0]["state"] == "waived"
    assert len(document["waivers"]["problems"]) == 5
