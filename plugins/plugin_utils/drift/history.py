# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's own memory: since when each finding is open, and how the runs went.

Two files under ``history/``, both replaced whole and bounded:

open.jsonl   one line per host: when it was last reported, and its open findings
             (``drifted``, ``unknown``, ``waived``) with the time each was first seen
runs.jsonl   one line per run: time, mode, scope and counts, the newest 1000

A finding is open until the control is seen in sync (or repaired): being unreachable for a
day does not make an old drift new. What a run leaves out stays as it was. Times are wall
clock, because history spans reboots; a clock that jumped backwards never makes an age
negative.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import private

RUNS_KEPT = 1000
TREND = 30  # runs that go into a report
FORGET_DAYS = 400  # a host that no run has named for so long is gone
_OPEN = ("drifted", "unknown", "waived")


def now() -> int:
    return int(datetime.now(timezone.utc).timestamp())


def apply(report: dict[str, Any], folder: Path, at: int | None = None) -> list[str]:
    """Add ages and trend to ``report`` and remember it. Returns problems, never raises for a bad file."""
    moment = now() if at is None else at
    problems: list[str] = []
    # One line per host; the findings of a host are decoded when it is looked at.
    known: dict[str, dict[str, Any]] = {}
    try:
        known = {str(line.get("host")): line for line in _lines(folder / "open.jsonl", problems)}
        runs = list(_lines(folder / "runs.jsonl", problems))
    except OSError as error:
        # What cannot be read is not replaced by less.
        return [f"history was not read: {error.strerror}"]
    complete = bool(report["run"]["complete"])
    for host in report["hosts"]:
        known[host["name"]] = _host(host, known.get(host["name"]), moment, complete)
    scope = _scope(report)
    alike = [run for run in runs if run.get("scope") == scope and any(_number(run.get(key)) for key in _SEEN)]
    report["trend"] = [{key: run.get(key) for key in ("id", "started", "mode", *_COUNTS)} for run in alike[-TREND:]]
    oldest = moment - FORGET_DAYS * 86400
    try:
        _replace(folder / "open.jsonl", (line for line in known.values() if _number(line.get("seen")) >= oldest))
    except OSError as error:
        problems.append(f"history was not saved: {error.strerror}")
    return problems


_COUNTS = ("hosts", "unreachable", "partial", "in_sync", "drifted", "unknown", "waived", "not_selected", "exit_code")


# A run that saw nothing says nothing of how it went.
_SEEN = ("in_sync", "drifted", "waived")


def _scope(report: dict[str, Any]) -> str:
    """What was asked of whom: counts of other hosts or of some of the controls are no trend of these."""
    asked = {control["id"] for host in report["hosts"] for control in host["controls"] if control["state"] != _LEFT_OUT}
    whole = [report["run"]["playbook"], sorted(host["name"] for host in report["hosts"]), sorted(asked)]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


_LEFT_OUT = "not_selected"


def remember_run(report: dict[str, Any], folder: Path) -> list[str]:
    """Append the counts of this run, which exist only when all else is done."""
    problems: list[str] = []
    line = {key: report["run"][key] for key in ("id", "started", "mode", "playbook", "seconds", "complete")}
    try:
        runs = [run for run in _lines(folder / "runs.jsonl", problems) if run.get("id") != line["id"]]
        _replace(
            folder / "runs.jsonl", [*runs[-RUNS_KEPT + 1 :], {**line, "scope": _scope(report), **report["summary"]}]
        )
    except OSError as error:
        problems.append(f"history was not saved: {error.strerror}")
    return problems


def _host(host: dict[str, Any], line: dict[str, Any] | None, moment: int, complete: bool) -> dict[str, Any]:
    """Set the ages of one host; returns its new line."""
    before = line.get("open") if line else None
    still = {key: _number(value) for key, value in before.items()} if isinstance(before, dict) else {}
    controls = host["controls"]
    for number, control in enumerate(controls):
        identity, state = control["id"], control["state"]
        if state == "in_sync":
            still.pop(identity, None)
        elif state in _OPEN:
            since = min(still.get(identity, moment), moment)
            if identity in still or complete or state != "unknown":
                # What an interrupted run did not reach is not a finding that begins now.
                still[identity] = since
            if line is not None:  # the first run of a host cannot know
                controls[number] = {**control, "first_seen": _iso(since), "age_seconds": moment - since}
    return {"host": host["name"], "seen": moment, "open": still}


@functools.lru_cache(1024)
def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 1 << 40 else 0


def _lines(path: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    """The good lines. A damaged one costs the ages of one host, not the report."""
    damaged = 0
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as handle:
        for raw in handle:
            try:
                line = json.loads(raw)
            except ValueError:
                line = None
            if isinstance(line, dict):
                yield line
            else:
                damaged += 1
    if damaged:
        problems.append(f"history/{path.name}: {damaged} damaged lines were dropped")


def _replace(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    private.folder(path.parent)
    private.replace(path, (json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
