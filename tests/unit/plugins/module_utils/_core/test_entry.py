# SPDX-License-Identifier: GPL-3.0-or-later
"""The one code path of check and fix: what is applied, what is reported, what is hidden."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import entry
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import Declared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import (
    InputError,
    NodeError,
    Unreadable,
    doing,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Change, Control, Plan, Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor

TODO = Plan((Control("demo/x", "drifted", (Change("x", 1, 2),)),), (Step("set", "x"),))
DONE = Plan((Control("demo/x", "in_sync"),))


class Events:
    """What happened in which order, in a look aside too: a file that is shared with child processes."""

    def __init__(self) -> None:
        self._file = os.memfd_create("events")

    def append(self, event: str) -> None:
        os.write(self._file, f"{event}\n".encode())

    def clear(self) -> None:
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)

    def so_far(self) -> list[str]:
        return os.pread(self._file, 9999, 0).decode().splitlines()


EVENTS = Events()


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

    def __init__(self, *plans: Plan | Callable[[], Plan], error: Exception | None = None) -> None:
        self.plans = list(plans)
        self.error = error
        self.applied: list[str] = []
        self.settled = False

    def plan(self, reader: object) -> Plan:
        EVENTS.append("look")
        plan = self.plans.pop(0)
        return plan() if callable(plan) else plan

    def apply(self, plan: Plan, reader: object, writer: object) -> None:
        EVENTS.append("apply")
        self.applied += [step.text() for step in plan.steps]
        if self.error:
            raise self.error

    def settle(self, left: Plan, reader: object, writer: object) -> None:
        EVENTS.append("settle")
        self.settled = True


class FakeReader:
    root = True

    def is_root(self) -> bool:
        return self.root


@contextlib.contextmanager
def turn(title: str):
    EVENTS.append(f"{title} begins")
    yield "/scratch"
    EVENTS.append("ends")


@pytest.fixture(autouse=True)
def no_real_node(monkeypatch):
    EVENTS.clear()
    monkeypatch.setattr(FakeReader, "root", True)
    monkeypatch.setattr(entry, "HostReader", FakeReader)
    monkeypatch.setattr(entry, "HostWriter", lambda _redact, scratch: scratch)
    monkeypatch.setattr(entry, "taken", turn)


def run(*plans: Plan | Callable[[], Plan], check_mode: bool = False, error: Exception | None = None):
    module, subject = FakeModule(check_mode), FakeSubject(*plans, error=error)
    entry.finish(module, subject)
    return module, subject


def test_a_real_run_has_the_node_for_itself_from_the_first_look_to_the_record():
    run(TODO, DONE)
    assert EVENTS.so_far() == ["demo begins", "look", "apply", "look", "settle", "ends"]


def test_a_check_waits_for_nobody():
    run(TODO, check_mode=True)
    assert EVENTS.so_far() == ["look"]


def test_without_root_nothing_is_locked_and_nothing_is_applied(monkeypatch):
    monkeypatch.setattr(FakeReader, "root", False)
    module, subject = run(TODO, TODO)
    assert EVENTS.so_far() == ["look", "look"] and subject.applied == []
    assert module.result["error"]["key"] == "core.needs_root"
    module, _subject = run(DONE)
    assert module.failed is None and not module.result["changed"]


def test_a_run_without_root_that_could_not_see_has_not_ensured(monkeypatch):
    """It would have nothing to do, and say so: as if all were well."""
    hidden = Plan((Control("demo/a", "unknown", reason="needs root"),))
    assert run(hidden)[0].failed is None
    monkeypatch.setattr(FakeReader, "root", False)
    assert run(hidden, check_mode=True)[0].failed is None
    module, _subject = run(hidden)
    assert module.failed and module.result["error"]["key"] == "core.hidden"
    assert "demo/a: needs root" in module.result["error"]["found"]


A, B, C, D = (f"demo/{letter}" for letter in "abcd")
FOUND = Plan(
    (
        Control(A, "drifted", (Change("a", 1, 2),)),
        Control(B, "drifted", (Change("b1", 1, 2), Change("b2", 1, 2))),
        Control(C, "in_sync"),
        Control(D, "drifted", (Change("d", 1, 2),), blocked_by="demo_confirm: [d]"),
    ),
    (Step("set", "a"), Step("set", "b")),
)
BROKEN = NodeError("demo.bad", wanted="w", found="f", why="y", fix="x")


def test_after_a_failure_the_node_is_looked_at_again_before_anybody_else_comes():
    left = replace(FOUND, controls=(Control(A, "in_sync"), Control(B, "drifted", (Change("b2", 1, 2),))))
    module, _subject = run(FOUND, left, error=BROKEN)
    assert EVENTS.so_far() == ["demo begins", "look", "apply", "look"]
    assert [(c["id"], c["state"]) for c in module.result["controls"][:2]] == [(A, "drifted"), (B, "drifted")]
    assert [(c["id"], c["state"], c["before"]) for c in module.result["left"]] == [
        (A, "in_sync", {}),
        (B, "drifted", {"b2": 1}),
    ]
    assert module.result["error"]["key"] == "demo.bad"


def explode() -> Plan:
    raise RuntimeError("a bug that must not hide the error")


def hang() -> Plan:
    threading.Event().wait(20)
    raise AssertionError("nobody waits so long")


@pytest.mark.parametrize(("look", "why"), [(explode, "RuntimeError: a bug"), (hang, "no answer within 0.3 s")])
def test_what_cannot_be_looked_at_after_a_failure_is_unknown_and_the_error_stays(look, why, monkeypatch):
    monkeypatch.setattr(entry, "LOOK_SECONDS", 0.3)
    module, _subject = run(FOUND, look, error=BROKEN)
    assert module.result["error"]["key"] == "demo.bad"
    left = {control["id"]: control for control in module.result["left"]}
    states = {A: "unknown", B: "unknown", C: "in_sync", D: "drifted"}
    assert {name: control["state"] for name, control in left.items()} == states
    assert why in left[A]["reason"] and left[A]["before"] == {} and left[D]["before"] == {"d": 1}


def test_a_run_that_ends_well_leaves_nothing_to_tell():
    module, _subject = run(TODO, DONE)
    assert "left" not in module.result


def test_facts_are_about_the_node_as_the_run_leaves_it():
    todo, done = replace(TODO, facts={"nvcc": None}), replace(DONE, facts={"nvcc": "/usr/local/cuda/bin/nvcc"})
    module, _subject = run(todo, done)
    assert module.result["nvcc"] == "/usr/local/cuda/bin/nvcc" and module.result["plan"] == ["set x"]
    module, _subject = run(todo, check_mode=True)
    assert module.result["nvcc"] is None


def test_the_system_saying_no_is_an_error_with_four_parts():
    def full(_step: Step, _reader: object, _writer: object) -> None:
        raise OSError(28, "No space left on device", "/etc/.x.nusy")

    done: list[str] = []
    actions = {"set": lambda step, _r, _w: done.append(step.target), "write": full}
    steps = [Step("set", "a"), Step("write", "/etc/x"), Step("set", "b")]
    with pytest.raises(NodeError) as error:
        entry.carry_out(steps, actions, FakeReader(), object())
    assert done == ["a"]
    problem = error.value.problem
    assert (problem.key, problem.wanted) == ("core.step_failed", "write /etc/x")
    assert problem.found == "No space left on device (/etc/.x.nusy)"


def test_check_mode_builds_no_writer(monkeypatch):
    def forbidden(_redact: object, _scratch: str) -> None:
        raise AssertionError("a writer in check mode")

    monkeypatch.setattr(entry, "HostWriter", forbidden)
    module, subject = FakeModule(check_mode=True), FakeSubject(TODO)
    entry.finish(module, subject)
    assert subject.applied == [] and not subject.settled
    assert module.result["changed"] and module.result["plan"] == ["set x"]


def test_check_and_real_run_return_the_same():
    checked, done = FakeModule(check_mode=True), FakeModule(check_mode=False)
    entry.finish(checked, FakeSubject(TODO))
    subject = FakeSubject(TODO, DONE)
    entry.finish(done, subject)
    assert done.result == checked.result and subject.applied == ["set x"] and subject.settled


def test_what_comes_back_after_applying_is_an_error_and_the_evidence_stays():
    module = FakeModule(check_mode=False)
    entry.finish(module, FakeSubject(TODO, TODO, TODO))
    assert module.result["error"]["key"] == "core.did_not_converge"
    assert module.result["controls"][0]["state"] == "drifted"


def test_an_error_has_four_parts_and_hides_secrets():
    module = FakeModule(check_mode=False)
    error = NodeError("demo.bad", wanted="w", found="token hunter22 refused", why="y", fix="f")
    entry.finish(module, FakeSubject(TODO, TODO, error=error), secrets=["hunter22"])
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


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(28, "No space left on device", "/etc/x"), "No space left on device (/etc/x)"),
        (Unreadable("/etc/fstab: Input/output error"), "/etc/fstab: Input/output error"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range(128)"), "ordinal not in range"),
    ],
)
def test_what_the_system_refuses_half_way_is_told_in_four_parts(raised, told):
    with pytest.raises(NodeError) as error, doing("write_file /etc/x"):
        raise raised
    problem = error.value.problem
    assert (problem.key, problem.wanted) == ("core.step_failed", "write_file /etc/x")
    assert told in problem.found


def test_a_real_run_leaves_its_declaration_before_its_first_step_and_without_secrets(monkeypatch):
    declared = Declared("demo", "ensure_state", {"secrets": {"key": "hunter2!"}, "controls": []})
    monkeypatch.setattr(entry, "keep", lambda what, *_: EVENTS.append(str(what.params)))
    EVENTS.clear()
    entry.finish(FakeModule(False), FakeSubject(TODO, DONE), secrets=["hunter2!"], declared=declared)
    kept = "{'secrets': {'key': '<secret>'}, 'controls': []}"
    assert EVENTS.so_far() == ["demo begins", "look", kept, "apply", "look", "settle", "ends"]


@pytest.mark.parametrize(("check", "root"), [(True, True), (False, False)])
def test_a_check_and_a_run_without_root_leave_none(check, root, monkeypatch):
    monkeypatch.setattr(FakeReader, "root", root)
    monkeypatch.setattr(entry, "keep", lambda *_: pytest.fail("it was left"))
    entry.finish(FakeModule(check), FakeSubject(DONE), declared=Declared("demo", "ensure_state", {}))
