# SPDX-License-Identifier: GPL-3.0-or-later
"""The one code path of check and fix: what is applied, what is reported, what is hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import entry
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Change, Control, Plan, Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor

TODO = Plan((Control("demo/x", "drifted", (Change("x", 1, 2),)),), (Step("set", "x"),))
DONE = Plan((Control("demo/x", "in_sync"),))


class FakeModule:
    _diff = True

    def __init__(self, check_mode: bool) -> None:
        self.check_mode = check_mode
        self.params: dict[str, Any] = {}
        self.result: dict[str, Any] = {}
        self.failed: str | None = None

    def exit_json(self, **result: Any) -> None:
        self.result = result

    def fail_json(self, msg: str, **result: Any) -> None:
        self.failed, self.result = msg, result


class FakeSubject:
    title = "demo"

    def __init__(self, *plans: Plan, error: Exception | None = None) -> None:
        self.plans = list(plans)
        self.error = error
        self.applied: list[str] = []
        self.settled = False

    def plan(self, reader: object) -> Plan:
        return self.plans.pop(0)

    def apply(self, plan: Plan, reader: object, writer: object) -> None:
        self.applied += [step.text() for step in plan.steps]
        if self.error:
            raise self.error

    def settle(self, left: Plan, reader: object, writer: object) -> None:
        self.settled = True


@pytest.fixture(autouse=True)
def no_real_node(monkeypatch):
    monkeypatch.setattr(entry, "HostReader", object)


def test_check_mode_builds_no_writer(monkeypatch):
    def forbidden(_redact: object) -> None:
        raise AssertionError("a writer in check mode")

    monkeypatch.setattr(entry, "HostWriter", forbidden)
    module, subject = FakeModule(check_mode=True), FakeSubject(TODO)
    entry.finish(module, subject)
    assert subject.applied == [] and not subject.settled
    assert module.result["changed"] and module.result["plan"] == ["set x"]


def test_check_and_real_run_return_the_same(monkeypatch):
    monkeypatch.setattr(entry, "HostWriter", lambda _redact: object())
    checked, done = FakeModule(check_mode=True), FakeModule(check_mode=False)
    entry.finish(checked, FakeSubject(TODO))
    subject = FakeSubject(TODO, DONE)
    entry.finish(done, subject)
    assert done.result == checked.result and subject.applied == ["set x"] and subject.settled


def test_what_comes_back_after_applying_is_an_error_and_the_evidence_stays(monkeypatch):
    monkeypatch.setattr(entry, "HostWriter", lambda _redact: object())
    module = FakeModule(check_mode=False)
    entry.finish(module, FakeSubject(TODO, TODO))
    assert module.result["error"]["key"] == "core.did_not_converge"
    assert module.result["controls"][0]["state"] == "drifted"


def test_an_error_has_four_parts_and_hides_secrets(monkeypatch):
    monkeypatch.setattr(entry, "HostWriter", lambda _redact: object())
    module = FakeModule(check_mode=False)
    error = NodeError("demo.bad", wanted="w", found="token hunter22 refused", why="y", fix="f")
    entry.finish(module, FakeSubject(TODO, error=error), secrets={"token": "hunter22"})
    assert module.result["error"] == {
        "key": "demo.bad", "kind": "node", "wanted": "w", "found": "token <secret> refused", "why": "y", "fix": "f",
    }  # fmt: skip
    assert "hunter22" not in str(module.failed) and "What to do: f" in str(module.failed)


def test_input_errors_say_so():
    module = FakeModule(check_mode=True)
    entry.fail(module, InputError("demo.input", wanted="w", found="f", why="y", fix="x"))
    assert module.result["error"]["kind"] == "input"


def test_diff_shows_drifted_controls_only():
    plan = replace(TODO, controls=(*TODO.controls, Control("demo/y", "unknown", reason="needs root")))
    diff = plan.diff("demo")
    assert (diff["before"], diff["after"]) == ({"demo/x": {"x": 1}}, {"demo/x": {"x": 2}})


def test_secrets_are_replaced_in_every_nesting_longest_first_and_line_by_line():
    redact = Redactor(["abcd", "abcdef", "first line\nsecond line"])
    assert redact({"abcdef": ["x abcd", ("second line", 7, None)]}) == {
        "<secret>": ["x <secret>", ["<secret>", 7, None]]
    }


def test_a_reason_is_one_printable_line():
    assert one_line("a\x1b[31m\nb\tc") == "a?[31m b c"
    assert len(one_line("x" * 1000)) == 300


def test_a_secret_is_found_in_the_forms_that_tools_quote_it_in():
    redact = Redactor(['S3cr"et\\back'])
    for text in (json.dumps('S3cr"et\\back'), repr('S3cr"et\\back'), 'S3cr"et\\back'):
        assert "S3cr" not in redact.text(text)
