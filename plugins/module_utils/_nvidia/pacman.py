# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of Arch Linux, by pacman: looked at without root and without a network, installed by name.

Arch upgrades as a whole. A package that is installed while upgrades are pending may need libraries that are
not there yet, so nothing is installed then; the upgrade itself is the operator's.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer

PACMAN, PACMAN_CONF = "/usr/bin/pacman", "/usr/bin/pacman-conf"
SYNCED = "/var/lib/pacman/sync"
# A driver is about 500 MB.
INSTALL_SECONDS = 3600.0
UPGRADE = "pacman -Syu, then reboot"


@dataclass(frozen=True)
class Repositories:
    """waits: why nothing may be installed now; empty if it may."""

    names: tuple[str, ...] = ()
    waits: str = ""


def installed(reader: Reader) -> Mapping[str, str]:
    done = reader.run([PACMAN, "--query"], timeout=30)
    return dict(fields for fields in (line.split() for line in done.out.splitlines()) if len(fields) == 2)


def repositories(reader: Reader) -> Repositories:
    done = reader.run([PACMAN_CONF, "--repo-list"], timeout=30)
    return Repositories(tuple(done.out.split()) if done.ok else (), waits(reader))


def waits(reader: Reader) -> str:
    try:
        if not any(name.endswith(".db") for name in reader.listdir(SYNCED) or ()):
            return "pacman has no package lists"
    except Unreadable as error:
        return str(error)
    done = reader.run([PACMAN, "--query", "--upgrades"], timeout=60)
    # "name old -> new", and "[ignored]" behind it for what the administrator keeps back. Exit 1: none.
    pending = [line.split()[0] for line in done.out.splitlines() if line.strip() and not line.endswith("[ignored]")]
    if pending:
        return f"{len(pending)} upgrades are pending ({one_line(' '.join(pending), 80)}), and Arch knows no partial one"
    if done.rc not in (0, 1):
        return f"{PACMAN} --query --upgrades {done.ending}: {one_line(done.said())}"
    return ""


def audit(reader: Reader) -> str:
    """What an interrupted upgrade has left; empty is good."""
    done = reader.run([PACMAN, "--database", "--check"], timeout=60)
    return "" if done.ok else one_line(done.said(3)) or f"pacman --database --check {done.ending}"


def install(step: Step, reader: Reader, writer: Writer) -> None:
    """All at once: a driver and its modules are of one version. What they would push out is not given up for them:
    asked whether to remove a package that is in the way, pacman takes its own default, which is no.
    """
    names = step.names()
    doing = f"{' '.join(names)} installed"
    why = waits(reader)
    if why:
        raise NodeError(
            "pacman.waits", wanted=doing, found=why, why="what is installed now may not fit what is there", fix=UPGRADE
        )
    argv = [PACMAN, "--sync", "--needed", "--noconfirm", "--noprogressbar", "--", *names]
    done = writer.run(argv, timeout=INSTALL_SECONDS)
    if not done.ok:
        raise NodeError(
            "pacman.failed",
            wanted=doing,
            found=f"{' '.join(argv)} {done.ending}: {one_line(done.said(5), 600)}",
            why="what follows needs these packages, so nothing after this was tried",
            fix=f"run that command by hand on the node; if files are gone from the mirror: {UPGRADE}",
        )
