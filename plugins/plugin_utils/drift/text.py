# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of unknown origin, made safe to store and to show.

A task result may hold anything: terminal escapes, right-to-left overrides, half a UTF-8
character, a megabyte. Everything that enters events.jsonl goes through here once, so no
renderer has to think of it again (markup escaping stays the renderer's own duty).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

VALUE_LIMIT = 2000  # characters of one before/after value
LINE_LIMIT = 600  # characters of one reason
NAME_LIMIT = 200
ENTRIES_LIMIT = 100  # entries of one mapping or list
DEPTH_LIMIT = 5

# Control characters but newline and tab, direction overrides, line separators, surrogates.
_HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def clean(text: str, limit: int = VALUE_LIMIT) -> str:
    """``text`` with what a terminal or a browser would act upon spelt out, and cut."""
    left = len(text) - limit
    cut = text if left <= 0 else text[:limit]
    safe = _HOSTILE.sub(lambda match: f"\\u{ord(match[0]):04x}", cut)
    return safe if left <= 0 else f"{safe}… ({left} more characters)"


def line(text: object, limit: int = LINE_LIMIT) -> str:
    """One line: for reasons, names and titles."""
    # Twice the limit is enough raw text to fill a line after white space is squeezed.
    raw = (text if isinstance(text, str) else str(text))[: limit * 4]
    flat = " ".join(clean(" ".join(raw.split()), limit * 4).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def value(thing: object, depth: int = 0) -> Any:
    """Any Python value as bounded JSON."""
    if thing is None or isinstance(thing, (bool, int)):
        # A big integer would be a float elsewhere, and lose digits.
        return thing if not isinstance(thing, int) or abs(thing) < 1 << 53 else str(thing)
    if isinstance(thing, str):
        return clean(thing)
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else str(thing)
    if isinstance(thing, bytes):
        return clean(thing[: VALUE_LIMIT * 4].decode("utf-8", "replace"))
    if depth >= DEPTH_LIMIT:
        return "… (nested deeper)"
    if isinstance(thing, Mapping):
        pairs = list(thing.items())
        result = {clean(str(key), NAME_LIMIT): value(item, depth + 1) for key, item in pairs[:ENTRIES_LIMIT]}
        if len(pairs) > ENTRIES_LIMIT:
            result["…"] = f"{len(pairs) - ENTRIES_LIMIT} more"
        return result
    if isinstance(thing, (list, tuple, set, frozenset)):
        items = list(thing)
        shown = [value(item, depth + 1) for item in items[:ENTRIES_LIMIT]]
        return shown if len(items) <= ENTRIES_LIMIT else [*shown, f"… {len(items) - ENTRIES_LIMIT} more"]
    return clean(str(thing))


def slug(text: str, limit: int = 80) -> str:
    """``text`` as part of an id: stable, ASCII, never empty.

    A name that loses letters on the way (it is not English) gets a digest, or all such
    names would be one.
    """
    plain = _NOT_SLUG.sub("-", text.lower()).strip("-")
    if not text.isascii() or not plain or len(plain) > limit:
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
        return f"{plain[: limit - 9]}-{digest}".strip("-")
    return plain


def differing(before: str, after: str, limit: int = VALUE_LIMIT) -> tuple[str, str]:
    """Both texts, from the line where they part when they are too long to be shown whole."""
    if len(before) <= limit and len(after) <= limit:
        return clean(before, limit), clean(after, limit)
    same = 0  # where the loop ended, which is what is wanted
    for same, (left, right) in enumerate(zip(before, after, strict=False)):  # noqa: B007
        if left != right:
            break
    else:
        same = min(len(before), len(after))
    start = before.rfind("\n", 0, same) + 1
    head = f"… ({start} equal characters before this)\n" if start else ""
    return head + clean(before[start:], limit), head + clean(after[start:], limit)
