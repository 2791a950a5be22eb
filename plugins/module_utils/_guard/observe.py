# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine has, and how its processes and units stand when memory runs out.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, text_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.model import (
    CGROUPS,
    SLICE,
    Guard,
    Process,
    Seen,
    Swap,
    UnitState,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse as memory
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import systems
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.units import SYSTEMCTL, parse_show

KILLERS = ("earlyoom.service", "systemd-oomd.service")
SYSTEM_SLICE = "system.slice"
LIMITS = ("memory.min", "memory.swap.max")


def unsupported(reader: Reader) -> str:
    """Why this system cannot have what the role makes; empty if it can."""
    problem = systems.unfit(systems.SUPPORTED, reader)
    if problem:
        return problem
    controllers = (reader.read(f"{CGROUPS}/cgroup.controllers") or "").split()
    if "memory" not in controllers:
        return "there are no memory limits for units here (no cgroup v2 with the controller memory)"
    return ""


def look(wanted: Guard, reader: Reader) -> Seen:
    """Raises NodeError where systemd or /proc do not answer."""
    sizes = meminfo(reader)
    total = sizes["MemTotal"]
    names = [*(one.unit for one in wanted.protected), *(one.unit for one in wanted.engines), *KILLERS]
    plan = memory.plan(total_bytes=total, **wanted.budget) if wanted.budget["engines"] else None
    units = _units(reader, [*names, SYSTEM_SLICE, SLICE])
    return Seen(total, sizes["MemAvailable"], plan, units, _swaps(reader))


def meminfo(reader: Reader) -> dict[str, int]:
    """Bytes."""
    text = text_of(reader, "/proc/meminfo")
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"(?m)^(\w+):\s+(\d{1,15}) kB$", text)}
    if not {"MemTotal", "MemAvailable"} <= found.keys():
        raise ParseError("/proc/meminfo", text, "lines MemTotal and MemAvailable in kB")
    return found


def _units(reader: Reader, names: Iterable[str]) -> dict[str, UnitState]:
    wanted = list(dict.fromkeys(names))
    properties = "--property=LoadState,ActiveState,ControlGroup,MainPID"
    done = reader.run([SYSTEMCTL, "show", "--no-pager", properties, "--", *wanted], timeout=30)
    blocks = parse_show(done.out)
    if not done.ok or len(blocks) != len(wanted):
        raise NodeError(
            "memory_guard.systemd_silent",
            wanted="the state of units, from systemd",
            found=one_line(done.said(1)),
            why="who is protected cannot be told",
            fix="look at: systemctl status",
        )
    return {name: _unit(reader, name, block) for name, block in zip(wanted, blocks, strict=True)}


def _unit(reader: Reader, name: str, block: dict[str, str]) -> UnitState:
    active = block.get("ActiveState") in ("active", "activating", "reloading")
    cgroup = block.get("ControlGroup", "") if active else ""
    folder = f"{CGROUPS}{cgroup}"
    limits = {name: text_of(reader, f"{folder}/{name}").strip() for name in LIMITS} if cgroup else {}
    main = int(block.get("MainPID") or 0)
    # Of a slice it would be everybody in it.
    pids = text_of(reader, f"{folder}/cgroup.procs").split() if cgroup and name.endswith(".service") else []
    return UnitState(
        loaded=block.get("LoadState") == "loaded",
        active=active,
        cgroup=cgroup,
        main=_process(reader, main) if active and main else None,
        processes=tuple(_process(reader, int(pid)) for pid in pids),
        limits={name: value for name, value in limits.items() if value},
    )


def _process(reader: Reader, pid: int) -> Process:
    score = text_of(reader, f"/proc/{pid}/oom_score_adj").strip()
    locked = re.search(r"(?m)^VmLck:\s+(\d+) kB$", text_of(reader, f"/proc/{pid}/status"))
    return Process(pid, int(score) if score else None, int(locked[1]) * 1024 if locked else None)


def _swaps(reader: Reader) -> tuple[Swap, ...] | str:
    """Those that are on, with the units that would bring them back. proc(5): sizes in KiB, blanks as \\040."""
    rows = [line.split() for line in text_of(reader, "/proc/swaps").splitlines()[1:]]
    if not rows:
        return ()
    # An alias of a device (by its UUID) is a unit of its own.
    argv = [SYSTEMCTL, "show", "--no-pager", "--property=Id,What,ActiveState", "--", "*.swap"]
    done = reader.run(argv, timeout=30)
    if not done.ok:
        return f"systemd does not say which units bring swap: {one_line(done.said(1))}"
    blocks = [block for block in parse_show(done.out) if block.get("ActiveState") == "active"]
    found = []
    for name, _kind, size, used, *_rest in rows:
        path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), name)
        units = tuple(sorted(block["Id"] for block in blocks if block.get("What") == path))
        found.append(Swap(path, int(size) * 1024, int(used) * 1024, units))
    return tuple(found)
