# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands are bounded in time, output and rights; files are replaced whole and never shown."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter, run_command

ME = {"uid": os.getuid(), "gid": os.getgid()}


def test_output_and_exit_code_come_back():
    done = run_command(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], timeout=5)
    assert (done.rc, done.out, done.err, done.ok) == (3, "out\n", "err\n", False)
    assert done.said() == "err / out" and done.ending == "ended with 3"


def test_a_missing_program_is_a_result_and_not_an_exception():
    done = run_command(["/nonexistent/tool"], timeout=5)
    assert done.rc is None and "No such file" in done.problem


def test_a_command_that_has_said_all_may_go_on_until_its_end():
    done = run_command(["/bin/sh", "-c", "echo out; exec >&- 2>&-; sleep 0.3; exit 3"], timeout=5)
    assert (done.rc, done.out, done.problem) == (3, "out\n", "")
    assert run_command(["/bin/sh", "-c", "exec >&- 2>&-; sleep 60"], timeout=0.3).rc is None


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
    run_command(["/bin/sh", "-c", f"(sleep 0.5; touch {marker}) >/dev/null 2>&1 &"], timeout=5, changes=True)
    deadline = time.monotonic() + 5
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marker.exists()


def test_a_look_that_prints_without_end_is_stopped():
    done = run_command(["/usr/bin/yes"], timeout=20, cap=100_000)
    assert done.rc is None and "more than 100000 bytes" in done.problem and len(done.out) < 100_100


LOUD = """
import sys
print("first line")
for number in range(50_000):
    print("noise", number)
    print("noise on the other channel", number, file=sys.stderr)
print("last line")
sys.exit(3)
"""


def test_what_changes_the_node_may_print_as_much_as_it_likes():
    done = run_command([sys.executable, "-c", LOUD], timeout=60, cap=100_000, changes=True)
    assert (done.rc, done.problem) == (3, "")
    for text, whole in ((done.out, 600_000), (done.err, 1_500_000)):
        assert len(text) < 100_100
        (notice,) = [line for line in text.splitlines() if not line.startswith(("noise ", "first", "last"))]
        assert int(notice.removeprefix("[").removesuffix(" bytes left out]")) > whole - 200_000
    assert done.out.startswith("first line\nnoise 0\n") and done.out.endswith("noise 49999\nlast line\n")
    assert done.said(2) == "noise 49999 / last line"


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 12, 19, 20, 21, 40, 5000])
def test_output_is_whole_up_to_the_cap_and_never_cut_inside_a_line(size):
    lines = "".join(f"{number:03d}\n" for number in range(2000))[:size]
    done = run_command(["/usr/bin/printf", "%s", lines], timeout=10, cap=20, changes=True)
    if size <= 20:
        assert done.out == lines
    else:
        head, number, tail = re.fullmatch(r"(.*)\[(\d+) bytes left out\]\n(.*)", done.out, re.DOTALL).groups()
        assert head == "000\n001\n" and int(number) == size - len(head) - len(tail)
        assert lines.endswith("\n" + tail) or not tail


def test_a_secret_on_the_line_where_output_is_cut_is_left_out_whole():
    done = run_command(["/usr/bin/printf", "%s", "a\n" + "hunter22" * 100 + "\nb\n"], timeout=10, cap=40, changes=True)
    assert "hunter" not in done.out and done.out.startswith("a\n[") and done.out.endswith("b\n")


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


def test_a_look_wakes_nothing(tmp_path):
    """Whoever waits to write into a FIFO still waits afterwards; so would a watchdog stay asleep."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.fork()
    if writer == 0:
        os.open(fifo, os.O_WRONLY)
        os._exit(0)
    time.sleep(0.3)
    try:
        for look in (HostReader().read, HostReader().file):
            with pytest.raises(Unreadable, match="not a regular file"):
                look(str(fifo))
        with pytest.raises(OSError):
            HostWriter().attributes(str(fifo), mode=0o600, uid=None, gid=None)
        time.sleep(0.2)
        assert os.waitpid(writer, os.WNOHANG) == (0, 0)
    finally:
        os.kill(writer, 9)
        os.waitpid(writer, 0)


def test_a_file_is_read_with_its_own_attributes_and_not_through_a_link(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    (tmp_path / "link").symlink_to(secret)
    found, text = HostReader().file(str(secret))
    assert (found.kind, found.octal, text) == ("file", "0600", "x")
    with pytest.raises(Unreadable):
        HostReader().file(str(tmp_path / "link"))
    assert HostReader().file(str(tmp_path / "absent")) is None


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

    def watch(source: str, target: str, **folders: int) -> None:
        seen.append(stat.S_IMODE((tmp_path / source).stat().st_mode))
        replace(source, target, **folders)

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


@pytest.mark.parametrize("kept", ["uid", "gid"])
def test_an_owner_that_is_not_given_stays(tmp_path, kept):
    path = tmp_path / "conf"
    path.write_text("x")
    before = path.stat()
    HostWriter().attributes(str(path), mode=None, **{**ME, kept: None})
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


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


# --- killed in the middle of it ---------------------------------------------------------------

LONGEST = "ä" * 127 + "x"  # 255 bytes


def killed_at(call: str, action, lives: int = 0) -> None:
    """``action`` in a process that dies without a word when it calls ``os.<call>`` once more than ``lives``."""
    child = os.fork()
    if child == 0:
        real, left = getattr(os, call), iter(range(lives))
        setattr(os, call, lambda *args, **options: os._exit(9) if next(left, None) is None else real(*args, **options))
        try:
            action()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, f"{call} was never called"


@pytest.mark.parametrize("name", ["demo.conf", LONGEST, LONGEST[:-1]])
@pytest.mark.parametrize("call", ["open", "fchown", "fchmod", "write", "fsync", "replace"])
def test_what_a_killed_write_leaves_goes_with_the_next_one(call, name, tmp_path):
    path = tmp_path / name
    path.write_text("old")

    def write() -> None:
        HostWriter().write(str(path), "new", mode=0o600, **ME)

    killed_at(call, write)
    assert path.read_text() == "old"
    write()
    assert os.listdir(tmp_path) == [name] and path.read_text() == "new"


@pytest.mark.parametrize("call", ["symlink", "replace"])
def test_what_a_killed_link_leaves_goes_with_the_next_one(call, tmp_path):
    path = tmp_path / LONGEST
    killed_at(call, lambda: HostWriter().symlink(str(path), "one"))
    HostWriter().symlink(str(path), "two")
    assert os.listdir(tmp_path) == [LONGEST] and os.readlink(path) == "two"


def test_what_a_killed_write_leaves_goes_when_the_file_is_removed(tmp_path):
    path = tmp_path / "conf"
    path.write_text("old")
    killed_at("replace", lambda: HostWriter().write(str(path), "new", mode=0o600, **ME))
    assert len(os.listdir(tmp_path)) == 2
    # Killed again in the middle of the removal: the file is still there to tell that there is work left.
    killed_at("unlink", lambda: HostWriter().remove(str(path)), lives=1)
    assert os.listdir(tmp_path) == ["conf"]
    HostWriter().remove(str(path))
    assert os.listdir(tmp_path) == []


def test_a_link_that_somebody_put_where_the_new_file_is_made_leads_nowhere(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".conf.nusy").symlink_to(victim)
    HostWriter().write(str(tmp_path / "home" / "conf"), "new", mode=0o600, **ME)
    assert victim.read_text() == "precious" and os.listdir(tmp_path / "home") == ["conf"]


def test_a_link_that_somebody_puts_there_at_the_last_moment_is_not_followed(tmp_path, monkeypatch):
    victim, path = tmp_path / "victim", tmp_path / "conf"
    victim.write_text("precious")
    unlink = os.unlink

    def race(name: str, *, dir_fd: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            unlink(name, dir_fd=dir_fd)
        os.symlink(victim, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", race)
    with pytest.raises(FileExistsError):
        HostWriter().write(str(path), "new", mode=0o600, **ME)
    assert victim.read_text() == "precious" and not path.exists()


@pytest.mark.parametrize("name", ["sudoers", LONGEST])
def test_a_copy_for_a_validator_has_the_name_of_the_file_and_nobody_else_reads_it(name, tmp_path):
    writer = HostWriter(scratch=str(tmp_path))
    for content in ("one", "two"):
        copy = Path(writer.scratch(name, content, **ME))
        assert copy == tmp_path / name and copy.read_text() == content
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    writer.remove(str(copy))
    assert os.listdir(tmp_path) == []
