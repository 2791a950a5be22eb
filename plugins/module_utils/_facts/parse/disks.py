# SPDX-License-Identifier: GPL-3.0-or-later
"""What udev recorded about block devices, and where they are mounted.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.memory import unescape


def udev_properties(text: str) -> dict[str, str]:
    """The ``E:`` lines of a file of /run/udev/data."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not re.match(r"[A-Z]:", line):
            if line.strip():
                raise ParseError("udev database", line, "lines that start with a letter and a colon")
            continue
        key, equals, value = line[2:].partition("=")
        if line.startswith("E:") and equals:
            found[key] = value
    return found


def mounts(text: str) -> dict[str, list[str]]:
    """/proc/self/mountinfo: ``major:minor`` → mount points."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        match = re.match(r"[0-9]{1,10} [0-9]{1,10} ([0-9]{1,6}:[0-9]{1,8}) \S+ (\S+) ", line, re.ASCII)
        if match is None:
            raise ParseError("/proc/self/mountinfo", line, "id parent major:minor root mount-point …")
        point = unescape(match[2])
        if point not in found.setdefault(match[1], []):
            found[match[1]].append(point)
    return found


def device_number(text: str) -> str:
    word = text.strip()
    if not re.fullmatch(r"[0-9]{1,6}:[0-9]{1,8}", word, re.ASCII):
        raise ParseError("block device number", text, "major:minor")
    return word
