# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which a snapshot is worked on, beside it: for one run at a time, and with nothing in it that leads out.

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

from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import problems
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import WORK

# Runs of Ansible on one node wait for each other before they look. What comes here all the same is another container
# or node that has this disk too, or what a killed run has left running, which ends with it.
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.2
# The folders in it: what is to be published, what a peer gives, and the settings of the hub's library.
TREE, PEER, HOME = "tree", "peer", "home"


@contextlib.contextmanager
def alone(work: str) -> Iterator[int]:
    """Made if it is absent. Yields the lock: it goes with the last process that has it, however that ends.

    Raises NodeError where somebody else keeps it, or where it is no folder; OSError.
    """
    descriptor = _locked(work)
    try:
        _scrub(work)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(work: str) -> int:
    begin = time.monotonic()
    while True:
        os.makedirs(os.path.dirname(work), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(work, 0o700)
        try:
            descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise problems.no_folder(work) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if time.monotonic() - begin > WAIT_SECONDS:
                raise problems.busy(work, holder, WAIT_SECONDS) from error
            time.sleep(POLL_SECONDS)
            continue
        except OSError:
            os.close(descriptor)
            raise
        # Who had it before may have published, and removed it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(work)):
                return descriptor
        os.close(descriptor)


def _holder(descriptor: int) -> int:
    """The process that took the lock, as the kernel lists it; 0 where that is not seen from here."""
    inode = f":{os.fstat(descriptor).st_ino}"
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii", errors="replace") as table:
        for line in table:
            # number: kind, advisory, access, process, device and inode, range; one that waits has -> before its kind.
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(inode):
                return int(words[4])
    return 0


def _scrub(work: str) -> None:
    """What is there is only this role's, or goes: a link would lead what is written to a file of somebody."""
    for name in os.listdir(work):
        path = f"{work}/{name}"
        folder = stat.S_ISDIR(os.lstat(path).st_mode)
        if folder and name not in (TREE, PEER, HOME):
            remove(path)
        elif not folder and name in (TREE, PEER, HOME):
            os.unlink(path)
    for place, folders, files in os.walk(work):
        for name in (*folders, *files):
            found = os.lstat(f"{place}/{name}")
            ours = found.st_nlink == 1 and found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode)
            if not (ours or stat.S_ISDIR(found.st_mode)):
                os.unlink(f"{place}/{name}")


def remove(folder: str) -> None:
    """With all below it, which may be closed to its own owner."""
    os.chmod(folder, 0o700)
    for place, folders, _files in os.walk(folder):
        for name in folders:
            if not os.path.islink(f"{place}/{name}"):
                os.chmod(f"{place}/{name}", 0o700)
    shutil.rmtree(folder)


def prune(path: str, home: str, link: str) -> None:
    """One snapshot or work folder, then what only served it.

    A snapshot is none any more from the first moment on: half removed it would be served, or be nobody's. In the work
    folder of its revision it is what was begun, and whoever comes after a kill goes on.
    """
    name = os.path.basename(path)
    work = path if WORK.fullmatch(name) else f"{home}/.{name}.work"
    with alone(work):
        if path != work:
            os.chmod(path, 0o700)
            os.rename(path, f"{work}/pruned")
        remove(work)
    revision = name.strip(".").partition(".")[0]
    with contextlib.suppress(OSError):
        if os.readlink(link).rstrip("/") in (revision, f"{home}/{revision}") and not os.path.exists(link):
            os.unlink(link)
    with contextlib.suppress(OSError):  # something else is in it
        os.rmdir(home)
