# SPDX-License-Identifier: GPL-3.0-or-later
"""Real environments of tiny wheels: what a check says is what a run does, and nothing is lost.

Both package tools are the real ones; only the wheels are ours.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import aside, rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import manifest, tree
from venv_bench import PYTHON, Bench, control, diff, failing, states

ALL_BUT_INTERPRETER = {"place", "packages", "files", "current", "use"}


def test_a_check_of_nothing_predicts_everything_and_touches_nothing(bench: Bench) -> None:
    alpha, beta = bench.wheel("alpha", "3.6.0", programs={"alpha": "alpha:main"}), bench.wheel("beta", "2.0")
    before = bench.listing()
    plan = bench.check(alpha, beta, imports=["alpha"], entry_points=["alpha"])
    assert bench.listing() == before
    assert diff(plan, "packages") == {"alpha": ("absent", "3.6.0"), "beta": ("absent", "2.0")}
    assert states(plan) == dict.fromkeys(ALL_BUT_INTERPRETER, "drifted")
    actions = [step.action for step in plan.steps]
    assert actions[-5:] == ["create_environment", "install_stage", "complete", "prove", "switch"]


def test_a_run_does_what_the_check_predicted_and_is_then_done(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0", programs={"alpha": "alpha:main"})
    options = {"imports": ["alpha"], "entry_points": ["alpha"]}
    predicted = bench.check(alpha, **options)
    assert bench.apply(alpha, **options) == predicted
    after = bench.listing()
    again = bench.apply(alpha, **options)
    assert (again.steps, states(again)) == ((), {})
    assert bench.listing() == after
    said = subprocess.run([bench.home / "current/bin/alpha"], check=True, capture_output=True, text=True)
    assert said.stdout == "alpha\n"
    assert {c.cause for c in predicted.controls} <= {"never_applied", "adopted"}
    assert {c.cause for c in again.controls} == {""}
    assert json.loads(Path(record.FOLDER, "vllm_venv-demo.json").read_text())["role"] == "vllm_venv-demo"


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


# --- drift, made by hand ---


def altered(bench: Bench) -> None:
    (bench.site / "alpha.py").write_text("def main():\n    print('evil!')\n\n\n__version__ = 1\n")


def removed(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "alpha.py").unlink()


def hooked(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "zz.pth").write_text("import os\n")


def customised(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "sitecustomize.py").write_text("import os\n")


def precompiled(bench: Bench) -> None:
    bench.site.chmod(0o755)
    (bench.site / "stray.pyc").write_bytes(b"code")


def relinked(bench: Bench) -> None:
    folder = bench.home / bench.current / "bin"
    folder.chmod(0o755)
    (folder / "python").unlink()
    (folder / "python").symlink_to("/usr/bin/false")


def disabled(bench: Bench) -> None:
    (bench.home / bench.current / "bin" / "alpha").chmod(0o644)


def test_a_folder_that_others_can_write_is_closed(open_bench: Bench) -> None:
    """As long as it is open nobody's rights are the right ones to run what is in it."""
    alpha = open_bench.wheel("alpha", "1.0")
    open_bench.apply(alpha, imports=["alpha"])
    open_bench.home.chmod(0o777)
    plan = open_bench.check(alpha, imports=["alpha"])
    assert states(plan) == {"place": "drifted", "use": "unknown"}
    assert "a group or everybody" in control(plan, "use").reason
    assert [step.action for step in plan.steps] == ["close_directory"]
    assert open_bench.apply(alpha, imports=["alpha"]) == plan
    assert open_bench.home.stat().st_mode & 0o777 == 0o755
    assert states(open_bench.check(alpha, imports=["alpha"])) == {}


@pytest.mark.parametrize(
    ("damage", "path", "change"),
    [
        (altered, "alpha.py", ("altered", "as installed")),
        (removed, "alpha.py", ("missing", "as installed")),
        (hooked, "zz.pth", ("extra", "absent")),
        (customised, "sitecustomize.py", ("extra", "absent")),
        (precompiled, "stray.pyc", ("extra", "absent")),
        (relinked, "bin/python", ("altered", "as installed")),
        (disabled, "bin/alpha", ("altered", "as installed")),
    ],
)
def test_a_touched_file_is_named_alone_and_the_generation_replaced(bench: Bench, damage, path, change) -> None:
    alpha = bench.wheel("alpha", "1.0", programs={"alpha": "alpha:main"})
    bench.apply(alpha)
    first = bench.current
    damage(bench)
    plan = bench.check(alpha)
    assert states(plan) == {"files": "drifted"}
    assert plan.steps[-1].text() == f"remove_generation {first}"
    ((found, told),) = diff(plan, "files").items()
    assert found.endswith(path) and told == change
    assert control(plan, "files").cause == "corrective"
    assert bench.apply(alpha) == plan
    assert bench.current == f"{first}-2" and not (bench.home / first).exists()
    assert states(bench.check(alpha)) == {}


def test_a_package_installed_by_hand_is_told_as_one_package(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    bench.site.chmod(0o755)
    beta = bench.wheel("beta", "2.0")
    subprocess.run([bench.uv[0], "pip", "install", "-q", "--no-cache", "--no-index", "--find-links", bench.wheels,
                    "--python", bench.home / "current/bin/python", beta.path], check=True)  # fmt: skip
    plan = bench.check(alpha)
    assert diff(plan, "packages") == {"beta": ("2.0", "absent")}
    assert states(plan) == {"packages": "drifted"}
    bench.apply(alpha)
    assert states(bench.check(alpha)) == {}


def test_what_follows_from_sources_or_only_looks_touched_is_no_drift(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    os.utime(bench.site / "alpha.py")
    for compiled in bench.site.glob("__pycache__/*.pyc"):
        compiled.write_bytes(b"written anew")
    assert states(bench.check(alpha)) == {}


def test_a_change_with_the_old_size_and_time_is_still_seen(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    file = bench.site / "alpha.py"
    then = file.stat()
    text = file.read_text()
    file.write_text(text.replace("1.0", "6.6"))
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert states(bench.check(alpha))["files"] == "drifted"


def test_a_lost_link_is_only_a_lost_link(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha, imports=["alpha"])
    (bench.home / "current").unlink()
    plan = bench.check(alpha, imports=["alpha"])
    assert states(plan) == {"current": "drifted"}
    assert [step.action for step in plan.steps] == ["switch"]
    bench.apply(alpha, imports=["alpha"])
    assert states(bench.check(alpha)) == {}


def test_a_link_that_leads_elsewhere_is_turned(bench: Bench) -> None:
    alpha = bench.wheel("alpha", "1.0")
    bench.apply(alpha)
    name = bench.current
    (bench.home / "current").unlink()
    (bench.home / "current").symlink_to("/usr")
    assert diff(bench.check(alpha), "current") == {f"{bench.home}/current": ("/usr", name)}
    bench.apply(alpha)
    assert bench.current == name


# --- what runs is never harmed ---


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


# --- a run that fails changes nothing ---


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


def torch(bench: Bench, version_line: str):
    return bench.wheel("torch", "2.13.0", files={"torch/__init__.py": "", "torch/version.py": f"{version_line}\n"})


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


def system_python() -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output(["/usr/bin/python3", "-c", code], text=True).strip()


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


# --- what belongs to somebody else ---


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
        return states(subject.plan(HostReader()))

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
