# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to somebody else, and what a reader or an owner does with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import aside, rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import manifest, tree
from venv_bench import PYTHON, Bench, altered, control, states, system_python, torch


@pytest.mark.parametrize("place", ["current", "home"])
def test_a_hand_made_environment_is_left_alone_until_it_is_named(bench: Bench, place: str) -> None:
    alpha = bench.wheel("alpha", "1.0")
    foreign = bench.home / "current" if place == "current" else bench.home
    foreign.parent.mkdir(parents=True)
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", foreign], check=True)
    before = bench.listing()
    plan = bench.apply(alpha)
    assert bench.listing() == before and plan.steps == ()
    drifted = [c for c in plan.controls if c.state == "drifted"]
    assert drifted and {c.blocked_by for c in drifted} == {f"vllm_venv_confirm: [{foreign}]"}
    bench.apply(alpha, confirm=[str(foreign)])
    assert states(bench.check(alpha)) == {}
    assert Path(f"{foreign}.replaced.1", "pyvenv.cfg").exists()


def test_a_wheel_that_is_wrong_about_its_own_file_is_installed_and_told(bench: Bench) -> None:
    """As the wheel of PyNvVideoCodec is, which vLLM needs on a Spark."""
    alpha = bench.wheel("alpha", "1.0", misrecord="alpha.py")
    bench.apply(alpha)
    plan = bench.check(alpha)
    assert states(plan) == {}
    (path,) = plan.facts["venv"]["misrecorded"]
    assert path.endswith("site-packages/alpha.py")
    altered(bench)
    assert states(bench.check(alpha)) == {"files": "drifted"}


def test_what_was_never_completed_is_never_used(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    name = bench.current
    generation = bench.home / name
    generation.chmod(0o755)
    (generation / manifest.NAME).unlink()
    plan = bench.apply(alpha)
    assert "remove_generation" in [step.action for step in plan.steps]
    assert bench.current == f"{name}-2" and not generation.exists()


def test_a_reader_who_may_not_look_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)

    def refused(*_arguments: object) -> None:
        raise tree.Unreadable("somewhere: Permission denied")

    monkeypatch.setattr(tree, "compare", refused)
    plan = bench.check(alpha)
    assert states(plan) == {"files": "unknown"} and plan.steps == ()
    assert "Permission denied" in control(plan, "files").reason


@pytest.mark.parametrize("where", ["root", "home", "generation"])
def test_who_may_not_enter_a_folder_is_told_so_and_not_that_nothing_is_there(open_bench: Bench, where: str) -> None:
    alpha = open_bench.wheel("alpha", "1.0")
    open_bench.apply(alpha, interpreter="/usr/bin/python3", python=system_python())
    home = open_bench.home
    {"root": open_bench.root, "home": home, "generation": home / open_bench.current}[where].chmod(0o700)
    subject = open_bench.subject(alpha, interpreter="/usr/bin/python3", python=system_python())

    def states_as_seen() -> dict[str, str]:
        plan = subject.plan(HostReader())
        # What cannot be seen is in nobody's way.
        assert "only when it is named" not in control(plan, "current").reason
        return states(plan)

    unseen = ["place", "packages", "files", "current", "use", "generations"]
    if where == "generation":
        unseen = ["packages", "files"]
    assert rights.look(["/"], states_as_seen, 60, user=12345).value == dict.fromkeys(unseen, "unknown")


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_what_an_owner_puts_in_the_place_of_files_makes_nobody_wait(bench: Bench, kind: str) -> None:
    read = {"distribution": "torch", "version": "", "file": "torch/version.py", "attribute": "__version__"}
    built = torch(bench, "__version__ = '2.13.0+cu130'")
    stage = bench.stage("only", built.pin, assertions=[{**read, "suffix": "+cu130"}])
    bench.apply(stages=[stage])
    first = bench.current
    for path in (bench.site / "torch-2.13.0.dist-info" / "RECORD", bench.site / "torch-2.13.0.dist-info" / "METADATA",
                 bench.site / "torch" / "version.py", bench.home / first / manifest.NAME):  # fmt: skip
        path.parent.chmod(0o755)
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        answer = aside.ask(lambda: states(bench.check(stages=[stage])), 30)
        assert not answer.silence + answer.bug, path
    assert (answer.value["files"], answer.value["use"]) == ("drifted", "drifted")
    bench.apply(stages=[stage])
    assert bench.current == f"{first}-2" and states(bench.check(stages=[stage])) == {}


def test_a_skipped_control_is_left_alone(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha, imports=["alpha"])
    altered(bench)
    plan = bench.check(alpha, skip_controls=["vllm_venv/files"])
    assert plan.steps == () and control(plan, "files").state == "not_selected"
    assert bench.subject(alpha).plan(HostReader()).steps
