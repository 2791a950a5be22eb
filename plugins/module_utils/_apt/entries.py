# SPDX-License-Identifier: GPL-3.0-or-later
"""The apt sources that are configured on a node, and which of them stop apt.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader

APT = "/etc/apt"

_LINE = re.compile(r"deb(?:-src)?\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)")
_SIGNED_BY = re.compile(r"(?:^|\s)signed-by=(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One enabled source. ``signed_by``: as written, on one line."""

    file: str
    uri: str
    suite: str
    signed_by: str


def configured(reader: Reader) -> tuple[Entry, ...]:
    """Every enabled source. Raises Unreadable."""
    return tuple(entry for path, text in _files(reader) for entry in parse(path, text))


def _files(reader: Reader) -> Iterator[tuple[str, str]]:
    folder = f"{APT}/sources.list.d"
    names = [f"{folder}/{name}" for name in reader.listdir(folder) or () if name.endswith((".list", ".sources"))]
    for path in (f"{APT}/sources.list", *names):
        yield path, reader.read(path) or ""


def parse(path: str, text: str) -> list[Entry]:
    return list(_stanzas(path, text) if path.endswith(".sources") else _lines(path, text))


def _lines(path: str, text: str) -> Iterator[Entry]:
    """sources.list(5), one-line style."""
    for line in text.splitlines():
        found = _LINE.match(line.strip())
        if found:
            signed = _SIGNED_BY.search(found["options"] or "")
            yield Entry(path, found["uri"], found["suite"], signed[1] if signed else "")


def _stanzas(path: str, text: str) -> Iterator[Entry]:
    """sources.list(5), deb822 style: a field goes on in lines that begin with a blank."""
    for stanza in re.split(r"\n(?:[ \t]*\n)+", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += f" {line.strip()}"
            elif ":" in line:
                name, _colon, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "without", "off", "disable"):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Entry(path, uri, suite, " ".join(fields.get("signed-by", "").split()))


def address(uri: str) -> str:
    """What apt takes for the same place."""
    return uri.rstrip("/")


def conflict(entries: Iterable[Entry]) -> bool:
    """Whether apt refuses these: one address and suite, and two keys."""
    keys: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        keys.setdefault((address(entry.uri), entry.suite), set()).add(entry.signed_by)
    return any(len(found) > 1 for found in keys.values())


def dgx_os(reader: Reader) -> bool:
    """NVIDIA's own system: its repositories are adopted, and none is added."""
    try:
        return any(reader.stat(path) is not None for path in ("/etc/dgx-release", f"{APT}/sources.list.d/dgx.sources"))
    except Unreadable:
        return True  # what cannot be seen is not changed
