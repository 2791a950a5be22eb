# SPDX-License-Identifier: GPL-3.0-or-later
"""One real run at a time on a node.

A controller that dies, or loses the connection, does not stop the run that it has started: it
goes on to its end. Whoever comes next waits for it, and looks only then.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, doing

FOLDER = "/run/nusy"
# The longest step of a run, an installation, may take as long.
WAIT_SECONDS = 3600.0
POLL_SECONDS = 1.0


@contextlib.contextmanager
def taken(title: str) -> Iterator[str]:
    """Yields a folder for scratch files that is private to this run, and empty.

    The lock goes with the process that holds it, however that ends, and what that has left in the
    folder goes now. The tools a run has started do not hold it: apt has locks of its own.
    """
    with doing("a turn on this node"):
        _own_folder()
        descriptor = os.open(f"{FOLDER}/turn.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _wait(descriptor)
        with doing("a turn on this node"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{title}, process {os.getpid()}".encode(), 0)
            scratch = _emptied(f"{FOLDER}/scratch")
        yield scratch
    finally:
        os.close(descriptor)


def _own_folder() -> None:
    """Somebody else's folder could hold anything, and lose it at any time."""
    try:
        os.mkdir(FOLDER)
        os.chmod(FOLDER, 0o755)
    except FileExistsError:
        found = os.lstat(FOLDER)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise NodeError(
                "core.foreign_folder",
                wanted=f"{FOLDER} a directory that only root can write to",
                found=f"{stat.filemode(found.st_mode)}, owner {found.st_uid}",
                why="runs wait for each other and remember owed restarts in it",
                fix=f"find out what made it (grep -r RuntimeDirectory /etc/systemd), then remove {FOLDER}",
            ) from None


def _wait(descriptor: int) -> None:
    begin = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() - begin > WAIT_SECONDS:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
                raise NodeError(
                    "core.busy",
                    wanted="a node that nobody else is changing",
                    found=f"another run is still at work after {WAIT_SECONDS:g} s: {holder or 'unknown'}",
                    why="two runs would undo each other's steps",
                    fix="see what it does on the node (ps), then run the play again",
                ) from None
        time.sleep(POLL_SECONDS)


def _emptied(folder: str) -> str:
    """To be passed through and not listed: a validator may read its copy with the rights of another user."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    os.mkdir(folder)
    os.chmod(folder, 0o711)
    return folder
