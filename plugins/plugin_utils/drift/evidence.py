# SPDX-License-Identifier: GPL-3.0-or-later
"""What a result brings as evidence: the controls of our own modules, and the diffs of any module.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import text
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.catalogue import CONTROL_ID
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.events import Event

STATES = ("in_sync", "drifted", "unknown", "not_selected")
CAUSES = ("corrective", "intentional", "never_applied", "blocked", "adopted")


def evidence(raw: object, *, own: bool) -> list[Event] | None:
    """The controls of a result as evidence.md has them; None when it brings none.

    Another collection's module may use the key for something else: what does not have the
    shape is not evidence. In a result of our own it is a defect and reads as unknown.
    """
    if not isinstance(raw, list) or (not raw and not own):
        return None
    controls: list[Event] = []
    for item in raw:
        identity = item.get("id") if isinstance(item, Mapping) else None
        if not isinstance(identity, str) or not CONTROL_ID.match(identity) or item.get("state") not in STATES:
            if not own:
                return None
            if isinstance(identity, str) and CONTROL_ID.match(identity):
                controls.append(
                    {"id": identity, "state": "unknown", "reason": "the module returned a state that is not one"}
                )
            continue
        controls.append(_control(identity, item))
    return controls


def after_failure(found: list[Event], left: list[Event] | None) -> list[Event]:
    """What is true after a run that failed: as its module saw it then, else as it was found.

    ``failed`` keeps a drifted one from being taken for repaired.
    """
    now = {control["id"]: control for control in left or ()}
    told = []
    for control in found:
        last = now.get(control["id"], control)
        repaired = control["state"] == "drifted" and last["state"] == "in_sync"
        told.append(control if repaired else {**last, "failed": True})
    return told


def _control(identity: str, item: Mapping[str, Any]) -> Event:
    control: Event = {"id": identity, "state": item["state"]}
    for key in ("before", "after"):
        if isinstance(values := item.get(key), Mapping) and values:
            control[key] = text.value(values)
    for key in ("reason", "blocked_by"):
        if said := text.line(item.get(key) or ""):
            control[key] = said
    if item.get("cause") in CAUSES:
        control["cause"] = item["cause"]
    if control["state"] in ("unknown", "not_selected") and "reason" not in control:
        control["reason"] = "the module gave no reason"
    return control


def differences(diffs: Iterable[object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``before`` and ``after`` by property, from the diffs of any module."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for diff in _flat(diffs):
        if len(before) + len(after) >= 2 * text.ENTRIES_LIMIT:
            break
        if prepared := diff.get("prepared"):
            after[f"diff {len(after) + 1}" if "diff" in after else "diff"] = text.clean(str(prepared))
            continue
        old, new = diff.get("before"), diff.get("after")
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            for key in sorted({*map(str, old), *map(str, new)})[: text.ENTRIES_LIMIT]:
                if old.get(key) != new.get(key):
                    before[text.line(key)], after[text.line(key)] = text.value(old.get(key)), text.value(new.get(key))
        elif old != new:
            header = diff.get("after_header") or diff.get("before_header") or "content"
            name = text.line(header, text.NAME_LIMIT)
            before[name], after[name] = text.differing(_string(old), _string(new))
    return before, after


def _string(thing: object) -> str:
    return thing if isinstance(thing, str) else "" if thing is None else str(thing)


def _flat(diffs: Iterable[object]) -> Iterator[Mapping[str, Any]]:
    for diff in diffs:
        if isinstance(diff, Mapping):
            yield diff
        elif isinstance(diff, list):
            yield from _flat(diff)
