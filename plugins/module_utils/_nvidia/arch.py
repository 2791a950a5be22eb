# SPDX-License-Identifier: GPL-3.0-or-later
"""The controls that are otherwise on Arch Linux: packages of its own repository, kernels, CDI. Pure but for one action.

Modules come prebuilt for the kernels ``linux`` and ``linux-lts``, and by DKMS for every other one and for Arch
Linux ARM. There are no branches, no holds and no second repository.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cmp_to_key

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.containers import specification
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.declare import declared, unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.kernels import filled, has_nvidia_module
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    CDI,
    CDI_BY_HAND,
    CDI_PATH,
    CDI_SERVICE,
    DRIVER,
    HOLDS,
    KERNELS,
    PERSISTENCE,
    PERSISTENCED,
    SOURCES,
    TOOLKIT,
    Kernel,
    Seen,
    Wanted,
    upstream,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.pacman import UPGRADE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    File,
    Unit,
    Unknown,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import compare_versions

MODULES = "/usr/lib/modules"
REPOSITORY = "extra"
USER_SPACE, DKMS, TOOLKIT_PACKAGE = "nvidia-utils", "nvidia-open-dkms", "nvidia-container-toolkit"
PREBUILT = {"linux": "nvidia-open", "linux-lts": "nvidia-open-lts"}
# Closed modules, which Blackwell cannot use; they are no packages of Arch any more since 590.
GONE = ("nvidia", "nvidia-dkms", "nvidia-lts")
CTK = "/usr/bin/nvidia-ctk"
HOOK = "/etc/pacman.d/hooks/nusy-nvidia-cdi.hook"
GENERATE = Step("generate_cdi", CDI_BY_HAND)
ENABLE = Step("enable_unit_that_came", PERSISTENCED)
# alpm-hooks(5). The package of Arch has none (its issue 1), so the specification would go stale with the next driver.
# Where it brings NVIDIA's units some day, they are left to it: two specifications would contradict each other.
HOOK_TEXT = f"""\
# Written by role nvidia_toolkit of nusy.dgx_spark.
[Trigger]
Operation = Install
Operation = Upgrade
Type = Package
Target = {USER_SPACE}
Target = {TOOLKIT_PACKAGE}

[Action]
Description = Writing the CDI specification of the NVIDIA GPU...
When = PostTransaction
Exec = /bin/sh -c "systemctl cat {CDI_SERVICE} >/dev/null 2>&1 || exec {CTK} cdi generate --output={CDI_BY_HAND}"
"""


def kernels_of(reader: Reader) -> tuple[tuple[str, Kernel], ...] | Unknown:
    """Every installed kernel with the name of its package. Arch keeps one of each."""
    found = []
    try:
        for release in reader.listdir(MODULES) or ():
            base = (reader.read(f"{MODULES}/{release}/pkgbase") or "").strip()
            if base:
                # An initrd may be part of a unified image, wherever the boot loader wants it: absent says nothing.
                initrd = f"/boot/initramfs-{base}.img"
                whole = reader.stat(initrd) is None or filled(reader, initrd)
                image = filled(reader, f"{MODULES}/{release}/vmlinuz")
                modules = has_nvidia_module(reader, release)
                if isinstance(modules, Unknown):
                    return modules
                found.append((base, Kernel(release, modules, image, whole)))
    except Unreadable as error:
        return Unknown(str(error))
    return tuple(found) or Unknown(f"there is no kernel in {MODULES}")


def next_kernel(found: tuple[tuple[str, Kernel], ...] | Unknown) -> Kernel | Unknown:
    """Which of several boots next is the boot loader's choice, so one that lacks something counts first."""
    if isinstance(found, Unknown):
        return found
    every = [kernel for _base, kernel in found]
    try:
        every.sort(key=cmp_to_key(lambda one, other: compare_versions(one.release, other.release)))
    except ValueError as error:
        return Unknown(f"kernels in {MODULES}: {error}")
    return next((kernel for kernel in every if kernel.gaps), every[-1])


def driver_packages(wanted: Wanted, bases: Iterable[str], machine: str = "") -> tuple[str, ...]:
    if wanted.driver_packages:
        return wanted.driver_packages
    prebuilt = PREBUILT if (machine or os.uname().machine) == "x86_64" else {}
    needed = [
        names for base in bases for names in ([prebuilt[base]] if base in prebuilt else [f"{base}-headers", DKMS])
    ]
    return unique([*needed, USER_SPACE])


def installable(wanted: Wanted, seen: Seen, names: Sequence[str], *, named: bool) -> bool:
    return not seen.repositories.waits and (not named or all(map(wanted.named, names)))


def packages(seen: Seen, names: Sequence[str], why: str, *, named: bool, wanted: Wanted) -> tuple[Assertion, ...]:
    """Installed together or not at all; the driver only when every one of its packages is named."""
    absent = tuple(name for name in names if name not in seen.installed)
    waits = seen.repositories.waits
    free = installable(wanted, seen, absent, named=named)
    steps = (Step("install_by_pacman", " ".join(absent), (absent,)),) if free else ()
    reason = "; ".join(filter(None, (why, waits)))
    return tuple(
        Assertion(f"package {name}", "in_sync", seen.installed[name], "installed")
        if name in seen.installed
        else Assertion(
            f"package {name}", "drifted", "absent", "installed", reason, UPGRADE if waits else "", steps,
            ("package", name) if named else (), awaits=UPGRADE if waits else "",
        )
        for name in names
    )  # fmt: skip


def sources(seen: Seen) -> ControlSpec:
    """Arch has all of it in its own repository: none is added."""
    right = REPOSITORY in seen.repositories.names
    found = ", ".join(seen.repositories.names) or "none"
    fix = f"enable [{REPOSITORY}] in /etc/pacman.conf"
    truth = Assertion("repositories", "in_sync" if right else "drifted", found, REPOSITORY, "" if right else fix, fix)
    return ControlSpec(SOURCES, assertions=(truth,))


def driver(wanted: Wanted, seen: Seen) -> ControlSpec:
    if not seen.bases and not wanted.driver_packages:
        return unknown(DRIVER, "kernel", f"no kernel in {MODULES} says of which package it is")
    names = driver_packages(wanted, seen.bases)
    truths = list(packages(seen, names, "a driver is installed only when it is named", named=True, wanted=wanted))
    for name in GONE:
        if name in seen.installed:
            why = f"{name} has closed modules, which a Blackwell GPU cannot use, and Arch has it no more"
            truths.append(Assertion(f"package {name}", "drifted", "installed", "absent", why, UPGRADE))
    parts = [name for name in (USER_SPACE, DKMS, *PREBUILT.values()) if name in seen.installed]
    versions = unique(upstream(seen.installed[name]) for name in parts)
    if len(versions) > 1:
        each = ", ".join(f"{name} {seen.installed[name]}" for name in parts)
        why = "modules and libraries of two versions refuse each other"
        truths.append(Assertion("version", "drifted", each, "one", why, UPGRADE))
    return declared(ControlSpec(DRIVER, assertions=tuple(truths)), names)


def kernels(wanted: Wanted, seen: Seen) -> ControlSpec:
    truths: list[Assertion] = []
    driver_due = "the driver" if any(name not in seen.installed for name in driver_packages(wanted, seen.bases)) else ""
    for what, kernel, why, fix, awaits in (
        ("the kernel that runs", seen.running, "an upgrade took its modules, or none were built", "reboot", "a reboot"),
        ("a kernel that may boot next", seen.next, "no GPU with it", "do not boot into it; see dkms status", ""),
    ):
        if isinstance(kernel, Unknown):
            truths.append(Assertion(what, "unknown", "", "has its modules", kernel.reason))
            continue
        gaps = kernel.gaps if kernel is seen.next else tuple(gap for gap in kernel.gaps if gap == "nvidia.ko")
        name, lacks = f"{what}, {kernel.release}", ", ".join(gaps)
        if gaps:
            reason = f"{name}, has no {lacks}: {why}"
            waits = driver_due or awaits
            truths.append(Assertion(name, "drifted", f"without {lacks}", "whole", reason, fix, awaits=waits))
        else:
            truths.append(Assertion(name, "in_sync", "whole", "whole"))
    if seen.audit:
        why = f"pacman finds its packages at odds: {seen.audit}"
        truths.append(Assertion("pacman --database --check", "drifted", "not empty", "empty", why, UPGRADE))
    return ControlSpec(KERNELS, assertions=tuple(truths))


def persistence(wanted: Wanted, seen: Seen) -> ControlSpec:
    """Arch starts nothing that nobody has enabled."""
    if PERSISTENCED in seen.units:
        # Without the driver in the kernel it does not start; the boot that brings it starts both.
        return ControlSpec(PERSISTENCE, units=(Unit(PERSISTENCED, enabled=True, active=seen.loaded or None),))
    why = f"there is no {PERSISTENCED}: it comes with {USER_SPACE}"
    absent = [name for name in driver_packages(wanted, seen.bases) if name not in seen.installed]
    if USER_SPACE in absent and installable(wanted, seen, absent, named=True):
        steps = (ENABLE,)
        return ControlSpec(
            PERSISTENCE, assertions=(Assertion(PERSISTENCED, "drifted", "absent", "enabled", why, steps=steps),)
        )
    return unknown(PERSISTENCE, PERSISTENCED, why)


def toolkit(wanted: Wanted, seen: Seen) -> ControlSpec:
    truths = packages(seen, (TOOLKIT_PACKAGE,), "", named=False, wanted=wanted)
    found = seen.installed.get(TOOLKIT_PACKAGE, "")
    if wanted.version and found and found != wanted.version:
        why = "Arch has one version of it at a time"
        fix = "declare no nvidia_toolkit_version on Arch"
        truths = (Assertion(f"package {TOOLKIT_PACKAGE}", "drifted", found, wanted.version, why, fix),)
    return declared(ControlSpec(TOOLKIT, assertions=truths), wanted.version)


def cdi(wanted: Wanted, seen: Seen) -> ControlSpec:
    """By a hook of pacman, which comes before the toolkit: what installs that runs it. Or by units of the toolkit."""
    units = {CDI_PATH, CDI_SERVICE} <= seen.units
    step = Step("refresh_cdi", CDI_SERVICE) if units else GENERATE
    there = seen.generated or (seen.by_hand and not units)
    truths = list(specification(wanted, seen, step, there=there)) if TOOLKIT_PACKAGE in seen.installed else []
    if units and seen.by_hand:
        why = f"beside what {CDI_SERVICE} writes it goes stale"
        remove, victim = (Step("remove_file", CDI_BY_HAND),), ("path", CDI_BY_HAND)
        truths.append(Assertion(CDI_BY_HAND, "drifted", "present", "absent", why, steps=remove, victim=victim))
    return ControlSpec(
        CDI,
        directories=(Directory(os.path.dirname(HOOK)), Directory(os.path.dirname(CDI_BY_HAND))),
        files=(File(HOOK, HOOK_TEXT),),
        units=(Unit(CDI_PATH, enabled=True, active=True), Unit(CDI_SERVICE, enabled=True)) if units else (),
        assertions=tuple(truths),
    )


def generate(step: Step, _reader: Reader, writer: Writer) -> None:
    done = writer.run([CTK, "cdi", "generate", f"--output={step.target}"], timeout=120)
    if not done.ok:
        raise NodeError(
            "nvidia.cdi",
            wanted=f"{step.target} generated",
            found=f"{CTK} cdi generate {done.ending}: {one_line(done.said())}",
            why="containers get no GPU without it",
            fix="see that nvidia-smi works, then run the play again",
        )


def enable(step: Step, _reader: Reader, writer: Writer) -> None:
    """Of a unit that came in this run."""
    argv = ["/usr/bin/systemctl", "enable", "--", step.target]
    done = writer.run(argv, timeout=120)
    if not done.ok:
        raise NodeError(
            "nvidia.enable",
            wanted=f"{step.target} enabled",
            found=f"systemctl {done.ending}: {one_line(done.said())}",
            why="without it the GPU is set up anew for each process that asks it",
            fix=f"look at: systemctl status {step.target}; journalctl -u {step.target}",
        )


def holds(wanted: Wanted) -> ControlSpec:
    why = "Arch upgrades as a whole: a package that is held breaks those that need it"
    fix = "declare no nvidia_toolkit_holds on Arch"
    truths = (Assertion(f"package {name}: hold", "drifted", "none", "held", why, fix) for name in wanted.holds)
    return ControlSpec(HOLDS, assertions=tuple(truths))
