# SPDX-License-Identifier: GPL-3.0-or-later
"""Which looks need a server to answer: those at network shares, FUSE and what is mounted on demand.

A server that is gone stops whoever looks, for ever and inside the kernel. Such looks are made
aside (``aside.py``), and only such: a process for each look would cost more than all of them.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import ask
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import MAX_LINKS

MOUNTS = "/proc/self/mountinfo"
# What somebody else than this kernel answers for, maybe on this very machine.
ANSWERED_ELSEWHERE = re.compile(
    r"autofs|fuse(?:blk)?|fuse\..+|nfs4?|cifs|smb3|smbfs|ceph|9p|afs|lustre|beegfs|gpfs|ocfs2|gfs2|virtiofs|davfs|coda"
)
# The kernel mounts these for itself: /proc/sys/fs/binfmt_misc is on demand on every node.
KERNELS_OWN = ("/proc/", "/sys/")
# A server that was asleep may wake up; a mount on demand takes a moment.
SECONDS = 10.0
# The table of mounts is read again when it is older than this.
FRESH_SECONDS = 1.0


class Shares:
    """The shares of this machine, and which of them did not answer. Those are asked only once."""

    def __init__(self) -> None:
        self._mounts: dict[str, str] = {}  # mount point → a number that no other mount has had
        self._read_at = float("-inf")
        self._silent: dict[str, str] = {}

    def look(self, path: str, question: Callable[[str], Any], *, follow: bool) -> Any:
        """``question(path)``, which must be JSON; or Unreadable when it depends on a server that does not answer.

        follow: the question goes on through a link at the end of the path.
        """
        point = self._on_the_way(path, follow=follow)
        if not point:
            return question(path)
        number = self._mounts[point]
        if number not in self._silent:
            answer = ask(partial(_asked, question, path), SECONDS)
            if answer.bug:
                raise RuntimeError(answer.bug)
            if not answer.silence:
                if "unreadable" in answer.value:
                    raise Unreadable(answer.value["unreadable"])
                return answer.value["found"]
            self._silent[number] = answer.silence
        raise Unreadable(f"{path}: what is mounted at {point} is silent: {self._silent[number]}")

    def _on_the_way(self, path: str, *, follow: bool) -> str:
        """The first share that a look at ``path`` comes to, links followed; empty when there is none."""
        now = time.monotonic()
        if now - self._read_at > FRESH_SECONDS:
            self._mounts, self._read_at = _shares(), now
        if not self._mounts:
            return ""
        place, rest, links = "/", path.split("/"), 0
        while rest:
            part = rest.pop(0)
            if part in ("", ".", ".."):
                place = os.path.dirname(place) if part == ".." else place
                continue
            place = f"{place.rstrip('/')}/{part}"
            if place in self._mounts:
                return place
            if not rest and not follow:
                break
            try:
                target = os.readlink(place)
            except FileNotFoundError:
                break
            except OSError:
                continue  # no link
            links += 1
            if links > MAX_LINKS:
                break
            rest = target.split("/") + rest
            place = "/" if target.startswith("/") else os.path.dirname(place)
        return ""


def _shares() -> dict[str, str]:
    """proc(5): id, parent, device, root, point, options, any number of fields, "-", type and more."""
    kinds: dict[str, tuple[str, str]] = {}
    with contextlib.suppress(FileNotFoundError), open(MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            before, _dash, after = line.partition(" - ")
            fields = before.split(" ")
            # The last one at a place is the one that is seen.
            kinds[re.sub(r"\\([0-7]{3})", _character, fields[4])] = (fields[0], after.split(" ")[0])
    return {
        point: number
        for point, (number, kind) in kinds.items()
        if ANSWERED_ELSEWHERE.fullmatch(kind) and not point.startswith(KERNELS_OWN)
    }


def _character(octal: re.Match[str]) -> str:
    return chr(int(octal.group(1), 8))


def _asked(question: Callable[[str], Any], path: str) -> dict[str, Any]:
    try:
        return {"found": question(path)}
    except Unreadable as error:
        return {"unreadable": str(error)}
