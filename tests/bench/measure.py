# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command and print what it cost this machine, as JSON.

usage: measure.py OUTPUT COMMAND …      the command's output goes to the file OUTPUT

Wall seconds end with the command. CPU seconds are of everything it started, also of what
went into the background, as OpenSSH's shared connection does: this process adopts that,
ends it and waits for it, and the kernel then counts it among its children.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE = 10.0


def children() -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            # "pid (name) state ppid …", and a name may hold anything
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def end_children() -> None:
    """Whatever is left behind ends now; what it leaves behind in turn is adopted and ends too."""
    deadline = time.monotonic() + GRACE
    while pids := children():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def main(arguments: list[str]) -> int:
    output, *command = arguments
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    with Path(output).open("wb") as stream:
        start = time.monotonic()
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False).returncode
        wall = time.monotonic() - start
    end_children()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"code": code, "wall": wall, "cpu": used.ru_utime + used.ru_stime}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
