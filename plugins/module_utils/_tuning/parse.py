# SPDX-License-Identifier: GPL-3.0-or-later
"""Module parameters → Tuning, and the texts of a boot loader → words.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.model import REPLACED_BY, Tuning
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge as versions

# The words that the kernel's own files offer: mm/huge_memory.c.
THP = ("always", "madvise", "never")
THP_DEFRAG = ("always", "defer", "defer+madvise", "madvise", "never")
# No quotes, $ or blanks: a shell reads the drop-in, and GRUB what it makes of it.
WORD = re.compile(r"[A-Za-z0-9_.-]+(?:=[A-Za-z0-9_.,:/+@^-]*)?")
MODULE = re.compile(r"[A-Za-z0-9_-]+")
SYSCTL = re.compile(r"(?:vm|kernel|fs)\.[a-z0-9_.]+")
# What os_hardening declares: two roles with one value undo each other at every run.
HARDENED = frozenset(
    {
        *("fs.protected_fifos", "fs.protected_hardlinks", "fs.protected_regular", "fs.protected_symlinks"),
        *("fs.suid_dumpable", "kernel.dmesg_restrict", "kernel.kptr_restrict", "kernel.randomize_va_space"),
        *("kernel.sysrq", "kernel.unprivileged_bpf_disabled", "kernel.yama.ptrace_scope"),
    }
)
# The disk of a DGX Spark, what is on it, and what containers are made of.
BOOTING = frozenset(
    {"nvme", "nvme_core", "ext4", "vfat", "fat", "overlay", "fuse", "squashfs", "tmpfs", "xfs", "btrfs", "dm_mod"}
)
# A longer wait is no guard any more, and hardware counts further only by chance.
MOST_WATCHDOG_SECONDS = 600

ARGUMENT_SPEC: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "matrix": {"type": "bool", "default": True},
    "parameters": {"type": "list", "elements": "str", "default": []},
    "killed_modules": {"type": "list", "elements": "str", "default": []},
    "thp": {"type": "str", "choices": [*THP, "leave"], "default": "madvise"},
    "thp_defrag": {"type": "str", "choices": [*THP_DEFRAG, "leave"], "default": "madvise"},
    "sysctls": {"type": "dict", "default": {}},
    "memlock": {"type": "bool", "default": True},
    "cppc": {"type": "bool", "default": True},
    "headless": {"type": "bool", "default": True},
    "barred_modules": {"type": "list", "elements": "str", "default": []},
    "watchdog_seconds": {"type": "int", "default": 60},
    "reboot_confirm": {"type": "list", "elements": "str", "default": []},
    "rebooted": {"type": "bool", "default": False},
    **versions.OPTIONS,
    **OPTIONS,
}


def tuning(params: Mapping[str, Any]) -> Tuning:
    """Raises InputError, with the name of the wrong value, before anything is looked at."""
    for number, word in enumerate(params["parameters"]):
        if WORD.fullmatch(word) is None:
            raise _wrong(f"parameters[{number}]", "name or name=value without quotes", word, "GRUB reads it as shell")
        if word.split("=")[0] in ("module_blacklist", "systemd.unified_cgroup_hierarchy"):
            why = "two declarations of one parameter undo each other"
            raise _wrong(f"parameters[{number}]", "a parameter that has no option of its own", word, why)
    for option in ("killed_modules", "barred_modules"):
        for number, name in enumerate(params[option]):
            if MODULE.fullmatch(name) is None:
                raise _wrong(f"{option}[{number}]", "the name of a module", name, "it would bar nothing")
            plain = name.replace("-", "_")
            if plain in BOOTING:
                why = "without it the node does not boot, or no container starts"
                raise _wrong(f"{option}[{number}]", "a module that the node can do without", name, why)
            if plain.split("_")[0] == "nvidia" or plain in REPLACED_BY.values():
                why = "without it the node has no GPU, or no network"
                raise _wrong(f"{option}[{number}]", "a module that the node can do without", name, why)
    for name, value in params["sysctls"].items():
        if SYSCTL.fullmatch(str(name)) is None:
            raise _wrong("sysctls", "names below vm, kernel or fs", name, "the network's are os_hardening's")
        if str(name).replace("/", ".") in HARDENED:
            why = "role os_hardening declares it, and each run of one would undo the other's"
            raise _wrong("sysctls", "values that no other role declares", name, why)
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise _wrong(f"sysctls.{name}", "a number or text", value, "the kernel would read it differently")
    seconds = int(params["watchdog_seconds"])
    if not 0 <= seconds <= MOST_WATCHDOG_SECONDS:
        raise _wrong("watchdog_seconds", f"0 (off) to {MOST_WATCHDOG_SECONDS}", seconds, "it is a bound")
    return Tuning(
        host=params["host"],
        matrix=versions.matrix(params["version_matrix"]) if params["matrix"] else (),
        parameters=tuple(params["parameters"]),
        killed_modules=tuple(params["killed_modules"]),
        thp="" if params["thp"] == "leave" else params["thp"],
        thp_defrag="" if params["thp_defrag"] == "leave" else params["thp_defrag"],
        sysctls=tuple(sorted((str(name), str(value)) for name, value in params["sysctls"].items())),
        memlock=params["memlock"],
        cppc=params["cppc"],
        headless=params["headless"],
        barred_modules=tuple(params["barred_modules"]),
        watchdog_seconds=seconds,
        reboot_named=params["host"] in params["reboot_confirm"],
        rebooted=params["rebooted"],
    )


def menu(text: str) -> tuple[tuple[str, ...], ...]:
    """Words of each kernel line of grub.cfg, without command and image."""
    lines = (line.split() for line in text.splitlines())
    return tuple(tuple(words[2:]) for words in lines if len(words) > 1 and words[0] in ("linux", "linuxefi"))


def dropin(text: str) -> tuple[str, ...]:
    """Words that a file of GRUB's settings adds to the command line."""
    found = re.findall(r"""^\s*GRUB_CMDLINE_LINUX(?:_DEFAULT)?=(["']?)(.*)\1\s*$""", text, re.MULTILINE)
    return tuple(word for _quote, line in found for word in line.split() if not word.startswith("$"))


def barring(text: str) -> set[str]:
    """Modules that a file of modprobe.d keeps from being loaded for a device."""
    fields = (line.split() for line in text.splitlines())
    return {words[1].replace("-", "_") for words in fields if len(words) == 2 and words[0] == "blacklist"}


def _wrong(name: str, wanted: str, found: object, why: str) -> InputError:
    return InputError(
        "tuning.bad_input",
        wanted=f"{name}: {wanted}",
        found=repr(found),
        why=why,
        fix=f"correct kernel_tuning_{name.split('[')[0].split('.')[0]}",
    )
