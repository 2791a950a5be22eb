# SPDX-License-Identifier: GPL-3.0-or-later
"""Will the GPU be there after the next boot? Kernel and modules are two packages, and there is no DKMS.

The gate of every reboot of this collection.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import Kernel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Row

FIND = "/usr/bin/find"
DPKG = "/usr/bin/dpkg"
MENU = "/boot/grub/grub.cfg"
# Of GRUB itself: what was saved, or chosen for one boot (grub-editenv, grub-reboot).
ENVIRONMENT = "/boot/grub/grubenv"
_DEFAULT = re.compile(r'^\s*set default="([^"]*)"', re.MULTILINE)
_LINUX = re.compile(r"^\s*linux(?:efi)?\s+\S*?vmlinuz-(\S+)", re.MULTILINE)


def running_kernel(reader: Reader, release: str = "") -> Kernel | Unknown:
    return _kernel(reader, release or os.uname().release)


def next_kernel(reader: Reader) -> Kernel | Unknown:
    """The one that GRUB's menu boots by itself. The menu alone says: what it is made of can be newer than it is."""
    try:
        menu, environment = reader.read(MENU), reader.read(ENVIRONMENT) or ""
    except Unreadable as error:
        return Unknown(str(error))
    if menu is None:
        return Unknown(f"there is no {MENU}: what boots next is not known here")
    chosen = _chosen(menu, dict(line.split("=", 1) for line in environment.splitlines() if "=" in line))
    if chosen:
        return Unknown(f"{chosen} chooses what boots next")
    kernels = _LINUX.findall(menu)
    return _kernel(reader, kernels[0]) if kernels else Unknown(f"{MENU} boots no kernel")


def _chosen(menu: str, saved: Mapping[str, str]) -> str:
    """What makes the menu boot another entry than its first, as the person who set it would look for it.

    grub-mkconfig writes ``set default=`` for a choice that is made once and goes with the boot (next_entry), and
    for the one that stays: a number, a title, or what is saved.
    """
    for value in _DEFAULT.findall(menu):
        name = value[2:-1] if value.startswith("${") else ""
        found = saved.get(name, "") if name else value
        if found not in ("", "0"):
            return f"{name}={found} in {ENVIRONMENT}" if name else f'default="{found}" in {MENU}'
    return ""


def gate(running: Kernel | Unknown, following: Kernel | Unknown, rows: Iterable[Row]) -> tuple[str, ...] | Unknown:
    """What the next boot would lack; a reboot waits until that is nothing. Unknown: nobody can tell.

    A node whose running kernel has no GPU loses none, and one that runs a known-bad kernel gets no worse one.
    """
    if isinstance(running, Unknown):
        return running
    if isinstance(following, Unknown):
        return following
    gaps = (gap for gap in following.gaps if gap != "nvidia.ko" or running.modules)
    bad = () if following.release == running.release else judge.bad_anywhere(rows, "kernel", following.release)
    whys = (f"a good kernel ({following.release} is known to be bad: {row.why}; {row.remedy})" for row in bad)
    return (*(f"{gap} of {following.release}" for gap in gaps), *whys)


def _kernel(reader: Reader, release: str) -> Kernel | Unknown:
    folder = f"/lib/modules/{release}"
    try:
        there = reader.stat(f"/usr{folder}") is not None or reader.stat(folder) is not None
        image, initrd = (filled(reader, f"/boot/{name}-{release}") for name in ("vmlinuz", "initrd.img"))
    except Unreadable as error:
        return Unknown(str(error))
    if not there:
        return Kernel(release, False, image, initrd)
    modules = has_nvidia_module(reader, release)
    return modules if isinstance(modules, Unknown) else Kernel(release, modules, image, initrd)


def has_nvidia_module(reader: Reader, release: str) -> bool | Unknown:
    # Not through links: "build" in there leads to all the headers.
    argv = [FIND, f"/lib/modules/{release}/", "-name", "nvidia.ko*", "-not", "-type", "d"]
    done = reader.run(argv, timeout=30)
    return bool(done.out.strip()) if done.ok else Unknown(f"{FIND} {done.ending}: {one_line(done.said())}")


def filled(reader: Reader, path: str) -> bool:
    found = reader.stat(path)
    return found is not None and found.size > 0


def audit(reader: Reader) -> str:
    """What dpkg has left half done; empty is good."""
    done = reader.run([DPKG, "--audit"], timeout=60)
    return one_line(done.out or (f"dpkg --audit {done.ending}" if done.rc is None else ""))
