# SPDX-License-Identifier: GPL-3.0-or-later
"""The places of a storage plan: there, on a file system of their own where they should be, with room.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import shares
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import Answer, ask_all
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import (
    GIB,
    OTHERS_LIVE_THERE,
    TIERS,
    Tier,
    of_the_system,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Assertion, ControlSpec, Directory
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.mounts import holding, parse_mountinfo


def judged(tiers: Sequence[Tier]) -> ControlSpec:
    # Aside, and all at once: the server of a share may be gone.
    answers = ask_all({tier.name: partial(measured, tier.path) for tier in tiers}, shares.SECONDS)
    directories = []
    assertions: list[Assertion] = []
    for tier in tiers:
        answer = answers[tier.name]
        # A folder in the place of a disk that is not mounted would be filled on the disk below it.
        if not _silence(answer) and (answer.value[0] or not tier.mounted) and not of_the_system(answer.value[3]):
            directories.append(Directory(tier.path, tier.owner, tier.owner, tier.mode))
        assertions.extend(_about(tier, answer))
    return ControlSpec(TIERS, directories=tuple(directories), assertions=tuple(assertions))


def measured(path: str) -> tuple[bool, str, int, str]:
    """Whether a file system of its own is there; of what kind is the one that holds it, or would; its free bytes; and
    where links lead to.
    """
    end = place = os.path.realpath(path)
    while not _there(place):
        place = os.path.dirname(place)
    room = os.statvfs(place)  # first: it wakes up what is mounted on demand
    with open(shares.MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
        holder = holding(parse_mountinfo(table.read()), place)
    own = holder is not None and holder.point == end
    return own, holder.fstype if holder else "", room.f_bavail * room.f_frsize, end


def _there(path: str) -> bool:
    """Raises OSError where nobody can tell, as for who may not read what is above."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _silence(answer: Answer) -> str:
    return answer.silence or answer.bug.strip().rpartition("\n")[2]


def _about(tier: Tier, answer: Answer) -> Iterator[Assertion]:
    if why := _silence(answer):
        yield Assertion(f"tier {tier.name}", "unknown", "", "looked at", one_line(why))
        return
    own, kind, free, end = answer.value
    if of_the_system(end):
        why, fix = (
            f"{tier.path} leads to {end}: {OTHERS_LIVE_THERE}",
            f"remove the link, or give tier {tier.name} a path",
        )
        yield _assertion(f"tier {tier.name}", f"a link to {end}", "a folder of its own", why, fix)
        return
    if tier.mounted:
        why = "" if own else f"{tier.path} is no file system of its own"
        before = "mounted" if own else "not mounted"
        fix = f"mount its disk at {tier.path}, or declare mounted: false"
        yield _assertion(f"tier {tier.name}", before, "mounted", why, fix)
        if not own:
            return  # what is below says nothing of it
    if tier.file_systems:
        wanted = " or ".join(tier.file_systems)
        why = "" if kind in tier.file_systems else f"{tier.path} is on {kind or 'a file system of no name'}"
        fix = f"give {tier.path} a disk with {wanted}, or correct file_systems of tier {tier.name}"
        yield _assertion(f"file system of tier {tier.name}", kind, wanted, why, fix)
    if tier.free:
        why = "" if free >= tier.free else f"{free // GIB} GiB are free at {tier.path}"
        fix = f"free space at {tier.path}, or lower free_gib of tier {tier.name}"
        # Without the figure: it changes with every file, and no run changes it.
        yield _assertion(f"room of tier {tier.name}", "less", f"{tier.free // GIB} GiB free", why, fix)


def _assertion(name: str, before: str, after: str, why: str, fix: str) -> Assertion:
    return Assertion(name, "drifted" if why else "in_sync", before, after, why, fix)
