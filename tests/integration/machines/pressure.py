# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that takes all there is, somebody who is logged in meanwhile, and what became of everybody else."""

from __future__ import annotations

import contextlib
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
    """Machine and visitor go before all other work of this host: else their answers would tell of that."""
    number = emulator.running(machine_control.get(machine.name).files)
    threads = [int(path.name) for path in Path(f"/proc/{number}/task").iterdir()]
    for thread in threads:
        os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
    # What the visitor starts inherits it. It needs little, and is not to wait for the machine's two processors.
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):  # one that waited for a disk goes by itself
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def logged_in(machine: machine_testing.KernelMachine, seen: Seen) -> Iterator[None]:
    """One who asks all the time in an open session, and one who logs in again and again."""
    over = threading.Event()
    session = subprocess.Popen(
        [*_alone(machine), "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def ask() -> None:
        while not over.is_set():
            begun = time.monotonic()
            try:
                session.stdin.write("/usr/bin/id -un\n")  # a program, and not only the shell
                session.stdin.flush()
                answer = session.stdout.readline()
            except BrokenPipeError:
                answer = ""
            seen.open_session.append(time.monotonic() - begun if answer == "ops\n" else GIVEN_UP)
            if not answer:
                return
            time.sleep(0.1)

    def log_in() -> None:
        while not over.is_set():
            begun = time.monotonic()
            try:
                done = subprocess.run(
                    [*_alone(machine), "true"], capture_output=True, timeout=GIVEN_UP, stdin=subprocess.DEVNULL
                )
                good = done.returncode == 0
            except subprocess.TimeoutExpired:
                good = False
            seen.new_session.append(time.monotonic() - begun if good else GIVEN_UP)

    session.stdin.write("echo hello\n")
    session.stdin.flush()
    assert session.stdout.readline() == "hello\n"
    threads = [threading.Thread(target=ask, daemon=True), threading.Thread(target=log_in, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        threads[1].join(GIVEN_UP + 5)
        threads[0].join(GIVEN_UP)
        session.kill()
        session.wait()


def idle(machine: machine_testing.KernelMachine, seconds: float) -> Seen:
    seen = Seen()
    with undisturbed(machine), logged_in(machine, seen):
        time.sleep(seconds)
    return seen


def under_pressure(machine: machine_testing.KernelMachine, seconds: float) -> Seen:
    """The engine takes all there is, beside a program of somebody else. Who died is looked up if it ends in time."""
    machine.run("systemd-run", "--quiet", "--unit=bystander", "/usr/bin/python3", "-IS", "-c", BYSTANDER)
    machine.shell("until [ $(ps -C python3 -o rss= | sort -n | tail -1) -gt 350000 ]; do sleep 0.2; done", timeout=120)
    before = _running(machine)
    last = _shown(machine, [ENGINE]).get(ENGINE, {}).get("InvocationID")
    seen = Seen()
    with undisturbed(machine), logged_in(machine, seen):
        begun = time.monotonic()
        machine.run("systemctl", "start", "--no-block", ENGINE)
        started = gone = False
        while not gone and seen.took < seconds:
            time.sleep(0.5)
            now = _shown(machine, [ENGINE])[ENGINE]
            # While it waits for what has to be there first it is inactive, too. Of a unit that has ended well systemd
            # soon knows nothing any more.
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
