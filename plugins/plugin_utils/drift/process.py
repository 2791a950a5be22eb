# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook as a child of ``bin/spark-drift``: its words, its signals, its orphans.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, cast

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import private, text

# After a first signal ansible-playbook gets this long to end its tasks, then it is killed.
GRACE_SECONDS = 15.0
_ASKS = ("-k", "-K", "-J", "--ask-pass", "--ask-become-pass", "--ask-vault-pass", "--ask-vault-password")


class Run:
    """ansible-playbook, its words in a log, its tasks as progress."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path, verbose: bool) -> None:
        self._log = log
        self._verbose = verbose
        self._asked: float | None = None
        # A password prompt needs the terminal. Otherwise a process group of its own: a
        # terminal sends Ctrl-C to a whole group, and two interrupts end Ansible unclean.
        self._apart = not (sys.stdin.isatty() and any(argument in _ASKS for argument in argv))
        _adopt_orphans()
        self._process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL if self._apart else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            process_group=0 if self._apart else None,
        )

    def wait(self) -> int:
        """Until it has ended. SIGINT and SIGTERM are handed on once; then it has a limited time."""
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        previous = {number: signal.signal(number, self._stop) for number in signals}
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        try:
            while True:
                try:
                    ended = self._process.wait(0.2)
                except subprocess.TimeoutExpired:
                    if self._asked is None or time.monotonic() - self._asked <= GRACE_SECONDS:
                        continue
                    ended = -signal.SIGKILL
                if self._asked is not None:
                    # Also what Ansible left: it ends its workers, not what those started.
                    _kill(_family(os.getpid())[1:])
                return ended
        finally:
            reader.join(2)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        if self._asked is not None:
            return
        self._asked = time.monotonic()
        # In the terminal's group ansible-playbook has had the terminal's interrupt already.
        if self._apart or number != signal.SIGINT:
            self._process.send_signal(signal.SIGINT)
        print(f"spark-drift: stopping, at most {GRACE_SECONDS:g} s; the report will be partial", file=sys.stderr)

    def _read(self) -> None:
        stream = cast(IO[str], self._process.stdout)
        log: IO[str] | None = None
        with contextlib.suppress(OSError):
            log = os.fdopen(private.fresh(self._log), "w", encoding="utf-8", buffering=1)
        for line in stream:
            # With a full disk there is no log, but whoever writes must not be kept waiting.
            if log is not None:
                try:
                    log.write(line)
                except OSError:
                    log = None
            if self._verbose:
                sys.stderr.write(text.clean(line.rstrip("\n"), 4000) + "\n")
            elif line.startswith(("TASK [", "RUNNING HANDLER [")):
                name = line[line.index("[") + 1 :].rpartition("]")[0]
                print(f"  {text.line(name, 100)}", file=sys.stderr, flush=True)
        if log is not None:
            with contextlib.suppress(OSError):
                log.close()

    @property
    def stopped(self) -> bool:
        return self._asked is not None

    def said(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")[-20_000:]
        except OSError:
            return ""


def _adopt_orphans() -> None:
    """Processes that lose their parent become ours (Linux), so that they can be found."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _family(pid: int) -> list[int]:
    """A process and all below it. Ansible's workers have sessions of their own, so no
    signal to a group reaches them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name may hold anything, brackets too; the parent is the second word after it.
            parent = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family
