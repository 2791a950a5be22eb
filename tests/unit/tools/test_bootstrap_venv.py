# SPDX-License-Identifier: GPL-3.0-or-later
"""The first thing a newcomer meets: it picks a Python that can, and says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


def new_clone(folder: Path) -> Path:
    """A clone whose locks are empty, so that nothing is fetched."""
    root = folder / "clone"
    for name in ("bin", "requirements"):
        (root / name).mkdir(parents=True)
    shutil.copy(REPOSITORY / "bin" / "bootstrap-venv", root / "bin")
    for lock in ("drift", "test"):
        (root / "requirements" / f"{lock}.lock").write_text("# nothing\n")
    return root


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return new_clone(tmp_path)


def bootstrap(clone: Path, lock: str = "drift", path: Path | None = None) -> subprocess.CompletedProcess[str]:
    home = clone.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {"PATH": str(path or Path(sys.executable).parent), "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, clone / "bin" / "bootstrap-venv", lock],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert list(home.iterdir()) == [], "something was written outside of the clone"
    return done


def pythons(folder: Path, **scripts: str) -> Path:
    """A folder for PATH with these interpreters, as shell scripts."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name.replace("_", ".")).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name.replace("_", ".")).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One with a real environment, and what was said when it was made: that takes the longest by far."""
    folder = tmp_path_factory.mktemp("made")
    clone = new_clone(folder)
    path = pythons(
        folder / "path",
        python3_13="echo 'version manager: not installed' >&2; exit 127",
        python3_12="echo 3 10 1 1 1",
        python3=f'exec {sys.executable} "$@"',
    )
    done = bootstrap(clone, "test", path=path)
    assert done.returncode == 0, done.stderr
    return clone, done.stdout


def test_a_shim_that_refuses_and_an_old_python_are_passed_over(made: tuple[Path, str]) -> None:
    clone, said = made
    assert "making .venv with python3 " in said
    assert subprocess.run([clone / ".venv/bin/python", "-c", ""], check=False).returncode == 0


def test_a_changed_lock_installs_again_and_only_once(made: tuple[Path, str]) -> None:
    clone, _said = made
    (clone / "requirements" / "test.lock").write_text("# something else\n")
    said = bootstrap(clone, "test").stdout
    assert "installing" in said and "making" not in said
    again = bootstrap(clone, "test")
    assert (again.returncode, again.stdout) == (0, "")


def test_what_the_tests_need_contains_what_drift_needs(made: tuple[Path, str]) -> None:
    clone, _said = made
    bootstrap(clone, "test")
    assert bootstrap(clone, "drift").stdout == ""


def test_what_pip_said_is_shown_when_it_fails_and_the_next_run_tries_again(made: tuple[Path, str]) -> None:
    clone, _said = made
    lock = clone / "requirements" / "test.lock"
    lock.write_text("no requirement, this\n")
    done = bootstrap(clone, "test")
    assert done.returncode == 1
    assert "Invalid requirement" in done.stderr
    assert "build/bootstrap.log" in done.stderr
    assert bootstrap(clone, "test").returncode == 1
    lock.write_text("# nothing\n")
    assert "installing" in bootstrap(clone, "test").stdout


def test_a_moved_clone_starts_afresh(made: tuple[Path, str], tmp_path: Path) -> None:
    clone, _said = made
    moved = shutil.copytree(clone, tmp_path / "elsewhere", symlinks=True)
    said = bootstrap(moved, "test").stdout
    assert "making .venv" in said
    assert str(moved) in (moved / ".venv/bin/pip").read_text()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("3 9 1 1 1", "python3 is 3.9 and lacks version 3.11"),
        ("3 12 0 1 1", "python3 is 3.12 and lacks venv"),
        ("3 12 1 0 0", "python3 is 3.12 and lacks ensurepip or pip"),
    ],
)
def test_what_is_missing_is_said_in_four_parts(clone: Path, tmp_path: Path, answer: str, found: str) -> None:
    done = bootstrap(clone, path=pythons(tmp_path / "path", python3=f"echo {answer}"))
    assert done.returncode == 1
    for part in ("wanted:", f"found:  {found}", "why:", "to do:  sudo apt-get install python3-venv"):
        assert part in done.stderr
    assert not (clone / ".venv").exists()


def test_an_unknown_lock_is_wrong_usage(clone: Path) -> None:
    assert bootstrap(clone, "nothing").returncode == 64


def test_an_environment_behind_a_link_is_somebody_elses_and_stays_whole(clone: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "bin").mkdir(parents=True)
    (theirs / "bin" / "pip").write_text("#!/somewhere/else/python\n")
    (clone / ".venv").symlink_to(theirs)
    done = bootstrap(clone)
    assert done.returncode == 1 and "others use" in done.stderr
    assert (theirs / "bin" / "pip").exists() and (clone / ".venv").is_symlink()


def test_the_clone_of_another_user_is_told_in_four_parts() -> None:
    """Root may write anywhere, so the test becomes nobody; who is not root takes its own right away."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        root = Path(folder)
        for name in ("bin", "requirements"):
            (root / name).mkdir()
        shutil.copy(REPOSITORY / "bin" / "bootstrap-venv", root / "bin")
        (root / "requirements/drift.lock").write_text("# nothing\n")
        root.chmod(0o555)
        who = {"user": "nobody"} if os.geteuid() == 0 else {}
        argv = ["/usr/bin/python3", str(root / "bin/bootstrap-venv"), "drift"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/", env={}, **who)
        root.chmod(0o755)
    assert done.returncode == 1
    for part in ("wanted: to make .venv", "found:  Permission denied", "why:", "to do:", "git clone"):
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
