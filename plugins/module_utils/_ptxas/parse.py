# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of tools and files, understood. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Version

_TRITON = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,9}))?(?![\d.])", re.ASCII)
_ASSIGNED = re.compile(r"""^__version__\s*(?::\s*str\s*)?=\s*(["'])([^"']+)\1""", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def triton_version(text: str) -> Version | None:
    """3.5.1, 3.5.0+git1a2b3c, 3.7.0rc1, 3.6.0.post1; None for anything else."""
    match = _TRITON.match(text.strip()) or re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,9})", text.strip(), re.ASCII)
    return None if match is None else Version(int(match[1]), int(match[2]), int(match[3] or 0))


def assigned_version(source: str) -> str:
    """The string that a Python file gives to ``__version__``, or nothing."""
    match = _ASSIGNED.search(source)
    return "" if match is None else match[2].strip()


def metadata_version(text: str) -> str:
    """``Version:`` of the header of a METADATA file."""
    header = text.replace("\r\n", "\n").split("\n\n", 1)[0]
    match = re.search(r"^Version:[ \t]*(\S+)", header, re.MULTILINE | re.IGNORECASE)
    return "" if match is None else match[1]


def environment_file(text: str) -> dict[str, str]:
    """Variables of a file that systemd reads as EnvironmentFile=; the last one wins.

    The grammar of systemd 254 and later (Ubuntu 24.04 has 255): a line beginning with # or ;
    is a comment, a name that is no variable name (with a hyphen, or after ``export``) is
    dropped, a value may be quoted over several lines, a backslash joins two lines.
    """
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end]
        name, equals, _rest = line.partition("=")
        if not equals or line.lstrip()[:1] in ("#", ";"):
            position = end + 1
            continue
        value, position = _value(text, position + len(name) + 1)
        if _NAME.fullmatch(name.strip()):
            found[name.strip()] = value
    return found


def _value(text: str, position: int) -> tuple[str, int]:
    """The value that begins at ``position``, and where the next line begins."""
    out: list[str] = []
    plain = False  # inside an unquoted word: blanks count until the line ends, quotes are letters
    quote = ""
    keep = 0  # blanks at the end are dropped, but not quoted or escaped ones
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\n" and not quote:
            break
        if char == "\\" and quote != "'":
            following = text[position : position + 1]
            position += 1
            plain = not quote
            if following != "\n":
                # In double quotes only these four lose their backslash.
                out.append("\\" + following if quote and following not in '"\\`$' else following)
            keep = len(out)
        elif quote:
            quote = "" if char == quote else quote
            if quote:
                out.append(char)
            keep = len(out)
        elif char in "\"'" and not plain:
            quote = char
        elif plain or not char.isspace():
            plain = True
            out.append(char)
    while len(out) > keep and out[-1].isspace():
        out.pop()
    return "".join(out), position
