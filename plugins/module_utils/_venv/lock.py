# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock: every distribution with one version and the hashes of its wheels, and nothing else.

The format is pip's requirements file, of which only ``name==version --hash=sha256:…`` is
allowed, with comments and continued lines. What would make the result depend on more than the
lock is refused with its line: ranges, URLs, editables, includes, options, and environment
markers too, since a lock is resolved for one platform (``uv pip compile --python-platform …``).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import compare_versions
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Pin

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[A-Za-z0-9._,\s-]*\])?\s*"
    r"==\s*(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)\Z"
)
_HASH = re.compile(r"--hash[= ]sha256:(?P<hex>[0-9a-f]{64})\Z")
_COMMENT = re.compile(r"(^|\s+)#.*$")


def canonical(name: str) -> str:
    """The one spelling of a distribution's name, as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def same_version(one: str, other: str) -> bool:
    """1.0 and 1.0.0 are the same release; what is no version is compared as text."""
    try:
        return compare_versions(one, other) == 0
    except ValueError:
        return one == other


def parse(text: str, source: str) -> tuple[Pin, ...]:
    """``source`` names the lock in errors (``stages[0].lock``)."""
    pins: dict[str, Pin] = {}
    for number, line in _logical_lines(text, source):
        pin = _pin(line, number, source)
        if pin.name in pins:
            raise refused(source, number, f"{pin.name} is there twice, first in line {pins[pin.name].line}")
        pins[pin.name] = pin
    if not pins:
        raise refused(source, 1, "it names no distribution")
    return tuple(pins.values())


def _logical_lines(text: str, source: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, without comments; each with the number of its first line."""
    begun, pieces = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        continued = raw.endswith("\\")
        piece = _COMMENT.sub("", raw[:-1] if continued else raw).strip()
        if piece and not pieces:
            begun = number
        if piece:
            pieces.append(piece)
        if not continued and pieces:
            yield begun, " ".join(pieces)
            pieces = []
    if pieces:
        raise refused(source, begun, "its last line is continued, and nothing follows: was the file cut off?")


def _pin(line: str, number: int, source: str) -> Pin:
    requirement, *options = re.split(r"\s+(?=--)", line)
    if requirement.startswith("-"):
        raise refused(source, number, f"the option {requirement.split()[0].partition('=')[0]} is not allowed in a lock")
    if ";" in requirement:
        raise refused(source, number, "an environment marker: a lock is resolved for one platform and Python")
    if "://" in requirement or " @ " in requirement or requirement.startswith((".", "/")):
        raise refused(source, number, "a URL or path instead of name==version")
    found = _PIN.match(requirement)
    if not found:
        raise refused(source, number, f"{requirement[:80]!r} is not pinned as name==version")
    hashes = [_HASH.match(option.strip()) for option in options]
    if not all(hashes):
        odd = next(option for option, match in zip(options, hashes, strict=True) if not match)
        raise refused(source, number, f"{odd.split()[0].split(':')[0]} is no --hash=sha256:… of 64 digits")
    if not hashes:
        raise refused(source, number, f"{found['name']}=={found['version']} has no --hash=sha256:…")
    digests = tuple(sorted({match["hex"] for match in hashes if match}))
    return Pin(canonical(found["name"]), found["version"].lower(), digests, number)


def refused(source: str, line: int, found: str) -> InputError:
    return InputError(
        "venv.lock",
        wanted=f"{source}: name==version with at least one --hash=sha256:… for each distribution",
        found=f"line {line}: {found}",
        why="only a full pin with hashes installs the same bytes on every node",
        fix="make it with: uv pip compile --generate-hashes --python-platform … --python-version … in.txt",
    )
