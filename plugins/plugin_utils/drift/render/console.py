# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift report as a board for a terminal: worst first, bounded, readable without colour.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter, itemgetter

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import (
    clip,
    clip_middle,
    count,
    listing,
    one_line,
    width,
    wrap,
)
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import (
    SEVERITIES,
    STATE_WORDS,
    STATES,
    Change,
    Finding,
    Host,
    Report,
    read,
)

# From so many hosts on, what they have in common is said once.
SHARED_FROM = 3
# Of one host, so much is shown; the page has everything.
MOST_CONTROLS = 15
MOST_CHANGES = 4
MOST_REPAIRS = 8
# A list of hosts in a command longer than this helps nobody.
MOST_LIMIT = 120

# Beside a command that names a victim.
NAMED = "this names what may be taken over or lost; look at it first"

INDENT = 11
STYLES = {"critical": "1;31", "high": "31", "medium": "33", "low": "36", "info": "36", "unknown": "35", "good": "32",
          "strong": "1", "quiet": "2"}  # fmt: skip

# Sorts a block among the others: severity, then how many hosts, then a name or place.
Ranked = tuple[tuple[int, int, str], Callable[[], list[str]]]


def render(
    report: Mapping[str, object],
    *,
    color: bool = False,
    unicode: bool = False,
    columns: int = 80,
    most_lines: int = 200,
    more: str = "index.html",
) -> str:
    """The board. ``more`` names the document with everything that did not fit here."""
    return _Board(read(report), color, unicode, max(columns, 40), max(most_lines, 40), more).text()


class _Board:
    def __init__(self, report: Report, color: bool, unicode: bool, columns: int, most_lines: int, more: str) -> None:
        self.report, self.color, self.unicode, self.columns = report, color, unicode, columns
        # Machines that are all the same are told once, above.
        machines = {host.machine for host in report.hosts if host.machine}
        self.machine = machines.pop() if len(machines) == 1 and len(report.hosts) > 1 else ""
        self.most_lines, self.more = most_lines, self.say(more)
        self.arrow, self.mark = ("→", "…") if unicode else ("->", "...")

    # --- words ---------------------------------------------------------------------------

    def say(self, text: object) -> str:
        """Data as one safe line that this terminal can show."""
        line = one_line(text)
        if self.unicode or line.isascii():
            return line
        return line.replace("…", "...").encode("ascii", "backslashreplace").decode()

    def paint(self, text: str, style: str) -> str:
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.color and style in STYLES else text

    def indented(self, label: str, lines: Iterable[str], style: str = "") -> list[str]:
        """A label in the left column, the text beside it."""
        rows = list(lines) or [""]
        first = f"  {self.paint(label.ljust(INDENT - 3), style)} {rows[0]}".rstrip()
        return [first, *((" " * INDENT + row).rstrip() for row in rows[1:])]

    def wrapped(self, label: str, text: str, style: str = "", most: int = 3) -> list[str]:
        lines = wrap(text, self.columns - INDENT)
        if len(lines) > most:
            lines = [*lines[: most - 1], clip(" ".join(lines[most - 1 :]), self.columns - INDENT, self.mark)]
        return self.indented(label, lines, style)

    # --- the board -----------------------------------------------------------------------

    def text(self) -> str:
        head, tail = self.header(), self.footer()
        common = self.common()
        ranked: list[Ranked] = sorted([*self.shared(common), *self.own(common)], key=itemgetter(0))
        # Not called before there is room: a big fleet has thousands of them.
        blocks: list[Callable[[], list[str]]] = [
            *(partial(self.unreachable, reason, hosts) for reason, hosts in self.silent()),
            self.flags,
            *(block for _rank, block in ranked),
            self.waived,
        ]
        lines, room, left_out = list(head), self.most_lines - len(head) - len(tail) - 2, 0
        for block in blocks:
            rows = block() if room > 3 else None
            # A short block may still fit where a long one did not; order stays worst first.
            if rows is None or len(rows) + 1 > room:
                left_out += 1
            elif rows:
                lines += ["", *rows]
                room -= len(rows) + 1
        if left_out:
            lines += ["", self.paint(f"{left_out} more hosts or shared findings did not fit: {self.more}", "strong")]
        return "\n".join([*lines, *tail]) + "\n"

    def header(self) -> list[str]:
        report = self.report
        key, word = report.verdict()
        style = {"clean": "good", "unknown": "unknown"}.get(key, "critical")
        lines = [self.paint(word, style) + f" {self.say(report.headline())}"]
        if not report.complete:
            reason = self.say(report.incomplete_reason) or "the run did not come to its end"
            shout = wrap(f"THE RUN IS INCOMPLETE: {reason}", self.columns)
            lines = [self.paint(line, "critical") for line in shout[:3]] + lines
        shown = [s for s in STATES if report.counts[s] or s in ("drifted", "unknown", "in_sync")]
        counts = [f"{report.counts[s]} {STATE_WORDS[s]}" for s in shown]
        if report.repaired():
            counts.append(f"{report.repaired()} repaired in this run")
        lines += wrap(" | ".join([count(len(report.hosts), "host"), *counts]), self.columns)
        what = f"{report.what()}: {report.playbook}"
        lines += wrap(self.say(f"{what}, {report.started}, {report.seconds:.1f} s"), self.columns)
        if self.machine:
            lines += wrap(self.say(self.machine), self.columns)
        for problem in report.waiver_problems[:5]:
            lines += self.wrapped("waivers", self.say(problem), "critical")
        return lines

    def footer(self) -> list[str]:
        report = self.report
        lines: list[str] = []
        fine = [h.name for h in report.hosts if h.state == "reached" and not h.findings]
        if fine and len(fine) < len(report.hosts):
            lines += self.wrapped("in sync", listing(map(self.say, fine), self.columns - INDENT), "good")
        if report.trend:
            past = " ".join(str(run.drifted) for run in report.trend[-12:])
            lines += self.wrapped(
                "trend", f"drifted in the runs before: {past}, now {report.counts['drifted']}", "quiet"
            )
        unused = len(report.waivers_unused)
        if unused:
            names = listing(map(self.say, report.waivers_unused), self.columns - INDENT, 3)
            lines += self.wrapped("note", f"{count(unused, 'waiver')} not used: {names}", "quiet")
        lines += [f"exit code {report.exit_code}, details: {self.more}"]
        return ["", *lines]

    # --- blocks --------------------------------------------------------------------------

    def silent(self) -> list[tuple[str, list[Host]]]:
        """The unreachable hosts, by what was said about them."""
        groups: dict[str, list[Host]] = defaultdict(list)
        for host in self.report.not_reached():
            groups[host.reason].append(host)
        return sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))

    def unreachable(self, reason: str, hosts: list[Host]) -> list[str]:
        names = listing((self.say(h.name) for h in hosts), self.columns - 26)
        unknown = sum(h.counts["unknown"] for h in hosts)
        lines = [self.paint(f"UNREACHABLE {count(len(hosts), 'host')}", "critical") + f"  {names}"]
        told = self.say(reason) or "no reason given"
        return lines + self.wrapped("why", f"{told}; {count(unknown, 'control')} unknown" if unknown else told)

    def flags(self) -> list[str]:
        """What is known to be wrong with machines, whoever declares what for them."""
        flags = self.report.flags()
        lines: list[str] = []
        for sentence, hosts in flags[:MOST_CONTROLS]:
            names = listing((self.say(h.name) for h in hosts), self.columns - INDENT)
            lines += self.wrapped("FLAG", f"{names}: {self.say(sentence)}", "critical")
        if len(flags) > MOST_CONTROLS:
            lines += self.wrapped("", f"and {count(len(flags) - MOST_CONTROLS, 'more flag')}")
        return lines

    def common(self) -> dict[Finding, list[Host]]:
        """The findings that many hosts share, each with its hosts by name."""
        where: dict[Finding, list[Host]] = defaultdict(list)
        for host in sorted(self.report.hosts, key=lambda h: h.name):
            if host.state != "unreachable":
                for finding in (*host.of("drifted"), *host.of("unknown")):
                    where[finding].append(host)
        return {finding: hosts for finding, hosts in where.items() if len(hosts) >= SHARED_FROM}

    def shared(self, common: dict[Finding, list[Host]]) -> Iterator[Ranked]:
        groups: dict[tuple[object, ...], tuple[list[Finding], list[Host]]] = {}
        for finding, hosts in common.items():
            # Unknown ones with one reason on the same hosts are one thing to solve.
            key = (finding.reason, *map(id, hosts)) if finding.state == "unknown" else (finding,)
            groups.setdefault(key, ([], hosts))[0].append(finding)
        for findings, hosts in groups.values():
            yield (_rank(findings), -len(hosts), findings[0].control.id), partial(self.shared_block, findings, hosts)

    def own(self, common: dict[Finding, list[Host]]) -> Iterator[Ranked]:
        """What remains of each host, with the count of what was said in a shared block."""
        for position, host in enumerate(self.report.hosts):
            interesting = [f for f in host.findings if f.state in ("drifted", "unknown") or f.repaired]
            mine = [f for f in interesting if f not in common]
            if host.state != "unreachable" and (mine or host.state == "partial"):
                rank = -1 if host.state == "partial" else _rank(mine)
                yield (rank, 0, f"{position:09d}"), partial(self.host_block, host, mine, len(interesting) - len(mine))

    def shared_block(self, findings: list[Finding], hosts: list[Host]) -> list[str]:
        names = listing((self.say(h.name) for h in hosts), self.columns - 12)
        lines = [self.paint(count(len(hosts), "host"), "strong") + f"  {names}"]
        if findings[0].state == "unknown":
            return lines + self.unknown(findings)
        lines += self.drifted(findings[0], hosts)
        limit = ",".join(h.name for h in hosts)
        return lines + self.repairs(findings, hosts, "" if len(limit) <= MOST_LIMIT else "HOSTS")

    def host_block(self, host: Host, findings: list[Finding], shared: int) -> list[str]:
        counts = ", ".join(f"{host.counts[s]} {STATE_WORDS[s]}" for s in STATES if host.counts[s])
        tail = f" ({shared} of them above)" if shared else ""
        told = f"{counts or 'no controls'}{tail}"
        name = clip(self.say(host.name), max(self.columns - 2 - width(told), 20), self.mark)
        lines = [f"{self.paint(name, 'strong')}  {told}"]
        if host.machine and not self.machine:
            lines += [f"  {line}" for line in wrap(self.say(host.machine), self.columns - 2)]
        if host.state == "partial":
            lines += self.wrapped("STOPPED", self.say(host.reason) or "a task failed and ended this host", "critical")
        drifted = [f for f in findings if f.state == "drifted"]
        for finding in drifted[:MOST_CONTROLS]:
            lines += self.drifted(finding, [host])
        if len(drifted) > MOST_CONTROLS:
            ids = listing((self.say(f.control.id) for f in drifted[MOST_CONTROLS:]), self.columns - INDENT - 16)
            lines += self.wrapped("", f"{len(drifted) - MOST_CONTROLS} more drifted: {ids}")
        lines += self.unknown([f for f in findings if f.state == "unknown"])
        repaired = [f for f in findings if f.repaired]
        if repaired:
            ids = listing((self.say(f.control.id) for f in repaired), self.columns - INDENT - 6)
            lines += self.wrapped("repaired", f"{len(repaired)}: {ids}", "good")
        return lines + self.repairs(drifted, [host])

    def drifted(self, finding: Finding, hosts: list[Host]) -> list[str]:
        control = finding.control
        label = control.severity.upper() if control.severity in ("critical", "high") else control.severity
        title = f"{self.say(control.id)}  {self.say(control.title) if control.title != control.id else ''}".rstrip()
        lines = self.wrapped(label, title, control.severity, most=2)
        rows: list[str] = []
        for change in finding.changes[:MOST_CHANGES]:
            rows += self.change(change)
        if len(finding.changes) > MOST_CHANGES:
            rows.append(f"and {count(len(finding.changes) - MOST_CHANGES, 'more property', 'more properties')}")
        if finding.reason:
            rows += wrap(self.say(finding.reason), self.columns - INDENT)[:2]
        # Shared findings have one age per host; the page shows them.
        why = ", ".join(part for part in (self.say(finding.why()), finding.age() if len(hosts) == 1 else "") if part)
        if why:
            rows += wrap(f"why: {why}", self.columns - INDENT)[:3]
        return lines + [" " * INDENT + row for row in rows]

    def change(self, change: Change) -> list[str]:
        name, before, after = self.say(change.name), self.say(change.before), self.say(change.after)
        room = self.columns - INDENT
        line = f"{name}: {before} {self.arrow} {after}"
        if width(line) <= room:
            return [line]
        return [
            clip(f"{name}:", room, self.mark),
            f"  found     {clip_middle(before, room - 12, self.mark)}",
            f"  declared  {clip_middle(after, room - 12, self.mark)}",
        ]

    def unknown(self, findings: list[Finding]) -> list[str]:
        groups: dict[str, list[str]] = defaultdict(list)
        for finding in findings:
            groups[finding.reason].append(self.say(finding.control.id))
        lines: list[str] = []
        ranked = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        for reason, ids in ranked[:MOST_CONTROLS]:
            told = self.say(reason) or "no reason given"
            lines += self.wrapped("unknown", f"{told}  ({count(len(ids), 'control')})", "unknown")
            lines += self.wrapped("", listing(ids, self.columns - INDENT, 6), most=2)
        if len(ranked) > MOST_CONTROLS:
            rest = sum(len(ids) for _reason, ids in ranked[MOST_CONTROLS:])
            lines += self.wrapped("unknown", f"{count(rest, 'more control')} for other reasons", "unknown")
        return lines

    def repairs(self, findings: list[Finding], hosts: list[Host], names: str = "") -> list[str]:
        """Each command once, after the controls it repairs, with what it may break.

        In the order of the plays, and not the worst first: pasted one after the other they have to work.
        """
        findings = sorted(findings, key=attrgetter("place"))
        commands: dict[str, list[str]] = {}
        pasted = {finding.remedy(*hosts, names=names) for finding in findings if finding.control.is_command()}
        for finding in findings:
            if finding.control.remedy:
                risks = commands.setdefault(finding.remedy(*hosts, names=names), [])
                if finding.allowance() and NAMED not in risks:
                    risks.append(NAMED)
                if finding.control.disrupts and finding.control.disrupts not in risks:
                    risks.append(finding.control.disrupts)
        lines: list[str] = []
        for command, risks in list(commands.items())[:MOST_REPAIRS]:
            told = wrap(self.say(command), self.columns - INDENT, " \\" if command in pasted else "")
            lines += self.indented("repair", told, "strong")
            for risk in risks[:3]:
                lines += self.wrapped("", f"careful: {self.say(risk)}", most=2)
        if len(commands) > MOST_REPAIRS:
            lines += self.wrapped("", f"and {count(len(commands) - MOST_REPAIRS, 'more command')}")
        if pasted and self.report.variables:
            # Their values may be secrets: only the names are known here.
            lines += self.wrapped("", f"add the -e of this run: {self.say(', '.join(self.report.variables))}", "strong")
        return lines

    def waived(self) -> list[str]:
        groups: dict[Finding, list[str]] = defaultdict(list)
        for host in self.report.hosts:
            for finding in host.of("waived"):
                groups[finding].append(self.say(host.name))
        if not groups:
            return []
        lines = []
        for finding, names in list(groups.items())[:MOST_CONTROLS]:
            waiver = finding.waiver
            terms = f"until {waiver.expires} ({waiver.owner}): {waiver.reason}" if waiver else "on no record"
            where = listing(names, 30, 3)
            lines += self.wrapped("waived", self.say(f"{finding.control.id} on {where} {terms}"), "quiet", most=2)
        if len(groups) > MOST_CONTROLS:
            lines += self.wrapped("", f"and {len(groups) - MOST_CONTROLS} more waived")
        return lines


def _rank(findings: list[Finding]) -> int:
    """The worst severity that drifted; unknown comes after every drift, repaired last."""
    drifted = [SEVERITIES.index(f.control.severity) for f in findings if f.state == "drifted"]
    return min(drifted, default=len(SEVERITIES) + all(f.state != "unknown" for f in findings))
