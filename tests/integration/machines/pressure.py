# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that takes all there is, somebody who is logged in meanwhile, and what became of everybody else."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import emulator
import machine_testing
import machines as machine_control

# As a driver does it: what it takes is in no size of the process that the kernel's killer goes by.
GREEDY = """\
import os
taken, size = os.memfd_create("weights"), 0
while True:
    try:
        os.posix_fallocate(taken, size, 4 << 20)
        size += 4 << 20
    except OSError:
        pass
"""
UNIT = """\
[Service]
ExecStart=/usr/bin/python3 -IS /usr/local/bin/greedy
"""
# Somebody's own program, with more memory that shows than the engine has: who goes by that ends the wrong one.
BYSTANDER = "x = bytearray(350 << 20); import time; time.sleep(3600)"
ENGINE = "greedy.service"
# What is not answered by then is not answered.
GIVEN_UP = 20.0
# What one asks who wonders what is going on: all of /proc, the kernel's sums, systemd. A question of a single program
# is over in less time than a processor takes to turn to it (12 ms here), and a multiple of that says little.
QUESTION = """\
/usr/bin/ps -eo pid,rss,comm --sort=-rss | /usr/bin/head -n 5
/usr/bin/free -m
/usr/bin/systemctl --no-pager --lines=0 status ssh.service
echo over
"""
# Whoever asks in the open session logs in anew after so many answers.
LOGS_IN_AFTER = 8


def prepare(machine: machine_testing.KernelMachine) -> None:
    machine.write("/usr/local/bin/greedy", GREEDY)
    machine.write("/etc/systemd/system/greedy.service", UNIT)
    machine.run("systemctl", "daemon-reload")
    # The test's own way in is no part of the story: it outlives whoever is killed.
    machine.shell("echo -1000 > /proc/$(systemctl show --property=MainPID --value qemu-guest-agent)/oom_score_adj")


@dataclass
class Seen:
    """Seconds of each answer; ``died``: what was killed; ``took``: seconds until the engine was gone."""

    open_session: list[float] = field(default_factory=list)
    new_session: list[float] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    took: float = 0.0

    def __str__(self) -> str:
        slow = ", ".join(
            f"{name} {max(times, default=-1):.2f} s of {len(times)}"
            for name, times in (("open session", self.open_session), ("new login", self.new_session))
        )
        return f"slowest answer: {slow}; killed: {self.died}; gone after {self.took:.1f} s"


def _alone(machine: machine_testing.KernelMachine) -> list[str]:
    """A connection of its own for each session."""
    first, *rest = machine.ssh
    return [first, "-o", "ControlMaster=no", "-o", "ControlPath=none", *rest]


@contextlib.contextmanager
def undisturbed(machine: machine_testing.KernelMachine) -> Iterator[None]:
    """Machine and visitor go before all other work of this host: else their answers would tell of that.

    Of the machine its devices go before its processors, which both may be busy: a thread that reads the disk for one
    of them would wait for a turn of 100 ms, and no disk does.
    """
    files = machine_control.get(machine.name).files
    with emulator.monitor(files) as ask:
        processors = {processor["thread-id"] for processor in ask("query-cpus-fast")}
    threads = [int(path.name) for path in Path(f"/proc/{emulator.running(files)}/task").iterdir()]
    for thread in threads:
        os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1 if thread in processors else 3))
    # What the visitor starts inherits it. It needs little, and is not to wait for the machine's two processors.
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        for path in Path(f"/proc/{emulator.running(files)}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # one that waited for a disk goes by itself
                os.sched_setscheduler(int(path.name), os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def logged_in(machine: machine_testing.KernelMachine) -> Iterator[subprocess.Popen[str]]:
    session = subprocess.Popen(
        [*_alone(machine), "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert _ask(session, [])
    try:
        yield session
    finally:
        session.kill()
        session.wait()


@contextlib.contextmanager
def visited(machine: machine_testing.KernelMachine, session: subprocess.Popen[str], seen: Seen) -> Iterator[None]:
    """One who asks all the time in an open session, and now and then logs in anew.

    One after the other: two at once would wait for each other, since there are two processors, and they emulated.
    """
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            answer = _ask(session, seen.open_session)
            if not answer:
                return
            if len(seen.open_session) % LOGS_IN_AFTER == 0:
                _log_in(machine, seen.new_session)
            time.sleep(0.02)

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    try:
        yield
    finally:
        over.set()
        visitor.join(GIVEN_UP + 5)
        session.kill()  # an answer that is still waited for does not come
        visitor.join()


def _ask(session: subprocess.Popen[str], times: list[float]) -> bool:
    """Whether the session is still there."""
    begun, lines = time.monotonic(), [""]
    with contextlib.suppress(BrokenPipeError):
        session.stdin.write(QUESTION)
        session.stdin.flush()
        lines = list(itertools.takewhile(lambda line: line != "over\n", iter(session.stdout.readline, "")))
    answered = {"Mem:", "Active:"} <= {line.split()[0] for line in lines if line.strip()}
    times.append(time.monotonic() - begun if answered else GIVEN_UP)
    return session.poll() is None


def _log_in(machine: machine_testing.KernelMachine, times: list[float]) -> None:
    begun, good = time.monotonic(), False
    with contextlib.suppress(subprocess.TimeoutExpired):
        command = [*_alone(machine), "true"]
        done = subprocess.run(command, capture_output=True, timeout=GIVEN_UP, stdin=subprocess.DEVNULL)
        good = done.returncode == 0
    times.append(time.monotonic() - begun if good else GIVEN_UP)


def idle(machine: machine_testing.KernelMachine, seconds: float) -> Seen:
    """Nothing happens, and the machine is watched as it is under pressure."""
    seen = Seen()
    with undisturbed(machine), logged_in(machine) as session, visited(machine, session, seen):
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            time.sleep(0.5)
            _shown(machine, [ENGINE])
    return seen


def under_pressure(machine: machine_testing.KernelMachine, seconds: float) -> Seen:
    """The engine takes all there is, beside a program of somebody else. Who died is looked up if it ends in time."""
    machine.run("systemd-run", "--quiet", "--unit=bystander", "/usr/bin/python3", "-IS", "-c", BYSTANDER)
    machine.shell("until [ $(ps -C python3 -o rss= | sort -n | tail -1) -gt 350000 ]; do sleep 0.2; done", timeout=120)
    seen, started, gone = Seen(), False, False
    with undisturbed(machine), logged_in(machine) as session:
        # Now that somebody is there: of one who left before, systemd still ends the manager.
        before = _running(machine)
        last = _shown(machine, [ENGINE]).get(ENGINE, {}).get("InvocationID")
        with visited(machine, session, seen):
            begun = time.monotonic()
            machine.run("systemctl", "start", "--no-block", ENGINE)
            while not gone and seen.took < seconds:
                time.sleep(0.5)
                now = _shown(machine, [ENGINE])[ENGINE]
                # While it waits for what has to be there first it is inactive, too. Of a unit that has ended well
                # systemd soon knows nothing any more.
                started = started or now["InvocationID"] not in ("", last)
                gone = started and now["ActiveState"] in ("inactive", "failed")
                seen.took = time.monotonic() - begun
            time.sleep(1)
    machine.run("systemctl", "kill", "--signal=KILL", "greedy.service", check=False)
    if gone:
        seen.died = _died(machine, before)
    machine.run("systemctl", "stop", "bystander.service", "greedy.service", check=False)
    machine.run("systemctl", "reset-failed")
    return seen


def _running(machine: machine_testing.KernelMachine) -> dict[str, str]:
    """Each service that runs, with the id of this instance."""
    listed = machine.shell("systemctl list-units --type=service --state=running --plain --no-legend | cut -d' ' -f1")
    names = [name for name in listed.split() if not name.startswith("greedy")]
    return {name: block["InvocationID"] for name, block in _shown(machine, names).items()}


def _died(machine: machine_testing.KernelMachine, before: dict[str, str]) -> list[str]:
    """Killed, or killed and started again. What had nothing more to do has ended well."""
    after = _shown(machine, list(before))
    return sorted(
        name
        for name, block in after.items()
        if block["Result"] != "success" or (block["ActiveState"] == "active" and block["InvocationID"] != before[name])
    )


def _shown(machine: machine_testing.KernelMachine, names: list[str]) -> dict[str, dict[str, str]]:
    properties = "--property=Id,InvocationID,ActiveState,Result"
    blocks = machine.run("systemctl", "show", properties, "--", *names).strip().split("\n\n")
    found = (dict(line.split("=", 1) for line in block.splitlines()) for block in blocks)
    return {block["Id"]: block for block in found}
