# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift report as one HTML page that needs nothing else: no network, no server, no library.

The page's frame and a plain summary are written here, escaped. Everything else is data in a
JSON block, which app.js shows with textContent only. A content security policy names the two
inline blocks by hash, so even a mistake in the escaping could not run a node's output.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import clip, count, cut, listing
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import (
    STATE_WORDS,
    STATES,
    Control,
    Finding,
    Host,
    Report,
    read,
)

TEMPLATE = Path(__file__).parent / "html_template"
# A page that a browser opens without complaint, also on a phone.
MOST_BYTES = 19_000_000
# First values get shorter, then the mildest findings are left out; counts are always kept.
LEVELS = ((4000, None), (800, None), (200, None), (60, None), (60, 20_000), (60, 2_000), (60, 100))
# Without JavaScript there is no paging, so the plain list is short.
PLAIN_HOSTS = 200
PLAIN_FINDINGS = 300
MOST_FLAGS = 20


def render(report: Mapping[str, object]) -> str:
    """The whole page."""
    view = read(report)
    style = (TEMPLATE / "style.css").read_text(encoding="utf-8")
    code = (TEMPLATE / "app.js").read_text(encoding="utf-8")
    key, word = view.verdict()
    return Template((TEMPLATE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{word.capitalize()} {view.headline()}"),
        style_hash=_hash(style),
        code_hash=_hash(code),
        style=style,
        code=code,
        data=_data(view),
        verdict=key,
        verdict_word=escape(word.capitalize()),
        headline=escape(view.headline()),
        banners=_banners(view),
        collection=escape(view.collection),
        meta=_meta(view),
        tiles=_tiles(view),
        plain=_plain(view),
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# --- the frame, written here ------------------------------------------------------------------


def _banners(view: Report) -> str:
    texts = []
    if not view.complete:
        reason = view.incomplete_reason or "the run did not come to its end"
        texts.append(f"<b>The run is incomplete:</b> {escape(reason)}. What it did not reach is unknown.")
    for problem in view.waiver_problems[:10]:
        texts.append(f"<b>Waiver file:</b> {escape(problem)}")
    for sentence, hosts in view.flags()[:MOST_FLAGS]:
        names = listing([host.name for host in hosts], 200)
        texts.append(f"<b>FLAG</b> {escape(names)}: {escape(sentence)}")
    return "".join(f'<p class="banner" role="alert">{text}</p>' for text in texts)


def _meta(view: Report) -> str:
    what = view.what().capitalize()
    day, _t, time = view.started.partition("T")
    parts = [
        what,
        f"<code>{escape(view.playbook)}</code>",
        f'<time datetime="{escape(view.started)}">{escape(day)} {escape(time.replace("Z", " UTC"))}</time>',
        f"{view.seconds:.1f} s",
        f"ansible-core {escape(view.ansible)}",
        f"exit code {view.exit_code}",
    ]
    return "".join(f"<li>{part}</li>" for part in parts)


def _tiles(view: Report) -> str:
    notes = {
        "drifted": "not as declared",
        "unknown": "could not be judged",
        "waived": "accepted for a time",
        "in_sync": "as declared",
        "not_selected": "left out on purpose",
    }
    tiles = []
    for state in STATES:
        number, word = view.counts[state], STATE_WORDS[state].capitalize()
        body = f'<b>{number}</b><span class="word">{word}</span><span class="note">{notes[state]}</span>'
        if state == "in_sync":
            tiles.append(f'<li class="tile" data-state="{state}">{body}</li>')
        else:
            zero = " data-zero" if not number else ""
            tiles.append(
                f'<li><button class="tile" type="button" data-state="{state}" aria-pressed="false" disabled{zero}>'
                f"{body}</button></li>"
            )
    reached = len(view.hosts) - len(view.not_reached())
    note = f"{len(view.not_reached())} unreachable" if view.not_reached() else "all reached"
    tiles.append(
        f'<li class="tile" data-state="hosts"><b>{reached}<small>/{len(view.hosts)}</small></b>'
        f'<span class="word">Hosts reached</span><span class="note">{note}</span></li>'
    )
    return "".join(tiles)


def _plain(view: Report) -> str:
    """What can be read without JavaScript: the hosts, and the worst of what was found."""
    rows, left = [], PLAIN_FINDINGS
    for host in view.hosts[:PLAIN_HOSTS]:
        counts = ", ".join(f"{host.counts[s]} {STATE_WORDS[s]}" for s in STATES if host.counts[s])
        state = "" if host.state == "reached" else f" <strong>{host.state}: {escape(clip(host.reason, 200))}</strong>"
        shown = [f for f in host.findings if f.state != "not_selected"][:left]
        left -= len(shown)
        findings = "".join(f"<li>{_plain_finding(f, host)}</li>" for f in shown)
        rows.append(f"<h3>{escape(host.name)}</h3><p>{escape(counts)}{state}</p><ul>{findings}</ul>")
    total = sum(len(h.findings) - h.counts["not_selected"] for h in view.hosts)
    hidden = total - (PLAIN_FINDINGS - left)
    if hidden > 0:
        rows.append(f"<p>{count(hidden, 'more finding')}: see report.json, or allow JavaScript for this page.</p>")
    return "".join(rows)


def _plain_finding(finding: Finding, host: Host) -> str:
    head = f"{STATE_WORDS[finding.state]}, {finding.control.severity}"
    changes = "; ".join(
        f"{clip(c.name, 60)}: {clip(c.before, 120)} → {clip(c.after, 120)}" for c in finding.changes[:6]
    )
    more = [part for part in (changes, clip(finding.reason, 300), finding.why(), finding.age()) if part]
    remedy = finding.remedy(host) if finding.state == "drifted" else ""
    return (
        f"<strong>{head}</strong> <code>{escape(finding.control.id)}</code> {escape(finding.control.title)}"
        + (f"<br>{escape(' · '.join(more))}" if more else "")
        + (f"<br><code>{escape(clip(remedy, 400))}</code>" if remedy else "")
    )


# --- the data for app.js ----------------------------------------------------------------------


def _data(view: Report) -> str:
    for longest, most in LEVELS:
        text = _encode(_document(view, longest, most))
        if len(text.encode()) <= MOST_BYTES:
            return text
    # More hosts than a page can name: the frame still has all counts.
    return _encode({**_document(view, 60, 0), "hosts": [], "cut": "There are too many hosts to list."})


def _encode(document: object) -> str:
    """JSON that cannot end the script block it stands in, nor open a comment there."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _document(view: Report, longest: int, most: int | None) -> dict[str, object]:
    """Hosts point to findings and findings to controls, so that a fleet says a thing once."""
    controls: dict[Control, int] = {}
    variants: dict[Finding, int] = {}
    room = sum(len(h.findings) for h in view.hosts) if most is None else most
    left_out = 0
    hosts = []
    for host in view.hosts:
        rows: list[object] = []
        for finding in host.findings:
            if not room:
                left_out += 1
                continue
            room -= 1
            controls.setdefault(finding.control, len(controls))
            index = variants.setdefault(finding, len(variants))
            seen = finding.first_seen or finding.age_seconds is not None
            rows.append([index, finding.first_seen, finding.age_seconds] if seen else index)
        hosts.append(
            {
                "name": host.name,
                "state": host.state,
                "reason": cut(host.reason, longest),
                "machine": cut(host.machine, longest),
                "with": host.repair_with,
                "counts": [host.counts[state] for state in STATES],
                "rows": rows,
            }
        )
    missing = [f"Values are shortened to {longest} characters."] if longest != LEVELS[0][0] else []
    missing += [f"{count(left_out, 'finding')} did not fit here."] if left_out else []
    return {
        "states": STATES,
        "controls": [_control(c, longest) for c in controls],
        "variants": [_variant(f, controls[f.control], longest) for f in variants],
        "hosts": hosts,
        "trend": [[past.started, past.drifted, past.unknown] for past in view.trend],
        "directory": view.directory,
        "variables": view.variables,
        "unused": [cut(text, longest) for text in view.waivers_unused[:100]],
        "cut": f"{' '.join(missing)} report.json has everything." if missing else "",
    }


def _control(control: Control, longest: int) -> dict[str, object]:
    return {
        "id": control.id,
        "role": control.role,
        "title": cut(control.title, longest),
        "severity": control.severity,
        "rationale": cut(control.rationale, longest),
        "references": [cut(r, longest) for r in control.references],
        "remedy": control.remedy,
        "disrupts": cut(control.disrupts, longest),
    }


def _variant(finding: Finding, control: int, longest: int) -> dict[str, object]:
    waiver = finding.waiver
    variant = {
        "control": control,
        # A repaired one is in sync, and yet what a reader of a real run looks for.
        "state": "repaired" if finding.repaired else finding.state,
        "changes": [[cut(text, longest) for text in (c.name, c.before, c.after)] for c in finding.changes],
        "reason": cut(finding.reason, longest),
        "why": cut(finding.why(), longest),
        "allow": finding.allowance(),
        "blocked": cut(finding.blocked_by, longest) or ("what blocks it" if finding.cause == "blocked" else ""),
        "task": cut(finding.task, longest),
        "waiver": [cut(t, longest) for t in (waiver.reason, waiver.owner, waiver.expires)] if waiver else None,
    }
    return {key: value for key, value in variant.items() if value or key in ("control", "state")}
