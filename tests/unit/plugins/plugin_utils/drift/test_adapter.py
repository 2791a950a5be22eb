# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of any shape, as the objects of ansible-core 2.19+ and those before it carry them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.adapter import Adapter
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.evidence import after_failure, differences, evidence

GOOD = {"id": "r/a", "state": "in_sync"}


def seen(
    data: Any, status: str = "ok", *, old: bool = False, skipped_items: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The result event that an adapter makes of ``data``."""
    task = SimpleNamespace(_uuid="u", name="T", action="x.y.z", loop=None, loop_with=None, _role=None)
    host = SimpleNamespace(get_name=lambda: "h")
    fields = {"check_mode": True, "diff": True, "name": "T"}
    prefix = "_" if old else ""
    parts = {"task": task, "host": host, "task_fields": fields, "result": data}
    result = SimpleNamespace(**{prefix + key: value for key, value in parts.items()})
    adapter = Adapter(check=True)
    for item in skipped_items:
        adapter.item_skipped(SimpleNamespace(**{**vars(result), f"{prefix}result": item}))
    events = adapter.result(result, status)
    json.dumps(events)
    assert [event["e"] for event in events] == ["task", "result"]
    return events[1]


@pytest.mark.parametrize("old", [False, True])
def test_both_generations_of_results(old: bool) -> None:
    assert seen({"changed": True}, old=old)["n"] == {"changed": 1}


@pytest.mark.parametrize(
    ("data", "status", "counts"),
    [
        ({}, "ok", {"ok": 1}),
        (None, "ok", {"ok": 1}),
        ("text", "ok", {"ok": 1}),
        ({"failed": True}, "failed", {"failed": 1}),
        ({"failed": True, "failed_when_result": False}, "ok", {"ok": 1}),
        ({"unreachable": True}, "unreachable", {"unreachable": 1}),
        ({"skip_reason": "Conditional result was False", "false_condition": "x"}, "skipped", {"condition": 1}),
        ({"skipped": True, "skipped_reason": "No items in the list", "results": []}, "skipped", {"condition": 1}),
        ({"skipped": True, "rc": 0, "stdout": ""}, "skipped", {"unseen": 1}),
        ({"skipped": True, "msg": "remote module (x) does not support check mode"}, "skipped", {"unseen": 1}),
        ({"msg": "skipped, since /x exists"}, "skipped", {"ok": 1}),
        ({"msg": "/x exists, matching creates option"}, "skipped", {"ok": 1}),
        ({"ansible_job_id": "1.2", "changed": True, "finished": 0}, "ok", {"unseen": 1}),
        ({"ansible_job_id": "1.2", "changed": True, "finished": 1}, "ok", {"changed": 1}),
    ],
)
def test_outcomes(data: Any, status: str, counts: dict[str, int]) -> None:
    assert seen(data, status)["n"] == counts


def test_items_of_a_loop_are_counted_one_by_one() -> None:
    items = [{"changed": True}, {"failed": True, "msg": "no"}, {"skipped": True, "false_condition": "x"}, {}]
    data = {"results": [{**item, "ansible_loop_var": "item"} for item in items], "changed": True}
    event = seen(data, "failed")
    assert event["n"] == {"changed": 1, "failed": 1, "condition": 1, "ok": 1}
    assert event["why"] == "no"


@pytest.mark.parametrize("old", [False, True])
def test_items_that_only_their_own_event_calls_skipped_are_not_fine(old: bool) -> None:
    items = [{"ansible_loop_var": "item", "item": name, "_ansible_item_label": name} for name in ("a", "b", "a", "c")]
    event = seen({"results": items}, old=old, skipped_items=[items[0], items[1]])
    assert event["n"] == {"unseen": 2, "ok": 2}


@pytest.mark.parametrize("results", [["a", "b"], [], "x", [{"name": "pkg"}], None])
def test_results_of_a_module_are_not_a_loop(results: Any) -> None:
    assert seen({"results": results, "changed": True})["n"] == {"changed": 1}


def test_censored_results_say_only_that() -> None:
    event = seen({"censored": "hidden", "changed": True, "_ansible_no_log": True}, "failed")
    assert event["why"] == "the output is hidden by no_log"


@pytest.mark.parametrize(
    ("raw", "own", "expected"),
    [
        (None, True, None),
        ("x", True, None),
        ([], True, []),
        ([], False, None),
        ([GOOD], False, [GOOD]),
        ([GOOD, 5], False, None),
        ([GOOD, 5], True, [GOOD]),
        ([{"id": "not an id", "state": "in_sync"}], False, None),
        ([{"id": "r/a", "state": "fine"}], False, None),
    ],
)
def test_what_counts_as_evidence(raw: object, own: bool, expected: object) -> None:
    assert evidence(raw, own=own) == expected


def test_a_broken_verdict_of_our_own_is_unknown() -> None:
    found = evidence([{"id": "r/a", "state": ["x"]}], own=True)
    assert found is not None
    assert found[0]["state"] == "unknown"
    unknown = evidence([{"id": "r/a", "state": "unknown"}], own=True)
    assert unknown == [{"id": "r/a", "state": "unknown", "reason": "the module gave no reason"}]


def test_after_a_failure_counts_what_was_seen_then() -> None:
    before = {"before": {"x": 1}, "after": {"x": 2}}
    names = ("repaired", "half", "lost", "untouched", "broken", "unseen")
    found = [{"id": f"r/{name}", "state": "drifted", **before} for name in names]
    found[3]["state"] = found[4]["state"] = "in_sync"
    left = [
        {"id": "r/repaired", "state": "in_sync"},
        {"id": "r/half", "state": "drifted", "before": {"y": 1}, "after": {"y": 2}},
        {"id": "r/lost", "state": "unknown", "reason": "could not be seen"},
        {"id": "r/untouched", "state": "in_sync"},
        {"id": "r/broken", "state": "drifted", "before": {"z": 1}, "after": {"z": 2}},
    ]
    event = seen({"failed": True, "msg": "no", "controls": found, "left": left}, "failed")
    told = {control["id"].removeprefix("r/"): control for control in event["controls"]}
    assert told["repaired"] == found[0]  # not marked as failed: a real run that did not fail repairs
    assert (told["half"]["before"], told["half"]["failed"]) == ({"y": 1}, True)
    assert (told["lost"]["state"], told["lost"]["reason"]) == ("unknown", "could not be seen")
    assert told["untouched"]["state"] == "in_sync"
    assert (told["broken"]["state"], told["broken"]["failed"]) == ("drifted", True)
    assert told["unseen"] == {**found[5], "failed": True}


@pytest.mark.parametrize("left", [None, [], "x", [5], {"id": "r/a"}])
def test_a_failure_without_a_later_look_leaves_what_was_found(left: object) -> None:
    found = [{"id": "r/a", "state": "drifted"}]
    assert after_failure(found, evidence(left, own=True)) == [{**found[0], "failed": True}]


def test_diffs_of_any_shape() -> None:
    before, after = differences(
        [
            {"before": {"mode": "0644", "path": "/x"}, "after": {"mode": "0600", "path": "/x"}},
            [{"before": "a\n", "after": "b\n", "after_header": "/etc/x"}, {"before": "same", "after": "same"}, 5],
            {"prepared": "--- a\n+++ b"},
            {"before": None, "after": "new", "before_header": "/etc/y"},
            None,
            "text",
        ]
    )
    assert before == {"mode": "0644", "/etc/x": "a\n", "/etc/y": ""}
    assert after == {"mode": "0600", "/etc/x": "b\n", "diff": "--- a\n+++ b", "/etc/y": "new"}


def test_no_diff_without_diff_mode() -> None:
    task = SimpleNamespace(_uuid="u", name="T", action="a", loop=None, loop_with=None, _role=None)
    data = {"changed": True, "diff": {"before": "secret", "after": "x"}}
    result = SimpleNamespace(
        task=task, host=SimpleNamespace(get_name=lambda: "h"), task_fields={"diff": False}, result=data
    )
    assert "secret" not in json.dumps(Adapter(check=True).result(result, "ok"))


@pytest.mark.parametrize(
    ("written", "fatal"),
    [
        ({}, False),
        ({"any_errors_fatal": True}, True),
        ({"any_errors_fatal": "yes"}, True),
        ({"any_errors_fatal": "{{ perhaps }}"}, True),
        ({"any_errors_fatal": False}, False),
        ({"run_once": True}, True),
    ],
)
def test_a_failure_that_ends_the_play_for_all_is_marked(written: dict[str, Any], fatal: bool) -> None:
    task = SimpleNamespace(_uuid="u", name="T", action="x.y.z", loop=None, loop_with=None, _role=None, **written)
    result = SimpleNamespace(task=task, host=SimpleNamespace(get_name=lambda: "h"), task_fields={}, result={})
    described = Adapter(check=True).result(result, "failed")[0]
    assert described.get("fatal", False) is fatal
