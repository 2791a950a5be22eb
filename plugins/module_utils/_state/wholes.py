# SPDX-License-Identifier: GPL-3.0-or-later
"""Files put together from what several controls declare, and how one becomes the other.

A file is owned whole by one role. Several controls may each own a fragment of it, so that
forty settings in one file are forty verdicts; a line that nobody declared is drift of
``<role>/file_extra``. A line of a fragment that is skipped is nobody's business here: it stays
where it is, and is neither missed nor drift.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import File

SECRET = re.compile(r"\$\{secret:([A-Za-z0-9_]+)\}")
# What difflib compares in well under a second on a slow node, at its worst: lines, and pairs of equal ones.
MOST_LINES = 4000
MOST_PAIRS = 20_000


@dataclass(frozen=True)
class Part:
    """One control's share of a file: the lines it declared."""

    control: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Whole:
    """A file with all its parts. ``skipped``: lines of fragments that are left as they are found.

    keeps: lines that nobody declared stay as well, since ``<role>/file_extra`` is skipped.
    Secrets are still references, until ``filled`` has put them in.
    """

    file: File
    parts: tuple[Part, ...]
    skipped: tuple[str, ...] = ()
    keeps: bool = False

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(line for part in self.parts for line in part.lines)

    def filled(self, secrets: Mapping[str, str]) -> Whole:
        """A secret of several lines is several lines."""

        def fill(lines: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(piece for line in lines for piece in substitute(line, secrets).split("\n"))

        return replace(
            self,
            parts=tuple(replace(part, lines=fill(part.lines)) for part in self.parts),
            skipped=fill(self.skipped),
        )

    def text(self, found: str | None) -> str:
        """What the file must be, given what it is."""
        if not self.skipped and not self.keeps:
            return "".join(line + "\n" for line in self.lines)
        rest, left = divide(lines_of(found or ""), self)
        gone = {line for line, _control in self.file.withdrawn if line not in self.lines}
        if self.keeps and found is not None and gone.isdisjoint(rest) and _in_order(self.lines, rest):
            # Of lines that are there more than once another one might be taken for ours, and moved each time.
            return found
        lines: list[str] = []
        for _tag, i1, i2, j1, j2 in opcodes(rest, self.lines):
            ours = list(self.lines[j1:j2])
            for index in range(i1, i2):
                lines += left[index]
                if ours:
                    lines.append(ours.pop(0))
                elif self.keeps and rest[index] not in gone:
                    lines.append(rest[index])
            lines += ours
        return "".join(line + "\n" for line in (*lines, *left[len(rest)]))


def _in_order(lines: Iterable[str], among: Iterable[str]) -> bool:
    rest = iter(among)
    return all(line in rest for line in lines)


def _name(line: str) -> str:
    """What a line such as ``vm.swappiness = 10`` sets; empty for one of another form."""
    name, equals, _value = line.partition("=")
    return name.strip() if equals else ""


def divide(found: Sequence[str], whole: Whole) -> tuple[list[str], list[list[str]]]:
    """The lines to judge, and those to leave: before each of the first, and after the last.

    To leave is a line of a skipped fragment, and one that sets its name to another value: who
    skips a control keeps that setting for themselves. A line that could be either is the declared
    one when that one is next: so what ``text`` has made is divided into all declared lines and
    the ones to leave, and a second look finds nothing to do.
    """
    lines = frozenset(whole.skipped)
    declared = whole.lines
    names = {_name(line) for line in lines} - {_name(line) for line in declared} - {""}
    rest: list[str] = []
    left: list[list[str]] = [[]]
    due = 0
    for line in found:
        if due < len(declared) and line == declared[due]:
            due += 1
        elif line in lines or _name(line) in names:
            left[-1].append(line)
            continue
        rest.append(line)
        left.append([])
    return rest, left


def opcodes(found: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """How one becomes the other, as difflib says it, and ``other`` for a part that is too much to compare.

    Comparing lines that repeat takes the cube of their number. Nobody reads a difference as long
    as that, and a file that a service fills by mistake must not stop a check.
    """
    most = min(len(found), len(wanted))
    head = next((n for n in range(most) if found[n] != wanted[n]), most)
    tail = next((n for n in range(most - head) if found[-1 - n] != wanted[-1 - n]), most - head)
    ends = (len(found) - tail, len(wanted) - tail)
    mine, theirs = found[head : ends[0]], wanted[head : ends[1]]
    times = Counter(theirs)
    codes = [("equal", 0, head, 0, head)]
    pairs = sum(times[line] for line in mine)
    if mine and theirs and (len(mine) + len(theirs) > MOST_LINES or pairs > MOST_PAIRS):
        codes.append(("other", head, ends[0], head, ends[1]))
    else:
        middle = difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes()
        codes += [(tag, i1 + head, i2 + head, j1 + head, j2 + head) for tag, i1, i2, j1, j2 in middle]
    return [*codes, ("equal", ends[0], len(found), ends[1], len(wanted))]


def lines_of(text: str) -> tuple[str, ...]:
    """Only a line feed ends a line here: str.splitlines would drop the \\r, \\f or U+2028 of a file."""
    return tuple(text.removesuffix("\n").split("\n")) if text else ()


def assemble(
    declared: Iterable[tuple[str, File]], skipped: Iterable[File] = (), *, keeps: bool = False
) -> dict[str, Whole]:
    """Put the fragments of each path together, in document order. ``skipped``: files of controls
    that are not selected; of interest where they are part of a file that somebody else writes.
    keeps: what nobody declared stays.

    That parts of one path agree on its attributes is for ``claims`` to see.
    """
    wholes: dict[str, Whole] = {}
    for control, file in declared:
        part = Part(control, lines_of(file.content))
        earlier = wholes.get(file.path)
        if earlier is None:
            wholes[file.path] = Whole(file, (part,), keeps=keeps)
            continue
        merged = replace(earlier.file, sensitive=_strictest(earlier.file, file))
        wholes[file.path] = replace(earlier, file=merged, parts=(*earlier.parts, part))
    for file in skipped:
        whole = wholes.get(file.path)
        if whole is not None and whole.file.fragment and file.fragment:
            merged = replace(whole.file, sensitive=_strictest(whole.file, file))
            wholes[file.path] = replace(whole, file=merged, skipped=(*whole.skipped, *lines_of(file.content)))
    return wholes


def _strictest(one: File, other: File) -> bool | None:
    said = (one.sensitive, other.sensitive)
    return next(value for value in (True, None, False) if value in said)


def substitute(text: str, secrets: Mapping[str, str]) -> str:
    return SECRET.sub(lambda match: secrets[match.group(1)], text)
