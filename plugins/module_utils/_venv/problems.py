# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a run from repairing what differs, in four parts. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.installer import LEAST_PIP
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Declaration
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.use import Finding


def interpreter(wanted: Declaration, described: str, found: str) -> Problem:
    return Problem(
        "venv.interpreter",
        wanted=f"{wanted.interpreter} is {described}",
        found=found,
        why="wheels are made for one Python and machine, and the lock was resolved for this one",
        fix=f"install the package python{wanted.python}, or name another interpreter and a lock for it",
    )


def not_a_directory(wanted: Declaration, path: str) -> Problem:
    return Problem(
        "venv.place",
        wanted=f"directories down to {wanted.home}",
        found=f"{path} is no directory",
        why="nothing can be built below it",
        fix="move it away, or choose another root",
    )


def untrusted(wanted: Declaration, who: str) -> Problem:
    return Problem(
        "venv.untrusted",
        wanted=f"every folder on the way to {wanted.home} belongs to {trusted(wanted)}",
        found=f"{who} can lead that path elsewhere",
        why="code that services run must not come from a folder of somebody else",
        fix="choose another root, or the owner of that folder as owner",
    )


def trusted(wanted: Declaration) -> str:
    return " or ".join(unique(("root", wanted.owner)))


def unwritable(wanted: Declaration, found: str) -> Problem:
    return Problem(
        "venv.unwritable",
        wanted=f"{wanted.home}, where {wanted.owner} can build",
        found=found,
        why="everything is built with the rights of the owner",
        fix="open the folder for the owner (mode 0755), mount it writable, or choose another root",
    )


def no_previous(wanted: Declaration) -> Problem:
    return Problem(
        "venv.no_previous",
        wanted=f"an earlier generation of {wanted.home} that is complete and unaltered",
        found="there is none",
        why="there is nothing to go back to",
        fix="declare the older lock instead, with generation: declared",
    )


def of_no_use(findings: Sequence[Finding]) -> Problem:
    return Problem(
        "venv.use",
        wanted="; ".join(f"{finding.key}: {finding.wanted}" for finding in findings),
        found="; ".join(f"{finding.key}: {finding.found}" for finding in findings),
        why="what is installed is what the lock names, file by file, so building it again would not help",
        fix="see what these need of the node (libraries, a driver), or correct what is declared about them",
    )


def no_wheelhouse(wanted: Declaration) -> Problem:
    return Problem(
        "venv.wheelhouse",
        wanted=f"wheels in {wanted.find_links}",
        found="there is no such directory on the node",
        why="with find_links no index is asked",
        fix="put the wheels there, or leave find_links out",
    )


def no_installer(wanted: Declaration, pip: str) -> Problem:
    return Problem(
        "venv.no_installer",
        wanted=f"uv in {' or '.join(wanted.uv) or 'a place of the option uv'}, or pip {LEAST_PIP} or newer",
        found=f"no uv, and ensurepip of {wanted.interpreter} {pip}",
        why="one of them has to install the wheels",
        fix=f"install the package python{wanted.python}-venv (python3-venv), or uv",
    )


def disk_full(wanted: Declaration, size: int, free: int) -> Problem:
    return Problem(
        "venv.disk_full",
        wanted=f"{2 * size} MiB free for {wanted.home}: the new generation of {size} MiB, and its downloads",
        found=f"{free} MiB free",
        why="a full disk in the middle of an installation also stops what else writes there",
        fix="free space, or choose a root on another file system",
    )
