# SPDX-License-Identifier: GPL-3.0-or-later
"""Advisories in the OSV format (ossf.github.io/osv-schema) as rows of the version matrix. Pure.

Only of Python distributions: those are what locks hold. A range that cannot be understood counts for every
version, since an advisory that is left out would read as "nothing known".

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import parse_version
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import EVERY, KNOWN_BAD, PYTHON

ECOSYSTEM = "PyPI"
# A range by commits says nothing about releases.
NOT_OF_RELEASES = "GIT"


def rows(advisories: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One row for each advisory and distribution. Raises ValueError for what is no advisory."""
    found: list[dict[str, str]] = []
    for number, advisory in enumerate(advisories):
        if not isinstance(advisory, Mapping) or not isinstance(advisory.get("id"), str):
            raise ValueError(f"entry {number} is no OSV advisory: it has no id")
        if not advisory.get("withdrawn"):
            found += _rows(advisory)
    return found


def _rows(advisory: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    affected: dict[str, list[Mapping[str, Any]]] = {}
    for one in advisory.get("affected") or ():
        package = one.get("package") or {}
        # "PyPI:https://…" is an index of its own, which may have the same names.
        if str(package.get("ecosystem", "")).partition(":")[0] == ECOSYSTEM and package.get("name"):
            name = re.sub(r"[-_.]+", "-", str(package["name"])).lower()
            affected.setdefault(name, []).append(one)
    identity = str(advisory["id"])
    names = [identity, *(str(alias) for alias in advisory.get("aliases") or ())]
    for name, parts in affected.items():
        sides = list(dict.fromkeys(side for part in parts for side in _sides(part)))
        fixed = list(dict.fromkeys(version for part in parts for version in _fixed(part)))
        yield {
            "id": re.sub(r"[^a-z0-9]+", "_", f"{identity}_{name}".lower()).strip("_"),
            "subject": f"{PYTHON}{name}",
            "range": EVERY if EVERY in sides else " | ".join(sides),
            "verdict": KNOWN_BAD,
            "why": one_line(str(advisory.get("summary") or advisory.get("details") or "Vulnerable"), 160).rstrip("."),
            "source": ", ".join(names[:4]),
            "remedy": _remedy(fixed),
        }


def _remedy(fixed: Sequence[str]) -> str:
    return f"lock {' or '.join(fixed)} or newer" if fixed else "leave it out, since no release is known to be fixed"


def _sides(part: Mapping[str, Any]) -> Iterator[str]:
    """Alternatives of a range; ``*`` for what cannot be understood, or is said of no version at all."""
    named = [str(version) for version in part.get("versions") or ()]
    ranges = [one for one in part.get("ranges") or () if one.get("type") != NOT_OF_RELEASES]
    told = [side for one in ranges for side in _spans(one.get("events") or ())]
    if EVERY in told and named and all(_is_version(version) for version in named):
        told = []
    yield from told or ([f"=={version}" if _is_version(version) else EVERY for version in named] or [EVERY])


def _spans(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """introduced … fixed (not in it) or last_affected (in it), as often as the events say."""
    begun = ""
    for event in events:
        ((kind, value),) = event.items() if len(event) == 1 else (("", ""),)
        version = str(value)
        if kind == "introduced":
            begun = version
        elif kind in ("fixed", "last_affected") and begun:
            yield _span(begun, version, "<" if kind == "fixed" else "<=")
            begun = ""
        elif kind not in ("fixed", "last_affected", "limit"):
            yield EVERY
    if begun:
        yield _span(begun, "", "")


def _span(begun: str, end: str, sign: str) -> str:
    # "0" stands for the first version there ever was.
    bounds = [f">={begun}"] if begun != "0" else []
    bounds += [f"{sign}{end}"] if end else []
    return ",".join(bounds) if bounds and all(_is_version(v) for v in (begun, end or "0")) else EVERY


def _fixed(part: Mapping[str, Any]) -> Iterator[str]:
    for one in part.get("ranges") or ():
        if one.get("type") != NOT_OF_RELEASES:
            yield from (str(event["fixed"]) for event in one.get("events") or () if "fixed" in event)


def _is_version(text: str) -> bool:
    """Of those that a range of ours can name: a blank or a comma would make another one of it."""
    try:
        parse_version(text)
    except ValueError:
        return False
    return True
