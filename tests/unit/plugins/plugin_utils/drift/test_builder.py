# SPDX-License-Identifier: GPL-3.0-or-later
"""From synthetic events to the document, and its exit code. No Ansible here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import builder, events, exitcode, produce, verdict
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.catalogue import entry

SCHEMA = json.loads(Path(produce.__file__).with_name("report.schema.json").read_text())
RUN = {
    "e": "run",
    "id": "1",
    "time": "2026-01-31T12:00:00Z",
    "mode": "check",
    "playbooks": ["/x/site.yml"],
    "collection": "0.1.0",
    "ansible": "2.19.14",
}
CATALOGUE = {"e": "catalogue", "role": "r", "controls": {f"r/{n}": entry("r", n, "low") for n in ("a", "b")}}
TASK = {"e": "task", "k": "t", "name": "Ensure", "slug": "ensure", "role": "r", "play": "P", "own": True}
END = {"e": "end", "t": 9.5, "bad": {}}


def plays(*hosts: str, partial: bool = False, selected: int = 1, left_out: int = 0) -> list[dict[str, Any]]:
    roles = {"r": {"selected": selected, "left_out": left_out}}
    play = {"p": "p", "name": "P", "hosts": list(hosts), "roles": roles, "partial": partial}
    return [{"e": "plan", **play}, {"e": "play", **play}]


def result(host: str = "h", **more: Any) -> dict[str, Any]:
    return {"e": "result", "h": host, "k": "t", "t": 1, "check": True, "n": {"ok": 1}, **more}


def test_a_play_that_means_a_host_no_more_was_not_missed_by_it(tmp_path: Path) -> None:
    """Its pattern follows a group that the run made: the host that is in it by now is left out on purpose."""
    later = {"p": "later", "name": "Later", "hosts": ["g", "h"], "roles": {}, "partial": False}
    begun = {"e": "play", **later, "hosts": ["g"], "gone": ["h"]}
    story = (RUN, CATALOGUE, *plays("g", "h"), {"e": "plan", **later}, TASK, result(controls=evidence(a="in_sync")))
    hosts = {host["name"]: host for host in report(tmp_path, *story, begun, END)["hosts"]}
    assert "never started" not in json.dumps(hosts["h"])
    hosts = {host["name"]: host for host in report(tmp_path, *story, {**begun, "gone": []}, END)["hosts"]}
    assert "never started" in json.dumps(hosts["h"])


def evidence(**states: str) -> list[dict[str, Any]]:
    return [{"id": f"r/{name}", "state": state, "reason": "why"} for name, state in states.items()]


def report(folder: Path, *story: dict[str, Any] | bytes) -> dict[str, Any]:
    with (folder / events.FILE).open("wb") as handle:
        for event in story:
            handle.write(event if isinstance(event, bytes) else events.encode(event) + b"\n")
    outcome = produce.produce(folder, waivers=None, formats=())
    assert outcome.problems == []
    written = json.loads((folder / produce.REPORT).read_text())
    assert written == outcome.report
    jsonschema.Draft202012Validator(SCHEMA).validate(written)
    return written


def states(document: dict[str, Any], host: str = "h") -> dict[str, str]:
    found = next(one for one in document["hosts"] if one["name"] == host)
    return {control["id"]: control["state"] for control in found["controls"]}


def test_catalogue_minus_evidence(tmp_path: Path) -> None:
    document = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, result(controls=evidence(a="in_sync")), END)
    assert states(document) == {"r/a": "in_sync", "r/b": "unknown"}
    assert document["run"]["playbook"] == "site.yml"
    assert document["run"]["seconds"] == 9.5
    assert document["summary"]["exit_code"] == exitcode.UNKNOWN


def test_the_last_look_at_the_machine_says_its_flags(tmp_path: Path) -> None:
    first, then = result(flags={"old_kernel": "It panics"}), result(controls=evidence(a="in_sync"))
    document = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, first, then, END)
    assert document["hosts"][0]["flags"] == {"old_kernel": "It panics"}
    without = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, result(), then, END)
    assert document["summary"] == without["summary"]
    document = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, first, result(flags={}), END)
    assert "flags" not in document["hosts"][0]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"a": "in_sync", "b": "in_sync"}, exitcode.CLEAN),
        ({"a": "in_sync", "b": "not_selected"}, exitcode.CLEAN),
        ({"a": "drifted", "b": "in_sync"}, exitcode.DRIFT),
        ({"a": "drifted", "b": "unknown"}, exitcode.UNKNOWN),
    ],
)
def test_exit_codes(tmp_path: Path, found: dict[str, str], code: int) -> None:
    document = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, result(controls=evidence(**found)), END)
    assert document["summary"]["exit_code"] == code


def test_bad_waivers_come_before_unknown() -> None:
    summary = {"unknown": 1, "unreachable": 1, "partial": 0, "drifted": 1}
    document = {"summary": summary, "waivers": {"problems": ["x"]}, "run": {"complete": False}}
    assert exitcode.of(document) == exitcode.WAIVERS


def test_a_run_without_end_is_incomplete_and_its_cut_line_is_dropped(tmp_path: Path) -> None:
    cut = events.encode(result(controls=evidence(b="in_sync")))[:-20]
    document = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, result(controls=evidence(a="in_sync")), cut)
    assert states(document) == {"r/a": "in_sync", "r/b": "unknown"}
    assert not document["run"]["complete"]
    assert document["hosts"][0]["state"] == "partial"


def test_a_note_makes_the_report_incomplete(tmp_path: Path) -> None:
    note = {"e": "note", "text": "collecting failed: x"}
    found = result(controls=evidence(a="in_sync", b="in_sync"))
    document = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, note, found, END)
    assert document["run"]["incomplete_reason"] == "collecting failed: x"
    assert document["summary"]["exit_code"] == exitcode.UNKNOWN


def test_without_a_beginning_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(builder.NoRun):
        report(tmp_path, b"garbage\n")
    with pytest.raises(builder.NoRun):
        builder.build(tmp_path / "nowhere")


@pytest.mark.parametrize("order", [("in_sync", "drifted", "unknown"), ("unknown", "in_sync", "drifted")])
def test_the_worst_of_several_results_wins(tmp_path: Path, order: tuple[str, ...]) -> None:
    found = [result(controls=evidence(a=state, b="in_sync")) for state in order]
    assert states(report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, *found, END))["r/a"] == "drifted"


@pytest.mark.parametrize(
    ("looks", "state", "repaired"),
    [
        # As playbooks/update.yml does: look, change, look.
        ([("drifted", True), ("drifted", False), ("in_sync", True)], "in_sync", True),
        ([("unknown", True), ("in_sync", False)], "in_sync", False),
        ([("drifted", True), ("drifted", False), ("drifted", True)], "drifted", False),
        ([("drifted", True), ("in_sync", True)], "drifted", False),
    ],
)
def test_a_look_counts_until_a_real_run_says_more(tmp_path: Path, looks: Any, state: str, repaired: bool) -> None:
    found = [result(controls=evidence(a=one, b="in_sync"), check=check) for one, check in looks]
    document = report(tmp_path, {**RUN, "mode": "apply"}, CATALOGUE, *plays("h"), TASK, *found, END)
    control = document["hosts"][0]["controls"][0]
    assert (control["state"], bool(control.get("repaired"))) == (state, repaired)


def test_a_real_run_repairs_what_is_not_blocked_and_not_failed(tmp_path: Path) -> None:
    controls = [
        {"id": "r/a", "state": "drifted", "before": {"v": 1}, "after": {"v": 2}},
        {"id": "r/b", "state": "drifted", "blocked_by": "x: y"},
        {"id": "r/c", "state": "drifted", "failed": True},
    ]
    found = result(controls=controls, check=False)
    document = report(tmp_path, {**RUN, "mode": "apply"}, CATALOGUE, *plays("h"), TASK, found, END)
    repaired, blocked, failed = document["hosts"][0]["controls"]
    assert (repaired["state"], repaired["repaired"], repaired["before"]) == ("in_sync", True, {"v": 1})
    assert (blocked["state"], blocked["cause"]) == ("drifted", "blocked")
    assert failed["state"] == "drifted"
    assert document["catalogue"]["r/c"]["rationale"] == "Not in the catalogue of its role."


def test_partly_left_out_by_tags(tmp_path: Path) -> None:
    play = plays("h", partial=True, selected=1, left_out=1)
    document = report(tmp_path, RUN, CATALOGUE, *play, TASK, result(controls=evidence(a="in_sync")), END)
    assert states(document) == {"r/a": "in_sync", "r/b": "not_selected"}


def test_left_out_by_tags_is_no_excuse_when_the_host_ended_early(tmp_path: Path) -> None:
    play = plays("h", partial=True, selected=2, left_out=1)
    end = {**END, "bad": {"h": {"failures": 1}}}
    document = report(tmp_path, RUN, CATALOGUE, *play, TASK, result(controls=evidence(a="in_sync")), end)
    assert states(document)["r/b"] == "unknown"


def test_run_once_is_said(tmp_path: Path) -> None:
    task = {**TASK, "once": True}
    found = result(controls=evidence(a="in_sync", b="in_sync"))
    document = report(tmp_path, RUN, CATALOGUE, *plays("h", "other"), task, found, END)
    other = next(host for host in document["hosts"] if host["name"] == "other")
    assert {c["reason"] for c in other["controls"]} == {"looked at once, on h"}
    assert {c["state"] for c in other["controls"]} == {"not_selected"}


def test_unreachable_keeps_what_was_seen_before(tmp_path: Path) -> None:
    gone = result(n={"unreachable": 1}, why="no route")
    document = report(tmp_path, RUN, CATALOGUE, *plays("h"), TASK, result(controls=evidence(a="drifted")), gone, END)
    host = document["hosts"][0]
    assert (host["state"], host["reason"]) == ("unreachable", "no route (after r : Ensure)")
    assert states(document) == {"r/a": "drifted", "r/b": "unknown"}
    assert document["summary"]["unreachable"] == 1


def test_hosts_are_in_natural_order(tmp_path: Path) -> None:
    found = result(host="n2", controls=[])
    document = report(tmp_path, RUN, CATALOGUE, *plays("n10", "n2", "N1"), TASK, found, END)
    assert [host["name"] for host in document["hosts"]] == ["N1", "n2", "n10"]
    assert verdict.natural("²") != verdict.natural("2")


def test_a_renderer_that_fails_costs_only_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce, "_RENDERERS", "no.such.package")
    with (tmp_path / events.FILE).open("wb") as handle:
        for event in (RUN, *plays("h"), END):
            handle.write(events.encode(event) + b"\n")
    outcome = produce.produce(tmp_path, waivers=None, formats=("html", "console"))
    assert len(outcome.problems) == 2
    assert (tmp_path / produce.REPORT).exists()


def test_clear_removes_the_report_and_keeps_the_history(tmp_path: Path) -> None:
    for name in ("report.json", "index.html", "history/runs.jsonl", "envelopes/h.json", "mine.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    produce.clear(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "history/runs.jsonl",
        "mine.txt",
    ]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/x", "..", "a/b", "x" * 300, "a\x00b"])
def test_host_names_are_no_paths(name: str) -> None:
    found = produce._file_name(name)
    assert "/" not in found
    assert not found.startswith(".")
    assert 0 < len(found) < 200


def test_the_board_names_the_page_only_when_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = (RUN, CATALOGUE, *plays("h"), TASK, result(controls=evidence(a="in_sync", b="in_sync")), END)
    (tmp_path / events.FILE).write_bytes(b"".join(events.encode(event) + b"\n" for event in story))
    assert "index.html" in produce.produce(tmp_path, waivers=None, formats=("console", "html")).console
    monkeypatch.setitem(produce.FILES, "html", "no/such/folder/index.html")
    outcome = produce.produce(tmp_path, waivers=None, formats=("html", "console"))
    assert len(outcome.problems) == 1
    assert "report.json" in outcome.console


def test_a_folder_with_files_of_somebody_is_left_alone(tmp_path: Path) -> None:
    assert not events.foreign(tmp_path / "new")
    assert not events.foreign(tmp_path)
    (tmp_path / "index.html").write_text("mine")
    assert events.foreign(tmp_path)
    with pytest.raises(events.Foreign):
        events.Lock(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    (tmp_path / events.FILE).write_bytes(events.encode({**RUN, "schema": "somebody's"}))
    assert events.foreign(tmp_path)
    (tmp_path / events.FILE).write_bytes(events.encode({"e": "run", "schema": events.SCHEMA, "id": "1"}))
    assert not events.foreign(tmp_path)


def test_hosts_of_a_play_that_ended_for_all_are_partial(tmp_path: Path) -> None:
    task = {**TASK, "fatal": True}
    failed = result("h", n={"failed": 1}, why="x", controls=evidence(a="in_sync"))
    fine = result("g", controls=evidence(a="in_sync", b="in_sync"))
    end = {**END, "bad": {"h": {"failures": 1}}}
    document = report(tmp_path, RUN, CATALOGUE, *plays("g", "h"), task, fine, failed, end)
    assert [host["state"] for host in document["hosts"]] == ["partial", "partial"]
    rescued = report(tmp_path, RUN, CATALOGUE, *plays("g", "h"), task, fine, failed, END)
    assert [host["state"] for host in rescued["hosts"]] == ["reached", "reached"]


def test_tasks_of_one_name_are_several_controls(tmp_path: Path) -> None:
    tasks = [{**TASK, "k": key, "role": "", "own": False} for key in "xyz"]
    results = [result(k=key, n={state: 1}) for key, state in zip("xyz", ("ok", "changed", "unseen"), strict=True)]
    document = report(tmp_path, RUN, *plays("h"), *tasks, *results, END)
    ours = {name: state for name, state in states(document).items() if name.startswith("task:")}
    assert ours == {"task:p/ensure": "in_sync", "task:p/ensure-2": "drifted", "task:p/ensure-3": "unknown"}
