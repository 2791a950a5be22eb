# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at the node within a time limit, with a reason for everything that is not there.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Stat
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY, walk
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import NotKnown

# Absolute places of system tools, never the caller's PATH: a user's wrapper must not answer for the node.
TOOL_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
# No folder that we list holds more entries on a sane machine.
MAX_NAMES = 4096


class Look:
    """Read-only sight with a deadline. Everything that is missing raises NotKnown with the reason."""

    def __init__(
        self,
        reader: Reader,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        uname: Callable[[], os.uname_result] = os.uname,
    ) -> None:
        self._reader = reader
        self.uname = uname
        self._clock = clock
        self._end = clock() + seconds
        self._seconds = seconds

    @property
    def is_root(self) -> bool:
        return self._reader.is_root()

    def text(self, path: str) -> str:
        found = self.maybe(path)
        if found is None:
            raise NotKnown(f"{path} does not exist")
        return found

    def maybe(self, path: str) -> str | None:
        self._left()
        return self._reader.read(path)

    def line(self, path: str) -> str:
        return self.text(path).strip()

    def stat(self, path: str) -> Stat | None:
        return self._reader.stat(path)

    def exists(self, path: str) -> bool:
        return self._reader.stat(path) is not None

    def names(self, path: str) -> tuple[str, ...]:
        found = self.names_if_any(path)
        if found is None:
            raise NotKnown(f"{path} does not exist")
        return found

    def names_if_any(self, path: str) -> tuple[str, ...] | None:
        self._left()
        found = self._reader.listdir(path)
        return None if found is None else found[:MAX_NAMES]

    def target(self, path: str) -> str:
        """Where a link points to, as it is written in it."""
        found = self._reader.readlink(path)
        if found is None:
            raise NotKnown(f"{path} does not exist")
        return found

    def target_name(self, path: str) -> str:
        return self.target(path).rstrip("/").rpartition("/")[2]

    def tool(self, name: str) -> str:
        for folder in TOOL_FOLDERS:
            if self.exists(f"{folder}/{name}"):
                return f"{folder}/{name}"
        raise NotKnown(f"{name} is in none of {', '.join(TOOL_FOLDERS)}")

    def run(self, argv: Sequence[str], *, accept: Sequence[int] = (0,)) -> str:
        """What a command prints. Only for commands that change nothing."""
        done = self.attempt(argv)
        if done.rc not in accept:
            raise NotKnown(one_line(f"{' '.join(argv[:2])} ended with {done.rc}: {done.said()}"))
        return done.out

    def attempt(self, argv: Sequence[str]) -> Completed:
        """Run a command to its end or to the deadline; only one that never ran raises."""
        self._trust(argv[0])
        done = self._reader.run(argv, timeout=min(self._left(), 10.0))
        if done.rc is None:
            raise NotKnown(f"{argv[0]}: {done.problem or 'did not run'}")
        return done

    def _left(self) -> float:
        left = self._end - self._clock()
        if left <= 0:
            raise NotKnown(f"not looked at within {self._seconds:g} s")
        return left

    def _trust(self, path: str) -> None:
        """Root runs nothing that another user could have put there."""
        way = walk(path, self._reader)
        if way.decides and self.is_root:
            who = "anybody" if way.decides == NOBODY else self._reader.user_name(way.decides)
            raise NotKnown(f"{who} decides what {path} is (by {way.by}), so root does not run it")
        if way.found is None:
            raise NotKnown(f"{path} does not exist")
