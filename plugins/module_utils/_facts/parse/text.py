# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parsers share: strict small readers that raise ParseError and nothing else.

Inputs are any text at all. Python's own ``int`` and ``float`` accept more than a kernel
prints (underscores, Arabic digits, ``nan``), so numbers are matched before they are converted.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError

# A line longer than this is no line of any table we read; it also bounds what a regex may cost.
MAX_LINE = 512
# More processors than Linux can be built for.
MAX_CPU = 8192


def integer(source: str, text: str) -> int:
    word = text.strip()
    if not re.fullmatch(r"-?[0-9]{1,20}", word, re.ASCII):
        raise ParseError(source, text, "a whole number")
    return int(word)


def hexadecimal(source: str, text: str) -> int:
    word = text.strip()
    if not re.fullmatch(r"(0[xX])?[0-9a-fA-F]{1,16}", word, re.ASCII):
        raise ParseError(source, text, "a hexadecimal number")
    return int(word, 16)


def number(source: str, text: str) -> float:
    word = text.strip()
    if not re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", word, re.ASCII):
        raise ParseError(source, text, "a number")
    return float(word)


def switch(source: str, text: str) -> bool:
    """A kernel switch: ``Y``/``N`` or ``1``/``0``."""
    word = text.strip()
    if word not in {"Y", "N", "1", "0"}:
        raise ParseError(source, text, "Y, N, 1 or 0")
    return word in {"Y", "1"}


def short_lines(text: str) -> list[str]:
    """Lines of a table, without those too long to belong to one."""
    return [line for line in text.split("\n") if len(line) <= MAX_LINE]


def cpu_list(source: str, text: str) -> list[int]:
    """``0-4,10-14`` → the numbers; empty for an empty list."""
    cpus: list[int] = []
    for part in text.strip().split(",") if text.strip() else []:
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part, re.ASCII)
        if match is None or int(match[2] or match[1]) >= MAX_CPU or len(cpus) >= MAX_CPU:
            raise ParseError(source, text, "a list of processors such as 0-4,10-14")
        cpus.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return cpus


def cpu_ranges(cpus: list[int]) -> str:
    """The numbers as the kernel writes them: ``0-4,10-14``."""
    parts: list[str] = []
    numbers = sorted(set(cpus))
    start = 0
    for index, cpu in enumerate(numbers):
        if index + 1 == len(numbers) or numbers[index + 1] != cpu + 1:
            first = numbers[start]
            parts.append(str(cpu) if first == cpu else f"{first}-{cpu}")
            start = index + 1
    return ",".join(parts)


def json_object(source: str, text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(source, text, f"JSON ({error})") from error
    if not isinstance(document, dict):
        raise ParseError(source, text, "a JSON object")
    return document


def assignments(source: str, text: str) -> dict[str, str]:
    """``KEY=value`` lines, values quoted or not; of a repeated key the last one counts.

    Not read by a shell on purpose: /etc/dgx-release holds unquoted blanks, and its later
    lines repeat keys of earlier ones after each over-the-air update.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"\s*([A-Za-z_][A-Za-z0-9_]{0,63})=(.*)", line, re.ASCII)
        if match is None:
            if line.strip() and not line.lstrip().startswith("#"):
                raise ParseError(source, line, "lines KEY=value")
            continue
        value = match[2].strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[match[1]] = value
    if not found:
        raise ParseError(source, text, "at least one line KEY=value")
    return found
