# SPDX-License-Identifier: GPL-3.0-or-later
"""/proc/meminfo, pressure stalls, the buddy allocator, swap, and the page size.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import struct

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import integer, number, short_lines

AT_PAGESZ = 6


def meminfo(text: str) -> dict[str, int]:
    """Values in bytes; those without a unit are counts of pages."""
    found: dict[str, int] = {}
    for line in short_lines(text):
        match = re.fullmatch(r"\s*([A-Za-z0-9_()]{1,40}):\s{1,40}([0-9]{1,20})( kB)?\s*", line, re.ASCII)
        if match:
            found[match[1]] = int(match[2]) * (1024 if match[3] else 1)
    if "MemTotal" not in found:
        raise ParseError("/proc/meminfo", text, "a line MemTotal: … kB")
    return found


def pressure(text: str) -> dict[str, Node]:
    """Lines ``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``: percent of time, and µs in all."""
    found: dict[str, Node] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(some|full) avg10=(\S+) avg60=(\S+) avg300=(\S+) total=(\S+)", line[:200], re.ASCII)
        if match is None:
            raise ParseError("/proc/pressure", line, "some|full avg10=… avg60=… avg300=… total=…")
        keys = ("avg10_percent", "avg60_percent", "avg300_percent")
        shares: dict[str, Node] = {
            key: number("/proc/pressure", value) for key, value in zip(keys, match.groups()[1:4], strict=True)
        }
        found[match[1]] = {**shares, "total_microseconds": integer("/proc/pressure", match[5])}
    if not found:
        raise ParseError("/proc/pressure", text, "a line that starts with some")
    return found


def buddyinfo(text: str) -> list[int]:
    """Free blocks of each order, all zones together: index 0 are single pages."""
    totals: list[int] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        match = re.fullmatch(
            r"Node\s{1,4}[0-9]{1,6}, zone\s{1,12}\S{1,20}((?:\s{1,20}[0-9]{1,20}){1,64})\s*", line[:2048], re.ASCII
        )
        if match is None:
            raise ParseError("/proc/buddyinfo", line, "Node 0, zone Normal and a count for each order")
        counts = [int(word) for word in match[1].split()]
        totals += [0] * (len(counts) - len(totals))
        for order, count in enumerate(counts):
            totals[order] += count
    if not totals:
        raise ParseError("/proc/buddyinfo", text, "a line for each zone")
    return totals


def swaps(text: str) -> list[dict[str, Node]]:
    lines = text.splitlines()
    if not lines or not lines[0].startswith("Filename"):
        raise ParseError("/proc/swaps", text, "a header that starts with Filename")
    found: list[dict[str, Node]] = []
    for line in lines[1:]:
        words = line.split()
        if len(words) != 5:
            raise ParseError("/proc/swaps", line, "file, type, size, used, priority")
        found.append(
            {
                "path": unescape(words[0]),
                "type": words[1],
                "size_bytes": integer("/proc/swaps", words[2]) * 1024,
                "used_bytes": integer("/proc/swaps", words[3]) * 1024,
                "priority": integer("/proc/swaps", words[4]),
            }
        )
    return found


def unescape(text: str) -> str:
    """``\\040`` and its like, with which /proc writes blanks in a path."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), text)


def page_size(text: str) -> int:
    """From /proc/self/auxv: pairs of machine words, the kernel's note to every process."""
    raw = text.encode("utf-8", "surrogateescape") if _encodable(text) else b""
    pair = struct.Struct("@LL")
    for offset in range(0, len(raw) - pair.size + 1, pair.size):
        key, value = pair.unpack_from(raw, offset)
        if key == AT_PAGESZ and 4096 <= value <= 1 << 20 and value & (value - 1) == 0:
            return int(value)
    raise ParseError("/proc/self/auxv", text, "an entry with the page size")


def _encodable(text: str) -> bool:
    # A lone high surrogate cannot have come from surrogateescape, so not from a file either.
    return not re.search("[\ud800-\udc7f\udd00-\udfff]", text)
