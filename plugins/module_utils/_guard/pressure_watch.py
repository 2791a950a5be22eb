# SPDX-License-Identifier: GPL-3.0-or-later
"""spark-pressure-watch: writes into the journal when work waits for memory, with who has it.

After a freeze the journal is all there is. The kernel wakes this program (PSI triggers,
Documentation/accounting/psi.rst), which costs nothing until then.

Runs on the node as a unit, and there is nothing else of the collection in it: this file is the program.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from collections.abc import Sequence

PROC = "/proc"
# Windows of whole 2 s need no privilege (kernel 6.5 and later).
WINDOW_US = 2_000_000
# One line in this time, however long it lasts: the journal is on the disk that everybody waits for.
QUIET = 10.0
LARGEST = 3
GIB = 1 << 30
# Priority 4 is a warning to the journal: sd-daemon(3).
WARNING = "<4>"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="spark-pressure-watch", description="Tell the journal of memory pressure.")
    parser.add_argument("--percent", type=float, required=True, help="share of 2 s in which some task waits for memory")
    given = parser.parse_args(words)
    trigger = armed(given.percent)
    if trigger is None:
        return 1
    waiting = select.poll()
    waiting.register(trigger, select.POLLPRI)
    while True:
        for _descriptor, event in waiting.poll():
            if event & select.POLLERR:
                sys.stderr.write("the kernel has taken the trigger back\n")
                return 1
            sys.stdout.write(WARNING + told(given.percent) + "\n")
            sys.stdout.flush()
            time.sleep(QUIET)


def armed(percent: float) -> int | None:
    """The descriptor to wait on; it has to stay open."""
    path = f"{PROC}/pressure/memory"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(descriptor, f"some {int(WINDOW_US * percent / 100)} {WINDOW_US}\0".encode())
        return descriptor
    except OSError as error:
        sys.stderr.write(
            f"{path}: {error.strerror}. Why it matters: nobody is told of memory pressure. What to do: a kernel of "
            "6.5 or later with PSI (psi=1 on the command line), or skip memory_guard/pressure.\n"
        )
        return None


def told(percent: float) -> str:
    found = meminfo()
    sizes = ", ".join(f"{name} {found.get(name, 0) / GIB:.2f} GiB" for name in ("MemAvailable", "MemFree", "SwapFree"))
    most = ", ".join(f"{name}[{pid}] {size / GIB:.2f} GiB" for size, pid, name in largest())
    return f"some task waited for memory {percent:g} % of 2 s or more: {sizes}; largest: {most or 'nobody to be seen'}"


def largest() -> list[tuple[int, int, str]]:
    """(bytes, pid, name) of those with the most of it. What only the driver knows of is not counted by the kernel."""
    page = os.sysconf("SC_PAGE_SIZE")
    found = []
    for entry in os.listdir(PROC):
        if entry.isdigit():
            try:
                with open(f"{PROC}/{entry}/statm", encoding="ascii") as handle:
                    size = int(handle.read().split()[1]) * page
                with open(f"{PROC}/{entry}/comm", encoding="utf-8", errors="replace") as handle:
                    name = "".join(c if c.isprintable() else "?" for c in handle.read().rstrip("\n"))
            except (OSError, IndexError):
                continue  # it has ended
            found.append((size, int(entry), name))
    return sorted(found, reverse=True)[:LARGEST]


def meminfo() -> dict[str, int]:
    """Bytes."""
    with open(f"{PROC}/meminfo", encoding="ascii") as handle:
        rows = (line.split() for line in handle)
        return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
