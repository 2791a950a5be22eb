# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift report as JUnit XML: a host is a suite, a control a test case.

drifted = failure, unknown = error, waived and not selected = skipped, in sync = passed.
A host that was not fully seen, and a run that was cut off, are errors of their own, so that
no reader of test results can take silence for success.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.text import clip
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import (
    Control,
    Finding,
    Host,
    Report,
    read,
)

KINDS = {"drifted": "failure", "unknown": "error", "waived": "skipped", "not_selected": "skipped"}


def render(report: Mapping[str, object]) -> str:
    """The whole document. Suites are written one by one: a fleet has 300,000 test cases."""
    view = read(report)
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    suites: list[str] = []
    for suite in _suites(view):
        for key in totals:
            totals[key] += int(suite.get(key, "0"))
        suites.append(ET.tostring(suite, encoding="unicode"))
    counts = "".join(f' {key}="{number}"' for key, number in totals.items() if key != "skipped")
    head = f'<testsuites name="drift"{counts} time="{view.seconds:.3f}">'
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *suites, "</testsuites>"]) + "\n"


def _suites(view: Report) -> Iterator[ET.Element]:
    broken = [] if view.complete else [view.incomplete_reason or "the run did not come to its end"]
    broken += view.waiver_problems if view.hosts or broken else (*view.waiver_problems, "no host was checked")
    if broken:
        suite = _suite("run", view, tests=len(broken), errors=len(broken))
        for number, problem in enumerate(broken):
            case = ET.SubElement(
                suite, "testcase", classname="run", name=f"the report is whole ({number + 1})", time="0"
            )
            _verdict(case, "error", problem, problem)
        yield suite
    for host in view.hosts:
        yield _host(host, view)


def _suite(name: str, view: Report, **counts: int) -> ET.Element:
    suite = ET.Element("testsuite", name=name, hostname=name, time="0")
    if view.epoch:
        suite.set("timestamp", view.started.rstrip("Z"))
    for key in ("tests", "failures", "errors", "skipped"):
        suite.set(key, str(counts.get(key, 0)))
    return suite


def _host(host: Host, view: Report) -> ET.Element:
    unseen = host.state != "reached"
    suite = _suite(
        host.name,
        view,
        tests=sum(host.counts.values()) + unseen,
        failures=host.counts["drifted"],
        errors=host.counts["unknown"] + unseen,
        skipped=host.counts["waived"] + host.counts["not_selected"],
    )
    if unseen:
        case = ET.SubElement(suite, "testcase", classname="host", name="the host was seen to the end", time="0")
        _verdict(case, "error", f"{host.state}: {host.reason}", host.reason)
    for finding in host.findings:
        case = _case(suite, finding.control)
        if finding.state in KINDS:
            _verdict(case, KINDS[finding.state], _message(finding), _text(finding, host))
        elif finding.repaired:
            ET.SubElement(case, "system-out").text = "repaired in this run\n" + _text(finding, host)
    for control in host.in_sync:
        _case(suite, control)
    return suite


def _case(suite: ET.Element, control: Control) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=control.role, name=control.id, time="0")


def _verdict(case: ET.Element, kind: str, message: str, text: str) -> None:
    ET.SubElement(case, kind, type=kind, message=clip(message, 500)).text = text


def _message(finding: Finding) -> str:
    if finding.state == "drifted":
        return f"[{finding.control.severity}] {finding.control.title}"
    if finding.state == "waived" and finding.waiver:
        return f"waived until {finding.waiver.expires} by {finding.waiver.owner}: {finding.waiver.reason}"
    return finding.reason or finding.state


def _text(finding: Finding, host: Host) -> str:
    control = finding.control
    lines = [f"{control.id}: {control.title} ({control.severity})"]
    lines += [f"{change.name}: {change.before} -> {change.after}" for change in finding.changes]
    facts = {
        "reason": finding.reason,
        "why": finding.why(),
        "known": finding.age(),
        "first seen": finding.first_seen,
        "task": finding.task,
        "rationale": control.rationale,
        "repair": finding.remedy(host),
        "careful": control.disrupts,
    }
    return "\n".join([*lines, *(f"{name}: {text}" for name, text in facts.items() if text)])
