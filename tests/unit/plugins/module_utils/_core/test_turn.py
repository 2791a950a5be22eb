# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real runs at once: the second waits, and looks only then."""

from __future__ import annotations

import fcntl
import os
import stat

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import turn
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "nusy"
    monkeypatch.setattr(turn, "FOLDER", str(path))
    return path


@pytest.fixture
def lock(folder):
    folder.mkdir(mode=0o755)
    return folder / "turn.lock"


def test_nobody_else_is_there(folder):
    for _again in range(2):
        with turn.taken("role demo"), (folder / "turn.lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (folder / "turn.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_it_waits_until_the_other_run_has_ended(lock, monkeypatch):
    other = lock.open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    monkeypatch.setattr(turn.time, "sleep", lambda _seconds: other.close())
    with turn.taken("role demo"):
        assert other.closed


def test_it_does_not_wait_for_ever_and_says_for_whom(lock, monkeypatch):
    monkeypatch.setattr(turn, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(turn, "POLL_SECONDS", 0.01)
    with turn.taken("role first"), pytest.raises(NodeError) as error, turn.taken("role demo"):
        pytest.fail("two at once")
    assert error.value.problem.key == "core.busy"
    assert f"role first, process {os.getpid()}" in error.value.problem.found


def test_what_a_killed_run_left_in_the_scratch_folder_is_gone(folder):
    with turn.taken("role demo") as scratch:
        assert scratch.startswith(str(folder)) and os.listdir(scratch) == []
        for name in ("sudoers", "folder/deep"):
            (folder / "scratch" / name).parent.mkdir(exist_ok=True)
            (folder / "scratch" / name).write_text("secret")
    with turn.taken("role demo") as scratch:
        assert os.listdir(scratch) == [] and stat.S_IMODE(os.stat(scratch).st_mode) == 0o711


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_the_folder_can_be_read_by_all_and_written_by_one_whatever_the_umask(folder, umask):
    before = os.umask(umask)
    try:
        with turn.taken("role demo"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o755
            assert stat.S_IMODE((folder / "turn.lock").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_folder_that_others_can_write_to_is_refused(folder):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(NodeError) as error, turn.taken("role demo"):
        pytest.fail("anybody could have taken the lock away")
    assert error.value.problem.key == "core.foreign_folder"


def test_a_link_in_the_place_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NodeError) as error, turn.taken("role demo"):
        pytest.fail("it would have worked elsewhere")
    assert error.value.problem.key == "core.foreign_folder"


def test_a_place_that_cannot_be_written_is_an_error_with_four_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(turn, "FOLDER", str(tmp_path / "missing" / "nusy"))
    with pytest.raises(NodeError) as error, turn.taken("role demo"):
        pytest.fail("no lock")
    assert error.value.problem.key == "core.step_failed" and "No such file" in error.value.problem.found
