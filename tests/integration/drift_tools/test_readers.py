# SPDX-License-Identifier: GPL-3.0-or-later
"""What other programs say about the report's other forms."""

import subprocess
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import junit, prometheus
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports

XSD = Path(__file__).resolve().parents[2] / "fixtures" / "junit" / "junit-10.xsd"
REPORTS = {
    "clean": drift_reports.clean(),
    "demo": drift_reports.demo(),
    "hostile": drift_reports.hostile(),
    "empty": {},
    "fleet": drift_reports.fleet(50, 100, 20),
}
ALL = pytest.mark.parametrize("name", REPORTS)


def judge(argv: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=120, check=False)


@ALL
def test_promtool_has_nothing_to_say(promtool, name):
    done = judge([promtool, "check", "metrics"], prometheus.render(REPORTS[name]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_would_have_said_something(promtool):
    twice = 'spark_drift_complete 1\nspark_drift_complete{host="a} 1\n'
    assert judge([promtool, "check", "metrics"], prometheus.render({}) + twice).returncode != 0


@ALL
def test_junit_keeps_the_schema_of_jenkins(xmllint, name):
    done = judge([xmllint, "--noout", "--schema", str(XSD), "-"], junit.render(REPORTS[name]))
    assert (done.returncode, done.stderr) == (0, "- validates\n")


def test_junit_schema_would_have_said_something(xmllint):
    broken = junit.render(REPORTS["demo"]).replace("<testcase ", "<case ").replace("</testcase>", "</case>")
    assert judge([xmllint, "--noout", "--schema", str(XSD), "-"], broken).returncode != 0
