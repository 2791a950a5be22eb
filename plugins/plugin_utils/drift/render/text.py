# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that is safe to show: everything a node sent is hostile until it went through here.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping

# A value longer than this is cut when the report is read; the whole one stays in report.json.
LIMIT = 4000


def clean(value: object, limit: int = LIMIT) -> str:
    """Any value as text without a character that a terminal, a parser or an eye could be fooled by.

    Escape sequences, NUL, direction overrides, zero-width characters and lone surrogates
    become visible escapes such as ``\\x1b``. Line breaks and tabs stay: ``one_line`` is for places
    that cannot have them.
    """
    text = value if isinstance(value, str) else _dump(value)
    # Cut first: escaping a megabyte only to throw it away would be a way to stall the report.
    cut = len(text) - limit
    if cut > 0:
        text = text[:limit]
    # isprintable() is false for exactly the classes Other and Separator (without the space).
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in text.replace("\r\n", "\n"))
    return f"{text} [… {cut} more characters]" if cut > 0 else text


def one_line(value: object, limit: int = LIMIT) -> str:
    """Like ``clean``, with line breaks and tabs made visible as well."""
    return clean(value, limit).replace("\n", "\\n").replace("\t", "\\t")


def _escape(char: str) -> str:
    code = ord(char)
    if char == "\r":
        return "\\r"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _dump(value: object) -> str:
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):
        # Mixed key types cannot be sorted, and a loop cannot be dumped: show that there is something.
        return f"<{type(value).__name__}>"


def width(text: str) -> int:
    """Columns that the text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, most: int) -> str:
    """At most so many characters, the last of which says that some are missing."""
    return text if len(text) <= most else text[: most - 1] + "…"


def clip(text: str, columns: int, mark: str = "...") -> str:
    """The text, shortened to so many columns, with a mark where something is missing."""
    if text.isascii():
        return text if len(text) <= columns else (text[: max(columns - len(mark), 0)] + mark)[: max(columns, 0)]
    used = fits = 0
    for place, char in enumerate(text):
        used += width(char)
        if used <= columns - len(mark):
            fits = place + 1
        if used > columns:
            return (text[:fits] + mark)[: max(columns, 0)]
    return text


def clip_middle(text: str, columns: int, mark: str = "...") -> str:
    """Shortened in the middle: paths differ at their end."""
    if width(text) <= columns or not text.isascii():
        return clip(text, columns, mark)
    head = (columns - len(mark)) // 3
    return text[:head] + mark + text[len(text) - (columns - len(mark) - head) :]


_WORD = r"""(?:'[^']*'|"[^"]*"|\S)+"""
_ARGUMENT = re.compile(rf"-{{1,2}}[\w-]+ (?!-){_WORD}|{_WORD}")


def wrap(text: str, columns: int, tail: str = "") -> list[str]:
    """Lines of at most so many columns; ``tail`` ends every line that continues.

    With ``tail`` it is a command, which must stay one that can be pasted: no line ends within
    quotes, a value stays beside its option, and what is too long for a line is left whole. Other words are broken.
    """
    room = max(columns - len(tail), 8)
    lines: list[str] = []
    line = ""
    for word in _ARGUMENT.findall(text) if tail else text.split(" "):
        candidate = f"{line} {word}" if line else word
        if width(candidate) <= room:
            line = candidate
            continue
        if line:
            lines.append(line)
        line = word
        while not tail and width(line) > room:
            head = clip(line, room, "")
            lines.append(head)
            line = line[len(head) :]
    lines.append(line)
    return [text + tail for text in lines[:-1]] + lines[-1:]


def listing(names: Iterable[str], columns: int, most: int = 8) -> str:
    """``a, b, c and 14 more``: as many names as fit, and the count of the rest."""
    everything = list(names)
    shown: list[str] = []
    used = 0
    for name in everything[:most]:
        used += width(name) + 2
        if shown and used > columns - 14:
            break
        shown.append(clip(name, max(columns - 14, 8)))
    rest = len(everything) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 host``, ``2 hosts``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A length of time as a person would say it, in the largest sensible unit."""
    for size, noun in ((365 * 86400, "year"), (86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return count(int(min(seconds // size, 9999)), noun)
    return count(int(seconds), "second")


def fields(value: object) -> Mapping[str, object]:
    """A mapping with text keys, whatever was given; an empty one for anything else."""
    if not isinstance(value, Mapping):
        return {}
    if all(isinstance(key, str) for key in value):
        return value
    return {str(key): item for key, item in value.items()}


def items(value: object) -> list[object]:
    """A list, whatever was given; an empty one for anything that is not a list."""
    return list(value) if isinstance(value, (list, tuple)) else []
