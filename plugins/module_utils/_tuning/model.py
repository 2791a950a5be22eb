# SPDX-License-Identifier: GPL-3.0-or-later
"""What role ``kernel_tuning`` declares, and what a look at the node found.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Row

ROLE = "kernel_tuning"
# In the order of the report.
CONTROLS = (
    "kernel_tuning/matrix",
    "kernel_tuning/cgroup_v2",
    "kernel_tuning/parameters",
    "kernel_tuning/thp",
    "kernel_tuning/sysctl",
    "kernel_tuning/memlock",
    "kernel_tuning/cppc",
    "kernel_tuning/headless",
    "kernel_tuning/modules",
    "kernel_tuning/watchdog",
    "kernel_tuning/file_extra",
)
MATRIX, CGROUP, PARAMETERS, THP, SYSCTL, MEMLOCK, CPPC, HEADLESS, MODULES, WATCHDOG, _EXTRA = CONTROLS

DROPIN = f"/etc/default/grub.d/90-nusy-{ROLE}.cfg"
LIMITS = "/etc/security/limits.d/90-nusy-memlock.conf"
# Files of its folders count in the order of their names, wherever they are.
MANAGER = "/etc/systemd/system.conf.d"
MANAGER_FILE = "90-nusy-{}.conf"
MEMLOCK_LIMIT, WATCHDOG_TIME = "DefaultLimitMEMLOCK", "RuntimeWatchdogSec"
# Switching this off takes a crash kernel its way into memory: an operator decides between the two.
NO_HANDOVER = "kho=off"
# Module → the one that drives the same hardware in its place, without which it is not barred.
REPLACED_BY = {"r8169": "r8127"}
# setrlimit(2) RLIM_INFINITY, as systemd's bus shows it.
INFINITE = str(2**64 - 1)


@dataclass(frozen=True)
class Tuning:
    """``reboot_named``: the operator named this host. ``rebooted``: it was rebooted in this run already."""

    host: str
    matrix: tuple[Row, ...]
    parameters: tuple[str, ...]
    killed_modules: tuple[str, ...]
    thp: str
    thp_defrag: str
    sysctls: tuple[tuple[str, str], ...]
    memlock: bool
    cppc: bool
    headless: bool
    barred_modules: tuple[str, ...]
    watchdog_seconds: int
    reboot_named: bool
    rebooted: bool

    @property
    def command_line(self) -> tuple[str, ...]:
        """Module kill-switches work for what is built in and in the initramfs, too: kernel-parameters.txt."""
        killed = (f"module_blacklist={','.join(self.killed_modules)}",) if self.killed_modules else ()
        return (*self.parameters, *killed)


@dataclass(frozen=True)
class Boot:
    """The running command line, and what the boot menu will make of the next one.

    menu: words of each of its kernel lines. stale: it is older than what it is made of. ours: words of our drop-in,
    None without one. others: words of the other files that the menu is made of.
    problem: why nothing can be said of it. gate: why there must be no reboot now.
    """

    running: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    menu: tuple[tuple[str, ...], ...] = ()
    ours: tuple[str, ...] | None = None
    others: frozenset[str] = frozenset()
    stale: bool = False
    crash_bytes: int = 0
    unified: bool = True
    problem: str = ""
    gate: str = ""


@dataclass(frozen=True)
class Found:
    """barred: module → file that bars it and is not ours. route: modules that carry the default route.

    manager: property of systemd's manager → its number as text, or why it cannot be seen.
    later: setting of system.conf → files of others that count more than ours.
    desktop: display manager that runs, its unit. target: what the next boot leads to.
    cppc: place → its value.
    """

    boot: Boot = Boot()
    barred: Mapping[str, str] = field(default_factory=dict)
    route: Mapping[str, str] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    manager: Mapping[str, str] | Unknown = field(default_factory=dict)
    later: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    desktop: str = ""
    target: str | Unknown = ""
    cppc: Mapping[str, str] = field(default_factory=dict)
    thp: bool = True
    watchdogs: Mapping[str, str] = field(default_factory=dict)
