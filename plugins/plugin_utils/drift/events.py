# SPDX-License-Identifier: GPL-3.0-or-later
"""events.jsonl: what happened in a run, one JSON object per line, flushed line by line.

The file is self-contained: a report can be built from it in another process, also after
the run was killed. Kinds of lines (key ``e``):

run        first line: id, time, mode, playbooks, versions, how to run the same for real
absent     parts of --limit that name no host
local      hosts that are the machine of the operator (inventories/local)
catalogue  the controls of one role, once per role
plan       a play of the playbook, before anything ran: name, roles, hosts as far as known
play       the play starts (once per serial batch), with the hosts of the batch
cut        a play (serial batch) ended for all its hosts, because of what some of them did
task       a task, before its first result
result     what a task said about one host
note       the collecting itself failed somewhere: the report is incomplete
end        the playbook came to its end; statistics per host

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import private

SCHEMA = "nusy.dgx_spark.drift.events/1"
FILE = "events.jsonl"
# Lock of the folder, and the mark by which it is known as one of ours.
LOCK = ".spark-drift"

Event = dict[str, Any]


class Busy(Exception):
    """Another run writes into this directory."""


class Foreign(Exception):
    """The directory, or what it holds, is not ours to replace; the text says why."""


def foreign(directory: Path) -> str:
    """Why no report may be written here; empty for a new or empty folder of the caller, or one
    of the caller's that had a report."""
    if not directory.exists():
        return ""
    if who := private.prepared_by(directory):
        return who
    if (directory / LOCK).exists() or not any(directory.iterdir()):
        return ""
    with contextlib.suppress(OSError), (directory / FILE).open("rb") as handle:
        if handle.read(64).startswith(encode({"e": "run", "schema": SCHEMA})[:-1]):
            return ""
    return "it holds files that are not of a drift report"


def encode(event: Event) -> bytes:
    return json.dumps(event, ensure_ascii=True, separators=(",", ":"), default=str).encode()


class Lock:
    """Holds a report directory from the beginning of a run until its report is written."""

    def __init__(self, directory: Path) -> None:
        if why := foreign(directory):
            raise Foreign(f"{directory}: {why}")
        private.folder(directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(directory / LOCK, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise Busy(f"another run writes to {directory}") from error

    def release(self) -> None:
        # Unlocked, not only closed: workers that are still ending have the file open, too.
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)


class EventWriter:
    """Appends events to a new file. Whoever writes holds the lock of the directory."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = private.fresh(directory / FILE, os.O_APPEND)

    def write(self, event: Event) -> None:
        """One write call per line: a killed run leaves whole lines but for the last."""
        data = encode(event) + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


class EventFile:
    """Reads events.jsonl: once from front to back, then the results of one host at a time.

    Only the offsets of result lines are kept in memory, so a thousand hosts cost a few
    megabytes and the largest host decides.
    """

    def __init__(self, path: Path) -> None:
        self._handle = path.open("rb")
        self._offsets: dict[str, array[int]] = {}
        self.damaged = 0

    def head(self) -> Iterator[Event]:
        """Every event; results are remembered for ``results`` and passed on too."""
        offset = 0
        self._handle.seek(0)
        for raw in self._handle:
            event = self._decode(raw)
            if event is None:
                # The last line of a killed run is expected to be cut, others are not.
                self.damaged += 1
            else:
                if event.get("e") == "result":
                    self._offsets.setdefault(str(event.get("h")), array("Q")).append(offset)
                yield event
            offset += len(raw)

    def hosts(self) -> list[str]:
        return list(self._offsets)

    def results(self, host: str) -> Iterator[Event]:
        for offset in self._offsets.get(host, ()):
            self._handle.seek(offset)
            event = self._decode(self._handle.readline())
            if event is not None:
                yield event

    def close(self) -> None:
        self._handle.close()

    @staticmethod
    def _decode(raw: bytes) -> Event | None:
        try:
            event = json.loads(raw)
        except ValueError:
            return None
        return event if isinstance(event, dict) and "e" in event else None
