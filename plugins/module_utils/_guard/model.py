# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps one memory from being used up: what is declared, and what was found.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import Plan

ROLE = "memory_guard"
CONTROLS = (
    "memory_guard/budget",
    "memory_guard/killer_settings",
    "memory_guard/killer",
    "memory_guard/system_protected",
    "memory_guard/load_guard",
    "memory_guard/engines",
    "memory_guard/swap",
    "memory_guard/pressure",
    "memory_guard/file_extra",
)
BUDGET, KILLER_SETTINGS, KILLER, SYSTEM_PROTECTED, LOAD_GUARD, ENGINES, SWAP, PRESSURE, _EXTRA = CONTROLS

EARLYOOM, OOMD = "earlyoom", "systemd-oomd"
SLICE = "nusy-engines.slice"
CGROUPS = "/sys/fs/cgroup"
MIB = 1 << 20

# What sshd is started with, every login inherits (it sets its own listener to -1000 and gives its sessions back
# what it had): a runaway program of somebody logged in would then be the last to be killed. So of these units
# the running listener is judged, and nothing is declared.
HANDS_ON = frozenset(("ssh.service", "sshd.service"))


@dataclass(frozen=True)
class Engine:
    """A unit that takes most of the memory. ``need``: bytes by its budget. ``health``: as load_guard has it."""

    unit: str
    health: str
    need: int


@dataclass(frozen=True)
class Protected:
    """A unit that must go on working. ``score`` None: not managed."""

    unit: str
    memory_min: int  # bytes
    score: int | None = None

    @property
    def is_slice(self) -> bool:
        return self.unit.endswith(".slice")


@dataclass(frozen=True)
class Guard:
    """The declaration. ``inputs``: control → the options that it follows from."""

    engines: tuple[Engine, ...]
    budget: Mapping[str, object]  # arguments of _memory.parse.plan but for the memory of the node
    killer: str
    term_percent: float
    kill_percent: float
    swap_percent: float
    prefer: str
    avoid: str
    protected: tuple[Protected, ...]
    engine_score: int
    swap: str
    load_free: int
    load_seconds: int
    stall_percent: float
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Process:
    """``score`` and ``locked`` (bytes) None: gone, or not shown."""

    pid: int
    score: int | None
    locked: int | None = None


@dataclass(frozen=True)
class UnitState:
    """There, and if it runs with which cgroup and processes. ``limits``: file of the cgroup → its text."""

    loaded: bool = False
    active: bool = False
    cgroup: str = ""
    main: Process | None = None
    processes: tuple[Process, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Swap:
    """One swap that is on, in bytes. ``units``: of systemd, that bring it back."""

    path: str
    size: int
    used: int
    units: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """units: by name. swaps: that are on; a text is why they cannot be told. plan None: no engine is declared."""

    total: int
    available: int
    plan: Plan | None
    units: Mapping[str, UnitState]
    swaps: tuple[Swap, ...] | str = ()
