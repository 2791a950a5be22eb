# SPDX-License-Identifier: GPL-3.0-or-later
"""One emulated machine as a process: its command line, its monitor (QMP), and commands inside it.

Commands go through QEMU's guest agent on a serial port of its own: no network, no SSH and no
Ansible take part, so they work while a test breaks any of these.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

sys.path.append(str(Path(__file__).resolve().parents[1] / "nodes"))

from host import NodesError

# Enough for a server with nothing on it to boot and for lynis; small, so that memory is soon used up.
MEMORY_MIB = 1024
PROCESSORS = 2
# What newer ones have (AVX, five levels of page tables, fast string operations) is dear to emulate: the same commands
# took 19 to 27 % less of this host with it than with all that QEMU knows, in three rounds.
PROCESSOR = "Nehalem"
# A command that answers late is an answer; an agent that says nothing for so long is gone.
AGENT_SECONDS = 60


@dataclass(frozen=True)
class Files:
    """The files of one machine. Sockets have a folder with a short name: theirs may have 107 bytes."""

    tools: Path
    boot: Path
    disk: Path
    console: Path
    pid: Path
    sockets: Path

    @property
    def monitor(self) -> Path:
        return self.sockets / "qmp"

    @property
    def agent(self) -> Path:
        return self.sockets / "agent"


def tool(tools: Path, name: str) -> list[str]:
    """The start of a command line for a program of the folder ``tools``, with that folder's own libraries."""
    libraries = tools / "usr/lib/x86_64-linux-gnu"
    loader = libraries / "ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", str(libraries), str(tools / "usr/bin" / name)]


def hardware(files: Files, port: int) -> list[str]:
    """What the machine is made of, as QEMU's options. A state that was kept fits no other hardware.

    port: of this host's loopback that leads to the machine's SSH.
    """
    return [
        "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", str(PROCESSORS),
        "-m", str(MEMORY_MIB),
        # What is flushed has only to outlive the machine, not this host: packages are installed at once.
        "-drive", f"file={files.disk},format=qcow2,if=none,id=root,discard=unmap,cache=unsafe",
        "-device", "virtio-blk-pci,drive=root",
        # GRUB and nothing else: a file system without a partition table has no room for it.
        "-drive", f"file={files.boot},format=raw,if=none,id=boot,readonly=on",
        "-device", "virtio-blk-pci,drive=boot,bootindex=0",
        # Nobody but this host's loopback gets in, and nothing gets out.
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=net,romfile=",
        "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={files.agent},server=on,wait=off",
        "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        "-device", "virtio-rng-pci",
        "-device", "i6300esb", "-action", "watchdog=reset",
        "-chardev", f"file,id=console,path={files.console},append=on", "-serial", "chardev:console",
    ]  # fmt: skip


def start(files: Files, *, port: int, state: Path | None = None, dies_with_us: bool = True) -> None:
    """Switch the machine on; with ``state`` it goes on from there instead of booting.

    dies_with_us: the kernel ends it together with this process, however that ends.
    """
    data = files.tools / "usr/share"
    command = [
        *tool(files.tools, "qemu-system-x86_64"), "-L", str(data / "qemu"), "-L", str(data / "seabios"),
        "-nodefaults", "-no-user-config", "-display", "none", *hardware(files, port),
        "-qmp", f"unix:{files.monitor},server=on,wait=off", "-pidfile", str(files.pid),
        *(("-S", "-incoming", "defer") if state else ()),
    ]  # fmt: skip
    if dies_with_us:
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    files.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (files.monitor, files.agent):
        path.unlink(missing_ok=True)
    log = files.console.with_name("qemu.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + 30
    while not _answers(files.monitor):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise NodesError(f"qemu did not start: {log.read_text(errors='replace').strip()}")
        time.sleep(0.02)
    if state:
        with monitor(files) as ask:
            ask("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
            ask("migrate-incoming", uri=f"file:{state}")
            _finish(ask)
            ask("cont")


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


@contextlib.contextmanager
def monitor(files: Files) -> Iterator[Any]:
    """``ask(command, **arguments)`` of QEMU's machine protocol."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(AGENT_SECONDS)
        connection.connect(str(files.monitor))
        stream = connection.makefile("rwb")
        stream.readline()  # the greeting

        def ask(command: str, **arguments: object) -> Any:
            _send(stream, {"execute": command, "arguments": arguments})
            while True:
                answer = json.loads(stream.readline())
                if "error" in answer:
                    raise NodesError(f"qemu refused {command}: {answer['error'].get('desc')}")
                if "return" in answer:  # anything else is an event
                    return answer["return"]

        ask("qmp_capabilities")
        yield ask


def _send(stream: BinaryIO, message: Mapping[str, object]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _finish(ask: Any) -> None:
    deadline = time.monotonic() + 120
    while (status := ask("query-migrate").get("status")) != "completed":
        if status == "failed" or time.monotonic() > deadline:
            raise NodesError(f"qemu could not move the machine's state: {status}")
        time.sleep(0.05)


def save(files: Files, state: Path) -> None:
    """Stop the machine for good and keep memory and devices in ``state``; the disk is as it was then."""
    with monitor(files) as ask:
        ask("stop")
        # One place in the file for each page: reading it back is one pass over the file.
        ask("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        # Without a limit, as it does not share a network with anybody.
        ask("migrate-set-parameters", **{"max-bandwidth": 10**10})
        ask("migrate", uri=f"file:{state}")
        _finish(ask)
    stop(files)


def running(files: Files) -> int:
    """The process id of the machine, or 0. Another process that got its number does not count."""
    with contextlib.suppress(OSError, ValueError):
        number = int(files.pid.read_text())
        if os.fsencode(files.pid) in Path(f"/proc/{number}/cmdline").read_bytes():
            return number
    return 0


def stop(files: Files) -> None:
    """Pull the plug."""
    number = running(files)
    if number:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while running(files) == number and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(number, os.WNOHANG)
            time.sleep(0.02)
    files.pid.unlink(missing_ok=True)


class Agent:
    """Commands as root inside the machine. Each question has a connection of its own, so several can wait."""

    def __init__(self, files: Files) -> None:
        self.path = str(files.agent)

    def ask(self, command: str, seconds: float = AGENT_SECONDS, **arguments: object) -> Any:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(seconds)
                connection.connect(self.path)
                stream = connection.makefile("rwb")
                # What an earlier, broken off question left unread ends before this mark.
                mark = time.monotonic_ns()
                stream.write(b"\xff")
                _send(stream, {"execute": "guest-sync-delimited", "arguments": {"id": mark}})
                while json.loads(stream.readline().rpartition(b"\xff")[2] or b"{}").get("return") != mark:
                    pass
                _send(stream, {"execute": command, "arguments": arguments})
                answer = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise NodesError(f"the machine's agent did not answer {command}: {error or 'closed'}") from error
        if "error" in answer:
            raise NodesError(f"the machine's agent refused {command}: {answer['error'].get('desc')}")
        return answer["return"]

    def answers(self, seconds: float = 5) -> bool:
        try:
            self.ask("guest-ping", seconds)
        except NodesError:
            return False
        return True

    def run(self, argv: Sequence[str], *, timeout: float = 300, check: bool = True) -> str:
        environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
        options = {"path": "/usr/bin/env", "arg": [*environment, *argv], "capture-output": True}
        number = self.ask("guest-exec", **options)["pid"]
        deadline, pause = time.monotonic() + timeout, 0.01
        while not (answer := self.ask("guest-exec-status", pid=number))["exited"]:
            if time.monotonic() > deadline:
                raise NodesError(f"still running after {timeout:g} s: {' '.join(argv)}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)
        out, err = (
            base64.b64decode(answer.get(name, "")).decode(errors="replace") for name in ("out-data", "err-data")
        )
        code = answer.get("exitcode", f"signal {answer.get('signal')}")
        if check and code != 0:
            said = "\n".join((err + out).strip().splitlines()[-25:])
            raise NodesError(f"exit {code}: {' '.join(argv)}\n{said}")
        return out
