# SPDX-License-Identifier: GPL-3.0-or-later
"""Real environments of tiny wheels: generations come and go, and what runs is never harmed."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from venv_bench import Bench, altered, control, diff, states


def test_the_link_is_relative_and_folders_are_closed(bench: Bench) -> None:
    bench.apply(bench.wheel("alpha", "1.0"))
    assert os.readlink(bench.home / "current") == bench.current
    folders = [bench.site, bench.site / "alpha-1.0.dist-info", bench.home / bench.current]
    assert {oct(folder.stat().st_mode & 0o777) for folder in folders} == {"0o555"}
    assert not [path for path in bench.home.iterdir() if path.name.endswith(".work")]
    # Compiled when it was installed: running could not write it.
    assert list(bench.site.glob("__pycache__/alpha.*.pyc"))


def test_another_lock_is_another_generation_and_the_old_one_is_kept(bench: Bench) -> None:
    old, new = bench.wheel("alpha", "1.0"), bench.wheel("alpha", "1.1")
    bench.apply(old)
    first = bench.current
    plan = bench.apply(new)
    assert diff(plan, "packages") == {"alpha": ("1.0", "1.1")}
    assert control(plan, "packages").cause == "intentional"
    assert states(plan) == {"packages": "drifted", "current": "drifted"}
    assert bench.current != first and os.readlink(bench.home / "previous") == first


def test_only_one_earlier_generation_is_kept(bench: Bench) -> None:
    for version in ("1.0", "1.1", "1.2"):
        bench.apply(bench.wheel("alpha", version))
    names = {path.name for path in bench.home.iterdir()}
    assert names == {bench.current, os.readlink(bench.home / "previous"), "current", "previous"}


def test_going_back_is_planned_stable_and_reversible(bench: Bench) -> None:
    old, new = bench.wheel("alpha", "1.0"), bench.wheel("alpha", "1.1")
    bench.apply(old)
    first = bench.current
    bench.apply(new)
    second = bench.current
    plan = bench.check(new, generation="previous")
    assert [step.action for step in plan.steps] == ["set_previous", "switch"]
    assert diff(plan, "packages") == {"alpha": ("1.1", "1.0")}
    assert bench.apply(new, generation="previous") == plan
    assert bench.current == first
    assert bench.apply(new, generation="previous").steps == ()
    bench.apply(new)
    assert bench.current == second and os.readlink(bench.home / "previous") == first


def test_going_back_to_nothing_fails_with_what_to_do(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    before = bench.listing()
    plan = bench.check(alpha, generation="previous")
    assert states(plan) == {"current": "drifted"} and plan.steps == ()
    with pytest.raises(NodeError) as error:
        bench.apply(alpha, generation="previous")
    assert error.value.problem.key == "venv.no_previous" and bench.listing() == before


def test_a_process_keeps_the_generation_it_runs_from(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0", programs={"alpha": "alpha:main"}, files={
        "alpha.py": "import time\n\ndef main():\n    print('up', flush=True)\n    time.sleep(60)\n"
    })  # fmt: skip
    bench.apply(alpha)
    first = bench.current
    argv = [str(bench.home / "current/bin/alpha")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"up\n"
            altered(bench)
            plan = bench.apply(alpha)
            assert (
                "generations" not in states(plan) and f"process {process.pid} " in control(plan, "generations").reason
            )
            assert bench.current == f"{first}-2" and (bench.home / first / "bin/alpha").exists()
            assert bench.apply(alpha).steps == ()
        finally:
            process.kill()
    assert [step.text() for step in bench.apply(alpha).steps] == [f"remove_generation {first}"]
    assert not (bench.home / first).exists()


def test_a_process_started_through_the_link_before_it_was_moved_may_be_of_any_generation(bench: Bench) -> None:
    bench.apply(bench.wheel("alpha", "1.0"))
    oldest = bench.current
    argv = [str(bench.home / "current/bin/python"), "-c", "import time; print('up', flush=True); time.sleep(60)"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"up\n"
            for version in ("1.1", "1.2"):
                plan = bench.apply(bench.wheel("alpha", version))
            assert "remove_generation" not in [step.action for step in plan.steps]
            assert "before it was last moved" in control(plan, "generations").reason
        finally:
            process.kill()
    plan = bench.apply(bench.wheel("alpha", "1.2"))
    assert [step.text() for step in plan.steps] == [f"remove_generation {oldest}"]
