# SPDX-License-Identifier: GPL-3.0-or-later
"""A node in memory that has what the role looks at: memory, cgroups, processes, swap."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.parse import ARGUMENT_SPEC

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode

MEMINFO = "MemTotal:       127600000 kB\nMemFree:        90000000 kB\nMemAvailable:   {available} kB\n"
SSH = {"unit": "ssh.service", "memory_min_mib": 32, "oom_score_adjust": -1000}
LOGIND = {"unit": "systemd-logind.service", "memory_min_mib": 16, "oom_score_adjust": -900}
USERS = {"unit": "user.slice", "memory_min_mib": 128, "oom_score_adjust": None}
MAIN = {"name": "main", "unit": "vllm.service", "health": "http://127.0.0.1:8000/health", "weights_gib": 15,
        "kv_cache_gib": 20}  # fmt: skip


def params(**given: Any) -> dict[str, Any]:
    """As Ansible hands them over: with every default."""
    defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
    return {**defaults, "protected": [SSH, LOGIND, USERS], **given}


class GuardNode(FakeNode):
    """swap_units: as systemd shows them. Values of units follow their files when the manager reads them again."""

    swap_units = ""

    def tool_systemctl(self, args: list[str]) -> tuple[int, str, str]:
        if args[0] == "show" and args[-1] == "*.swap":
            return 0, self.swap_units, ""
        return super().tool_systemctl(args)

    def runs(self, unit: str, pid: int = 0, *, score: int = 0, cgroup: str = "", locked: int | None = None) -> None:
        cgroup = cgroup or f"/system.slice/{unit}"
        self.units[unit] = {**self.unit(active="active", state="enabled"), "ControlGroup": cgroup, "MainPID": str(pid)}
        folder = f"/sys/fs/cgroup{cgroup}"
        self.put(f"{folder}/memory.min", "0\n")
        self.put(f"{folder}/memory.swap.max", "max\n")
        if pid:
            self.put(f"{folder}/cgroup.procs", f"{pid}\n")
            self.put(f"/proc/{pid}/oom_score_adj", f"{score}\n")
            self.put(f"/proc/{pid}/status", "" if locked is None else f"VmLck:\t{locked} kB\n")


def node(*, available: int = 100_000_000) -> GuardNode:
    """A server that was just installed: SSH, logind, nobody kills early."""
    found = GuardNode(
        available={"earlyoom": "1.8.2", "systemd-oomd": "257"},
        brings_units={
            "earlyoom": ("earlyoom.service",), "systemd-oomd": ("systemd-oomd.service", "systemd-oomd.socket")
        },
    )  # fmt: skip
    found.put("/etc/os-release", "ID=ubuntu\nVERSION_ID=24.04\n")
    found.put("/proc/meminfo", MEMINFO.format(available=available))
    found.put("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
    for path in ("/usr/local/libexec", "/proc/pressure"):
        found.put(path, kind="directory", mode=0o755)
    found.runs("ssh.service", 700, score=-1000)
    found.runs("systemd-logind.service", 500)
    found.runs("system.slice", cgroup="/system.slice")
    found.runs("user.slice", cgroup="/user.slice")
    return found
