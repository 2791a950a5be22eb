# SPDX-License-Identifier: GPL-3.0-or-later
"""The applied record: for each control of a role, what was declared when it last held after a real run.

``/var/lib/nusy/applied/<role>.json`` lets a later check tell *who moved*: the node
(``corrective``) or the declaration (``intentional``). It holds keyed digests only, so a
declared secret cannot be guessed from it; the key stays with root on the node. It also lists
what the role has taken (paths, and accounts as ``user:name``), for everybody to see: what is
there and is not among it is somebody's. No time is inside, and nothing that is no longer declared: the same declaration
leaves the same bytes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, State
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY, walk
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import ControlSpec, Document
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.wholes import substitute

FOLDER = "/var/lib/nusy/applied"
KEY = f"{FOLDER}/.key"
SCHEMA = "nusy.dgx_spark.applied/1"


@dataclass(frozen=True)
class Record:
    """``readable`` False: there may be a record that cannot be judged by. ``distrust``: why not even by root."""

    controls: Mapping[str, str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    key: str = ""
    readable: bool = True
    distrust: str = ""
    text: str | None = None

    def cause(self, control: ControlSpec, document: Document, state: State, *, blocked: bool) -> str:
        if blocked:
            return "blocked"
        if state not in ("drifted", "in_sync") or not self.readable:
            return ""
        last = self.controls.get(control.id)
        if state == "in_sync":
            return "adopted" if last is None else ""
        if last is None:
            return "never_applied"
        return "corrective" if hmac.compare_digest(last, digest(self.key, control, document)) else "intentional"


def path_of(role: str) -> str:
    return f"{FOLDER}/{role}.json"


def read(reader: Reader, role: str) -> Record:
    try:
        doubt = distrust(reader, FOLDER)
        if doubt:
            return Record(readable=False, distrust=doubt)
        text = reader.read(path_of(role))
    except Unreadable:
        return Record(readable=False)
    controls, taken = _parsed(text or "")
    try:
        key = (reader.read(KEY) or "").strip()
    except Unreadable:
        # Who may not compare what was declared still sees what was taken over.
        return Record(taken=taken, readable=False)
    return Record(controls if key else {}, taken, key, text=text)


def _parsed(text: str) -> tuple[dict[str, str], frozenset[str]]:
    try:
        found = json.loads(text)
        controls = {str(name): str(entry["declared"]) for name, entry in found["controls"].items()}
        return controls, frozenset(str(name) for name in found["taken"])
    except (ValueError, KeyError, TypeError, AttributeError):
        # A damaged record is no record: it costs a cause, and a question before something is taken over.
        return {}, frozenset()


def distrust(reader: Reader, place: str) -> str:
    """Why ``place`` is not believed: only what root alone can write says who moved. Empty: it is."""
    way = walk(place, reader)
    if way.decides == NOBODY:
        return f"{way.by} can be written by others than root"
    if way.decides:
        return f"{way.by} belongs to {reader.user_name(way.decides)}, not to root"
    if way.found is not None and way.found.kind != "directory":
        return f"{way.end} is no directory but a {way.found.kind}"
    return ""


def digest(key: str, control: ControlSpec, document: Document) -> str:
    # What an assertion found is no declaration, only what it wants. Nor are resources that follow
    # from what was found on the node: their control says what was declared.
    wanted = [{"wanted": assertion.wanted} for assertion in control.assertions]
    said = {"inputs": control.inputs} if control.inputs else {**plainly(control), "assertions": wanted}
    declared = substitute_deep({"id": control.id, **said}, document.secrets)
    canonical = json.dumps(declared, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), canonical.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def plainly(thing: Any) -> dict[str, object]:
    """What a declaration says, without what it leaves at its default: an option that a later
    release adds must not make every older record read "the declaration moved".
    """
    said = {}
    for one in fields(thing):
        value = getattr(thing, one.name)
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if value != default:
            said[one.name] = _plain(value)
    return said


def _plain(value: object) -> object:
    if is_dataclass(value):
        return plainly(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def substitute_deep(value: object, known: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return substitute(value, known)
    if isinstance(value, dict):
        return {k: substitute_deep(v, known) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [substitute_deep(v, known) for v in value]
    return value


def take(document: Document, record: Record, names: Iterable[str], reader: Reader, writer: Writer) -> None:
    """Before the first step: what this role may write from now on, whatever becomes of the run."""
    taken = record.taken.union(names)
    if taken != record.taken:
        key = record.key or secrets.token_hex(32)
        _save(document.role, replace(record, key=key), record.controls, taken, reader, writer, new_key=not record.key)


def write(
    document: Document,
    record: Record,
    left: Iterable[Control],
    owned: Mapping[str, Collection[str]],
    reader: Reader,
    writer: Writer,
) -> None:
    """Record the controls that hold at the end of a run; blocked or skipped ones keep what they had.

    ``owned``: control → what it declares to be there, and so takes.
    """
    key = record.key or secrets.token_hex(32)
    declared = {control.id: control for control in document.controls}
    controls: dict[str, str] = {}
    taken: set[str] = set()
    for control in sorted(left, key=lambda control: control.id):
        its = owned.get(control.id, ())
        taken |= set(its) if control.state == "in_sync" else record.taken.intersection(its)
        if control.state == "in_sync":
            # Foreign lines have nothing declared, but they too can be told from "never applied here".
            controls[control.id] = digest(key, declared.get(control.id) or ControlSpec(control.id), document)
        elif control.id in record.controls:
            controls[control.id] = record.controls[control.id]
    _save(document.role, replace(record, key=key), controls, taken, reader, writer, new_key=not record.key)


def _save(
    role: str,
    record: Record,
    declared: Mapping[str, str],
    taken: Iterable[str],
    reader: Reader,
    writer: Writer,
    *,
    new_key: bool = False,
) -> None:
    if distrust(reader, FOLDER):
        return
    for folder in (os.path.dirname(FOLDER), FOLDER):
        if reader.stat(folder) is None:
            writer.mkdir(folder, mode=0o755, uid=0, gid=0)
    if new_key:
        writer.write(KEY, record.key + "\n", mode=0o600, uid=0, gid=0)
    controls = {name: {"declared": declared[name]} for name in declared}
    inputs = hmac.new(record.key.encode(), json.dumps(controls, sort_keys=True).encode(), hashlib.sha256).hexdigest()
    told = {"schema": SCHEMA, "role": role, "inputs": inputs, "controls": controls, "taken": sorted(taken)}
    text = json.dumps(told, indent=1) + "\n"
    if text != record.text:
        writer.write(path_of(role), text, mode=0o644, uid=0, gid=0)
