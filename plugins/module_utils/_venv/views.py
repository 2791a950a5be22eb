# SPDX-License-Identifier: GPL-3.0-or-later
"""Under which paths a process of another namespace of mounts, such as a container's, sees a folder of this one.

What it maps and how it was started has the paths of its own namespace, so it would seem to use nothing of here.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.mounts import Mounted, holding, parse_mountinfo


class Views:
    """Of folders by their real paths. Each namespace is read once."""

    def __init__(self, folders: Iterable[str], proc: str) -> None:
        self._proc = proc
        here = self._mounts("self")
        self._inside = {folder: _inside(here, folder) for folder in folders}
        # The own namespace has the own paths.
        self._known: dict[str, dict[str, list[str]]] = {self._namespace("self"): {}, "": {}}

    def of(self, pid: str) -> dict[str, list[str]]:
        """Folder → where else that process sees it; empty text: it was given by itself, or a part of it."""
        namespace = self._namespace(pid)
        if namespace not in self._known:
            mounts = self._mounts(pid)
            self._known[namespace] = {folder: list(_seen(mounts, folder, *at)) for folder, at in self._inside.items()}
        return self._known[namespace]

    def _namespace(self, pid: str) -> str:
        with contextlib.suppress(OSError):  # it has ended, or nobody may ask
            return os.readlink(f"{self._proc}/{pid}/ns/mnt")
        return ""

    def _mounts(self, pid: str) -> tuple[Mounted, ...]:
        path = f"{self._proc}/{pid}/mountinfo"
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as table:
            return parse_mountinfo(table.read())
        return ()


def _inside(mounts: tuple[Mounted, ...], folder: str) -> tuple[str, str]:
    """The device that holds it, and its path there."""
    holder = holding(mounts, folder)
    if holder is None:
        return "", ""
    return holder.device, holder.root.rstrip("/") + folder.removeprefix(holder.point.rstrip("/"))


def _seen(mounts: tuple[Mounted, ...], folder: str, device: str, inside: str) -> Iterable[str]:
    for mount in mounts:
        root = mount.root.rstrip("/")
        if not device or mount.device != device:
            continue
        if f"{root}/".startswith(f"{inside}/"):
            # At its own path it is what was mounted there before, for everybody.
            if mount.point != folder + root.removeprefix(inside):
                yield ""
        elif inside.startswith(f"{root}/"):
            path = mount.point.rstrip("/") + inside.removeprefix(root)
            if path != folder:
                yield path
