# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands are bounded in time, output and rights; files are replaced whole and never shown."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import (
    HostReader,
    HostWriter,
    Unreadable,
    run_command,
)

ME = {"uid": os.getuid(), "gid": os.getgid()}


def test_output_and_exit_code_come_back():
    done = run_command(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], timeout=5)
    assert (done.rc, done.out, done.err, done.ok) == (3, "out\n", "err\n", False)
    assert done.said() == "err / out" and done.ending == "ended with 3"


def test_a_missing_program_is_a_result_and_not_an_exception():
    done = run_command(["/nonexistent/tool"], timeout=5)
    assert done.rc is None and "No such file" in done.problem


def test_a_hanging_command_is_stopped_with_its_children(tmp_path):
    marker = tmp_path / "alive"
    begin = time.monotonic()
    done = run_command(["/bin/sh", "-c", f"(sleep 1; touch {marker}) & sleep 60"], timeout=0.3)
    assert done.rc is None and "still running after 0.3 s" in done.problem
    assert time.monotonic() - begin < 5
    time.sleep(1.2)
    assert not marker.exists()


def test_a_grandchild_that_holds_the_pipe_does_not_make_us_wait():
    begin = time.monotonic()
    done = run_command(["/bin/sh", "-c", "sleep 20 & echo done"], timeout=10)
    assert done.out == "done\n" and time.monotonic() - begin < 5


def test_what_a_package_script_starts_goes_on_running(tmp_path):
    marker = tmp_path / "alive"
    run_command(["/bin/sh", "-c", f"(sleep 0.5; touch {marker}) >/dev/null 2>&1 &"], timeout=5, leave_children=True)
    deadline = time.monotonic() + 5
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marker.exists()


def test_endless_output_is_cut():
    done = run_command(["/usr/bin/yes"], timeout=20, cap=100_000)
    assert done.rc is None and "more than 100000 bytes" in done.problem and len(done.out) == 100_000


def test_any_bytes_come_back_as_text():
    assert run_command(["/usr/bin/printf", r"\377\000x"], timeout=5).out == "\ufffd\x00x"


def test_the_callers_path_and_environment_do_not_count(monkeypatch):
    monkeypatch.setenv("PATH", "/somewhere")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    out = run_command([sys.executable, "-c", "import os; print(sorted(os.environ))"], timeout=10, env={"A": "1"}).out
    assert "LANG'" not in out and "'A'" in out and "'LC_ALL'" in out


def test_reading_refuses_what_is_no_file(tmp_path):
    reader = HostReader()
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(Unreadable):
            reader.read(str(tmp_path / name))
    assert reader.read(str(tmp_path / "absent")) is None
    assert reader.stat(str(tmp_path / "absent" / "below")) is None


def test_a_file_is_replaced_whole_with_its_mode(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    HostWriter().write(str(path), "new", mode=0o600, **ME)
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]


def test_the_content_is_never_readable_by_others_on_the_way(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def watch(source: str, target: str) -> None:
        seen.append(stat.S_IMODE(Path(source).stat().st_mode))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    HostWriter().write(str(tmp_path / "secret"), "new", mode=0o600, **ME)
    assert seen == [0o600]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "conf"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        HostWriter().write(str(path), "new", mode=0o644, **ME)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["conf"]


def test_attributes_are_not_set_through_a_link(tmp_path):
    target = tmp_path / "target"
    target.write_text("x")
    target.chmod(0o600)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError):
        HostWriter().attributes(str(tmp_path / "link"), mode=0o777, uid=None, gid=None)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_link_is_replaced_in_one_step(tmp_path):
    link = tmp_path / "current"
    for target in ("one", "two"):
        HostWriter().symlink(str(link), target)
        assert os.readlink(link) == target
    assert os.listdir(tmp_path) == ["current"]


def test_a_directory_gets_its_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        HostWriter().mkdir(str(tmp_path / "d"), mode=0o775, **ME)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o775


def test_kernel_values_can_be_read():
    assert HostReader().read("/proc/sys/kernel/ostype") == "Linux\n"


def test_standard_input_is_fed_without_a_file(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    assert run_command(["/usr/bin/cat"], timeout=5, stdin="däta").out == "däta"
    assert run_command(["/usr/bin/cat"], timeout=5).out == ""
