# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift report as Markdown, for a pull request or an issue: bounded, and nobody is pinged.

What a node or an inventory said stands in code spans, which no code host searches for
mentions, links or references; the rest is escaped.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import clip, count, one_line
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import (
    SEVERITIES,
    STATE_WORDS,
    STATES,
    Finding,
    Host,
    Report,
    read,
)

# GitHub refuses a comment of more than 65,536 characters.
MOST_CHARACTERS = 60_000
LONGEST = 200
MOST_HOSTS = 50
MOST_NAMES = 12
MOST_CHANGES = 8


def render(report: Mapping[str, object]) -> str:
    """The document: counts first, then as many findings as fit, worst first."""
    view = read(report)
    text = "\n".join(_head(view))
    left_out, last = 0, ""
    for heading, block, size in _blocks(view):
        part = f"{block}\n" if heading == last else f"\n{heading}\n\n{block}\n"
        # Room for the last line, which says what is missing.
        if len(text) + len(part) > MOST_CHARACTERS - 200:
            left_out += size
        else:
            text += part
            last = heading
    if left_out:
        text += f"\n**{count(left_out, 'entry', 'entries')} did not fit here;** the counts above are complete.\n"
    return text


def _head(view: Report) -> Iterator[str]:
    _key, word = view.verdict()
    yield f"## {word.capitalize()} {_plain(view.headline())}\n"
    if not view.complete:
        yield f"> **The run is incomplete:** {_code(view.incomplete_reason or 'it did not come to its end')}\n"
    for problem in view.waiver_problems[:10]:
        yield f"> **Waiver file:** {_code(problem)}\n"
    yield f"| Hosts | {' | '.join(STATE_WORDS[s].capitalize() for s in STATES)} |"
    yield f"|{'---:|' * (len(STATES) + 1)}"
    yield f"| {len(view.hosts)} | {' | '.join(str(view.counts[s]) for s in STATES)} |\n"
    what = view.what().capitalize()
    repaired = f", {view.repaired()} repaired" if view.repaired() else ""
    facts = f"{view.seconds:.1f} s, exit code {view.exit_code}{repaired}"
    yield f"{what}: {_code(view.playbook)}, {_code(view.started)}, {facts}\n"
    if view.variables:
        yield f"The run was given {', '.join(map(_code, view.variables))} with `-e`; repairs need the same.\n"


def _blocks(view: Report) -> Iterator[tuple[str, str, int]]:
    """Heading, text and number of entries of each part, the most important first."""
    broken = [host for host in view.hosts if host.state != "reached"]
    for reason, silent in groupby(sorted(broken, key=_silence), key=_silence):
        same = list(silent)
        yield "### Not reached", f"- {reason[0]} {_names(same)}: {_code(reason[1] or 'no reason given')}", len(same)
    for sentence, flagged in view.flags():
        yield "### Flags", f"- {_names(flagged)}: {_code(sentence, 600)}", len(flagged)
    groups: dict[Finding, list[Host]] = defaultdict(list)
    for host in view.hosts:
        for finding in host.findings:
            groups[finding].append(host)
    ranked = sorted(
        groups.items(), key=lambda g: (SEVERITIES.index(g[0].control.severity), -len(g[1]), g[0].control.id)
    )
    for finding, hosts in ranked:
        if finding.state == "drifted":
            yield "### Drifted", "\n".join(_drifted(finding, hosts)), len(hosts)
    yield from _unknown(view)
    for finding, hosts in ranked:
        if finding.state == "waived":
            waiver = finding.waiver
            terms = f"until {_code(waiver.expires)}, {_code(waiver.owner)}: {_code(waiver.reason)}" if waiver else ""
            yield "### Waived", f"- {_code(finding.control.id)} on {_names(hosts)} {terms}", len(hosts)
    for finding, hosts in ranked:
        if finding.repaired:
            yield "### Repaired", f"- {_code(finding.control.id)} on {_names(hosts)}", len(hosts)
    yield from _hosts(view)


def _silence(host: Host) -> tuple[str, str]:
    return ("unreachable:" if host.state == "unreachable" else "stopped early:", host.reason)


def _drifted(finding: Finding, hosts: list[Host]) -> Iterator[str]:
    control = finding.control
    title = f" {_plain(control.title)}" if control.title != control.id else ""
    yield f"- **{control.severity}** {_code(control.id)}{title}, on {_names(hosts)}"
    for change in finding.changes[:MOST_CHANGES]:
        yield f"  - {_code(change.name)}: {_code(change.before)} → {_code(change.after)}"
    if len(finding.changes) > MOST_CHANGES:
        yield f"  - and {count(len(finding.changes) - MOST_CHANGES, 'more property', 'more properties')}"
    if finding.reason:
        yield f"  - {_code(finding.reason)}"
    age = finding.age() if len(hosts) == 1 else ""
    why = ", ".join(part for part in (_code(finding.why()) if finding.blocked_by else finding.why(), age) if part)
    if why:
        yield f"  - why: {why if finding.blocked_by or finding.cause in _KNOWN else _code(why)}"
    if control.remedy:
        names = ",".join(host.name for host in hosts)
        risk = f" (careful: {_plain(control.disrupts)})" if control.disrupts else ""
        command = finding.remedy(*hosts, names="" if len(names) <= 120 else "HOSTS")
        yield f"  - repair: {_code(command, 600)}{risk}"


_KNOWN = ("corrective", "intentional", "never_applied", "blocked", "adopted")


def _unknown(view: Report) -> Iterator[tuple[str, str, int]]:
    """By reason: thirty controls that need root are one thing to solve."""
    reasons: dict[str, tuple[dict[str, None], dict[str, None], list[None]]] = {}
    for host in view.hosts:
        for finding in host.of("unknown"):
            ids, hosts, every = reasons.setdefault(finding.reason, ({}, {}, []))
            ids[finding.control.id], hosts[host.name] = None, None
            every.append(None)
    for reason, (ids, hosts, every) in sorted(reasons.items(), key=lambda item: -len(item[1][2])):
        number = count(len(every), "result")
        text = f"- {_code(reason or 'no reason given')}: {number} on {_listing(hosts)}: {_listing(ids)}"
        yield "### Unknown", text, len(every)


def _hosts(view: Report) -> Iterator[tuple[str, str, int]]:
    rows = [f"| Host | {' | '.join(STATE_WORDS[s].capitalize() for s in STATES)} |", f"|---|{'---:|' * len(STATES)}"]
    for host in view.hosts[:MOST_HOSTS]:
        rows.append(f"| {_plain(clip(host.name, 80))} | {' | '.join(str(host.counts[s]) for s in STATES)} |")
    if len(view.hosts) > MOST_HOSTS:
        rows.append(f"\nand {len(view.hosts) - MOST_HOSTS} more hosts")
    yield "### Hosts, worst first", "\n".join(rows), len(view.hosts)


def _names(hosts: Iterable[Host]) -> str:
    return _listing([host.name for host in hosts])


def _listing(names: Iterable[str]) -> str:
    everything = list(names)
    rest = len(everything) - MOST_NAMES
    return ", ".join(_code(name, 80) for name in everything[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _code(text: str, longest: int = LONGEST) -> str:
    """A code span that its content cannot end."""
    line = clip(one_line(text), longest)
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    # A span may neither be empty nor touch a backtick or a space that Markdown would strip.
    pad = " " if not line or line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line or '-'}{pad}{fence}"


def _plain(text: str) -> str:
    """Text in which nothing is markup, a mention, a reference or a link."""
    line = clip(one_line(text), LONGEST)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    line = re.sub(r"([\\`*_{}\[\]()#+!~$])", r"\\\1", line)
    # Code hosts look for these after rendering, so an escape would not hide them: an invisible
    # character does.
    return re.sub(r"(@|#|://|www\.|GH-)", lambda match: f"{match[0][0]}\u200b{match[0][1:]}", line)
