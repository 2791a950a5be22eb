# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written: units, drop-ins and programs.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.model import (
    OOMD,
    SLICE,
    Engine,
    Guard,
    Protected,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import command_line

FOLDER = "/usr/local/libexec/nusy"
LOAD_GUARD = f"{FOLDER}/spark-load-guard"
PRESSURE_WATCH = f"{FOLDER}/spark-pressure-watch"
# Isolated, and without what is installed beside the standard library.
PYTHON = ("/usr/bin/python3", "-IS")
HEAD = "# Made by role memory_guard; what is changed by hand is drift.\n"

# What every unit here does without. systemd.exec(5); judged by systemd-analyze security in the tests.
HARDENED = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
UMask=0077
"""


def program(module: ModuleType) -> str:
    """The text of one of our own modules, from wherever it was imported: a folder, Ansible's archive, or ours."""
    loader: Any = module.__loader__
    return str(loader.get_source(module.__name__))


def earlyoom(guard: Guard, memory_min: int) -> str:
    """On the command line of the unit: what a file says counts more than Environment=, and /etc/default is dpkg's.

    It locks its memory by itself (CAP_IPC_LOCK) and kills (CAP_KILL); without the whole of /proc it would see
    nobody. Its own unit has hardly any of these limits in Ubuntu 24.04.
    """
    argv = ["/usr/bin/earlyoom", "-r", "3600", "-m", f"{guard.term_percent:g},{guard.kill_percent:g}"]
    argv += ["-s", f"{guard.swap_percent:g}"]
    argv += ["--prefer", guard.prefer] if guard.prefer else []
    argv += ["--avoid", guard.avoid] if guard.avoid else []
    return f"""\
{HEAD}[Service]
ExecStart=
ExecStart={command_line(argv)}
OOMScoreAdjust=-1000
Nice=-20
MemoryMin={memory_min}
CapabilityBoundingSet=CAP_KILL CAP_IPC_LOCK
{HARDENED}ProtectKernelTunables=yes
PrivateNetwork=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX
SystemCallFilter=@system-service process_mrelease
SystemCallFilter=~@privileged
"""


def oomd(memory_min: int) -> str:
    """Its own unit is hardened already."""
    return f"{HEAD}[Service]\nOOMScoreAdjust=-1000\nMemoryMin={memory_min}\n"


def protected(unit: Protected, killer: str, *, score: bool) -> str:
    lines = [f"MemoryMin={unit.memory_min}"]
    lines += [f"OOMScoreAdjust={unit.score}"] if score else []
    lines += ["ManagedOOMPreference=avoid"] if killer == OOMD and not unit.is_slice else []
    return f"{HEAD}[{'Slice' if unit.is_slice else 'Service'}]\n" + "".join(f"{line}\n" for line in lines)


def engines_slice(killer: str) -> str:
    """An engine whose pages are swapped answers nobody and keeps the disk busy: it rather ends.

    With a weight anywhere below, systemd lets the kernel share processors by slice and not by thread: while memory
    runs out, an engine's many threads count as much as all that is logged in. Half as much as what else is ours.
    """
    managed = "ManagedOOMMemoryPressure=kill\nManagedOOMSwap=kill\n" if killer == OOMD else ""
    unit = "[Unit]\nDescription=Engines, which go before the system does\n"
    return f"{HEAD}{unit}\n[Slice]\nMemorySwapMax=0\nCPUWeight=50\n{managed}"


def engine(score: int) -> str:
    """All of its processes go together: what is left of half an engine holds its memory and answers nobody."""
    return f"{HEAD}[Service]\nSlice={SLICE}\nOOMScoreAdjust={score}\nOOMPolicy=kill\n"


def engine_waits(guard_unit: str) -> str:
    """Does not fit, does not start."""
    return f"{HEAD}[Unit]\nRequires={guard_unit}\nAfter={guard_unit}\n"


def load_guard_of(engine: Engine) -> str:
    return f"spark-load-guard@{engine.unit.removesuffix('.service')}.service"


def load_guard_options(engine: Engine) -> str:
    health = f" --health {engine.health}" if engine.health else ""
    return f'{HEAD}[Service]\nEnvironment="NUSY_LOAD_GUARD=--need {engine.need}{health}"\n'


def load_guard(guard: Guard) -> str:
    """Root without any capability: that is what may write drop_caches and compact_memory (ProtectKernelTunables=no)."""
    start = command_line([*PYTHON, LOAD_GUARD, "--free", str(guard.load_free), "--seconds", str(guard.load_seconds)])
    return f"""\
{HEAD}[Unit]
Description=Keep memory free while %i.service loads
PartOf=%i.service

[Service]
Type=notify
NotifyAccess=main
ExecStart={start} --unit %i.service $NUSY_LOAD_GUARD
# It syncs, drops and compacts, and waits for what the last engine gives back.
TimeoutStartSec=180
# It ends by itself; this is for one that hangs.
RuntimeMaxSec={guard.load_seconds + 300}
OOMScoreAdjust=-900
CapabilityBoundingSet=
{HARDENED}ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
"""


def pressure_watch(guard: Guard) -> str:
    start = command_line([*PYTHON, PRESSURE_WATCH, "--percent", f"{guard.stall_percent:g}"])
    return f"""\
{HEAD}[Unit]
Description=Tell the journal of memory pressure
ConditionPathExists=/proc/pressure/memory

[Service]
ExecStart={start}
Restart=on-failure
RestartSec=10
OOMScoreAdjust=-900
MemoryMin=16M
MemoryMax=64M
DynamicUser=yes
CapabilityBoundingSet=
{HARDENED}ProtectKernelTunables=yes
PrivateNetwork=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""
