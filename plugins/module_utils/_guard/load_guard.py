# SPDX-License-Identifier: GPL-3.0-or-later
"""spark-load-guard: makes room before an engine loads its weights, and keeps it until they are loaded.

Weights are read through the page cache, which fills the one memory with clean copies and leaves it in
small pieces, while the driver asks for large ones at once. So clean pages are dropped and memory is
compacted before the start, and again whenever little is left, until the engine has loaded or the time is up.

Runs on the node as a unit, and there is nothing else of the collection in it: this file is the program.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

MEMINFO = "/proc/meminfo"
DROP = "/proc/sys/vm/drop_caches"
COMPACT = "/proc/sys/vm/compact_memory"
SYSTEMCTL = "/usr/bin/systemctl"
# In the place of an address: the unit has started when its engine has loaded, which systemd knows of all, TLS or not.
OF_UNIT = "unit"
GIB = 1 << 30
EVERY = 1.0
# Compacting 120 GiB is work for seconds: after it the engine has its turn.
PAUSE = 5.0
# What an engine that just ended had, the driver gives back in pieces.
SETTLE = 30.0
# A network share whose server is gone never answers sync; its pages stay, and those of all others go.
SYNC_SECONDS = 30.0


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="spark-load-guard", description="Keep memory free while an engine loads.")
    parser.add_argument("--need", type=int, default=0, help="bytes that the engine takes by its budget")
    parser.add_argument("--free", type=int, required=True, help="bytes below which clean pages are dropped")
    parser.add_argument("--unit", required=True, help="the unit that loads")
    parser.add_argument(
        "--health", default="", help=f"address that answers 200 when it has loaded, or {OF_UNIT}: it has started then"
    )
    parser.add_argument("--seconds", type=float, required=True, help="after which it ends in any case")
    given = parser.parse_args(words)
    synced()
    relieve()
    problem = room(given.need)
    if problem:
        sys.stderr.write(
            f"not started: {problem}. Why it matters: CPU and GPU share one memory; when it is full the machine "
            "freezes. What to do: stop what uses it, or declare a smaller engine (memory_guard_engines).\n"
        )
        return 1
    notify("READY=1")
    say(watch(given.free, given.unit, given.health, given.seconds))
    return 0


def room(need: int) -> str:
    """Why the engine does not fit now; empty if it does."""
    end = time.monotonic() + SETTLE
    while True:
        sizes = meminfo()
        available = sizes["MemAvailable"]
        if available >= need:
            return ""
        if time.monotonic() >= end or need > sizes["MemTotal"]:
            return f"it needs {need / GIB:.2f} GiB and {available / GIB:.2f} GiB are available"
        time.sleep(EVERY)


def watch(free: int, unit: str, health: str, seconds: float) -> str:
    """How it ended."""
    begun, rest, drops = time.monotonic(), 0.0, 0
    while True:
        now = time.monotonic()
        told = f"after {now - begun:.0f} s; clean pages were dropped {drops} times"
        state = state_of(unit)
        if health == OF_UNIT and state == "active":
            return f"{unit} has started {told}"
        if health not in ("", OF_UNIT) and answers(health):
            return f"{health} answers {told}"
        if state in ("failed", "inactive"):
            return f"{unit} is {state} {told}"
        if now - begun >= seconds:
            return f"the time is up {told}; {unit} is {state or 'not known to systemd'}"
        if now >= rest and meminfo()["MemFree"] < free:
            relieve()
            drops += 1
            rest = time.monotonic() + PAUSE
        time.sleep(EVERY)


def state_of(unit: str) -> str:
    """As systemd calls it; queued while its start waits, as it does for this program."""
    argv = [SYSTEMCTL, "show", "--property=ActiveState", "--property=Job", "--", unit]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    state = shown.get("ActiveState", "")
    return "queued" if state in ("failed", "inactive") and shown.get("Job") else state


def answers(url: str) -> bool:
    parts = urlsplit(url)
    asked = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        asked.request("GET", parts.path or "/")
        return asked.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def relieve() -> None:
    """Clean pages go (1), not what is known of files (2): that is small, and everything would be slow without it."""
    for path in (DROP, COMPACT):
        try:
            with open(path, "w", encoding="ascii") as handle:
                handle.write("1\n")
        except OSError as error:
            # Better a load with less room than none.
            say(f"{path}: {error.strerror}")


def synced() -> None:
    """Only what is on disk can be dropped."""
    thread = threading.Thread(target=os.sync, daemon=True)
    thread.start()
    thread.join(SYNC_SECONDS)
    if thread.is_alive():
        say(f"sync has not ended in {SYNC_SECONDS:.0f} s: is a network share gone?")


def meminfo() -> dict[str, int]:
    """Bytes."""
    with open(MEMINFO, encoding="ascii") as handle:
        rows = (line.split() for line in handle)
        return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1}


def notify(state: str) -> None:
    """sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
            manager.connect("\0" + path[1:] if path.startswith("@") else path)
            manager.send(state.encode())


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
