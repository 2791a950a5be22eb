# SPDX-License-Identifier: GPL-3.0-or-later
"""Models on a node, as a subject of ``_core.entry``: exactly the declared bytes, and the room they need.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan, Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import fetch, store, tiers
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import (
    ARGUMENT_SPEC,
    CONTROLS,
    CURRENT,
    GIB,
    LINK,
    PLACE,
    ROLE,
    SNAPSHOTS,
    SPACE,
    TIERS,
    UNUSED,
    Model,
    Wish,
    wish,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.store import Snapshot, Stored
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    Link,
    Package,
    confirms,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import busy

# A look at inodes takes a moment. Bytes that have to be compared again are read at this rate at least.
LOOK_SECONDS = 60.0
HASH_RATE = 50 << 20


@dataclass(frozen=True)
class Seen:
    """What one look found.

    missing: bytes that are to be had for each model, in their order. held: for each the folder above it that is not
    empty and somebody else's, so that it is not this role's to write there before the operator has named it.
    """

    uid: int
    snapshots: tuple[Snapshot, ...]
    missing: tuple[int, ...]
    held: tuple[str, ...]
    stored: tuple[Stored, ...]
    free: int


class EnsureModels(Composed):
    def __init__(self, wanted: Wish, params: Mapping[str, Any]) -> None:
        super().__init__(ROLE, CONTROLS, params, partial(examined, wanted))
        self.wanted = wanted

    def settle(self, left: Plan, reader: Reader, writer: Writer) -> None:
        super().settle(left, reader, writer)
        account = reader.user(self.wanted.owner)
        for model in self.wanted.models if account and SNAPSHOTS not in self.skipped else ():
            what = f"what was compared of {model.id} remembered"
            limit = LOOK_SECONDS + model.size / HASH_RATE
            _act(account.pw_uid if account else 0, partial(fetch.refresh, self.wanted, model), limit, what)


def ensure_models(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    return EnsureModels(wish(params), params)


def examined(wanted: Wish, reader: Reader) -> Look:
    controls: list[ControlSpec] = []
    left_out = {}
    if wanted.tiers:
        controls.append(tiers.judged(wanted.tiers))
    else:
        left_out[TIERS] = "no tiers are declared (models_tiers)"
    try:
        seen = look(wanted, reader)
    except NodeError as error:
        if wanted.models:
            return Look(hidden=error)
        unseen = Assertion(wanted.root, "unknown", "", "looked at", one_line(error.problem.found))
        return Look((*controls, ControlSpec(UNUSED, assertions=(unseen,))), left_out={**left_out, **_without(wanted)})
    room = _fitting(wanted, seen)
    if wanted.models:
        packages = (Package("rsync"), Package("openssh-client")) if wanted.peers else ()
        controls.append(ControlSpec(PLACE, packages=packages, directories=tuple(_places(wanted))))
        controls.append(ControlSpec(SPACE, assertions=(_space(wanted, seen, room),)))
        rows = zip(wanted.models, seen.snapshots, seen.held, room, strict=True)
        judged = [tuple(_judged(wanted, model, found, held, fits=fits)) for model, found, held, fits in rows]
        declared = json.dumps([asdict(model) for model in wanted.models])
        controls.append(ControlSpec(SNAPSHOTS, assertions=tuple(a for one in judged for a in one), inputs=declared))
        controls.append(_current(wanted, seen, judged))
    unused = tuple(_unused(wanted, seen))
    controls.append(ControlSpec(UNUSED, assertions=unused or (Assertion("unused", "in_sync", "none", "none"),)))
    return Look(
        tuple(controls),
        _actions(wanted, reader),
        _facts(wanted, seen),
        {**left_out, **_without(wanted)},
    )


def _without(wanted: Wish) -> dict[str, str]:
    why = "no models are declared (models_manifest)"
    return {} if wanted.models else dict.fromkeys((SPACE, PLACE, SNAPSHOTS, CURRENT), why)


# --- looking ---


def look(wanted: Wish, reader: Reader) -> Seen:
    """With the rights of the owner, whoever else may write there: that is to be seen, and mended. Raises NodeError."""
    account = reader.user(wanted.owner)
    uid = account.pw_uid if account else -1
    limit = LOOK_SECONDS + sum(model.size for model in wanted.models) / HASH_RATE
    found = rights.look(["/"], partial(_asked, wanted, uid), limit, user=account.pw_uid if account else NOBODY).value
    if "unreadable" in found:
        raise rights.NoLook(
            "models.unreadable",
            wanted=f"a look at {wanted.root}",
            found=found["unreadable"],
            why="what is there cannot be told",
            fix=f"look as root; and give {wanted.root} to {wanted.owner}",
        )
    return Seen(
        uid,
        tuple(Snapshot(**{**one, "extra": tuple(one["extra"])}) for one in found["snapshots"]),
        tuple(found["missing"]),
        tuple(found["held"]),
        tuple(Stored(**one) for one in found["stored"]),
        found["free"],
    )


def _asked(wanted: Wish, uid: int) -> dict[str, object]:
    try:
        snapshots = [store.inspect(wanted.folder(m), m, uid, everything=wanted.everything) for m in wanted.models]
        return {
            "snapshots": [asdict(one) for one in snapshots],
            "missing": [_to_come(wanted, m, s) for m, s in zip(wanted.models, snapshots, strict=True)],
            "held": [_held(wanted, m, uid) for m in wanted.models],
            "stored": [asdict(one) for one in store.stored(wanted.root)],
            "free": _free(wanted.root),
        }
    except Unreadable as error:
        return {"unreadable": str(error)}


def _to_come(wanted: Wish, model: Model, found: Snapshot) -> int:
    work = f"{wanted.home(model)}/.{model.revision}.work"
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


# --- judging ---


def _places(wanted: Wish) -> Iterator[Directory]:
    if wanted.root not in {tier.path for tier in wanted.tiers}:
        yield Directory(wanted.root, wanted.owner, wanted.owner, 0o755)
    for model in wanted.models:
        yield Directory(wanted.home(model), wanted.owner, wanted.owner, 0o755)


def _fitting(wanted: Wish, seen: Seen) -> tuple[bool, ...]:
    """In the order of the manifest, as long as the reserve stays free. What is named unused goes first."""
    left = seen.free + _freed(wanted, seen) - wanted.reserve
    fits = []
    for need in seen.missing:
        fits.append(not need or need <= left)
        left -= need if fits[-1] else 0
    return tuple(fits)


def _freed(wanted: Wish, seen: Seen) -> int:
    return sum(one.size for one in _named(wanted, seen))


def _named(wanted: Wish, seen: Seen) -> list[Stored]:
    """Unused snapshots that the operator named, but for those of a model whose link may lead there."""
    names = {model.name for model in wanted.models}
    return [
        one
        for one in candidates(wanted, seen)
        if confirms(wanted.confirmed, "path", one.path) and one.name not in names and not _used(wanted, one)
    ]


def _space(wanted: Wish, seen: Seen, room: tuple[bool, ...]) -> Assertion:
    need = sum(seen.missing)
    name, words = f"room at {wanted.root}", f"for what is missing, and {_gib(wanted.reserve)} in reserve"
    if not need or need <= seen.free - wanted.reserve:
        return Assertion(name, "in_sync", words, words)
    reason = f"{_gib(need)} are missing and {_gib(seen.free)} are free"
    steps = tuple(Step("prune", one.path) for one in _named(wanted, seen)) if all(room) else ()
    fix = "free space, name unused snapshots in models_confirm, or lower models_reserve_gib"
    return Assertion(name, "drifted", "not enough", words, reason, fix, steps)


def _judged(wanted: Wish, model: Model, found: Snapshot, held: str, *, fits: bool) -> Iterator[Assertion]:
    folder, what = wanted.folder(model), f"snapshot {model.id}"
    if found.state not in ("absent", "there"):
        why, fix = f"{folder} is {found.state}", f"see whose it is, and move {folder} away"
        yield Assertion(what, "drifted", found.state, "a snapshot", why, fix)
        return
    if found.whole:
        yield Assertion(what, "in_sync", "as declared", "as declared")
        return
    yield from (
        Assertion(
            f"{what}: folder {path}", "drifted", "of somebody else", f"of {wanted.owner}",
            steps=(Step("own_folder", os.path.normpath(f"{folder}/{path}")),),
        )
        for path in found.strangers
    )  # fmt: skip
    why, fix = _hopeless(wanted, model, found, fits=fits)
    steps = () if why else (Step("publish_snapshot", model.id),)
    # Without a label it was not made here: what differs in it is somebody's.
    theirs = found.state == "there" and found.label is None and bool(found.wrong or found.extra)
    victim: tuple[()] | tuple[str, str] = ("path", folder) if theirs else ()
    if theirs:
        why = f"{folder} was there before this role and is not as declared"
    unnamed = (f"{folder}/{path}" for path in found.in_the_way())
    blocking = next((place for place in unnamed if not confirms(wanted.confirmed, "path", place)), "")
    if blocking:
        victim, why = ("path", blocking), f"{blocking} is in the place of a declared file"
    if held:
        victim, why = ("path", held), f"{held} is not empty and belongs to somebody else"
    if found.state == "absent":
        size = f"{len(model.files)} files, {readable(model.size)}"
        yield Assertion(what, "drifted", "absent", size, why, fix, steps, victim)
        return
    # First: one of them may be in the place of what is published.
    for path in found.extra:
        place = f"{folder}/{path}"
        reason = "nobody declares it, and an engine may load it"
        remove = (Step("remove_extra", place, (folder, path)),)
        yield Assertion(f"{what}: {path}", "drifted", "extra", "absent", reason, steps=remove, victim=("path", place))
    wanted_hash = {file.path: f"sha256:{file.sha256[:16]}" for file in model.files}
    for path, how in found.wrong.items():
        yield Assertion(f"{what}: {path}", "drifted", how, wanted_hash[path], why, fix, steps, victim)
    if not found.labelled:
        before = "absent" if found.label is None else "of another declaration"
        yield Assertion(f"{what}: label", "drifted", before, "as declared", why, fix, steps, victim)
    for path in found.open:
        mode = f"{store.FOLDER_MODE if path == '.' else store.FILE_MODE:04o}"
        mode = mode if path in wanted_hash or path == "." else f"{store.FOLDER_MODE:04o}"
        yield Assertion(f"{what}: mode of {path}", "drifted", "another", mode, why, fix, steps, victim)


def _hopeless(wanted: Wish, model: Model, found: Snapshot, *, fits: bool) -> tuple[str, str]:
    """Why a run could not get what is missing, as far as that is certain now; and what to do."""
    away = [path for path, how in found.wrong.items() if not how.startswith("belongs to")]
    if not away:
        return "", ""
    if not fits:
        return f"there is no room for what is missing of {model.id}", f"see {SPACE}"
    if wanted.peers:
        return "", ""
    if wanted.offline:
        fix = "name a folder or host that has it in models_peers, or set models_offline: false"
        return f"models_offline, and no peer has {model.id}", fix
    if model.gated and not wanted.token:
        fix = f"accept its licence at {wanted.endpoint}/{model.repository}, and give models_token"
        return f"{model.repository} is gated, and no token is given", fix
    return "", ""


def _current(wanted: Wish, seen: Seen, judged: list[tuple[Assertion, ...]]) -> ControlSpec:
    """Only to what is there, or will be when it is this link's turn."""
    links, unclear = [], []
    for model, found, assertions in zip(wanted.models, seen.snapshots, judged, strict=True):
        comes = any(a.steps and (not a.victim or confirms(wanted.confirmed, *a.victim)) for a in assertions)
        if found.state == "there" or comes:
            links.append(Link(f"{wanted.home(model)}/{LINK}", model.revision))
        else:
            why = f"{model.id} is not there"
            unclear.append(Assertion(f"{model.name}/{LINK}", "unknown", "", model.revision, why))
    return ControlSpec(CURRENT, links=tuple(links), assertions=tuple(unclear))


def candidates(wanted: Wish, seen: Seen) -> list[Stored]:
    declared = {(model.name, model.revision) for model in wanted.models}
    return [one for one in seen.stored if one.kind != "somebody's" and (one.name, one.revision) not in declared]


def _unused(wanted: Wish, seen: Seen) -> Iterator[Assertion]:
    """What the manifest no longer names, never what somebody else put there."""
    for one in candidates(wanted, seen):
        user = _used(wanted, one) if confirms(wanted.confirmed, "path", one.path) else ""
        name, reason = f"{one.name}/{os.path.basename(one.path)}", f"{readable(one.size)} that no model names"
        if user:
            yield Assertion(
                name, "drifted", "there", "absent", f"{user} uses it", awaits="its end", blocked_by=f"the end of {user}"
            )
        else:
            steps = (Step("prune", one.path),)
            yield Assertion(name, "drifted", "there", "absent", reason, steps=steps, victim=("path", one.path))


def _used(wanted: Wish, one: Stored) -> str:
    try:
        return busy.users([one.path], f"{wanted.root}/{one.name}/{LINK}").get(one.path, "")
    except Unreadable as error:
        return f"somebody ({error})"


def _facts(wanted: Wish, seen: Seen) -> dict[str, object]:
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
    unused = [{"path": one.path, "size": one.size} for one in candidates(wanted, seen)]
    others = [one.path for one in seen.stored if one.kind == "somebody's"]
    return {"snapshots": snapshots, "unused": unused, "others": others, "free": seen.free}


def readable(size: int) -> str:
    return (
        f"{size} bytes" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB" if size < GIB else f"{size / GIB:.1f} GiB"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


# --- doing ---


def _actions(wanted: Wish, reader: Reader) -> Mapping[str, Action]:
    """As the owner of the place, who is known by the time these run."""

    def owner() -> tuple[int, int, str]:
        account = reader.user(wanted.owner)
        if account is None:
            raise NodeError(
                "models.owner",
                wanted=f"user {wanted.owner}, who owns {wanted.root}",
                found="there is no such user",
                why="models are fetched and kept with the rights of their owner",
                fix="make the user first (role prereqs does), or name another one as models_owner",
            )
        return account.pw_uid, account.pw_gid, account.pw_dir

    def publish(step: Step, _reader: Reader, _writer: Writer) -> None:
        uid, _gid, home = owner()
        (model,) = (model for model in wanted.models if model.id == step.target)
        # Each source within its own limit; and every byte is read again.
        limit = (len(wanted.peers) + 2) * fetch.seconds_for(model.size) + model.size / HASH_RATE
        _act(uid, fetch.Fetch(wanted, model, home).run, limit, step.text())

    def remove_extra(step: Step, _reader: Reader, _writer: Writer) -> None:
        folder, path = str(step.args[0]), str(step.args[1])
        _act(owner()[0], partial(fetch.remove_extra, folder, path), LOOK_SECONDS, step.text())

    def prune(step: Step, _reader: Reader, _writer: Writer) -> None:
        home = os.path.dirname(step.target)
        work = partial(fetch.prune, step.target, home, f"{home}/{LINK}")
        if os.path.lexists(step.target):
            _act(owner()[0], work, fetch.START_SECONDS, step.text())

    def own_folder(step: Step, _reader: Reader, writer: Writer) -> None:
        uid, gid, _home = owner()
        writer.attributes(step.target, mode=None, uid=uid, gid=gid)

    return {"publish_snapshot": publish, "remove_extra": remove_extra, "prune": prune, "own_folder": own_folder}


def _act(uid: int, function: Callable[[], None], limit: float, what: str) -> None:
    def done() -> None:
        try:
            function()
        except (OSError, Unreadable) as error:  # only expected errors cross between processes
            raise fetch.failed(what, error) from error

    rights.act(uid, done, limit, what)


def _kept(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the token: it is not needed to look."""
    return {**params, "token": ""}


MODULE = Ensuring("model_snapshot", ARGUMENT_SPEC, ensure_models, kept=_kept)
