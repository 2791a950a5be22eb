# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command: bounded in time and memory, with a clean environment.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A tool that is asked something and prints more than this is not the tool we think it is.
MAX_OUTPUT = 1 << 20
# System tools only, never the caller's PATH: a user's wrapper must not answer for the node.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Completed:
    """What a command did. ``rc`` is None when it never ran or was stopped by the time limit."""

    argv: tuple[str, ...]
    rc: int | None
    out: str
    err: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.rc == 0

    @property
    def ending(self) -> str:
        """How it ended, for an error message."""
        return f"was not completed ({self.problem})" if self.rc is None else f"ended with {self.rc}"

    def said(self, lines: int = 3) -> str:
        """The last lines it printed, for an error message."""
        text = [line for line in (self.err + "\n" + self.out).splitlines() if line.strip()]
        return " / ".join(text[-lines:]) or self.problem or "nothing printed"


class _Output:
    """What a command prints: all of it up to ``cap`` bytes, else its head and its tail."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = self._cap // 2 - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._cap:  # not for every line: moving the rest costs
            del self._tail[: -self._cap]

    def text(self) -> str:
        if self.size <= self._cap:
            return (self._head + self._tail).decode("utf-8", "replace")
        # Whole lines: of a secret that is cut in two neither half would be found and hidden.
        head = self._head[: self._head.rfind(b"\n") + 1]
        tail = self._tail[-(self._cap - self._cap // 2) :]
        tail = tail[tail.find(b"\n") + 1 :] if b"\n" in tail else bytearray()
        left_out = self.size - len(head) - len(tail)
        return f"{head.decode('utf-8', 'replace')}[{left_out} bytes left out]\n{tail.decode('utf-8', 'replace')}"


def run_command(
    argv: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    cap: int = MAX_OUTPUT,
    changes: bool = False,
    inherited: Sequence[int] = (),
) -> Completed:
    """Run ``argv`` bounded in time and memory, with a clean environment, and never raise.

    The command gets a session of its own. Its process group is killed at the time limit or
    when it prints more than ``cap`` bytes: a wrapper script that hangs leaves no children,
    but for one that made itself a daemon. For that one nobody waits, either.
    One that ``changes`` the node is never killed for what it prints (half an installation is
    worse than a long log; its head and tail are kept), and what it has started when it ends
    in time goes on running, as the scripts of packages expect.
    inherited: descriptors that it has too, such as a lock that is to stay as long as it runs.
    """
    argv = tuple(argv)
    full_env = {"PATH": SYSTEM_PATH, "LC_ALL": "C", "LANGUAGE": "C", "HOME": "/", **(env or {})}
    feed = _in_memory(stdin) if stdin else subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            argv,
            stdin=feed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=full_env,
            cwd="/",
            start_new_session=True,
            pass_fds=inherited,
        )
    except OSError as error:
        return Completed(argv, None, "", "", error.strerror or str(error))
    except ValueError as error:  # a NUL byte in an argument
        return Completed(argv, None, "", "", str(error))
    finally:
        if feed != subprocess.DEVNULL:
            os.close(feed)
    out, err = _Output(cap), _Output(cap)
    problem = ""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for kept, pipe in ((out, process.stdout), (err, process.stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, kept)
        while selector.get_map() and not problem:
            left = deadline - time.monotonic()
            if left <= 0:
                problem = f"still running after {timeout:g} s, stopped"
                break
            for key, _events in selector.select(min(left, 0.2)):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                key.data.add(data)
                if key.data.size > cap and not changes:
                    problem = f"printed more than {cap} bytes, stopped"
            # A grandchild may hold the pipes open after the command itself has ended.
            if process.poll() is not None and not selector.select(0):
                break
    if not problem:
        try:
            process.wait(max(deadline - time.monotonic(), 0.05))
        except subprocess.TimeoutExpired:
            problem = f"still running after {timeout:g} s, stopped"
    if problem or not changes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    # One that hangs inside the kernel (a dead disk, a dead NFS server) does not even die.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return Completed(argv, None if problem else process.returncode, out.text(), err.text(), problem)


def _in_memory(text: str) -> int:
    """A descriptor to read ``text`` from. No file: looking writes nothing, not even in /tmp."""
    descriptor = os.memfd_create("stdin")
    os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
