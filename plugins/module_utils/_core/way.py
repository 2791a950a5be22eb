# SPDX-License-Identifier: GPL-3.0-or-later
"""Who decides what a path leads to.

Every folder and link on the way counts, not only the end: who owns a link chooses its end, and
in a folder that everybody can write everybody chooses. Root neither runs nor changes what such
a path happens to lead to.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import stat
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Stat

NOBODY = 65534
ROOT = frozenset({0})
# As many as the kernel follows.
MAX_LINKS = 40


@dataclass(frozen=True)
class Way:
    """Where a path leads, and who decides that.

    end: the path without links, as far as there is something.
    found: what is there: the end, or what is in the way to it; None when nothing is.
    decides: the first user but root on the way, NOBODY when it may be anybody; 0 when only root.
    by: the folder, link or file by which they do.
    """

    end: str
    found: Stat | None
    decides: int = 0
    by: str = ""

    @property
    def is_open(self) -> bool:
        """Was it followed to its end? Not through a link that somebody else can set, and not in a circle."""
        return self.found is None or self.found.kind != "link"


def walk(path: str, reader: Reader, ours: Collection[int] = ROOT, groups: Collection[int] = ()) -> Way:
    """Follow ``path``, links of root too as long as only root decides; raises Unreadable as the reader does.

    ours: who counts as root does. groups: may write as well, since they have no other members.
    """
    place, rest = "/", _parts(path)
    decides, by, links = 0, "", 0
    found = reader.stat("/")
    sticky = False
    while rest:
        part = rest.pop(0)
        place = place.rpartition("/")[0] or "/" if part == ".." else f"{place.rstrip('/')}/{part}"
        found = reader.stat(place)
        if found is None:
            if sticky and not decides:
                decides, by = NOBODY, place.rpartition("/")[0]
            return Way("/".join([place, *rest]), None, decides, by)
        if not decides:
            decides = chooser(found, sticky=bool(rest), ours=ours, groups=groups)
            by = place if decides else ""
        if found.kind == "link":
            links += 1
            target = None if decides or links > MAX_LINKS else reader.readlink(place)
            if target is None:
                return Way(place, found, decides, by or place)
            rest = _parts(target) + rest
            place = "/" if target.startswith("/") else place.rpartition("/")[0] or "/"
        elif found.kind != "directory" and rest:
            return Way(place, found, decides, by)
        sticky = found.kind == "directory" and bool(found.mode & stat.S_ISVTX) and bool(found.mode & 0o022)
    return Way(place, found, decides, by)


def chooser(found: Stat, *, sticky: bool, ours: Collection[int] = ROOT, groups: Collection[int] = ()) -> int:
    """Who but ``ours`` decides what a thing is, or what is in it; 0 when nobody does.

    sticky: in a sticky folder such as /tmp nobody can replace what is root's, so what comes next tells.
    """
    if found.uid not in ours:
        return found.uid
    writable = found.mode & (0o002 if found.gid in groups else 0o022)
    if found.kind == "link" or not writable:
        return 0
    return NOBODY if may_others_replace(found.mode) or not sticky else 0


def may_others_replace(mode: int) -> bool:
    """May others replace what is root's in a folder of that mode? Not in a sticky one such as /tmp."""
    return bool(mode & 0o022) and not mode & stat.S_ISVTX


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
