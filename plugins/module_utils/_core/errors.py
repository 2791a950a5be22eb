# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that tell an operator what to do next.

Every error carries four parts: what was wanted, what was found, why that matters and
what to do next, plus a key that scripts can match. ``entry.py`` turns them into
``fail_json(error={...})``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """The four parts of one error.

    key: machine-readable, ``<subject>.<what>`` in snake_case, stable across releases.
    """

    key: str
    wanted: str
    found: str
    why: str
    fix: str

    def text(self) -> str:
        return f"{self.wanted}. Found: {self.found}. Why it matters: {self.why}. What to do: {self.fix}."

    def as_dict(self, kind: str) -> dict[str, str]:
        return {
            "key": self.key,
            "kind": kind,
            "wanted": self.wanted,
            "found": self.found,
            "why": self.why,
            "fix": self.fix,
        }


def refusal(problems: Sequence[Problem]) -> dict[str, object]:
    """Several wrong inputs as one failed result: an operator wants to mend them all at once."""
    return {
        "failed": True,
        "msg": "\n".join(problem.text() for problem in problems),
        "error": problems[0].as_dict("input"),
        "errors": [problem.as_dict("input") for problem in problems],
    }


class Unreadable(Exception):
    """The node would not let us look (permission, I/O error); the text says why."""


class SparkError(Exception):
    """Base of every expected error; ``kind`` says whose turn it is to act."""

    kind = "internal"

    def __init__(self, key: str, *, wanted: str, found: str, why: str, fix: str) -> None:
        self.problem = Problem(key, wanted, found, why, fix)
        super().__init__(self.problem.text())


class InputError(SparkError):
    """The declaration is wrong: nothing was looked at or changed."""

    kind = "input"


class NodeError(SparkError):
    """The node refused or cannot do what was declared."""

    kind = "node"


class ParseError(SparkError):
    """A tool printed something that is not what it documents."""

    kind = "parse"

    def __init__(self, source: str, found: str, expected: str) -> None:
        super().__init__(
            "parse." + source.replace(" ", "_"),
            wanted=f"Output of {source} in the form: {expected}",
            found=repr(found[:200]),
            why="a half-understood output would be reported as a fact",
            fix=f"run {source} by hand and report what it prints as an issue of this collection",
        )


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """What the system refuses (a full disk, a read-only place, a file it cannot show) is an error with four parts."""
    try:
        yield
    except (OSError, UnicodeError, Unreadable) as error:
        found = str(error)
        if isinstance(error, OSError):
            found = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        raise NodeError(
            "core.step_failed",
            wanted=what,
            found=found,
            why="what comes after this was not tried; what comes before it is done",
            fix="mend the cause and run the play again: it goes on where this run stopped",
        ) from error
