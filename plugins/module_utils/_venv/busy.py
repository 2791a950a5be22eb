# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a generation: nothing that a process runs from may be pruned.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.views import Views

# The kernel tells when it booted to the second: a process may have begun a little earlier than it seems.
MARGIN_SECONDS = 2.0


def users(folders: Iterable[str], link: str, proc: str = "/proc") -> dict[str, str]:
    """Folder → the first process that uses it. Unreadable when a process cannot be looked at.

    A process uses what it maps, runs, stands in or was started with: a Python without compiled
    extensions maps nothing of its environment, and an installer that outlived its run names it
    as an argument. One that was started through ``link`` before the link was last moved may be
    of any generation, and counts for all. A container uses what it was given, and what is used in it.
    """
    real = {folder: os.path.realpath(folder) for folder in folders}
    found: dict[str, str] = {}
    if not real:
        return found
    moved = _moved(link)
    views = Views(real.values(), proc)
    for pid in sorted((name for name in os.listdir(proc) if name.isdigit()), key=int):
        if int(pid) == os.getpid():
            continue
        try:
            traces, arguments = _traces(f"{proc}/{pid}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        except OSError as error:
            raise Unreadable(f"{proc}/{pid}: {error.strerror}") from error
        name = f"process {pid} ({os.path.basename(arguments[0]) if arguments else '?'})"
        through_link = any(a == link or a.startswith(f"{link}/") for a in arguments)
        for folder, place in real.items():
            if folder in found:
                continue
            seen = views.of(pid).get(place, [])
            paths = [place, *filter(None, seen)]
            inside = "" in seen or any(t == path or t.startswith(f"{path}/") for t in traces for path in paths)
            if inside or any(_names(a, path) for a in arguments for path in (folder, *paths)):
                found[folder] = name
            elif through_link and _started(f"{proc}/{pid}", proc) <= moved + MARGIN_SECONDS:
                found[folder] = f"{name}, started through {link} before it was last moved,"
    return found


def _names(argument: str, folder: str) -> bool:
    """Whether an argument has this path in it, and not only one that begins alike (``abc`` in ``abc-2``)."""
    return re.search(re.escape(folder) + r"(?![A-Za-z0-9._-])", argument) is not None


def _traces(folder: str) -> tuple[set[str], list[str]]:
    """Files a process maps, runs and stands in; and its arguments. Kernel threads have none of them."""
    with open(f"{folder}/cmdline", "rb") as handle:
        arguments = [a.decode("utf-8", "surrogateescape") for a in handle.read().split(b"\0") if a]
    traces = set[str]()
    try:
        for name in ("exe", "cwd"):
            with contextlib.suppress(FileNotFoundError):  # a kernel thread
                traces.add(os.readlink(f"{folder}/{name}"))
        # Only opening it may be refused, and only that is answered for here; it is closed below.
        maps = open(f"{folder}/maps", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    except PermissionError:
        if os.path.basename(folder) == "1" and os.geteuid() == 0:
            # An init may have capabilities that this root has not. It runs from no environment.
            return traces, arguments
        raise
    with maps as handle:
        for line in handle:
            # address perms offset dev inode path; the path of a deleted file ends in " (deleted)".
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) == 6 and fields[5].startswith("/"):
                traces.add(fields[5])
    return traces, arguments


def _moved(link: str) -> float:
    try:
        return os.lstat(link).st_mtime
    except OSError:
        return 0.0


def _started(folder: str, proc: str) -> float:
    """Seconds since the epoch; 0 (long ago) when it cannot be told, which keeps what is in doubt."""
    try:
        with open(f"{folder}/stat", "rb") as handle:
            ticks = int(handle.read().rpartition(b")")[2].split()[19])
        with open(f"{proc}/stat", "rb") as handle:
            boot = next(int(line.split()[1]) for line in handle if line.startswith(b"btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0
    return boot + ticks / os.sysconf("SC_CLK_TCK")
