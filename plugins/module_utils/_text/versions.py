# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of drivers, kernels, toolkits and wheels, and ranges of them.

One order for all of them, made for bounds that people write down; it is not dpkg's and not
PEP 440's, but agrees with both wherever a version is made of numbers (the tests compare).

A version begins with a digit and has up to three parts, ``MAIN[-FLAVOUR][+LOCAL]``:

* MAIN is cut into numbers and words; ``. - _`` and a change from digit to letter only
  separate them. Numbers compare as numbers (``03`` is 3), words as lower-case text.
* A number that is not there counts as 0: ``13.0`` equals ``13.0.0``.
* ``a alpha b beta c rc pre preview dev`` and anything after ``~`` come before the bare
  version (``2.9.0rc1 < 2.9.0``); every other word comes after it and before the next
  number (``26.05 < 26.05.post1 < 26.05.1``).
* FLAVOUR begins at the first ``-`` followed by a word that is not one of those or ``post``:
  ``nvidia`` in ``6.17.0-1014-nvidia``. LOCAL follows the first ``+``: ``cu130`` in
  ``2.13.0+cu130``. In a range each is compared only when the bound names one, after MAIN.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

# One run as something that sorts: (number, 0, "") for numbers, (0, 1, word) for words.
Run = tuple[int, int, str]
_ZERO: Run = (0, 0, "")
_TILDE: Run = (-2, 0, "")
_EARLY = frozenset({"a", "alpha", "b", "beta", "c", "rc", "pre", "preview", "dev"})
_VERSION = re.compile(r"[0-9][A-Za-z0-9._~+-]*\Z")
_FLAVOUR = re.compile(r"-(?=[A-Za-z])(?!(?:{})(?![A-Za-z]))".format("|".join(sorted(_EARLY | {"post"}))), re.IGNORECASE)
_RUN = re.compile(r"[0-9]+|[A-Za-z]+|~")
_BOUND = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([^\s<>=!]\S*)\s*\Z")
_HOLDS: dict[str, Callable[[int], bool]] = {
    ">=": lambda order: order >= 0,
    "<=": lambda order: order <= 0,
    "==": lambda order: order == 0,
    "!=": lambda order: order != 0,
    ">": lambda order: order > 0,
    "<": lambda order: order < 0,
}


@dataclass(frozen=True)
class Version:
    main: tuple[Run, ...]
    flavour: tuple[Run, ...] = ()
    local: tuple[Run, ...] = ()


def parse_version(text: str) -> Version:
    """ValueError when it is not a version: better no answer than a wrong one."""
    clean = text.strip()
    if not _VERSION.match(clean):
        raise ValueError(
            f"{text!r} is not a version: it begins with a digit and holds letters, digits and . _ ~ + - only"
        )
    main, _plus, local = clean.partition("+")
    main, *flavour = _FLAVOUR.split(main, maxsplit=1)
    return Version(_runs(main), _runs("".join(flavour)), _runs(local))


def compare_versions(one: str, other: str) -> int:
    """-1, 0 or 1: where the first stands to the second, flavour and local part included."""
    first, second = parse_version(one), parse_version(other)
    return _order(first.main, second.main) or _order(first.flavour, second.flavour) or _order(first.local, second.local)


def version_in_range(version: str, wanted: str) -> bool:
    """Whether ``version`` is in a range such as ``>=580.126.09,<581``.

    ``,`` is *and*, ``|`` is *or* and binds less: ``>=6.14.0-1015,<6.15 | >=6.17.0-1014``.
    """
    value = parse_version(version)
    alternatives = [[_bound(part, wanted) for part in side.split(",")] for side in wanted.split("|")]
    return any(all(_HOLDS[sign](_stands(value, bound)) for sign, bound in side) for side in alternatives)


def _bound(text: str, whole: str) -> tuple[str, Version]:
    found = _BOUND.match(text)
    if not found:
        raise ValueError(f"{text.strip()!r} in the range {whole!r} is not a bound such as >=13.0 (>= <= == != > <)")
    return found.group(1), parse_version(found.group(2))


def _stands(value: Version, bound: Version) -> int:
    return (
        _order(value.main, bound.main)
        or (_order(value.flavour, bound.flavour) if bound.flavour else 0)
        or (_order(value.local, bound.local) if bound.local else 0)
    )


def _runs(text: str) -> tuple[Run, ...]:
    return tuple(_run(word) for word in _RUN.findall(text.lower()))


def _run(word: str) -> Run:
    if word == "~":
        return _TILDE
    if word.isdigit():
        return int(word), 0, ""
    return (-1, 0, word) if word in _EARLY else (0, 1, word)


def _order(one: tuple[Run, ...], other: tuple[Run, ...]) -> int:
    for left, right in zip_longest(one, other, fillvalue=_ZERO):
        if left != right:
            return -1 if left < right else 1
    return 0
