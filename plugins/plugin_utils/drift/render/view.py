# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift report as typed, cleaned values: what all renderers read.

A report that breaks its schema is still shown, as truthfully as possible: what cannot be
understood is unknown, never in sync. Nothing in here raises because of a report's content.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.changes import Change, changes
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import (
    clean,
    duration,
    fields,
    items,
    one_line,
)

STATES = ("drifted", "unknown", "waived", "in_sync", "not_selected")
SEVERITIES = ("critical", "high", "medium", "low", "info")
STATE_WORDS = {"drifted": "drifted", "unknown": "unknown", "waived": "waived", "in_sync": "in sync",
               "not_selected": "not selected"}  # fmt: skip
CAUSES = {
    "corrective": "the node moved since it was last applied",
    "intentional": "the declaration changed since it was last applied",
    "never_applied": "never applied here",
    "blocked": "blocked until you allow it",
    "adopted": "in sync without a record of ours",
}
_CONFIRMS = re.compile(r"[a-z0-9_]+_confirm(_[a-z0-9_]+)?\Z")


@dataclass(frozen=True, slots=True)
class Control:
    """One entry of the catalogue."""

    id: str
    role: str
    title: str
    severity: str
    rationale: str = ""
    references: tuple[str, ...] = ()
    remedy: str = ""
    disrupts: str = ""

    def is_command(self) -> bool:
        """Whether the remedy can be pasted; else it is advice. A command names its host."""
        return "{host}" in self.remedy


@dataclass(frozen=True, slots=True)
class Waiver:
    reason: str
    owner: str
    expires: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One control of one host that is not simply in sync."""

    control: Control
    state: str
    changes: tuple[Change, ...] = ()
    reason: str = ""
    blocked_by: str = ""
    cause: str = ""
    repaired: bool = False
    task: str = ""
    waiver: Waiver | None = None
    # Not part of what makes two findings the same: hosts drift at different times.
    first_seen: str = field(default="", compare=False)
    age_seconds: float | None = field(default=None, compare=False)
    place: int = field(default=0, compare=False)  # in the order of the plays

    def why(self) -> str:
        """The cause in words; empty where nothing is known."""
        if self.blocked_by:
            return f"blocked until you name it: {self.blocked_by}"
        return CAUSES.get(self.cause, self.cause)

    def age(self) -> str:
        if self.age_seconds is None:
            return ""
        return f"for {duration(self.age_seconds)}" if self.age_seconds >= 1 else "new in this run"

    def allowance(self) -> str:
        """For a blocked one, the argument that names its victim for one run; else empty.

        The text came from a node, and Ansible evaluates templates in what -e gives: only a
        variable made for this, with plain values, gets into a command.
        """
        try:
            (name, victims), *more = yaml.safe_load(self.blocked_by).items()
        except (yaml.YAMLError, ValueError, AttributeError, RecursionError):
            return ""
        values = victims if isinstance(victims, list) else [victims]
        plain = all(isinstance(value, (str, int)) and "{" not in str(value) for value in values)
        if more or not plain or not isinstance(name, str) or not _CONFIRMS.match(name):
            return ""
        return f"-e {shlex.quote(json.dumps({name: victims}, ensure_ascii=False))}"

    def remedy(self, *hosts: Host, names: str = "") -> str:
        """The command to run. Names are data, and people paste this: what is not plain in one
        (Ansible splits a pattern at spaces and colons, too) is a `?` that matches it, and all is
        quoted. ``names`` stands for hosts that are too many to be written into a command."""
        if not self.control.is_command():
            return self.control.remedy
        where = names or ",".join(re.sub(r"[^\w.-]", "?", host.name) for host in hosts)
        more = [next((host.repair_with for host in hosts if host.repair_with), ""), self.allowance()]
        return " ".join([self.control.remedy.replace("{host}", shlex.quote(where)), *filter(None, more)])


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    state: str
    reason: str
    machine: str  # one line about it, if its facts were gathered
    flags: tuple[tuple[str, str], ...]  # what is known to be wrong with it: id and sentence
    repair_with: str  # arguments that a real run on it needs in addition
    counts: Mapping[str, int]
    index: int  # position in the document
    findings: tuple[Finding, ...]  # worst first
    in_sync: tuple[Control, ...]  # without the repaired ones, which are findings

    def of(self, state: str) -> list[Finding]:
        return [f for f in self.findings if f.state == state]

    def weight(self) -> tuple[object, ...]:
        """Sorts the worst host first, then by name."""
        severities = Counter(f.control.severity for f in self.findings if f.state == "drifted")
        return (
            ("unreachable", "partial", "reached").index(self.state) == 2,
            *(-severities[severity] for severity in SEVERITIES),
            -self.counts["unknown"],
            self.name,
        )


@dataclass(frozen=True, slots=True)
class Past:
    """The counts of an earlier run."""

    started: str
    drifted: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Report:
    started: str
    epoch: float
    seconds: float
    mode: str
    playbook: str
    complete: bool
    incomplete_reason: str
    collection: str
    ansible: str
    directory: str  # where it was called; remedies are relative to it
    variables: tuple[str, ...]  # names given with -e, which a repair needs as well
    exit_code: int
    hosts: tuple[Host, ...]  # worst first
    counts: Mapping[str, int]
    waiver_file: str
    waiver_problems: tuple[str, ...]
    waivers_unused: tuple[str, ...]
    trend: tuple[Past, ...]  # oldest first, without this run

    def not_reached(self, state: str = "unreachable") -> list[Host]:
        return [host for host in self.hosts if host.state == state]

    def flags(self) -> list[tuple[str, list[Host]]]:
        """What is known to be wrong with machines, and with which; the most common first."""
        groups: dict[str, list[Host]] = {}
        for host in self.hosts:
            for _name, sentence in host.flags:
                groups.setdefault(sentence, []).append(host)
        return sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))

    def what(self) -> str:
        """What kind of run it was. A task with ``check_mode: false`` changes things in any."""
        if self.mode != "check":
            return "real run"
        return "check run, nothing was changed" if not self.repaired() else "check run, some tasks ran for real"

    def repaired(self) -> int:
        return sum(f.repaired for host in self.hosts for f in host.findings)

    def verdict(self) -> tuple[str, str]:
        """A key for styling and one word to shout, from what the report contains."""
        if self.waiver_problems:
            return "waivers", "BAD WAIVER FILE"
        if not self.complete:
            return "incomplete", "INCOMPLETE"
        if self.counts["drifted"]:
            return "drift", "DRIFT"
        if self.counts["unknown"] or self.not_reached() or self.not_reached("partial"):
            return "unknown", "NOT ALL KNOWN" if self.counts["in_sync"] or self.counts["waived"] else "NOTHING KNOWN"
        if not self.judged():
            return "incomplete", "NOTHING CHECKED"
        return "clean", "CLEAN"

    def judged(self) -> bool:
        """Whether anything was looked at at all: a mistyped tag leaves out everything."""
        return any(self.counts[state] for state in ("drifted", "unknown", "waived", "in_sync"))

    def headline(self) -> str:
        """What follows the verdict's word, so that both are one sentence."""
        key, _word = self.verdict()
        drifted = [host for host in self.hosts if host.counts["drifted"]]
        unseen = [host for host in self.hosts if host.counts["unknown"] or host.state != "reached"]
        if not self.hosts:
            return "no host was checked"
        parts = []
        if drifted:
            parts.append(f"on {self._some(drifted)}" if key == "drift" else f"drift on {self._some(drifted)}")
        if unseen:
            parts.append(f"on {self._some(unseen)}" if key == "unknown" else f"not all known on {self._some(unseen)}")
        if not drifted and unseen:
            parts.append("no drift seen")
        if not parts and not self.judged():
            return "no control was looked at"
        if not parts:
            waived = ", but for what is waived" if self.counts["waived"] else ""
            parts.append(f"{self._some(self.hosts)} as declared{waived}")
        return ", ".join(parts)

    def _some(self, hosts: Sequence[Host]) -> str:
        if len(self.hosts) == 1:
            return hosts[0].name
        return (
            f"all {len(hosts)} hosts" if len(hosts) == len(self.hosts) else f"{len(hosts)} of {len(self.hosts)} hosts"
        )


def read(report: Mapping[str, object], only: str | None = None) -> Report:
    """Reads a report document, or one host of it; see docs/contracts/drift-report.md."""
    run, summary, waivers = (fields(fields(report).get(key)) for key in ("run", "summary", "waivers"))
    catalogue = _Catalogue(fields(fields(report).get("catalogue")))
    raw_hosts = ((index, fields(raw)) for index, raw in enumerate(items(fields(report).get("hosts"))))
    read_hosts = (_host(raw, index, catalogue) for index, raw in raw_hosts if only is None or raw.get("name") == only)
    hosts = tuple(sorted(read_hosts, key=Host.weight))
    counts: Counter[str] = Counter()
    for host in hosts:
        counts.update(host.counts)
    started = one_line(run.get("started"), 40)
    exit_code = summary.get("exit_code")
    return Report(
        started=started,
        epoch=_epoch(started),
        seconds=number(run.get("seconds")) or 0.0,
        mode="apply" if run.get("mode") == "apply" else "check",
        playbook=one_line(run.get("playbook"), 200),
        complete=run.get("complete") is True,
        incomplete_reason=one_line(run.get("incomplete_reason"), 1000),
        collection=one_line(run.get("collection"), 40),
        ansible=one_line(run.get("ansible"), 40),
        directory=one_line(run.get("directory"), 400),
        variables=_lines(run.get("variables"))[:20],
        exit_code=exit_code if isinstance(exit_code, int) and 0 <= exit_code < 256 else 1,
        hosts=hosts,
        counts={state: counts[state] for state in STATES},
        waiver_file=one_line(waivers.get("file"), 400),
        waiver_problems=_lines(waivers.get("problems")),
        waivers_unused=_lines(waivers.get("unused")),
        trend=tuple(_past(fields(item)) for item in items(fields(report).get("trend"))[-30:]),
    )


def number(value: object) -> float | None:
    """A usable, not negative number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        usable = float(value)
    except OverflowError:
        return None
    return usable if math.isfinite(usable) and usable >= 0 else None


class _Catalogue:
    """Controls by id, each read once and shared by all hosts."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self._raw = raw
        self._known: dict[str, Control] = {}

    def get(self, raw_id: object) -> Control:
        key = raw_id if isinstance(raw_id, str) else one_line(raw_id)
        if key not in self._known:
            self._known[key] = self._read(key)
        return self._known[key]

    def _read(self, key: str) -> Control:
        raw = fields(self._raw.get(key))
        name = one_line(key, 200) or "(no id)"
        severity = raw.get("severity")
        return Control(
            id=name,
            # A task that brought no controls is named task:<role>/<task>.
            role=one_line(raw.get("role"), 100) or re.sub(r"^task:", "", name).split("/")[0] or "(no role)",
            title=one_line(raw.get("title"), 300) or name,
            severity=severity if isinstance(severity, str) and severity in SEVERITIES else "info",
            rationale=clean(raw.get("rationale"), 2000),
            references=tuple(one_line(r, 400) for r in items(raw.get("references"))[:20]),
            remedy=one_line(raw.get("remedy"), 4000),
            disrupts=one_line(raw.get("disrupts"), 1000),
        )


def _past(raw: Mapping[str, object]) -> Past:
    drifted, unknown = (int(min(number(raw.get(key)) or 0, 1e9)) for key in ("drifted", "unknown"))
    return Past(one_line(raw.get("started"), 40), drifted, unknown)


def _host(raw: Mapping[str, object], index: int, catalogue: _Catalogue) -> Host:
    counts = dict.fromkeys(STATES, 0)
    findings: list[Finding] = []
    in_sync: list[Control] = []
    for place, item in enumerate(items(raw.get("controls"))):
        entry = fields(item)
        control = catalogue.get(entry.get("id"))
        if entry.get("state") == "in_sync" and entry.get("repaired") is not True:
            counts["in_sync"] += 1
            in_sync.append(control)
            continue
        finding = _finding(entry, control, place)
        counts[finding.state] += 1
        findings.append(finding)
    findings.sort(key=_badness)
    state = raw.get("state")
    reason = one_line(raw.get("reason"), 1000)
    if state not in ("reached", "unreachable", "partial"):
        state, reason = "partial", reason or f"the report gives the host state {one_line(state, 40) or 'nothing'}"
    name = one_line(raw.get("name"), 255) or "(no name)"
    machine = one_line(raw.get("machine"), 300)
    flags = tuple((one_line(key, 100), one_line(told, 600)) for key, told in fields(raw.get("flags")).items())
    repair_with = one_line(raw.get("repair_with"), 300)
    return Host(name, str(state), reason, machine, flags, repair_with, counts, index, tuple(findings), tuple(in_sync))


def _badness(finding: Finding) -> tuple[int, int, str]:
    return (STATES.index(finding.state), SEVERITIES.index(finding.control.severity), finding.control.id)


def _finding(entry: Mapping[str, object], control: Control, place: int) -> Finding:
    state, reason = entry.get("state"), clean(entry.get("reason"), 2000)
    if not (isinstance(state, str) and state in STATES):
        state, reason = "unknown", reason or f"the report gives the state {one_line(state, 40) or 'nothing'}"
    waiver = fields(entry.get("waiver"))
    return Finding(
        control=control,
        state=state,
        changes=changes(entry.get("before"), entry.get("after")),
        reason=reason,
        blocked_by=one_line(entry.get("blocked_by"), 500),
        cause=one_line(entry.get("cause"), 100),
        repaired=entry.get("repaired") is True,
        task=one_line(entry.get("task"), 300),
        waiver=Waiver(*(one_line(waiver.get(key), 500) for key in ("reason", "owner", "expires"))) if waiver else None,
        first_seen=one_line(entry.get("first_seen"), 40),
        age_seconds=number(entry.get("age_seconds")),
        place=place,
    )


def _lines(value: object) -> tuple[str, ...]:
    """Short texts, from a list of texts or of small mappings."""
    lines = []
    for item in items(value):
        entry = fields(item)
        text = ", ".join(f"{key} {one_line(part, 200)}" for key, part in entry.items()) if entry else item
        lines.append(one_line(text, 500))
    return tuple(lines)


def _epoch(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return max((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
