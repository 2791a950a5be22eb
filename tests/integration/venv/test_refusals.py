# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that would fail changes nothing, and says before it begins what is in its way."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import manifest
from venv_bench import PYTHON, Bench, control, diff, failing, states, system_python, torch


def test_an_import_that_fails_keeps_the_generation_in_use(bench: Bench) -> None:
    bench.apply(bench.wheel("alpha", "1.0"))
    broken = bench.wheel("alpha", "1.1", files={"alpha.py": "raise OSError('libcuda.so.1 is not there')\n"})
    error = failing(bench, "venv.use", broken, imports=["alpha"])
    assert "libcuda.so.1 is not there" in error.problem.found


def test_an_import_that_fails_in_the_intact_environment_is_drift_that_no_run_mends(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0", files={"alpha.py": "raise OSError('no driver')\n"})
    bench.apply(alpha)
    plan = bench.check(alpha, imports=["alpha"])
    assert states(plan) == {"use": "drifted"} and plan.steps == ()
    assert diff(plan, "use") == {"import alpha": ("OSError: no driver", "works")}
    failing(bench, "venv.use", alpha, imports=["alpha"])


def test_an_assertion_between_stages_stops_before_the_next_one(bench: Bench) -> None:
    ends = {"distribution": "torch", "version": "", "file": "torch/version.py", "attribute": "__version__"}
    cu130, cu129 = {**ends, "suffix": "+cu130"}, {**ends, "suffix": "+cu129"}
    last = bench.stage("vllm", bench.wheel("vllm", "0.27.1").pin)
    wrong = bench.stage("torch", torch(bench, "__version__ = '2.13.0+cpu'").pin, assertions=[cu130])
    error = failing(bench, "venv.assertion", stages=[wrong, last])
    assert error.problem.found == "2.13.0+cpu" and "after stage torch" in error.problem.wanted
    right = bench.stage("torch", torch(bench, "__version__: str = '2.13.0+cu130'").pin, assertions=[cu130])
    bench.apply(stages=[right, last])
    assert diff(bench.check(stages=[{**right, "assertions": [cu129]}, last]), "use") == {
        "torch (torch/version.py: __version__)": ("2.13.0+cu130", "ends in +cu129")
    }


@pytest.mark.names("vllm_venv/interpreter")
@pytest.mark.parametrize(
    ("interpreter", "found"),
    [
        ("/nonexistent/python3", "No such file"),
        ("/etc/passwd", "Permission denied"),
        ("/usr/bin/true", "does not answer as a Python"),
    ],
)
def test_an_interpreter_that_will_not_do(bench: Bench, interpreter: str, found: str) -> None:
    alpha = bench.wheel("alpha", "1.0")
    plan = bench.check(alpha, interpreter=interpreter)
    assert control(plan, "interpreter").state == "drifted" and plan.steps == ()
    assert found in failing(bench, "venv.interpreter", alpha, interpreter=interpreter).problem.found


def test_a_lock_for_another_python_or_machine(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    failing(bench, "venv.interpreter", alpha, python="3.99")
    failing(bench, "venv.interpreter", alpha, machine="riscv64")


def test_without_a_package_tool(bench: Bench, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {PYTHON} -X importtime "$@" 2>/dev/null\n')
    bare.write_text(
        f"#!{PYTHON}\nimport json, platform, sys\n"
        "print(json.dumps(['cpython', '%d.%d' % sys.version_info[:2], platform.machine(), '']))\n"
    )
    bare.chmod(0o755)
    error = failing(bench, "venv.no_installer", bench.wheel("alpha", "1.0"), interpreter=str(bare), uv=[])
    assert f"python3.{sys.version_info[1]}-venv" in error.problem.fix


def test_without_a_wheelhouse(bench: Bench) -> None:
    failing(bench, "venv.wheelhouse", bench.wheel("alpha", "1.0"), find_links=str(bench.base / "none"))


def test_without_room_for_two(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    assert "venv.disk_full" in [p["key"] for p in bench.check(alpha, size_mib=1 << 30).facts["obstacles"]]
    failing(bench, "venv.disk_full", alpha, size_mib=1 << 30)


def test_what_runs_that_were_cut_off_have_left_counts_as_room_and_goes_first(bench: Bench, monkeypatch) -> None:
    old, new = bench.wheel("alpha", "1.0"), bench.wheel("alpha", "1.1")
    bench.apply(old)
    real = os.statvfs

    def small(path):
        found = list(real(path))
        found[:5] = [1 << 20, 1 << 20, 100, 30, 30]
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", small)
    failing(bench, "venv.disk_full", new, size_mib=30)
    left = bench.home / "0123456789abcdef"
    left.mkdir()
    with (left / "download").open("wb") as handle:
        handle.truncate(40 << 20)
    plan = bench.check(new, size_mib=30)
    assert plan.steps[0].text() == f"remove_generation {left.name}"
    assert bench.apply(new, size_mib=30) == plan
    assert not left.exists() and states(bench.check(new, size_mib=30)) == {}
    # Nobody removes it when that control is to be left alone.
    left.mkdir()
    assert states(bench.check(old, size_mib=30)) != {}
    failing(bench, "venv.disk_full", bench.wheel("alpha", "1.2"), size_mib=30, skip_controls=["vllm_venv/generations"])
    # Nor from under a link that engines use.
    bench.home.joinpath(bench.current).chmod(0o755)
    bench.home.joinpath(bench.current, manifest.NAME).unlink()
    texts = [step.text() for step in bench.check(bench.wheel("alpha", "1.3"), size_mib=0).steps]
    assert texts.index(f"remove_generation {bench.current}") > texts.index(f"switch {bench.home}/current")


def test_a_file_on_the_way(bench: Bench) -> None:
    bench.root.write_text("in the way")
    failing(bench, "venv.place", bench.wheel("alpha", "1.0"))


def test_a_way_that_somebody_else_decides(bench: Bench) -> None:
    if os.geteuid():
        pytest.fail("these tests need root: nobody else can be somebody else")
    bench.root.mkdir()
    os.chown(bench.root, 12345, 12345)
    failing(bench, "venv.untrusted", bench.wheel("alpha", "1.0"))


def test_a_folder_that_the_owner_may_not_enter_is_told_before_anything_is_made(open_bench: Bench) -> None:
    open_bench.root.mkdir(mode=0o700)
    alpha = open_bench.wheel("alpha", "1.0")
    error = failing(open_bench, "venv.unwritable", alpha, owner="daemon")
    assert error.problem.found == f"daemon may not enter {open_bench.root}"
    assert open_bench.check(alpha, owner="daemon").steps == ()


def test_a_way_on_which_a_second_user_decides_behind_the_owner(open_bench: Bench) -> None:
    """The owner's own folder is theirs to decide. What somebody else has in it is not."""
    account = pwd.getpwnam("daemon")
    folders = [open_bench.root / "of_owner", open_bench.root / "of_owner" / "of_third"]
    folders[1].mkdir(parents=True)
    os.chown(folders[0], account.pw_uid, account.pw_gid)
    os.chown(folders[1], 12345, 12345)
    alpha = open_bench.wheel("alpha", "1.0")
    failing(open_bench, "venv.untrusted", alpha, root=str(folders[1]), owner="daemon")
    plan = open_bench.check(alpha, root=str(folders[0]), owner="daemon")
    assert control(plan, "place").reason == ""


def strange(path: Path) -> Path:
    """A program that a user who is neither root nor the owner can exchange."""
    path.parent.mkdir()
    path.write_text('#!/bin/sh\nid -u >> "$0.ran"\nexit 1\n')
    path.chmod(0o755)
    for place in (path.parent, path):
        os.chown(place, 12345, 12345)
    return path


@pytest.mark.parametrize("owner", ["root", "daemon"])
def test_an_interpreter_of_a_stranger_is_asked_with_their_rights_and_builds_nothing(open_bench, owner: str) -> None:
    python = strange(open_bench.base / "strange" / "python3")
    python.write_text('#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
    options = {"interpreter": str(python), "python": system_python(), "owner": owner}
    error = failing(open_bench, "venv.interpreter", open_bench.wheel("alpha", "1.0"), **options)
    assert error.problem.found == f"uid 12345 decides what {python} is"


def test_a_uv_of_a_stranger_is_not_run(bench: Bench) -> None:
    uv = strange(bench.base / "strange" / "uv")
    alpha = bench.wheel("alpha", "1.0")
    assert bench.check(alpha, uv=[str(uv), *bench.uv]).facts["venv"]["installer"] == {"kind": "uv", "path": bench.uv[0]}
    assert bench.check(alpha, uv=[str(uv)]).facts["venv"]["installer"]["kind"] == "pip"
    assert not Path(f"{uv}.ran").exists()
