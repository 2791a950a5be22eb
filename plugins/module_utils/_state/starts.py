# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to systemd units: their verbs, and starts that are noted, proven and, where declared, undone.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import former, started
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unit, Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.units import (
    STARTS,
    SYSTEMCTL,
    debts,
    is_template,
    observe,
    own_files,
    parse_show,
)

# A stop may take TimeoutStopSec (90 s) and a start TimeoutStartSec (90 s) by systemd's defaults.
CHANGE_SECONDS = 300.0
# systemd calls a simple service started before its program has run: time to fail in.
SETTLE_SECONDS = 1.0
# For a unit whose own limits are none.
LONGEST_SECONDS = 86400.0
# A look at what a start would need, not the start.
TRIAL_SECONDS = 120.0
# How much of a log is read, and how much of its end is told.
LOG_LINES, LAST_LINES = 400, 8
# What an exception says of itself. Who catches it and gives up says less: "see root cause above".
_CAUSE = re.compile(r"(?:^|\s)(\w[\w.]*(?:Error|Exception): .+)")
_LIMITS = ("TimeoutStartUSec", "TimeoutStopUSec")
# systemd.time(7), as `systemctl show` writes it.
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Units:
    """Those of one document. ``files``: the paths that it owns, which are the ones it may bring back."""

    role: str
    declared: Sequence[Unit]
    files: Container[str] = ()

    def called(self, name: str) -> list[tuple[Unit, tuple[str, ...]]]:
        """What is declared of the unit of this name that its files matter to, and its own files."""
        return [
            (replace(unit, name=name), own_files(unit, self.declared))
            for unit in self.declared
            if name in (unit.name, *unit.alternatives) and unit.on_change != "none" and not is_template(name)
        ]

    def watched(self, name: str) -> list[str]:
        return list(dict.fromkeys(path for unit, own in self.called(name) for path in (*own, *unit.restart_on)))

    def undoable(self, name: str) -> list[str]:
        """The files that come back when it does not start; none where that is not declared."""
        back = any(unit.rollback for unit, _own in self.called(name))
        return [path for path in self.watched(name) if path in self.files] if back else []


def change(step: Step, reader: Reader, writer: Writer) -> None:
    """``<verb>_unit`` is systemctl's verb."""
    verb = step.action.removesuffix("_unit")
    seconds = _patience(step.target, reader) if step.action in STARTS else CHANGE_SECONDS
    # A mask may end at the next boot, or not, or be there in both ways.
    for options in ((), ("--runtime",)) if verb == "unmask" else ((),):
        argv = [SYSTEMCTL, verb, *options, "--", step.target]
        _check(writer.run(argv, timeout=seconds), step.target, writer)


def reload_manager(_step: Step, _reader: Reader, writer: Writer) -> None:
    _check(writer.run([SYSTEMCTL, "daemon-reload"], timeout=CHANGE_SECONDS), "", writer)


def start(step: Step, reader: Reader, writer: Writer, *, units: Units) -> None:
    """Start, restart or reload, and note with what: what was there before, for it may change meanwhile."""
    undoable = units.undoable(step.target)
    if not undoable:
        _noted(step, reader, writer, units)
        return
    stopped = False
    try:
        _try(step.target, reader, writer, units)
        stopped = True
        _proven(step, reader, writer, units)
    except NodeError as failed:
        changed = former.bring_back(reader, writer, units.role, step.target, undoable)
        if not changed:
            raise
        reload_manager(step, reader, writer)
        now = "and it was not stopped"
        if stopped:
            try:
                _proven(replace(step, action="restart_unit"), reader, writer, units)
                now = "and it runs with them again"
            except NodeError as again:
                now = f"and it does not start with them either: {again.problem.found}"
        raise NodeError(
            "units.rolled_back",
            wanted=f"{step.target} to run with the new {', '.join(changed)}",
            found=f"{failed.problem.found}; the former files are back, {now}",
            why="what is declared does not run; what ran before is all there is",
            fix=f"mend what it says (journalctl -u {step.target}) and run the play again: it tries the new files again",
        ) from failed


def _try(name: str, reader: Reader, writer: Writer, units: Units) -> None:
    """What a running unit is not stopped for, if it could not start again anyway."""
    trials = [unit.trial for unit, _own in units.called(name) if unit.trial]
    if not trials or _shown(name, "ActiveState", reader).get("ActiveState") != "active":
        return
    for argv in trials:
        done = writer.run(list(argv), timeout=TRIAL_SECONDS)
        if not done.ok:
            raise NodeError(
                "units.trial_failed",
                wanted=f"{name} able to start as declared",
                found=f"{one_line(' '.join(argv), 200)} {done.ending}: {one_line(done.said(5), 600)}",
                why="it would be stopped, and could not start",
                fix="mend what that says",
            )


def _proven(step: Step, reader: Reader, writer: Writer, units: Units) -> None:
    # One that failed too often is not started by anybody until it is forgotten, or its interval is over.
    writer.run([SYSTEMCTL, "reset-failed", "--", step.target])
    _noted(step, reader, writer, units)
    survived([step.target], writer)


def _noted(step: Step, reader: Reader, writer: Writer, units: Units) -> None:
    paths = units.watched(step.target)
    before = started.observe(reader, units.role, paths)
    change(step, reader, writer)
    if paths:
        invocation = _shown(step.target, "InvocationID", reader).get("InvocationID", "")
        note = started.Note(invocation, before.known(paths))
        started.write(reader, writer, units.role, before.notes, {**before.notes.units, step.target: note})


def remember(reader: Reader, writer: Writer, units: Units) -> None:
    """Note with what each unit runs, as far as nothing says that it runs with something older, or may; and keep
    the files of those that go back to them.

    One that is met for the first time is taken to run with what is there. One that does not run gets a
    note, too: a package of this run may start it before its files are written.
    """
    seen = observe(reader, units.role, units.declared)
    if isinstance(seen, Unknown):
        return
    # Those of units that are skipped this time, or not declared any more, stay as they are.
    notes = dict(seen.started.notes.units)
    running: dict[str, list[str]] = {}
    for name, found in seen.units.items():
        owing = any(any(debts(unit, own, seen, ())) for unit, own in units.called(name))
        paths = units.watched(name)
        if paths and not (name in notes and (owing or not found.is_active)):
            invocation = found.invocation if found.is_active else ""
            notes[name] = started.Note(invocation, seen.started.known(paths))
        if found.active == "active" and not owing and units.undoable(name):
            running[name] = units.undoable(name)
    former.keep(reader, writer, units.role, running, units.undoable)
    started.write(reader, writer, units.role, seen.started.notes, notes)


def survived(names: Sequence[str], writer: Writer) -> None:
    """After their starts: none of them died at once. Raises NodeError with the end of its log."""
    if not names:
        return
    time.sleep(SETTLE_SECONDS)
    done = writer.run([SYSTEMCTL, "show", "--no-pager", "--property=ActiveState,SubState", "--", *names], timeout=30)
    for name, block in zip(names, parse_show(done.out), strict=False):
        if block.get("ActiveState") == "failed" or block.get("SubState", "").startswith("auto-restart"):
            _fail(f"{name} to keep running", "it ended right after its start", name, writer)


def _shown(name: str, properties: str, reader: Reader) -> dict[str, str]:
    done = reader.run([SYSTEMCTL, "show", "--no-pager", f"--property={properties}", "--", name], timeout=30)
    blocks = parse_show(done.out) if done.ok else []
    return blocks[0] if blocks else {}


def _patience(name: str, reader: Reader) -> float:
    """A stop and the parts of a start each have the unit's own time, after which systemd ends them."""
    found = _shown(name, ",".join(_LIMITS), reader)
    spans = [found[limit] for limit in _LIMITS if limit in found]
    limits = [sum(float(n) * _SECONDS[unit] for n, unit in _SPAN.findall(span)) or LONGEST_SECONDS for span in spans]
    return min(max(CHANGE_SECONDS, 3 * sum(limits)), LONGEST_SECONDS)


def _check(done: Completed, unit: str, writer: Writer) -> None:
    if not done.ok:
        _fail(f"{' '.join(done.argv[1:])} to succeed", f"it {done.ending}: {one_line(done.said())}", unit, writer)


def _fail(wanted: str, found: str, unit: str, writer: Writer) -> NoReturn:
    raise NodeError(
        "units.failed",
        wanted=wanted,
        found=found + (_log(unit, writer) if unit else ""),
        why="the service is not in the declared state",
        fix=f"look at: systemctl status {unit}; journalctl -u {unit}" if unit else "look at: systemctl status",
    )


def _log(unit: str, writer: Writer) -> str:
    """Of its last start: the first exception, which is the cause of the others, and the end."""
    journal = ["/usr/bin/journalctl", "--no-pager", "--quiet", f"--lines={LOG_LINES}", "--output=cat", f"--unit={unit}"]
    lines = writer.run(journal).out.splitlines()
    begun = [number for number, line in enumerate(lines) if line.startswith(f"Starting {unit}")]
    lines = lines[begun[-1] if begun else 0 :]
    earlier, end = lines[:-LAST_LINES], one_line(" ".join(lines[-LAST_LINES:]), 600)
    causes = (found[1] for found in map(_CAUSE.search, earlier) if found)
    cause = one_line(next(causes, ""))
    return (f"; it said first: {cause}" if cause else "") + (f"; its log ends: {end}" if end else "")
