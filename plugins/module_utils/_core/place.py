# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder held open, on the way to something that is about to be changed.

Between a look and a change whoever owns a folder on the way can put a link to /etc in its
place. So nothing is changed by its path: each folder is opened in the one before it, and a link
is followed only as long as nobody else decides where it leads (see ``way.py``).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import MAX_LINKS, may_others_replace

# Without O_DIRECTORY a folder that is still to be mounted (autofs) would be entered unmounted.
FOLDER = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY
ANYTHING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def held(path: str) -> Iterator[tuple[int, str]]:
    """The folder of ``path``, as a descriptor, and the name of ``path`` in it.

    A folder of somebody else is entered, since a service may have files there; its links are not
    followed. Raises OSError.
    """
    way, name = os.path.split(path)
    folder = _walk(way, path)
    try:
        yield folder, name
    finally:
        os.close(folder)


@contextlib.contextmanager
def thing(folder: int, name: str) -> Iterator[int]:
    """What has that name, itself: opening it neither follows a link nor wakes a device."""
    descriptor = os.open(name, ANYTHING, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def again(descriptor: int) -> str:
    """A path to what is open, for calls that take no descriptor of this kind."""
    return f"/proc/self/fd/{descriptor}"


def _walk(way: str, path: str) -> int:
    ours = {0, os.geteuid()}  # who is not root may be led wherever they can go themselves
    rest, links, foreign = _parts(way), 0, False
    folder = os.open("/", FOLDER)
    try:
        while rest:
            part = rest.pop(0)
            target = _target(folder, part)
            if target is not None:
                owner, leads_to = target
                if foreign or owner not in ours:
                    raise OSError(errno.ELOOP, f"somebody else decides where {part} leads, so it is not followed", path)
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                rest = _parts(leads_to) + rest
                part = "/" if leads_to.startswith("/") else "."
            try:
                following = os.open(part, FOLDER, dir_fd=folder)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
            os.close(folder)
            folder = following
            found = os.fstat(folder)
            foreign = foreign or found.st_uid not in ours or may_others_replace(found.st_mode)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _target(folder: int, name: str) -> tuple[int, str] | None:
    """Owner and end of a link, of one and the same; None for what is no link, or not there."""
    try:
        with thing(folder, name) as descriptor:
            found = os.fstat(descriptor)
            return (found.st_uid, os.readlink("", dir_fd=descriptor)) if stat.S_ISLNK(found.st_mode) else None
    except FileNotFoundError:
        return None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
