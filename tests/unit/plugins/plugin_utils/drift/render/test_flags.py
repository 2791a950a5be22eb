# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known to be wrong with a machine is in every document that a person reads, and in no count."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import console, envelope, html, markdown
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import read
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports

SCHEMA = Path(console.__file__).parents[1] / "report.schema.json"
PANIC = "kernel 6.17.0-1008-nvidia is known to be bad: It panics; boot 6.17.0-1014-nvidia or newer."
HOSTILE = "<script>alert(1)</script> @everyone `x`"


@pytest.fixture
def report():
    document = copy.deepcopy(drift_reports.clean())
    document["hosts"][0]["flags"] = {"kernel_panics": PANIC, "hostile": HOSTILE}
    return document


def test_the_schema_has_them(report):
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    report["hosts"][0]["flags"] = {"Not an id": "x"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, json.loads(SCHEMA.read_text()))


def test_the_board_names_the_machine_the_fault_and_the_remedy(report):
    board = console.render(report)
    assert (
        f"  FLAG     spark-1: {PANIC}".split()
        == board[board.index("  FLAG     spark-1: k") :].split()[: len(PANIC.split()) + 2]
    )
    assert "FLAG" not in console.render(drift_reports.clean())


def test_hosts_with_the_same_fault_are_told_together(report):
    report["hosts"] = [{**report["hosts"][0], "name": f"spark-{number}"} for number in (1, 2, 3)]
    assert read(report).flags()[0][0] == HOSTILE
    assert [len(hosts) for _sentence, hosts in read(report).flags()] == [3, 3]
    assert console.render(report).count("It panics") == 1


def test_the_page_shows_them_as_text(report):
    page = html.render(report)
    assert f"<b>FLAG</b> spark-1: {PANIC}" in page
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page


def test_markdown_and_envelope_have_them(report):
    text = markdown.render(report)
    assert "### Flags" in text and f"`{PANIC}`" in text and f"`` {HOSTILE} ``" in text
    assert json.loads(envelope.render(report, "spark-1"))["data"]["flags"] == [PANIC, HOSTILE]


def test_they_change_no_verdict(report):
    assert read(report).verdict() == read(drift_reports.clean()).verdict()
