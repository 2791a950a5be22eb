# SPDX-License-Identifier: GPL-3.0-or-later
"""Folder and files of a report: the caller's alone.

A report shows what tasks of anybody changed or said, and history what it was before. So
nobody else reads it, and nobody else prepares the folder: a link that waits in it under the
name of a file of ours would have us write to where it leads, with root's rights in the worst
case.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path


def prepared_by(directory: Path) -> str:
    """Who else could have put something into the folder that is there; empty: nobody."""
    me = os.geteuid()
    # Root chooses the end of a link for everybody, and its folder is judged as any other.
    if (owner := directory.lstat().st_uid) not in (me, 0) or (owner := directory.stat().st_uid) != me:
        return f"it belongs to {_name(owner)}, and this is run by {_name(me)}"
    if directory.stat().st_mode & stat.S_IWOTH:
        return "everybody can write into it"
    with os.scandir(directory) as entries:
        for entry in entries:
            if (owner := entry.stat(follow_symlinks=False).st_uid) != me:
                return f"{entry.name} in it belongs to {_name(owner)}, and this is run by {_name(me)}"
    return ""


def folder(path: Path) -> None:
    """Make it for the caller alone. One that is there stays as readable as its owner made it,
    but is closed to the group's writing, which many a umask has let in."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.stat().st_mode
    if mode & 0o022:
        path.chmod(stat.S_IMODE(mode) & ~0o022)


def fresh(path: Path, flags: int = 0) -> int:
    """A descriptor of a new file in the place of the file or link that has this name.

    Anything else there (a device, a pipe, a folder) is nothing that a report left: FileExistsError.
    """
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flags, 0o600)


def replace(path: Path, chunks: Iterable[str]) -> None:
    """Replace ``path`` whole, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(fresh(temporary), "w", encoding="utf-8", errors="replace") as handle:
            for chunk in chunks:
                handle.write(chunk)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
