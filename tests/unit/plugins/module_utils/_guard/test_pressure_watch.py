# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that tells the journal of memory pressure, on files in the place of /proc."""

from __future__ import annotations

import os
import select

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard import pressure_watch


@pytest.fixture
def proc(tmp_path, monkeypatch):
    monkeypatch.setattr(pressure_watch, "PROC", str(tmp_path))
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").touch()
    (tmp_path / "meminfo").write_text("MemFree: 1048576 kB\nMemAvailable: 2097152 kB\nSwapFree: 0 kB\n")
    for pid, pages, name in ((1, 10, "systemd"), (7, 1 << 20, "VLLM::EngineCor"), (8, 5, "sh"), (9, 20, "a\nb")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "statm").write_text(f"9999999 {pages} 0 0 0 0 0\n")
        (tmp_path / str(pid) / "comm").write_text(name + "\n")
    (tmp_path / "10").mkdir()  # has ended meanwhile
    return tmp_path


def test_the_kernel_is_asked_to_wake_it_in_a_window_that_needs_no_privilege(proc):
    os.close(pressure_watch.armed(12.5))
    assert (proc / "pressure" / "memory").read_bytes() == b"some 250000 2000000\0"


def test_a_kernel_without_pressure_is_an_error_with_what_to_do(proc, capsys):
    (proc / "pressure" / "memory").unlink()
    assert pressure_watch.main(["--percent", "10"]) == 1
    assert "What to do: " in capsys.readouterr().err


def test_the_line_says_what_is_left_and_who_has_the_rest(proc):
    told = pressure_watch.told(10.0)
    assert "MemAvailable 2.00 GiB, MemFree 1.00 GiB, SwapFree 0.00 GiB" in told
    size = os.sysconf("SC_PAGE_SIZE") * (1 << 20) / (1 << 30)
    assert f"largest: VLLM::EngineCor[7] {size:.2f} GiB, a?b[9] " in told and "sh[8]" not in told


def test_one_line_for_each_event_with_a_rest_between_them(proc, monkeypatch, capsys):
    rests, events = [], iter([select.POLLPRI, select.POLLPRI, select.POLLERR])

    class Waiting:
        def register(self, *_given):
            pass

        def poll(self):
            return [(0, next(events))]

    monkeypatch.setattr(pressure_watch.select, "poll", Waiting)
    monkeypatch.setattr(pressure_watch.time, "sleep", rests.append)
    assert pressure_watch.main(["--percent", "10"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith("<4>some task waited") for line in lines)
    assert rests == [pressure_watch.QUIET] * 2
