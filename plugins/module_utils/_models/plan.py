# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found against what is declared: verdicts, and the steps that make them true. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import store
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import CURRENT, GIB, LINK, SPACE, Model, Wish
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe import Seen, named, unused
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.store import Snapshot, Stored
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    Link,
    confirms,
)


def places(wanted: Wish) -> Iterator[Directory]:
    if wanted.root not in {tier.path for tier in wanted.tiers}:
        yield Directory(wanted.root, wanted.owner, wanted.owner, 0o755)
    for model in wanted.models:
        yield Directory(wanted.home(model), wanted.owner, wanted.owner, 0o755)


def fitting(wanted: Wish, seen: Seen) -> tuple[bool, ...]:
    """In the order of the manifest, as long as the reserve stays free. What is named unused goes first."""
    left = seen.free + _freed(wanted, seen) - wanted.reserve
    fits = []
    for need in seen.missing:
        fits.append(not need or need <= left)
        left -= need if fits[-1] else 0
    return tuple(fits)


def _freed(wanted: Wish, seen: Seen) -> int:
    return sum(one.size for one in _given_up(wanted, seen))


def _given_up(wanted: Wish, seen: Seen) -> list[Stored]:
    """Unused snapshots that the operator named, but for those of a model whose link may lead there."""
    names = {model.name for model in wanted.models}
    return [
        one
        for one in unused(wanted, seen.stored)
        if named(wanted, one) and one.name not in names and not seen.used[one.path]
    ]


def space(wanted: Wish, seen: Seen, room: tuple[bool, ...]) -> Assertion:
    need = sum(seen.missing)
    name, words = f"room at {wanted.root}", f"for what is missing, and {_gib(wanted.reserve)} in reserve"
    if not need or need <= seen.free - wanted.reserve:
        return Assertion(name, "in_sync", words, words)
    reason = f"{_gib(need)} are missing and {_gib(seen.free)} are free"
    steps = tuple(Step("prune", one.path) for one in _given_up(wanted, seen)) if all(room) else ()
    fix = "free space, name unused snapshots in models_confirm, or lower models_reserve_gib"
    return Assertion(name, "drifted", "not enough", words, reason, fix, steps)


def judged(wanted: Wish, seen: Seen, number: int, *, fits: bool) -> Iterator[Assertion]:
    model, found = wanted.models[number], seen.snapshots[number]
    held, begun = seen.held[number], seen.begun[number]
    folder, what = wanted.folder(model), f"snapshot {model.id}"
    if found.state not in ("absent", "there"):
        why, fix = f"{folder} is {found.state}", f"see whose it is, and move {folder} away"
        yield Assertion(what, "drifted", found.state, "a snapshot", why, fix)
        return
    if found.whole:
        yield Assertion(what, "in_sync", "as declared", "as declared")
        if begun == store.FOLDER:
            left = Step("prune", wanted.work(model))
            yield Assertion(f"{what}: work folder", "drifted", "there", "absent", "a run was killed", steps=(left,))
        return
    yield from (
        Assertion(
            f"{what}: folder {path}", "drifted", "of somebody else", f"of {wanted.owner}",
            steps=(Step("own_folder", os.path.normpath(f"{folder}/{path}")),),
        )
        for path in found.strangers
    )  # fmt: skip
    why, fix = _hopeless(wanted, model, found, fits=fits)
    if begun not in ("", store.FOLDER):
        why, fix = f"{wanted.work(model)} is {begun}", f"see whose it is, and move {wanted.work(model)} away"
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
        before = "none of this role" if found.label is None else "of another declaration"
        before = "not finished" if found.unfinished else before
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


def current(wanted: Wish, seen: Seen, judged: list[tuple[Assertion, ...]]) -> ControlSpec:
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


def kept(wanted: Wish, seen: Seen) -> Iterator[Assertion]:
    """What the manifest no longer names, never what somebody else put there."""
    for one in unused(wanted, seen.stored):
        user = seen.used.get(one.path, "")
        name, reason = f"{one.name}/{os.path.basename(one.path)}", f"{readable(one.size)} that no model names"
        if user:
            yield Assertion(
                name, "drifted", "there", "absent", f"{user} uses it", awaits="its end", blocked_by=f"the end of {user}"
            )
        else:
            steps = (Step("prune", one.path),)
            yield Assertion(
                name, "drifted", "there", "absent", reason, steps=steps, victim=("path", named(wanted, one) or one.path)
            )


def readable(size: int) -> str:
    return (
        f"{size} bytes" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB" if size < GIB else f"{size / GIB:.1f} GiB"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
