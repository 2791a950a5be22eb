# SPDX-License-Identifier: GPL-3.0-or-later
"""The files with which a unit last ran, so that they can come back when newer ones do not start.

Kept on disk, for root alone, since a run may be killed between a new file and the start that proves it: the next
run then starts with the new one, and must still know the one before. What is kept is replaced only while the unit
runs with what is there.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record

FOLDER = "/var/lib/nusy/former"
SCHEMA = "nusy.dgx_spark.former/1"


@dataclass(frozen=True)
class Former:
    """``content`` None: there was no such file."""

    content: str | None = field(default=None, repr=False)
    mode: int = 0
    uid: int = 0
    gid: int = 0


def path_of(role: str) -> str:
    return f"{FOLDER}/{role}.json"


def keep(
    reader: Reader,
    writer: Writer,
    role: str,
    running: Mapping[str, Iterable[str]],
    declared: Callable[[str], Collection[str]],
) -> None:
    """``running``: unit → files with which it runs now. ``declared``: those of a unit that may come back.

    What is kept of other units stays: they may be skipped this time. Not what is declared no more and gone: an old key
    has no use, and would be a secret that nobody knows is there.
    """
    known = _read(reader, role)
    units = {unit: _kept(reader, files, declared(unit)) for unit, files in known.items()}
    units |= {unit: _look(reader, paths) for unit, paths in running.items()}
    units = {unit: files for unit, files in units.items() if files}
    if units == known:
        return
    if not units:
        writer.remove(path_of(role))
        return
    told = {
        "schema": SCHEMA,
        "role": role,
        "units": {unit: {path: asdict(files[path]) for path in sorted(files)} for unit, files in sorted(units.items())},
    }
    for folder, mode in ((os.path.dirname(FOLDER), 0o755), (FOLDER, 0o700)):
        if reader.stat(folder) is None:
            writer.mkdir(folder, mode=mode, uid=0, gid=0)
    writer.write(path_of(role), json.dumps(told, indent=1) + "\n", mode=0o600, uid=0, gid=0)


def bring_back(reader: Reader, writer: Writer, role: str, unit: str, paths: Iterable[str]) -> tuple[str, ...]:
    """Those of ``paths`` that are not as they were when ``unit`` last ran; each is as it was, afterwards."""
    known = _read(reader, role).get(unit, {})
    wanted = {path: known[path] for path in paths if path in known}
    there = _look(reader, wanted)
    changed = [path for path in wanted if there.get(path) != wanted[path]]
    for path in changed:
        file = wanted[path]
        if file.content is None:
            writer.remove(path)
        else:
            writer.write(path, file.content, mode=file.mode, uid=file.uid, gid=file.gid)
    return tuple(changed)


def _kept(reader: Reader, files: Mapping[str, Former], declared: Collection[str]) -> dict[str, Former]:
    left = {path: file for path, file in files.items() if path in declared or _is_there(reader, path)}
    # One that has lost a file and is not declared was ended; the template that it shares with others stays.
    ended = not declared and any(file.content is not None and path not in left for path, file in files.items())
    return {} if ended else left


def _is_there(reader: Reader, path: str) -> bool:
    try:
        return reader.stat(path) is not None
    except Unreadable:
        return True


def _look(reader: Reader, paths: Iterable[str]) -> dict[str, Former]:
    """What is no file, or cannot be read, is left out: it is not ours to bring back."""
    found: dict[str, Former] = {}
    for path in paths:
        try:
            there = reader.file(path)
        except Unreadable:
            continue
        found[path] = Former(there[1], there[0].mode, there[0].uid, there[0].gid) if there else Former()
    return found


def _read(reader: Reader, role: str) -> dict[str, dict[str, Former]]:
    """Nothing where somebody else could have written it: what is brought back is run."""
    try:
        text = None if record.distrust(reader, FOLDER) else reader.read(path_of(role))
        units = json.loads(text or "{}").get("units", {})
        return {str(unit): {str(path): Former(**file) for path, file in files.items()} for unit, files in units.items()}
    except (Unreadable, ValueError, TypeError, AttributeError):
        return {}
