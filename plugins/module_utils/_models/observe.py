# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at the models of a node. It reads bytes only where an inode was touched since they were compared.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import store
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import (
    LINK,
    OTHERS_LIVE_THERE,
    Model,
    Wish,
    of_the_system,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.store import Snapshot, Stored
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import confirms
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import busy

# A look at inodes takes a moment. Bytes that have to be compared again are read at this rate at least.
LOOK_SECONDS = 60.0
HASH_RATE = 50 << 20


@dataclass(frozen=True)
class Seen:
    """What one look found.

    missing: bytes that are to be had for each model, in their order. held: for each the folder above it that is not
    empty and somebody else's, so that it is not this role's to write there before the operator has named it.
    begun: for each what is in the place of its work folder; empty when nothing is. used: unused snapshots that were
    named, with who uses them all the same.
    """

    uid: int
    snapshots: tuple[Snapshot, ...]
    missing: tuple[int, ...]
    held: tuple[str, ...]
    begun: tuple[str, ...]
    stored: tuple[Stored, ...]
    free: int
    used: Mapping[str, str]


def look(wanted: Wish, reader: Reader) -> Seen:
    """With the rights of the owner, whoever else may write there: that is to be seen, and mended. Raises NodeError."""
    account = reader.user(wanted.owner)
    uid = account.pw_uid if account else -1
    limit = LOOK_SECONDS + sum(model.size for model in wanted.models) / HASH_RATE
    found = rights.look(["/"], partial(_asked, wanted, uid), limit, user=account.pw_uid if account else NOBODY).value
    if of_the_system(str(found.get("end", wanted.root))):
        raise rights.NoLook(
            "models.root_of_the_system",
            wanted=f"models below {wanted.root}",
            found=f"a link that leads to {found['end']}",
            why=OTHERS_LIVE_THERE,
            fix=f"remove the link {wanted.root}, or name another folder as models_root",
        )
    if "unreadable" in found:
        raise rights.NoLook(
            "models.unreadable",
            wanted=f"a look at {wanted.root}",
            found=found["unreadable"],
            why="what is there cannot be told",
            fix=f"look as root; and give {wanted.root} to {wanted.owner}",
        )
    stored = tuple(Stored(**one) for one in found["stored"])
    return Seen(
        uid,
        tuple(Snapshot(**{**one, "extra": tuple(one["extra"])}) for one in found["snapshots"]),
        tuple(found["missing"]),
        tuple(found["held"]),
        tuple(found["begun"]),
        stored,
        found["free"],
        {one.path: users(one.path) for one in unused(wanted, stored) if named(wanted, one)},
    )


def _asked(wanted: Wish, uid: int) -> dict[str, object]:
    try:
        snapshots = [store.inspect(wanted.folder(m), m, uid, everything=wanted.everything) for m in wanted.models]
        return {
            "end": os.path.realpath(wanted.root),
            "snapshots": [asdict(one) for one in snapshots],
            "missing": [_to_come(wanted, m, s) for m, s in zip(wanted.models, snapshots, strict=True)],
            "held": [_held(wanted, m, uid) for m in wanted.models],
            "begun": [store.place_of_work(wanted.work(m), uid) for m in wanted.models],
            "stored": [asdict(one) for one in store.stored(wanted.root)],
            "free": _free(wanted.root),
        }
    except Unreadable as error:
        return {"unreadable": str(error)}


def _to_come(wanted: Wish, model: Model, found: Snapshot) -> int:
    work = wanted.work(model)
    need = 0
    for file in {file.sha256: file for file in model.files if file.path in found.wrong}.values():
        try:
            begun = os.lstat(f"{work}/{file.sha256}").st_size
        except OSError:
            begun = 0
        need += max(0, file.size - begun)
    return need


def _held(wanted: Wish, model: Model, uid: int) -> str:
    for place in (wanted.root, wanted.home(model)):
        if os.path.isdir(place) and os.stat(place).st_uid != uid and os.listdir(place):
            return place
    return ""


def _free(path: str) -> int:
    """Of the file system on which it is, or would be."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def unused(wanted: Wish, stored: Iterable[Stored]) -> list[Stored]:
    """What this role has made and no model names."""
    declared = {(model.name, model.revision) for model in wanted.models}
    return [one for one in stored if one.kind != "somebody's" and (one.name, one.revision) not in declared]


def named(wanted: Wish, one: Stored) -> str:
    """The path by which the operator gave it up; the snapshot's is that of what is left of it, too."""
    whole = f"{wanted.root}/{one.name}/{one.revision}"
    return next((path for path in (one.path, whole) if confirms(wanted.confirmed, "path", path)), "")


def users(path: str) -> str:
    """Who uses it; empty when nobody does."""
    try:
        return busy.users([path], f"{os.path.dirname(path)}/{LINK}").get(path, "")
    except Unreadable as error:
        return f"somebody ({error})"


def facts(wanted: Wish, seen: Seen) -> dict[str, object]:
    snapshots = [
        {
            "name": model.name,
            "revision": model.revision,
            "path": wanted.folder(model),
            "whole": found.whole,
            "size": model.size,
            "missing": missing,
            "came": (found.label or {}).get("came", {}),
            "passed": (found.label or {}).get("passed", {}),
        }
        for model, found, missing in zip(wanted.models, seen.snapshots, seen.missing, strict=True)
    ]
    left = [{"path": one.path, "size": one.size} for one in unused(wanted, seen.stored)]
    others = [one.path for one in seen.stored if one.kind == "somebody's"]
    return {"snapshots": snapshots, "unused": left, "others": others, "free": seen.free}
