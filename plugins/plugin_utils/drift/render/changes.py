# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found beside what is declared, property by property, as rows for people.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import LIMIT, clean, fields, one_line

# A property map can be as large as a node likes; so many rows are for people.
MOST_CHANGES = 100
NOTHING = "(nothing)"


@dataclass(frozen=True, slots=True)
class Change:
    """One property: what was found and what is declared."""

    name: str
    before: str
    after: str


def changes(before: object, after: object) -> tuple[Change, ...]:
    old, new = _properties(before), _properties(after)
    # Only what differs is of interest; if nothing does, what the module said is all there is.
    names = sorted({*old, *new})
    names = [name for name in names if (name in old) != (name in new) or old.get(name) != new.get(name)] or names
    rows = [_change(name, old, new) for name in names[:MOST_CHANGES]]
    if len(names) > MOST_CHANGES:
        rest = str(len(names) - MOST_CHANGES)
        rows.append(Change("(more properties)", rest, rest))
    return tuple(rows)


def _properties(value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return fields(value)
    # Modules of others give one text as before and after.
    return {} if value is None or value == "" else {"value": value}


def _change(name: str, old: Mapping[str, object], new: Mapping[str, object]) -> Change:
    before, after = old.get(name), new.get(name)
    skipped = ""
    if isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) > LIMIT:
        # The part of two long texts to show is the one where they differ.
        differs = (n for n, (old_char, new_char) in enumerate(zip(before, after, strict=False)) if old_char != new_char)
        same = next(differs, min(len(before), len(after))) - 200
        if same > 0:
            skipped, before, after = f"[{same} equal characters …] ", before[same:], after[same:]
    return Change(
        one_line(name, 300),
        skipped + _shown(before) if name in old else NOTHING,
        skipped + _shown(after) if name in new else NOTHING,
    )


def _shown(value: object) -> str:
    return NOTHING if value is None else clean(value) or '""'
