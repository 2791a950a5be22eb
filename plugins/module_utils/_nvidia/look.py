# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a node's NVIDIA stack: without a GPU, without root, without NVIDIA software it knows less.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import entries, keys
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts import observe as facts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import arch, docker, kernels, pacman
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    ARCH,
    CDI_BY_HAND,
    CDI_ENVIRONMENT,
    CDI_GENERATED,
    CDI_PATH,
    CDI_SERVICE,
    DGX,
    KEYRING,
    OCI_HOOK,
    OUTPUT_VARIABLE,
    PERSISTENCED,
    UBUNTU,
    Seen,
    Wanted,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import packages, units
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import parse_environment

# What `spark_facts` is asked for: all that the version matrix judges, but for Python.
SUBSETS = ("machine", "kernel", "gpu", "network", "firmware", "containers")
FACTS_SECONDS = 20.0
# Of guides that are years old, for packages that are gone or elsewhere by now.
OLD_LISTS = ("nvidia-docker.list", "libnvidia-container.list", "nvidia-container-runtime.list", "nvidia-dgx.list")
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z_]\w*)=[\"']?(.*?)[\"']?\s*$", re.MULTILINE)

FactsOf = Callable[[Reader, Wanted], Mapping[str, object]]


def system_of(reader: Reader) -> str | Unknown:
    """``dgx``, ``ubuntu`` or ``arch``; Unknown for what this role does not know."""
    try:
        release = dict(_ASSIGNMENT.findall(reader.read("/etc/os-release") or ""))
    except Unreadable as error:
        return Unknown(str(error))
    if entries.dgx_os(reader):
        return DGX
    if (release.get("ID"), release.get("VERSION_ID")) == ("ubuntu", "24.04"):
        return UBUNTU
    # The second is what Arch Linux ARM calls itself.
    if release.get("ID") in ("arch", "archarm"):
        return ARCH
    name = release.get("PRETTY_NAME") or "this system"
    return Unknown(f"unsupported platform: made for DGX OS 7, Ubuntu 24.04 and Arch Linux, and this is {name}")


def gathered(reader: Reader, wanted: Wanted) -> Mapping[str, object]:
    found, _bugs = facts.observe(reader, subsets=SUBSETS, seconds=FACTS_SECONDS, rows=wanted.rows)
    return found


def look(wanted: Wanted, system: str, reader: Reader, facts_of: FactsOf = gathered) -> Seen:
    listing = reader.run([packages.DPKG_QUERY, "--show", f"--showformat={packages.FORMAT}"], timeout=30)
    every, _provided = packages.parse_dpkg(listing.out)
    installed: Mapping[str, str] = {
        name: found.version for name, found in every.items() if found.configured and ":" not in name
    }
    environment = _environment(reader)
    output = environment.get(OUTPUT_VARIABLE, "") if isinstance(environment, Mapping) else ""
    generated = output.replace("/var/run/", "/run/") or CDI_GENERATED
    fingerprints, problem = _key(reader)
    known = _units(reader)
    on_arch: dict[str, Any] = {}
    if system == ARCH:
        installed, found = pacman.installed(reader), arch.kernels_of(reader)
        bases = () if isinstance(found, Unknown) else tuple(base for base, _kernel in found)
        on_arch = {"bases": bases, "repositories": pacman.repositories(reader)}
        following, audit = arch.next_kernel(found), pacman.audit(reader)
    else:
        following, audit = kernels.next_kernel(reader), kernels.audit(reader)
    return Seen(
        system,
        facts_of(reader, wanted),
        installed,
        kernels.running_kernel(reader),
        following,
        audit,
        _entries(reader),
        tuple(path for path in (f"{entries.APT}/sources.list.d/{name}" for name in OLD_LISTS) if _there(reader, path)),
        fingerprints,
        problem,
        frozenset(known),
        frozenset(name for name, state in known.items() if state == "failed"),
        environment,
        _there(reader, generated),
        generated != CDI_BY_HAND and _there(reader, CDI_BY_HAND),
        _there(reader, OCI_HOOK),
        docker.observe(reader, installed),
        frozenset(name for name in wanted.docker_users if reader.user(name) is not None),
        **on_arch,
    )


def _key(reader: Reader) -> tuple[tuple[str, ...], str]:
    try:
        return keys.observe(reader, KEYRING)
    except Unreadable as error:
        return (), str(error)


def _entries(reader: Reader) -> tuple[entries.Entry, ...] | Unknown:
    try:
        return entries.configured(reader)
    except Unreadable as error:
        return Unknown(str(error))


def _environment(reader: Reader) -> Mapping[str, str] | Unknown:
    try:
        return parse_environment(reader.read(CDI_ENVIRONMENT) or "")
    except Unreadable as error:
        return Unknown(str(error))


def _there(reader: Reader, path: str) -> bool:
    try:
        return reader.stat(posixpath.normpath(path)) is not None
    except Unreadable:
        return False


def _units(reader: Reader) -> Mapping[str, str]:
    """Those that systemd knows, and in what state: where their files are differs from release to release."""
    names = (PERSISTENCED, CDI_PATH, CDI_SERVICE)
    argv = [units.SYSTEMCTL, "show", "--no-pager", "--property=Id,LoadState,ActiveState", "--", *names]
    blocks = units.parse_show(reader.run(argv, timeout=30).out)
    return {b.get("Id", ""): b.get("ActiveState", "") for b in blocks if b.get("LoadState") == "loaded"}
