# SPDX-License-Identifier: GPL-3.0-or-later
"""One bounded JSON document per host, in the envelope of NVIDIA's own DGX Spark tools.

``{"ok", "data", "errors", "meta"}``, at most 64 KiB: values get shorter first, then the mildest
findings are left out; counts are always complete, and the evidence is a pointer into report.json.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import cut, one_line
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import Finding, Host, Report, read

MOST_BYTES = 64 * 1024
TOOL = "spark_drift"
# Longest value, first as long as the report reader lets it be; after the last one findings are
# left out.
MOST_FLAGS = 20
LENGTHS = (5000, 500, 120)


def render(report: Mapping[str, object], host_name: str, pointer: str = "report.json") -> str:
    """The envelope of one host. ``pointer`` names the report document for the reader."""
    view = read(report, only=host_name)
    if view.hosts:
        return _fitting(view, view.hosts[0], pointer)
    name = one_line(host_name, 255)
    error = _error("E_NOT_FOUND", f"the report has no host {name}", "", "Look at the host names of the report.")
    return _encode(_failed(view, [error], pointer))


def render_all(report: Mapping[str, object], pointer: str = "report.json") -> Iterator[tuple[str, str]]:
    """Host name and envelope of every host, in the order of the document."""
    view = read(report)
    for host in sorted(view.hosts, key=lambda host: host.index):
        yield host.name, _fitting(view, host, pointer)


def _fitting(view: Report, host: Host, pointer: str) -> str:
    where = f"{pointer}#/hosts/{host.index}"
    if host.state == "unreachable":
        hint = "Reach the host by SSH as Ansible does, then run the report again."
        return _encode(_failed(view, [_error("E_GENERAL", "the host is unreachable", host.reason, hint)], where))
    # Findings are measured one by one: a hostile report must not be encoded whole to be refused.
    shown: list[dict[str, object]] = []
    for longest in LENGTHS:
        shown, room = [], MOST_BYTES - len(_encode(_document(view, host, where, longest, [])).encode()) - 100
        for finding in host.findings:
            entry = _finding(finding, host, longest)
            room -= len(_encode(entry).encode())
            if room < 0:
                break
            shown.append(entry)
        if len(shown) == len(host.findings):
            break
    return _encode(_document(view, host, where, longest, shown))


def _encode(document: Mapping[str, object]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def _failed(view: Report, errors: list[dict[str, str]], where: str) -> dict[str, object]:
    return {"ok": False, "data": None, "errors": errors, "meta": _meta(view, where)}


def _document(view: Report, host: Host, where: str, longest: int, shown: list[dict[str, object]]) -> dict[str, object]:
    meta = _meta(view, where)
    errors = []
    partial = "Run the report again when what stopped it is repaired."
    if not view.complete:
        errors.append(_error("W_PARTIAL_DATA", "the run is incomplete", view.incomplete_reason, partial, "warning"))
    if host.state == "partial":
        errors.append(_error("W_PARTIAL_DATA", "the host's run stopped early", host.reason, partial, "warning"))
    if longest != LENGTHS[0] or len(shown) < len(host.findings):
        meta["truncation"] = {
            "findings": {"total": len(host.findings), "shown": len(shown)},
            "longest_value": longest,
        }
    data = {
        "host": host.name,
        "state": host.state,
        "mode": view.mode,
        "complete": view.complete,
        "counts": dict(host.counts),
        "flags": [sentence for _name, sentence in host.flags[:MOST_FLAGS]],
        "findings": shown,
    }
    return {"ok": True, "data": data, "errors": errors, "meta": meta}


def _finding(finding: Finding, host: Host, longest: int) -> dict[str, object]:
    control, waiver = finding.control, finding.waiver
    facts: dict[str, object] = {
        "id": control.id,
        "state": finding.state,
        "severity": control.severity,
        "title": cut(control.title, longest),
        "before": {cut(c.name, longest): cut(c.before, longest) for c in finding.changes},
        "after": {cut(c.name, longest): cut(c.after, longest) for c in finding.changes},
        "reason": cut(finding.reason, longest),
        "cause": cut(finding.cause, longest),
        "blocked_by": cut(finding.blocked_by, longest),
        "repaired": finding.repaired,
        "first_seen": finding.first_seen,
        "age_seconds": finding.age_seconds,
        "remedy": cut(finding.remedy(host), max(longest, 1000)) if finding.state == "drifted" else "",
        "waiver": {"reason": waiver.reason, "owner": waiver.owner, "expires": waiver.expires} if waiver else None,
    }
    return {key: value for key, value in facts.items() if value or (key == "age_seconds" and value == 0)}


def _error(code: str, message: str, detail: str, hint: str, severity: str = "error") -> dict[str, str]:
    return {"code": code, "message": message, "detail": detail, "hint": hint, "severity": severity}


def _meta(view: Report, where: str) -> dict[str, object]:
    moment = datetime.fromtimestamp(min(view.epoch, 4e9), timezone.utc)
    return {
        "tool": TOOL,
        "version": view.collection,
        "collected_at_utc": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "artifacts": [where],
    }
