# SPDX-License-Identifier: GPL-3.0-or-later
"""Toolkits of wheels on a disk: what is whole, what is not, and what is nobody's of ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import wheel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import Wheels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import manifest, tree
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Manifest, Pin

PIN = Pin("nvidia-cuda-nvcc", "13.0.88", ("0" * 64,))
WHEELS = Wheels((PIN,), "/usr/bin/python3")
DIGEST = wheel.digest_of(WHEELS, "aarch64")


def toolkit(folder: Path, digest: str = DIGEST) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/nvcc").write_text("a compiler")
    (folder / "lib").mkdir()
    (folder / "lib64").symlink_to("lib")
    files = tree.hashed(str(folder), tree.scan(str(folder)))
    (folder / manifest.NAME).write_text(manifest.write(Manifest(digest, {PIN.name: PIN.version}, files)))
    return folder


def seen(prefix: Path) -> wheel.Seen:
    found = wheel.observe(str(prefix), WHEELS, DIGEST, HostReader())
    assert isinstance(found, wheel.Seen)
    return found


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    name = f"13.0-{DIGEST}"
    toolkit(tmp_path / name)
    (tmp_path / "13.0").symlink_to(name)
    return tmp_path / "13.0"


def test_the_digest_follows_from_what_is_installed_and_not_from_where() -> None:
    here = Wheels((PIN,), "/usr/bin/python3", "https://index/", "/srv/wheels")
    assert wheel.digest_of(here, "aarch64") == DIGEST != wheel.digest_of(here, "x86_64")
    other = Pin(PIN.name, PIN.version, ("1" * 64,))
    assert wheel.digest_of(Wheels((other,), "/usr/bin/python3"), "aarch64") != DIGEST


def test_a_toolkit_as_it_was_installed_is_whole(prefix: Path) -> None:
    found = seen(prefix)
    assert found.whole(DIGEST) and not found.whole("0" * 16) and wheel.ours(str(prefix), found)


@pytest.mark.parametrize(
    ("damage", "which"),
    [
        (lambda folder: (folder / "bin/nvcc").write_text("another one"), "altered"),
        (lambda folder: (folder / "bin/nvcc").write_text("A compiler"), "altered"),
        (lambda folder: (folder / "bin/nvcc").unlink(), "missing"),
        (lambda folder: (folder / "bin/ptxas").touch(), "extra"),
        (lambda folder: (os.unlink(folder / "lib64"), (folder / "lib64").symlink_to("/usr/lib")), "altered"),
    ],
)
def test_whatever_was_done_to_it_is_seen(prefix: Path, damage, which: str) -> None:
    damage(prefix)
    found = seen(prefix)
    assert not found.whole(DIGEST) and (found.ready, found.unsafe, found.obstacle) == ("", "", "")
    assert [name for name in ("altered", "missing", "extra") if getattr(found.difference, name)] == [which]


def test_one_that_was_never_completed_is_not_whole(prefix: Path) -> None:
    (prefix / manifest.NAME).unlink()
    assert seen(prefix).manifest is None and not seen(prefix).whole(DIGEST)


@pytest.mark.parametrize("target", ["/usr/local/cuda-13.0", "13.0-latest", "../cuda", "13.0-0123456789ABCDEF"])
def test_a_link_that_leads_elsewhere_is_not_ours(tmp_path: Path, target: str) -> None:
    (tmp_path / "13.0").symlink_to(target)
    assert not wheel.ours(str(tmp_path / "13.0"), seen(tmp_path / "13.0"))


def test_what_was_installed_before_is_used_again(prefix: Path) -> None:
    prefix.unlink()
    assert seen(prefix).kind == "absent" and seen(prefix).ready == f"13.0-{DIGEST}"


def test_a_name_that_is_taken_is_not_written_into(prefix: Path) -> None:
    (prefix / "bin/nvcc").unlink()
    assert wheel.free_name(str(prefix), DIGEST, seen(prefix)) == f"13.0-{DIGEST}-2"


def test_what_would_fill_the_disk_is_told_before_it_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "NEEDED_MIB", 1 << 40)
    assert f"{tmp_path} has " in seen(tmp_path / "cuda/13.0").obstacle


def test_what_a_killed_run_has_left_is_swept_whatever_its_lock_was(tmp_path: Path) -> None:
    kept = [f"13.0-{DIGEST}", ".work", f".13.0-{DIGEST}"]
    for name in (*kept, f".13.0-{DIGEST}.work", f".12.9-{'a' * 16}-2.work"):
        (tmp_path / name / "inside").mkdir(parents=True)
    with pytest.raises(NodeError):
        step = Step("install_wheels", f"{tmp_path}/13.0-{DIGEST}-2")
        wheel.install(step, HostReader(), HostWriter(), wheels=Wheels((PIN,), "/usr/bin/false"), digest=DIGEST)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_an_interpreter_without_venv_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    step = Step("install_wheels", f"{tmp_path}/13.0-{DIGEST}")
    with pytest.raises(NodeError) as caught:
        wheel.install(step, HostReader(), HostWriter(), wheels=Wheels((PIN,), "/usr/bin/false"), digest=DIGEST)
    assert caught.value.problem.key == "cuda.no_environment" and list(tmp_path.iterdir()) == []


def test_root_makes_nothing_where_somebody_else_decides(tmp_path: Path) -> None:
    folder = tmp_path / "theirs" / "cuda"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o777)
    assert seen(folder / "13.0").unsafe.endswith(f"by {folder.parent}")
    assert seen(tmp_path / "13.0").unsafe == ""


def test_root_runs_no_interpreter_of_somebody_else(tmp_path: Path) -> None:
    interpreter = tmp_path / "python3"
    interpreter.touch()
    interpreter.chmod(0o777)
    found = wheel.observe(f"{tmp_path}/13.0", Wheels((PIN,), str(interpreter)), DIGEST, HostReader())
    assert isinstance(found, wheel.Seen) and found.obstacle.endswith(f"by {interpreter}")


@pytest.mark.parametrize("what", [".", "lib", "bin/nvcc"])
def test_what_others_can_change_is_not_whole(prefix: Path, what: str) -> None:
    (prefix / what).chmod(0o777)
    assert seen(prefix).strange == (what,) and not seen(prefix).whole(DIGEST)
