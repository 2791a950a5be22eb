# SPDX-License-Identifier: GPL-3.0-or-later
"""One real run at a time on a node.

A controller that dies, or loses the connection, does not stop the run that it has started: it
goes on to its end. Whoever comes next waits for it, and then plans anew.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostWriter, Writer

FILE = "/run/nusy/turn.lock"
# An installation may take as long (packages.INSTALL_SECONDS is the limit of a single one).
WAIT_SECONDS = 3600.0
POLL_SECONDS = 1.0


@contextlib.contextmanager
def taken(writer: Writer) -> Iterator[bool]:
    """Yields whether somebody else had to finish first, so that what was planned before is old.

    The lock goes with the process that holds it, however that ends. The tools it has started do
    not hold it: apt has locks of its own.
    """
    if not isinstance(writer, HostWriter):
        yield False  # a node in memory belongs to its test
        return
    os.makedirs(os.path.dirname(FILE), mode=0o755, exist_ok=True)
    descriptor = os.open(FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield _wait(descriptor)
    finally:
        os.close(descriptor)


def _wait(descriptor: int) -> bool:
    begin = time.monotonic()
    waited = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except BlockingIOError as error:
            waited = True
            if time.monotonic() - begin > WAIT_SECONDS:
                raise NodeError(
                    "state.busy",
                    wanted="a node that nobody else is changing",
                    found=f"another run still holds {FILE} after {WAIT_SECONDS:g} s",
                    why="two runs would undo each other's steps",
                    fix=f"see who it is with: fuser -v {FILE}; then run the play again",
                ) from error
        time.sleep(POLL_SECONDS)
