# SPDX-License-Identifier: GPL-3.0-or-later
"""What a caller was given, and what it has to be: judged before anything is looked at.

A role writes its variables into files that programs read. What would be another line there, or a number that
switches off what it should set, is refused by the name of the variable.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError

OPTIONS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "value": {"type": "raw", "required": True},
        "least": {"type": "int"},
        "most": {"type": "int"},
        "pattern": {"type": "str"},
        "wanted": {"type": "str", "required": True},
    },
}


def judge(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raises InputError for the first value that is not what is wanted; of a list for its first such item."""
    for entry in entries:
        values = entry["value"] if isinstance(entry["value"], list) else [entry["value"]]
        for value in values:
            if not _fits(entry, value):
                raise InputError(
                    "state.unexpected",
                    wanted=f"{entry['name']}: {entry['wanted']}",
                    found=repr(value)[:200],
                    why="it would be written where a program reads something else in it, or nothing",
                    fix=f"correct {entry['name']}",
                )


def _fits(entry: Mapping[str, Any], value: object) -> bool:
    if entry["pattern"] is not None and re.fullmatch(entry["pattern"], str(value)) is None:
        return False
    if entry["least"] is None and entry["most"] is None:
        return True
    try:
        number = int(str(value))
    except ValueError:
        return False
    low, high = entry["least"], entry["most"]
    return (low is None or low <= number) and (high is None or number <= high)
