# SPDX-License-Identifier: GPL-3.0-or-later
"""From the rows of the matrix and what was seen on a node to verdicts. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import misfits
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import version_in_range
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import (
    EVERY,
    KNOWN_BAD,
    KNOWN_GOOD,
    PLACES,
    PYTHON,
    SUBJECTS,
    UNJUDGED,
    UNMEASURED,
    VERDICTS,
    Judged,
    Row,
    Seen,
)

VARIABLE = "spark_version_matrix"
# One row of it, for argument specs.
ROW: dict[str, dict[str, Any]] = {
    "id": {"type": "str", "required": True},
    "subject": {"type": "str", "required": True},
    "range": {"type": "str", "required": True},
    "verdict": {"type": "str", "required": True, "choices": list(VERDICTS)},
    "why": {"type": "str", "required": True},
    "source": {"type": "str", "required": True},
    "remedy": {"type": "str", "default": ""},
    "only": {"type": "str", "choices": ["", *PLACES], "default": ""},
    "unless": {"type": "str", "default": ""},
}
# Of every module that judges versions. Documented by the fragment ``version_matrix``.
OPTIONS: dict[str, Any] = {"version_matrix": {"type": "list", "elements": "dict", "default": [], "options": ROW}}
_ID = re.compile(r"[a-z0-9_]+\Z")
_DISTRIBUTION = re.compile(re.escape(PYTHON) + r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_PARAMETER = re.compile(r"[^\s=]+(=\S+)?\Z")


def matrix(own: Sequence[Mapping[str, object]] = ()) -> tuple[Row, ...]:
    """The shipped rows with those of a site: one of the same id takes the place of ours. Raises InputError."""
    for one in refusals(own):
        raise InputError(one.key, wanted=one.wanted, found=one.found, why=one.why, fix=one.fix)
    rows = {row.id: row for row in ROWS}
    for given in own:
        row = Row(**{name: str(value) for name, value in given.items() if value is not None})
        rows[row.id] = row
    return tuple(rows.values())


def refusals(own: Sequence[Mapping[str, object]]) -> Iterator[Problem]:
    """What is wrong with the rows of a site, each by its exact place."""
    ids: set[str] = set()
    for number, given in enumerate(own):
        at = f"{VARIABLE}[{number}]"
        wrong = list(misfits(ROW, given, f"{at}."))
        yield from wrong
        if wrong:
            continue
        values = {name: str(value or "") for name, value in given.items()}
        if not _ID.match(values["id"]) or values["id"] in ids:
            yield _wrong(f"{at}.id", "a name of a-z, 0-9 and _ of its own", values["id"])
        ids.add(values["id"])
        if values["subject"] not in SUBJECTS and not _DISTRIBUTION.match(values["subject"]):
            yield _wrong(f"{at}.subject", f"{', '.join(SUBJECTS)} or {PYTHON}<distribution>", values["subject"])
        if values["verdict"] == KNOWN_BAD and not values.get("remedy"):
            yield _wrong(f"{at}.remedy", "what to do about a version that is known to be bad", "nothing")
        if values.get("unless") and not _PARAMETER.match(values["unless"]):
            yield _wrong(f"{at}.unless", "a kernel parameter such as kho=off", values["unless"])
        try:
            _within("1", values["range"])
        except ValueError as error:
            yield _wrong(f"{at}.range", "bounds such as >=580.126.09,<581, or *", str(error))


def _wrong(at: str, wanted: str, found: str) -> Problem:
    why = "a row that nobody understands would judge nothing, and nobody would notice"
    return Problem("versions.row", f"{at}: {wanted}", repr(found), why, f"correct {at}")


def judge(rows: Iterable[Row], subject: str, version: str, seen: Seen) -> Judged:
    """What speaks against a version counts most, then what cannot be told, then what speaks for it."""
    found: dict[str, list[Row]] = {verdict: [] for verdict in VERDICTS}
    doubts: list[str] = []
    for row in rows:
        if row.subject != subject:
            continue
        try:
            inside = _within(version, row.range)
        except ValueError as error:
            return Judged(subject, version, UNJUDGED, reason=str(error))
        holds = _holds(row, seen) if inside else False
        if holds:
            found[row.verdict].append(row)
        elif holds is None and row.verdict == KNOWN_BAD:
            unseen = [condition for condition in row.conditions if condition not in seen.conditions]
            doubts += [f"{row.id}: {_unseen(condition, seen)}" for condition in unseen]
    if found[KNOWN_BAD]:
        return Judged(subject, version, KNOWN_BAD, tuple(found[KNOWN_BAD]))
    if doubts:
        return Judged(subject, version, UNJUDGED, reason="; ".join(doubts))
    for verdict in (UNMEASURED, KNOWN_GOOD):
        if found[verdict]:
            return Judged(subject, version, verdict, tuple(found[verdict]))
    return Judged(subject, version, UNMEASURED, reason="no row of the version matrix has it")


def judge_all(rows: Sequence[Row], seen: Seen) -> tuple[Judged, ...]:
    """Every version that was seen, in the order of the subjects."""
    order = [*SUBJECTS, *sorted(subject for subject in seen.versions if subject not in SUBJECTS)]
    return tuple(judge(rows, subject, seen.versions[subject], seen) for subject in order if subject in seen.versions)


def told(judged: Judged, row: Row) -> str:
    """A known-bad version as one sentence: what, why, what to do."""
    return f"{judged.title} is known to be bad: {row.why}; {row.remedy}."


def bad_anywhere(rows: Iterable[Row], subject: str, version: str) -> tuple[Row, ...]:
    """The rows by which this version is known to be bad whatever else holds: of one that is not there yet."""
    try:
        return tuple(
            row
            for row in rows
            if row.subject == subject
            and row.verdict == KNOWN_BAD
            and not row.conditions
            and _within(version, row.range)
        )
    except ValueError:
        return ()


def parameters_for(rows: Iterable[Row], kernel: str) -> tuple[str, ...]:
    """The parameters without which this kernel is known to be bad, such as ``kho=off``. Raises ValueError."""
    return tuple(
        dict.fromkeys(
            row.unless
            for row in rows
            if row.subject == "kernel" and row.verdict == KNOWN_BAD and row.unless and _within(kernel, row.range)
        )
    )


def known_bad(rows: Iterable[Row]) -> list[dict[str, object]]:
    """The known-bad Python distributions, as entries of the option ``blocklist`` of vllm_venv."""
    return [
        {
            "distribution": row.subject[len(PYTHON) :],
            "versions": [side.strip() for side in row.range.split("|")],
            "reason": f"{row.why} ({row.source})",
            "fix": f"{row.remedy}; it is row {row.id} of the version matrix",
        }
        for row in rows
        if row.subject.startswith(PYTHON) and row.verdict == KNOWN_BAD and not row.conditions
    ]


def conditions(rows: Iterable[Row], parameters: Mapping[str, object]) -> dict[str, bool]:
    """Whether the kernel parameters that rows ask about are set. ``parameters``: name → its values, in order."""
    found: dict[str, bool] = {}
    for row in rows:
        if row.unless:
            name, sign, value = row.unless.partition("=")
            values = parameters.get(name)
            last = values[-1] if isinstance(values, (list, tuple)) and values else values
            # The last one counts, as for the kernel.
            found[row.unless] = name in parameters and (not sign or last == value)
    return found


def _holds(row: Row, seen: Seen) -> bool | None:
    """Do the conditions of this row hold? None: that could not be seen."""
    only = seen.conditions.get(row.only) if row.only else True
    spared = seen.conditions.get(row.unless) if row.unless else False
    if only is False or spared is True:
        return False
    return None if only is None or spared is None else True


def _unseen(condition: str, seen: Seen) -> str:
    return f"whether it has {condition} is not known ({seen.unknown.get(condition, 'it was not looked at')})"


def _within(version: str, wanted: str) -> bool:
    return wanted.strip() == EVERY or version_in_range(version, wanted)
