# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of the layers never calls something fine that was not shown to be."""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def layering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    module = importlib.import_module("layering")
    for name, place in (("ROOT", tmp_path), ("BUILD", tmp_path / "build"), ("LOGS", tmp_path / "build/test-logs")):
        monkeypatch.setattr(module, name, place)
    return module


def python(layering: ModuleType, code: str, name: str = "x") -> object:
    return layering.Step(name, (sys.executable, "-c", code))


def pytest_on(layering: ModuleType, folder: Path, text: str) -> object:
    (folder / "test_it.py").write_text(text)
    argv = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder))
    return layering.Step("tests", argv, junit=True)


def test_a_layer_passes_when_every_command_does(layering: ModuleType) -> None:
    layer = layering.Layer("a", "x", (python(layering, ""), python(layering, "", "y")))
    outcome = layering.run_layer(layer, strict=False)
    assert (outcome.state, outcome.passed, outcome.failed) == ("passed", 2, 0)


def test_a_failing_command_fails_the_layer_is_shown_and_the_next_still_runs(layering: ModuleType, capsys) -> None:
    steps = (python(layering, "print('the reason'); raise SystemExit(3)"), python(layering, "", "y"))
    outcome = layering.run_layer(layering.Layer("a", "x", steps), strict=False)
    assert (outcome.state, outcome.passed, outcome.failed) == ("failed", 1, 1)
    assert outcome.why == "x: exit code 3"
    assert "the reason" in capsys.readouterr().out


def test_tests_are_counted_one_by_one(layering: ModuleType, tmp_path: Path) -> None:
    text = "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('no')\n"
    outcome = layering.run_layer(layering.Layer("a", "x", (pytest_on(layering, tmp_path, text),)), strict=False)
    assert (outcome.state, outcome.passed, outcome.failed, outcome.skipped) == ("failed", 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import pytest\ndef test_c(): pytest.skip('no')\n", "every test was skipped"),
        ("", "exit code 5"),
        ("raise SystemExit(0)\n", "exit code"),
        ("import os\nos._exit(0)\n", "no report"),
    ],
)
def test_a_run_that_proves_nothing_fails(layering: ModuleType, tmp_path: Path, text: str, why: str) -> None:
    outcome = layering.run_layer(layering.Layer("a", "x", (pytest_on(layering, tmp_path, text),)), strict=False)
    assert outcome.state == "failed"
    assert outcome.failed >= 1
    assert why in outcome.why


def test_a_hanging_command_is_stopped(layering: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layering, "STEP_SECONDS", 0.3)
    step = python(layering, "import time; time.sleep(600)")
    outcome = layering.run_layer(layering.Layer("a", "x", (step,)), strict=False)
    assert outcome.state == "failed"
    assert "still running" in outcome.why


def test_what_is_missing_is_named_and_is_a_failure_in_ci(layering: ModuleType) -> None:
    need = layering.Need("a thing", lambda: "a thing is not installed", ("a-thing",))
    layer = layering.Layer("a", "x", (python(layering, ""),), (need,))
    assert layering.run_layer(layer, strict=False).state == "not run"
    outcome = layering.run_layer(layer, strict=True)
    assert (outcome.state, outcome.failed, outcome.why) == ("failed", 1, "a thing is not installed")


def test_what_nobody_can_bring_is_named_in_ci_too_and_excuses_nothing_else(layering: ModuleType) -> None:
    nowhere = layering.Need("a wheel", lambda: "no index has it", excused=True)
    layer = layering.Layer("a", "x", (python(layering, ""),), (nowhere,))
    outcome = layering.run_layer(layer, strict=True)
    assert (outcome.state, outcome.why, outcome.failed) == ("not run", "no index has it", 0)
    layer = layering.Layer("a", "x", (python(layering, ""),), (nowhere, layering.Need("y", lambda: "no y")))
    assert layering.run_layer(layer, strict=True).state == "failed"


def test_what_could_be_installed_is_named_once_and_only_where_it_is_missing(layering: ModuleType) -> None:
    absent = layering.Need("a", lambda: "a is not installed", ("pkg-b", "pkg-a"))
    there = layering.Need("b", lambda: "", ("pkg-c",))
    no_package = layering.Need("c", lambda: "c does not exist")
    layers = [
        layering.Layer("one", "x", (), needs=(absent, there)),
        layering.Layer("two", "x", (), needs=(no_package,), wants=(absent,)),
    ]
    assert layering.lacking(layers) == ["pkg-a", "pkg-b"]


def waiting_for(layering: ModuleType, folder: Path, mine: str, other: str) -> tuple[object, ...]:
    """A layer's steps that end only while another one's run."""
    code = f"""
import pathlib, time
folder = pathlib.Path({str(folder)!r})
(folder / {mine!r}).touch()
deadline = time.monotonic() + 20
while not (folder / {other!r}).exists():
    assert time.monotonic() < deadline
    time.sleep(0.02)
"""
    return (python(layering, code),)


def test_lanes_run_side_by_side_and_outcomes_keep_the_order_of_the_layers(layering: ModuleType, tmp_path: Path) -> None:
    layers = [
        layering.Layer("long", "x", waiting_for(layering, tmp_path, "one", "two"), lane="machines"),
        layering.Layer("first", "x", (python(layering, ""),)),
        layering.Layer("second", "x", waiting_for(layering, tmp_path, "two", "one")),
    ]
    outcomes = layering.run(layers, strict=False)
    assert [(o.layer, o.state) for o in outcomes] == [("long", "passed"), ("first", "passed"), ("second", "passed")]


def test_layers_of_one_lane_never_overlap(layering: ModuleType, tmp_path: Path) -> None:
    alone = str(tmp_path / "alone")
    code = f"import os, time; os.mkdir({alone!r}); time.sleep(0.2); os.rmdir({alone!r})"
    layers = [layering.Layer(name, "x", (python(layering, code),), lane="same") for name in "abc"]
    assert {o.state for o in layering.run(layers, strict=False)} == {"passed"}


def test_an_interrupt_ends_the_commands_of_every_lane(layering: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(layering, "_stopping", threading.Event())
    hang = f"import pathlib, time; pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(600)"
    never = f"import pathlib; pathlib.Path({str(tmp_path / 'never')!r}).touch()"
    layers = [
        layering.Layer("hangs", "x", (python(layering, hang),), lane="machines"),
        layering.Layer("next", "x", (python(layering, never),), lane="machines"),
        layering.Layer("interrupted", "x", (), empty=lambda: interrupted(tmp_path / "begun")),
    ]
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        layering.run(layers, strict=False)
    assert time.monotonic() - begin < 20
    assert not (tmp_path / "never").exists()


def interrupted(begun: Path) -> str:
    deadline = time.monotonic() + 20
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["passed", "passed"], 0),
        (["passed", "not run"], 0),
        (["passed", "nothing to prove"], 0),
        (["passed", "failed"], 1),
        (["not run"], 1),
        ([], 1),
    ],
)
def test_the_exit_code_and_the_last_line_are_true(layering: ModuleType, capsys, states: list[str], code: int) -> None:
    outcomes = [
        layering.Outcome(f"l{n}", state, passed=2, failed=int(state == "failed")) for n, state in enumerate(states)
    ]
    assert layering.summary(outcomes, 1.0) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{2 * len(states)} passed, {states.count('failed')} failed, 0 skipped"
    assert [
        layer["state"] for layer in json.loads((layering.BUILD / "test-summary.json").read_text())["layers"]
    ] == states
