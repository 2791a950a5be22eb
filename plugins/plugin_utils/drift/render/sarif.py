# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift report as SARIF 2.1.0, for code hosts.

A result points to the declaration of its control in the repository; the host is its logical
location. Unknown is the kind ``open`` (not enough information to decide), which SARIF does not
let have a level; waived is suppressed with the waiver's reason.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import clip, count
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import (
    SEVERITIES,
    STATES,
    Control,
    Finding,
    Host,
    Report,
    read,
)

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
# Code hosts refuse a run with more; the worst come first, and a notification says what is missing.
MOST_RESULTS = 25_000


def render(report: Mapping[str, object]) -> str:
    """The whole log."""
    view = read(report)
    found = [
        (finding, host)
        for host in view.hosts
        for finding in host.findings
        if finding.state in ("drifted", "unknown", "waived")
    ]
    found.sort(key=lambda pair: (STATES.index(pair[0].state), SEVERITIES.index(pair[0].control.severity)))
    shown = found[:MOST_RESULTS]
    rules: dict[Control, int] = {}
    results = [_result(finding, host, rules.setdefault(finding.control, len(rules)), view) for finding, host in shown]
    driver = {
        "name": "spark-drift",
        "organization": "nusy",
        "informationUri": "https://github.com/nusy/dgx_spark",
        "semanticVersion": view.collection
        if re.fullmatch(r"\d+\.\d+\.\d+[\w.+-]*", view.collection, re.A)
        else "0.0.0",
        "rules": [_rule(control) for control in rules],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": "nusy.dgx_spark/drift/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(view, len(found) - len(shown))],
        "results": results,
        "properties": {"mode": view.mode, "hosts": len(view.hosts), "counts": dict(view.counts)},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, ensure_ascii=False) + "\n"


def _rule(control: Control) -> dict[str, object]:
    risk = f" Careful: {control.disrupts}" if control.disrupts else ""
    rule: dict[str, object] = {
        "id": control.id,
        "shortDescription": {"text": control.title},
        "fullDescription": {"text": control.rationale or control.title},
        "help": {"text": f"Repair: {control.remedy}.{risk}" if control.remedy else "No command repairs this."},
        "defaultConfiguration": {"level": LEVELS[control.severity]},
        "properties": {"severity": control.severity, "tags": [control.role], "references": list(control.references)},
    }
    pages = [text for text in control.references if re.fullmatch(r"https://[\w.:-]+(/[\w./~%+=&?#-]*)?", text, re.A)]
    if pages:
        rule["helpUri"] = pages[0]
    return rule


def _result(finding: Finding, host: Host, rule: int, view: Report) -> dict[str, object]:
    failed = finding.state != "unknown"
    digest = hashlib.sha256(f"{host.name}\0{finding.control.id}".encode()).hexdigest()
    result: dict[str, object] = {
        "ruleId": finding.control.id,
        "ruleIndex": rule,
        "kind": "fail" if failed else "open",
        "level": LEVELS[finding.control.severity] if failed else "none",
        "message": {"text": _message(finding, host)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _declaration(finding.control, view)},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [{"name": host.name, "fullyQualifiedName": host.name, "kind": "resource"}],
            }
        ],
        # All results of a role share one line of one file: without the second one a code host
        # would take two hosts for one finding.
        "partialFingerprints": {"sparkDriftControl/v1": digest[:32], "primaryLocationLineHash": f"{digest[:16]}:1"},
        "properties": _properties(finding, host),
    }
    if finding.state == "waived":
        waiver = finding.waiver
        said = f"{waiver.reason} ({waiver.owner}, until {waiver.expires})" if waiver else "waived"
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": said}]
    return result


def _message(finding: Finding, host: Host) -> str:
    if finding.state == "unknown":
        reason = finding.reason or "no reason given"
        return _literal(f"{host.name}: {finding.control.title}: could not be judged: {reason}")
    changes = "; ".join(f"{c.name}: {clip(c.before, 200)} -> {clip(c.after, 200)}" for c in finding.changes[:10])
    parts = (f"{host.name}: {finding.control.title}", changes, finding.reason, finding.why())
    return _literal(clip(". ".join(part for part in parts if part), 3000))


def _literal(text: str) -> str:
    """Text in which a reader of SARIF finds neither a placeholder nor a link."""
    return re.sub(r"\{(\d+)\}", r"{{\1}}", text).replace("](", "] (")


def _properties(finding: Finding, host: Host) -> dict[str, object]:
    facts = {
        "host": host.name,
        "state": finding.state,
        "cause": finding.cause,
        "firstSeen": finding.first_seen,
        "ageSeconds": finding.age_seconds,
        "blockedBy": finding.blocked_by,
        "task": finding.task,
        "remedy": finding.remedy(host),
    }
    return {key: value for key, value in facts.items() if value not in ("", None)}


def _declaration(control: Control, view: Report) -> str:
    """The file of the repository that declares the control, or the playbook for a task of others."""
    if not control.id.startswith("task:") and re.fullmatch(r"[a-z][a-z0-9_]*", control.role):
        return f"roles/{control.role}/meta/controls.yml"
    playbook = view.playbook.lstrip("/")
    return quote(playbook, safe="/") if playbook and ".." not in playbook.split("/") else "site.yml"


def _invocation(view: Report, left_out: int) -> dict[str, object]:
    notes = []
    if not view.complete:
        notes.append(("error", f"The run is incomplete: {view.incomplete_reason or 'it did not come to its end'}"))
    for host in view.hosts:
        if host.state != "reached":
            notes.append(("error", f"{host.name} {host.state}: {host.reason}"))
    notes += [("error", f"Waiver file: {problem}") for problem in view.waiver_problems]
    if left_out:
        notes.append(("warning", f"{count(left_out, 'result')} did not fit here; report.json has them."))
    invocation: dict[str, object] = {
        "executionSuccessful": view.complete,
        "exitCode": view.exit_code,
        "toolExecutionNotifications": [{"level": level, "message": {"text": text}} for level, text in notes],
    }
    if view.epoch:
        start = datetime.fromtimestamp(min(view.epoch, 4e9), timezone.utc)
        end = start + timedelta(seconds=min(view.seconds, 1e9))
        invocation |= {"startTimeUtc": _time(start), "endTimeUtc": _time(end)}
    return invocation


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
