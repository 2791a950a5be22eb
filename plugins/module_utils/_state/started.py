# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running units were started with.

A unit reads its files when it starts, and nothing on a node tells later what it has read. So
each role keeps a note of its units, for root alone: the InvocationID, which systemd makes anew
at every start, and a digest of each file that is watched for the unit. It is written before the
first step of a run and after every start: killed anywhere, the next run knows what it owes.

The instance of the note runs with an older file when the digest differs. Another instance was
started by somebody else, or by a boot: it has read what is there if it was started later. Whether
it was cannot always be told (``Changed``): then nothing is restarted, and nothing is forgotten.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.paths import way

FOLDER = "/var/lib/nusy/started"
SCHEMA = "nusy.dgx_spark.started/1"


@dataclass(frozen=True)
class Note:
    """``invocation`` empty: it did not run then. ``files``: path → digest."""

    invocation: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Notes:
    """Those of one role. ``hidden``: there may be notes, but not for whoever looks; why."""

    key: str = field(default="", repr=False)
    units: Mapping[str, Note] = field(default_factory=dict)
    hidden: str = ""


@dataclass(frozen=True)
class Changed:
    """When what a path leads to last became another one, in seconds since the epoch.

    surely: it was written, or a link on its way was made. maybe: it was renamed into its place, or a
    folder on its way was. That leaves a time that a change of owner or a further name leaves, too.
    """

    surely: float
    maybe: float


@dataclass(frozen=True)
class Seen:
    """The notes, and the watched files as they are: their digests, and when they last changed."""

    notes: Notes = field(default_factory=Notes)
    digests: Mapping[str, str | Unknown] = field(default_factory=dict)
    changed: Mapping[str, Changed] = field(default_factory=dict)

    def known(self, paths: Iterable[str]) -> dict[str, str]:
        found = {path: self.digests[path] for path in paths}
        return {path: digest for path, digest in found.items() if isinstance(digest, str)}


def path_of(role: str) -> str:
    return f"{FOLDER}/{role}.json"


def observe(reader: Reader, role: str, paths: Iterable[str]) -> Seen:
    notes, watched = read(reader, role), tuple(dict.fromkeys(paths))
    return Seen(
        notes,
        {path: _digest(reader, path, notes.key) for path in watched},
        {path: _changed(reader, path) for path in watched},
    )


def read(reader: Reader, role: str) -> Notes:
    try:
        doubt = record.distrust(reader, FOLDER)
        if doubt:
            return Notes(hidden=f"is not believed: {doubt}")
        text = reader.read(path_of(role))
    except Unreadable:
        return Notes(hidden="is for root only")
    try:
        found = json.loads(text or "")
        units = {str(name): Note(str(one["invocation"]), dict(one["files"])) for name, one in found["units"].items()}
        return Notes(str(found["key"]), units)
    except (ValueError, KeyError, TypeError, AttributeError):
        # No notes, or damaged ones: there is nothing to compare with.
        return Notes(secrets.token_hex(32))


def write(reader: Reader, writer: Writer, role: str, notes: Notes, units: Mapping[str, Note]) -> None:
    if units == notes.units or notes.hidden:
        return
    told = {"schema": SCHEMA, "role": role, "key": notes.key, "units": {name: asdict(units[name]) for name in units}}
    for folder in (os.path.dirname(FOLDER), FOLDER):
        if reader.stat(folder) is None:
            writer.mkdir(folder, mode=0o755, uid=0, gid=0)
    writer.write(path_of(role), json.dumps(told, indent=1, sort_keys=True) + "\n", mode=0o600, uid=0, gid=0)


def boot_time() -> float:
    """When the node was started, by the clock as it is set now.

    What systemd remembers in wall time is wrong after a boot with a wrong clock; what it counts since
    the boot is not. Asleep that count stands still, so a start may seem earlier than it was, never later.
    """
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _digest(reader: Reader, path: str, key: str) -> str | Unknown:
    """Keyed: a password must not be guessed from a note that has leaked. Empty for a file that is not there."""
    try:
        text = reader.read(path)
    except Unreadable as error:
        return Unknown(str(error))
    if text is None:
        return ""
    return hmac.new(key.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def _changed(reader: Reader, path: str) -> Changed:
    try:
        met = way(reader, path)
    except Unreadable:
        return Changed(0.0, float("inf"))
    folders = [stat for stat in met if stat.kind == "directory"]
    others = [stat for stat in met if stat.kind != "directory"]
    # What was made, renamed or removed in a folder changes its content; that it was renamed itself does not.
    moved = [stat.changed for stat in folders if stat.changed > stat.written]
    # Nothing is there: its folder knows when something was last taken away.
    gone = [met[-1].changed] if met and met[-1].kind == "directory" else []
    return Changed(
        max((stat.written for stat in others), default=0.0),
        max((*(stat.changed for stat in others), *moved, *gone), default=0.0),
    )
