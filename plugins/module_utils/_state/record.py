# SPDX-License-Identifier: GPL-3.0-or-later
"""The applied record: for each control of a role, what was declared when it last held after a real run.

``/var/lib/nusy/applied/<role>.json`` lets a later check tell *who moved*: the node
(``corrective``) or the declaration (``intentional``). It holds keyed digests only, so a
declared secret cannot be guessed from it; the key stays with root on the node. No time is
inside, and nothing that is no longer declared: the same declaration leaves the same bytes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, State
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.files import substitute
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import ControlSpec, Document

FOLDER = "/var/lib/nusy/applied"
KEY = f"{FOLDER}/.key"
SCHEMA = "nusy.dgx_spark.applied/1"


@dataclass(frozen=True)
class Record:
    """``readable`` False: there may be a record that cannot be judged by. ``distrust``: why not even by root."""

    controls: Mapping[str, str] = field(default_factory=dict)
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
        key = (reader.read(KEY) or "").strip()
        text = reader.read(path_of(role))
    except Unreadable:
        return Record(readable=False)
    if not key or text is None:
        return Record(key=key, text=text)
    try:
        found = json.loads(text)
        controls = {str(name): str(entry["declared"]) for name, entry in found["controls"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        # A damaged record is no record: the worst it costs is a cause.
        return Record(key=key, text=text)
    return Record(controls, key, text=text)


def distrust(reader: Reader, place: str) -> str:
    """Why ``place`` is not believed: only what root alone can write says who moved. Empty: it is."""
    for folder in (os.path.dirname(place), place):
        stat = reader.stat(folder)
        if stat is None:
            continue
        if stat.kind != "directory":
            return f"{folder} is no directory but a {stat.kind}"
        if stat.uid != 0:
            return f"{folder} belongs to {reader.user_name(stat.uid)}, not to root"
        if stat.mode & 0o022:
            return f"{folder} can be written by others than root (mode {stat.octal})"
    return ""


def digest(key: str, control: ControlSpec, document: Document) -> str:
    # What an assertion found is no declaration, only what it wants. Nor are resources that follow
    # from what was found on the node: their control says what was declared.
    wanted = [{"wanted": assertion.wanted} for assertion in control.assertions]
    said = {"inputs": control.inputs} if control.inputs else {**asdict(control), "assertions": wanted}
    declared = substitute_deep({"id": control.id, **said}, document.secrets)
    canonical = json.dumps(declared, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), canonical.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def substitute_deep(value: object, known: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return substitute(value, known)
    if isinstance(value, dict):
        return {k: substitute_deep(v, known) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [substitute_deep(v, known) for v in value]
    return value


def write(document: Document, record: Record, left: Iterable[Control], reader: Reader, writer: Writer) -> None:
    """Record the controls that hold at the end of a run; blocked or skipped ones keep what they had."""
    if distrust(reader, FOLDER):
        return
    for folder in ("/var/lib/nusy", FOLDER):
        if reader.stat(folder) is None:
            writer.mkdir(folder, mode=0o755, uid=0, gid=0)
    key = record.key or secrets.token_hex(32)
    if not record.key:
        writer.write(KEY, key + "\n", mode=0o600, uid=0, gid=0)
    declared = {control.id: control for control in document.controls}
    controls = {}
    for control in sorted(left, key=lambda control: control.id):
        if control.state == "in_sync":
            # Foreign lines have nothing declared, but they too can be told from "never applied here".
            spec = declared.get(control.id) or ControlSpec(control.id)
            controls[control.id] = {"declared": digest(key, spec, document)}
        elif control.id in record.controls:
            controls[control.id] = {"declared": record.controls[control.id]}
    inputs = hmac.new(key.encode(), json.dumps(controls, sort_keys=True).encode(), hashlib.sha256).hexdigest()
    text = (
        json.dumps({"schema": SCHEMA, "role": document.role, "inputs": inputs, "controls": controls}, indent=1) + "\n"
    )
    if text != record.text:
        writer.write(path_of(document.role), text, mode=0o644, uid=0, gid=0)
