# SPDX-License-Identifier: GPL-3.0-or-later
"""JUnit, SARIF, Prometheus, Markdown and the envelope: what other programs read."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import junitparser
import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import (
    envelope,
    junit,
    markdown,
    prometheus,
    sarif,
)
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports
from markdown_it import MarkdownIt

FIXTURES = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "fixtures"
SARIF = jsonschema.Draft4Validator(json.loads((FIXTURES / "sarif" / "sarif-2.1.0-rtm.5.json").read_text()))
MARKUP = {"h2", "h3", "p", "blockquote", "ul", "li", "code", "strong", "table", "thead", "tbody", "tr", "th", "td"}
REPORTS = {"clean": drift_reports.clean(), "demo": drift_reports.demo(), "hostile": drift_reports.hostile()}
ALL = pytest.mark.parametrize("name", REPORTS)


# --- JUnit ------------------------------------------------------------------------------------


def suites(report):
    return {
        suite.name: suite
        for suite in junitparser.JUnitXml.fromroot(junitparser.JUnitXml.fromstring(junit.render(report).encode())._elem)
    }


@ALL
def test_junit_counts_what_its_cases_are(name):
    for suite in suites(REPORTS[name]).values():
        written = (suite.tests, suite.failures, suite.errors, suite.skipped)
        suite.update_statistics()
        assert written == (suite.tests, suite.failures, suite.errors, suite.skipped)


def test_junit_tells_states_apart():
    found = suites(drift_reports.demo())
    results = {case.name: case.result[0] if case.result else None for case in found["spark-1"]}
    assert isinstance(results["ptxas/assembler"], junitparser.Failure)
    assert "knows sm_121: no -> yes" in results["ptxas/assembler"].text
    assert isinstance(results["os_hardening/auditd"], junitparser.Skipped)
    assert results["os_hardening/auditd"].message.startswith("waived until 2026-03-31 by lab operations: ")
    assert results["prereqs/packages"] is None
    assert isinstance(next(c for c in found["spark-2"] if c.name == "models/snapshot").result[0], junitparser.Error)
    assert isinstance(next(c for c in found["spark-6"] if c.name == "gateway/tls").result[0], junitparser.Skipped)


def test_junit_cannot_pass_when_something_was_not_seen():
    unreachable = suites(drift_reports.demo())["spark-5"]
    assert unreachable.errors == 37
    for change in (
        {"hosts": []},
        {"run": {"complete": False, "incomplete_reason": "killed"}},
        {"waivers": {"problems": ["bad"]}},
    ):
        report = {**drift_reports.clean(), **change}
        assert suites(report)["run"].errors >= 1


# --- SARIF ------------------------------------------------------------------------------------


def log_of(report):
    return json.loads(sarif.render(report))


@ALL
def test_sarif_keeps_its_schema(name):
    SARIF.validate(log_of(REPORTS[name]))


def test_sarif_results_carry_level_place_and_kind():
    results = log_of(drift_reports.demo())["runs"][0]["results"]
    found = {(r["properties"]["host"], r["ruleId"]): r for r in results}
    assert len(results) == 9 + 62 + 1
    assembler = found["spark-1", "ptxas/assembler"]
    assert (assembler["kind"], assembler["level"]) == ("fail", "error")
    location = assembler["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "roles/ptxas/meta/controls.yml"
    assert location["logicalLocations"][0]["name"] == "spark-1"
    assert found["spark-1", "kernel_tuning/swappiness"]["level"] == "warning"
    assert found["spark-1", "drift_timer/timer"]["level"] == "note"
    unknown = found["spark-2", "models/snapshot"]
    assert (unknown["kind"], unknown["level"]) == ("open", "none")
    waived = found["spark-1", "os_hardening/auditd"]
    assert waived["suppressions"][0]["justification"].endswith("(lab operations, until 2026-03-31)")


def test_sarif_fingerprints_are_the_same_next_time_and_never_shared():
    report, later = drift_reports.demo(), copy.deepcopy(drift_reports.demo())
    later["run"] |= {"id": "other", "started": "2026-02-01T12:00:00Z"}
    later["hosts"].reverse()
    later["hosts"][-1]["controls"][24]["before"] = {"version": "12.8"}
    prints = [
        {r["partialFingerprints"]["sparkDriftControl/v1"] for r in log_of(x)["runs"][0]["results"]}
        for x in (report, later)
    ]
    assert prints[0] == prints[1]
    assert len(prints[0]) == 72


def test_sarif_says_what_was_not_seen_and_what_did_not_fit(monkeypatch):
    monkeypatch.setattr(sarif, "MOST_RESULTS", 10)
    run = log_of(drift_reports.demo())["runs"][0]
    notes = [n["message"]["text"] for n in run["invocations"][0]["toolExecutionNotifications"]]
    assert any("No route to host" in note for note in notes)
    assert notes[-1] == "62 results did not fit here; report.json has them."
    assert [r["kind"] for r in run["results"]].count("fail") == 9


def test_sarif_messages_have_no_placeholder_and_no_link():
    texts = [r["message"]["text"] for r in log_of(drift_reports.hostile())["runs"][0]["results"]]
    assert not any(re.search(r"\]\(|(?<!\{)\{\d+\}", text) for text in texts)
    assert any("] (javascript" in text for text in texts)


# --- Prometheus ---------------------------------------------------------------------------------


def samples(report):
    lines = [line for line in prometheus.render(report).splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_prometheus_counts_controls():
    found = samples(drift_reports.demo())
    assert found['spark_drift_controls{host="spark-1",role="ptxas",severity="critical",state="drifted"}'] == 1
    assert found['spark_drift_host_controls{host="spark-1",state="drifted"}'] == 4
    assert found['spark_drift_host_controls{host="spark-1",state="unknown"}'] == 0
    assert found['spark_drift_host_reached{host="spark-5"}'] == 0
    assert found['spark_drift_host_reached{host="spark-4"}'] == 0
    assert found['spark_drift_host_reached{host="spark-1"}'] == 1
    assert found['spark_drift_oldest_drift_seconds{host="spark-1"}'] == 12 * 86400
    assert found["spark_drift_last_run_timestamp_seconds"] == 1769860800
    assert found["spark_drift_duration_seconds"] == 41.7
    assert (found["spark_drift_complete"], found["spark_drift_exit_code"]) == (1, 3)
    assert sum(v for k, v in found.items() if k.startswith("spark_drift_controls")) == 216


@ALL
def test_prometheus_never_repeats_a_sample_and_each_line_is_one(name):
    lines = prometheus.render(REPORTS[name]).splitlines()
    names = [line.rpartition(" ")[0] for line in lines]
    assert len(set(names)) == len(names)
    sample = re.compile(r'spark_drift_\w+(\{(\w+="([^"\\]|\\.)*",?)*\})? [0-9.e+]+')
    assert [line for line in lines if not line.startswith("# ") and not sample.fullmatch(line)] == []


# --- Markdown -----------------------------------------------------------------------------------


def test_markdown_groups_and_explains():
    text = markdown.render(drift_reports.demo())
    assert text.startswith("## Drift on 4 of 6 hosts, not all known on 4 of 6 hosts\n")
    assert "| 6 | 9 | 62 | 1 | 142 | 2 |" in text
    assert "- **critical** `ptxas/assembler` Triton finds an assembler that knows sm\\_121, on `spark-1`\n" in text
    assert text.count("`vm.swappiness`: `60` → `10`") == 1
    assert "- `needs root`: 9 results on `spark-3`: " in text


def test_markdown_is_bounded_and_keeps_the_counts():
    report = drift_reports.fleet(200, 300, 60)
    text = markdown.render(report)
    assert len(text) <= 60_000
    assert f"| 200 | {report['summary']['drifted']} | {report['summary']['unknown']} | 0 |" in text
    assert re.search(r"\*\*\d+ entries did not fit here;\*\* the counts above are complete", text)


def test_markdown_shows_hostile_text_as_text():
    page = MarkdownIt("commonmark").enable("table").render(markdown.render(drift_reports.hostile()))
    tags = set(re.findall(r"<(/?[a-z0-9]+)", page))
    assert {tag.lstrip("/") for tag in tags} <= MARKUP
    # Code hosts look for mentions, references and addresses in what is not code.
    bare = re.sub(r"<code>.*?</code>", "", page, flags=re.S)
    assert not re.search(r"@\w|(?<!&)#\w|://|www\.", bare)
    assert "&lt;script&gt;window.pwned=1" in page


@pytest.mark.parametrize("value", ["", "`", "``", "a`b", "``` x ```", " ", "`a", "a``"])
def test_markdown_code_spans_hold_backticks(value):
    span = markdown._code(value)
    fence = re.match("`+", span)[0]
    assert span.endswith(fence)
    assert fence not in re.findall("`+", span[len(fence) : -len(fence)])


# --- Envelope -----------------------------------------------------------------------------------


@ALL
def test_envelope_has_the_shape_of_the_vendors_tools(name):
    for host, text in envelope.render_all(REPORTS[name]):
        document = json.loads(text)
        assert set(document) == {"ok", "data", "errors", "meta"}
        assert {"tool", "version", "collected_at_utc"} <= set(document["meta"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["meta"]["collected_at_utc"])
        assert (document["data"] is None) == (not document["ok"])
        for error in document["errors"]:
            assert set(error) == {"code", "message", "detail", "hint", "severity"}
        assert document["ok"] or document["errors"][0]["severity"] == "error"
        assert document["data"] is None or document["data"]["host"] == host


def test_envelope_of_one_host_is_the_one_of_all():
    report = drift_reports.demo()
    for name, text in envelope.render_all(report, "build/drift/report.json"):
        assert envelope.render(report, name, "build/drift/report.json") == text


def test_envelope_tells_what_was_found():
    document = json.loads(envelope.render(drift_reports.demo(), "spark-1"))
    assert document["data"]["counts"]["drifted"] == 4
    assert document["data"]["findings"][0]["before"]["version"] == "12.4.131"
    assert document["meta"]["artifacts"] == ["report.json#/hosts/0"]
    assert "truncation" not in document["meta"]


@pytest.mark.parametrize(
    ("host", "ok", "code"),
    [("spark-4", True, "W_PARTIAL_DATA"), ("spark-5", False, "E_GENERAL"), ("nobody", False, "E_NOT_FOUND")],
)
def test_envelope_says_what_was_not_seen(host, ok, code):
    document = json.loads(envelope.render(drift_reports.demo(), host))
    assert (document["ok"], document["errors"][0]["code"]) == (ok, code)


@pytest.mark.parametrize(
    ("controls", "size", "properties"),
    [(10, 50_000, 1), (40, 4000, 3), (3000, 100, 1), (500, 4000, 60), (1, 4000, 500)],
)
def test_envelope_is_never_larger_than_64_kib(controls, size, properties):
    report = drift_reports.clean()
    report["hosts"][0]["controls"] = [
        {"id": f"r/c{n}", "state": "drifted", "before": {f"p{p}": "ü" * size for p in range(properties)}}
        for n in range(controls)
    ]
    text = envelope.render(report, "spark-1")
    document = json.loads(text)
    assert len(text.encode()) <= 64 * 1024
    assert document["data"]["counts"]["drifted"] == controls
    assert document["meta"]["truncation"]["findings"]["total"] == controls
    assert len(document["data"]["findings"]) == document["meta"]["truncation"]["findings"]["shown"]
