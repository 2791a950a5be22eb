# SPDX-License-Identifier: GPL-3.0-or-later
"""Models on a node, as a subject of ``_core.entry``: exactly the declared bytes, and the room they need.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan, Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import fetch, plan, problems, tiers, work
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import (
    ARGUMENT_SPEC,
    CONTROLS,
    CURRENT,
    LINK,
    PLACE,
    ROLE,
    SNAPSHOTS,
    SPACE,
    TIERS,
    UNUSED,
    Wish,
    secrets,
    wish,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe import (
    HASH_RATE,
    LOOK_SECONDS,
    facts,
    look,
    users,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Package,
)


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
    room = plan.fitting(wanted, seen)
    if wanted.models:
        packages = (Package("rsync"), Package("openssh-client")) if wanted.peers else ()
        controls.append(ControlSpec(PLACE, packages=packages, directories=tuple(plan.places(wanted))))
        controls.append(ControlSpec(SPACE, assertions=(plan.space(wanted, seen, room),)))
        judged = [tuple(plan.judged(wanted, seen, number, fits=fits)) for number, fits in enumerate(room)]
        declared = json.dumps([asdict(model) for model in wanted.models])
        controls.append(ControlSpec(SNAPSHOTS, assertions=tuple(a for one in judged for a in one), inputs=declared))
        controls.append(plan.current(wanted, seen, judged))
    unused = tuple(plan.kept(wanted, seen))
    controls.append(ControlSpec(UNUSED, assertions=unused or (Assertion("unused", "in_sync", "none", "none"),)))
    return Look(
        tuple(controls),
        _actions(wanted, reader),
        facts(wanted, seen),
        {**left_out, **_without(wanted)},
    )


def _without(wanted: Wish) -> dict[str, str]:
    why = "no models are declared (models_manifest)"
    return {} if wanted.models else dict.fromkeys((SPACE, PLACE, SNAPSHOTS, CURRENT), why)


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
        limit = (len(wanted.peers) + 2) * fetch.seconds_for(model.size) + model.size / HASH_RATE + work.WAIT_SECONDS
        _act(uid, fetch.Fetch(wanted, model, home).run, limit, step.text())

    def remove_extra(step: Step, _reader: Reader, _writer: Writer) -> None:
        folder, path = str(step.args[0]), str(step.args[1])
        _act(owner()[0], partial(fetch.remove_extra, folder, path), LOOK_SECONDS, step.text())

    def prune(step: Step, _reader: Reader, _writer: Writer) -> None:
        if not os.path.lexists(step.target):
            return
        # Since the look hours may have passed, in which others were fetched.
        if user := users(step.target):
            raise problems.in_use(step.target, user)
        home = os.path.dirname(step.target)
        removed = partial(work.prune, step.target, home, f"{home}/{LINK}")
        _act(owner()[0], removed, fetch.START_SECONDS + work.WAIT_SECONDS, step.text())

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
    """Without what is secret: it is not needed to look."""
    return {**params, "token": "", "proxy": ""}


MODULE = Ensuring("model_snapshot", ARGUMENT_SPEC, ensure_models, secrets=secrets, kept=_kept)
