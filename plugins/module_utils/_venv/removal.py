# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove a generation: the one thing here that deletes, and as root.

It is superseded, or was never completed, and no process uses it. It may belong to an account whose
programs are not trusted, and hold what others put there: a pip run as root leaves root's files,
which the account itself could not remove.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.place import held
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import manifest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import GENERATION, WORK

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# No environment is deeper. Somebody who makes a folder that is gets an error and not our stack.
MAX_DEPTH = 100


def remove_generation(home: str, name: str, owner: int) -> None:
    """``name`` in ``home`` with all that is in it, and the folder in which it was worked on.

    ``home`` must be the owner's. From there on folders are opened one in the other, links never
    followed, and no mount point entered. What is no folder, or not there, stays as it is.
    """
    if not (GENERATION.match(name) or WORK.match(name)):
        raise OSError(errno.EINVAL, "is no name of a generation", name)
    with held(home) as (folder, last):
        base = os.open(last, FOLDER, dir_fd=folder)
    try:
        if os.fstat(base).st_uid != owner:
            raise PermissionError(errno.EPERM, f"does not belong to uid {owner}", home)
        _remove(base, name, first=manifest.NAME)
        if not WORK.match(name):
            _remove(base, work_of(name))
    finally:
        os.close(base)


def work_of(name: str) -> str:
    return f".{name}.work"


def _remove(parent: int, name: str, first: str = "", depth: int = 0) -> None:
    """``first`` goes first: without its manifest, what is half removed is incomplete and never used again."""
    if depth > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, f"is more than {MAX_DEPTH} folders deep", name)
    try:
        folder = os.open(name, FOLDER, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if _mount(folder) != _mount(parent):
            raise OSError(errno.EBUSY, "is a mount point", name)
        if os.fstat(folder).st_uid == os.geteuid():
            os.fchmod(folder, 0o700)  # completed folders are closed, to their owner too
        with os.scandir(folder) as entries:
            inside = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for item, is_folder in sorted(inside, key=lambda item: item[0] != first):
            if is_folder:
                _remove(folder, item, depth=depth + 1)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(item, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def _mount(folder: int) -> str:
    """The mount that a folder lies on. A bind mount of the same file system has the same device, and other files."""
    with open(f"/proc/self/fdinfo/{folder}", encoding="utf-8") as handle:
        return next((line for line in handle if line.startswith("mnt_id:")), "")
