# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that makes room while an engine loads, on files in the place of /proc."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard import load_guard

GIB = 1 << 30


class Clock:
    """Time passes only by sleeping; ``at``: what happens when that many seconds have passed."""

    def __init__(self, monkeypatch):
        self.now, self.at = 0.0, {}
        monkeypatch.setattr(load_guard.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(load_guard.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """What the kernel would have: sizes in GiB, and a list of what was dropped when."""
    written = []
    meminfo = tmp_path / "meminfo"

    def has(free, available=100):
        sizes = {"MemTotal": 120, "MemFree": free, "MemAvailable": available}
        meminfo.write_text("".join(f"{name}: {int(size * GIB) // 1024} kB\n" for name, size in sizes.items()))

    class Kernel:
        dropped = written

    for name in ("DROP", "COMPACT"):
        (tmp_path / name).touch()
        monkeypatch.setattr(load_guard, name, str(tmp_path / name))
    monkeypatch.setattr(load_guard, "MEMINFO", str(meminfo))
    tool, shown = tmp_path / "systemctl", tmp_path / "shown"
    tool.write_text(
        f'#!/bin/sh\n[ "$*" = "show --property=ActiveState --property=Job -- vllm.service" ] && cat {shown}\n'
    )
    tool.chmod(0o755)
    monkeypatch.setattr(load_guard, "SYSTEMCTL", str(tool))
    # With a time limit it would sleep until the tool ends, by the clock of the test.
    run = subprocess.run
    monkeypatch.setattr(load_guard.subprocess, "run", lambda argv, timeout, **more: run(argv, **more))
    monkeypatch.setattr(load_guard.os, "sync", lambda: written.append("sync"))
    kernel = Kernel()
    kernel.has, kernel.files = has, tmp_path
    # While it loads.
    kernel.unit = lambda state, job="": shown.write_text(f"ActiveState={state}\nJob={job}\n")
    kernel.unit("activating", "7")
    has(50)
    return kernel


def start(*more):
    words = ["--need", str(10 * GIB), "--free", str(8 * GIB), "--seconds", "20", "--unit", "vllm.service"]
    return load_guard.main([*words, *more])


@pytest.fixture
def drops(monkeypatch, clock, kernel):
    found = []
    real = load_guard.relieve

    def counted():
        found.append(clock.now)
        real()

    monkeypatch.setattr(load_guard, "relieve", counted)
    return found


def test_clean_pages_go_before_the_start_and_only_what_is_on_disk_is_clean(kernel, drops, capsys):
    assert start() == 0
    assert drops == [0.0] and kernel.dropped == ["sync"]
    assert [(kernel.files / name).read_text() for name in ("DROP", "COMPACT")] == ["1\n", "1\n"]
    told = "the time is up after 20 s; clean pages were dropped 0 times; vllm.service is activating\n"
    assert capsys.readouterr().out == told


def test_an_engine_that_does_not_fit_is_not_started(kernel, clock, capsys):
    kernel.has(1, available=9)
    assert start() == 1
    assert clock.now == load_guard.SETTLE
    told = capsys.readouterr().err
    assert "it needs 10.00 GiB and 9.00 GiB are available" in told and "What to do: " in told


def test_nobody_waits_for_what_can_never_fit(kernel, clock, capsys):
    assert start("--need", str(121 * GIB)) == 1
    assert clock.now == 0.0 and "it needs 121.00 GiB" in capsys.readouterr().err


def test_what_the_last_engine_gives_back_is_waited_for(kernel, clock):
    kernel.has(1, available=9)
    clock.at[5] = lambda: kernel.has(40, available=40)
    assert start() == 0


def test_pages_are_dropped_while_little_is_free_and_not_all_the_time(kernel, clock, drops):
    clock.at[3] = lambda: kernel.has(1)
    clock.at[14] = lambda: kernel.has(9)
    assert start() == 0
    assert drops == [0.0, 3.0, 8.0, 13.0]


class Answer(http.server.BaseHTTPRequestHandler):
    status = 503

    def do_GET(self):
        self.send_response(type(self).status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_words):
        pass


@pytest.fixture
def engine():
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Answer.status = 503
    yield f"http://127.0.0.1:{server.server_port}/health"
    server.shutdown()
    server.server_close()


def test_it_ends_when_the_engine_answers(kernel, clock, engine, capsys):
    clock.at[4] = lambda: setattr(Answer, "status", 200)
    assert start("--health", engine) == 0
    assert capsys.readouterr().out.startswith(f"{engine} answers after 4 s")


def test_an_engine_that_never_answers_ends_it_as_well(kernel, clock, capsys):
    # That it runs says nothing where something else tells that it has loaded.
    clock.at[4] = lambda: kernel.unit("active")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert start("--health", f"http://127.0.0.1:{closed.getsockname()[1]}/health") == 0
    assert capsys.readouterr().out.startswith("the time is up after 20 s")


def test_a_unit_that_starts_when_it_has_loaded_needs_nobody_else_to_ask(kernel, clock, drops, capsys):
    """With TLS, or a key that only it has."""
    kernel.has(1)
    clock.at[7] = lambda: kernel.unit("active")
    assert start("--health", "unit") == 0
    assert capsys.readouterr().out.startswith("vllm.service has started after 7 s; clean pages were dropped 2 times")
    assert drops == [0.0, 0.0, 5.0]


@pytest.mark.parametrize("health", [(), ("--health", "unit")])
@pytest.mark.parametrize("state", ["failed", "inactive"])
def test_what_loads_no_more_ends_it(kernel, clock, capsys, state, health):
    # First its start waits for this program, whatever became of the one before.
    kernel.unit(state, "12")
    clock.at[3] = lambda: kernel.unit("activating", "12")
    clock.at[6] = lambda: kernel.unit(state)
    assert start(*health) == 0
    assert capsys.readouterr().out.startswith(f"vllm.service is {state} after 6 s")


@pytest.mark.parametrize("tool", ["/nonexistent", "/bin/false"])
def test_who_cannot_know_goes_on_until_the_time_is_up(kernel, clock, monkeypatch, capsys, tool):
    monkeypatch.setattr(load_guard, "SYSTEMCTL", tool)
    assert start("--health", "unit") == 0
    assert capsys.readouterr().out.endswith("; vllm.service is not known to systemd\n")


def test_a_kernel_that_refuses_does_not_keep_the_engine_from_starting(kernel, clock, monkeypatch, capsys):
    monkeypatch.setattr(load_guard, "DROP", "/nonexistent/drop")
    assert start() == 0
    assert "/nonexistent/drop: No such file or directory" in capsys.readouterr().out


def test_a_sync_that_never_ends_is_told_and_not_waited_for(kernel, monkeypatch, capsys):
    gone = threading.Event()
    monkeypatch.setattr(load_guard.os, "sync", gone.wait)
    monkeypatch.setattr(load_guard, "SYNC_SECONDS", 0.05)
    load_guard.synced()
    gone.set()
    assert "sync has not ended" in capsys.readouterr().out


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_when_the_engine_may_start(tmp_path, monkeypatch, abstract):
    name = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        load_guard.notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_it_runs_as_the_unit_runs_it():
    argv = [sys.executable, "-IS", load_guard.__file__, "--help"]
    assert "--need" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout
