# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a report: what is counted, what is sorted first, what is made of nonsense."""

import json
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import drift
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import changes, view
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports

SCHEMA = Path(next(iter(drift.__path__))) / "report.schema.json"


def report_of(*controls, **host):
    return {
        "run": {"complete": True},
        "catalogue": {"role/one": {"role": "role", "severity": "high", "title": "One", "remedy": "fix --limit {host}"}},
        "hosts": [{"name": "h", "state": "reached", "reason": "", "controls": list(controls), **host}],
    }


@pytest.mark.parametrize(
    "report", [drift_reports.clean(), drift_reports.demo(), drift_reports.site(), drift_reports.fleet(3, 30, 5)]
)
def test_the_reports_of_these_tests_are_reports(report):
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(report)


@pytest.mark.parametrize("report", [drift_reports.clean(), drift_reports.demo(), drift_reports.fleet(3, 30, 5)])
def test_read_counts_as_the_summary_does(report):
    read = view.read(report)
    assert dict(read.counts) == {state: report["summary"][state] for state in view.STATES}
    assert len(read.hosts) == report["summary"]["hosts"]
    assert len(read.not_reached()) == report["summary"]["unreachable"]


@pytest.mark.parametrize("state", ["clean", "", None, 5, ["in_sync"], "IN_SYNC"])
def test_a_state_that_is_not_one_is_unknown(state):
    read = view.read(report_of({"id": "role/one", "state": state}))
    assert (read.counts["unknown"], read.counts["in_sync"]) == (1, 0)
    assert "the report gives the state" in read.hosts[0].findings[0].reason


@pytest.mark.parametrize("state", [None, "fine", 1])
def test_a_host_state_that_is_not_one_is_not_reached_to_the_end(state):
    read = view.read(report_of({"id": "role/one", "state": "in_sync"}, state=state))
    assert read.hosts[0].state == "partial"
    assert read.verdict() == ("unknown", "NOT ALL KNOWN")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({}, "clean"),
        ({"hosts": []}, "incomplete"),
        ({"run": {"complete": False}}, "incomplete"),
        ({"run": {"complete": "yes"}}, "incomplete"),
        ({"waivers": {"problems": ["line 3: no owner"]}}, "waivers"),
    ],
)
def test_verdict_of_a_clean_host_depends_on_the_run(change, key):
    assert view.read({**report_of({"id": "role/one", "state": "in_sync"}), **change}).verdict()[0] == key


def test_headline_names_the_only_host_and_counts_many():
    assert view.read(drift_reports.clean()).headline() == "spark-1 as declared"
    assert view.read(drift_reports.demo()).headline() == "on 4 of 6 hosts, not all known on 4 of 6 hosts"


def test_hosts_and_findings_are_sorted_worst_first():
    read = view.read(drift_reports.demo())
    assert [host.name for host in read.hosts] == [f"spark-{n}" for n in (4, 5, 1, 2, 3, 6)]
    assert [f.control.severity for f in read.hosts[2].of("drifted")] == ["critical", "critical", "medium", "info"]


def test_a_repaired_control_is_in_sync_and_still_told():
    read = view.read(
        report_of({"id": "role/one", "state": "in_sync", "repaired": True, "before": {"a": 1}, "after": {"a": 2}})
    )
    assert read.counts["in_sync"] == 1
    assert read.repaired() == 1
    assert read.verdict()[0] == "clean"
    assert read.hosts[0].findings[0].changes == (changes.Change("a", "1", "2"),)


def test_changes_tell_absent_from_empty_and_leave_out_what_is_equal():
    control = {
        "id": "role/one",
        "state": "drifted",
        "before": {"a": "", "same": 1},
        "after": {"a": "x", "b": None, "same": 1},
    }
    assert view.read(report_of(control)).hosts[0].findings[0].changes == (
        changes.Change("a", '""', "x"),
        changes.Change("b", changes.NOTHING, changes.NOTHING),
    )


def test_long_texts_are_shown_where_they_differ():
    control = {
        "id": "role/one",
        "state": "drifted",
        "before": {"f": "x" * 9000 + "old"},
        "after": {"f": "x" * 9000 + "new"},
    }
    change = view.read(report_of(control)).hosts[0].findings[0].changes[0]
    assert change.before.endswith("old")
    assert change.after.endswith("new")
    assert change.before.startswith("[8800 equal characters …] ")


def test_many_properties_are_cut_with_their_count():
    control = {"id": "role/one", "state": "drifted", "before": {f"p{n:03}": n for n in range(250)}}
    rows = view.read(report_of(control)).hosts[0].findings[0].changes
    assert (len(rows), rows[-1]) == (101, changes.Change("(more properties)", "150", "150"))


def test_remedy_quotes_a_host_that_would_be_a_command():
    host = view.read(report_of({"id": "role/one", "state": "drifted"}, name="h; rm -rf $HOME")).hosts[0]
    assert host.findings[0].remedy(host) == "fix --limit 'h??rm?-rf??HOME'"


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ({"cause": "corrective"}, "the node moved since it was last applied"),
        ({"cause": "intentional"}, "the declaration changed since it was last applied"),
        ({"cause": "never_applied"}, "never applied here"),
        (
            {"cause": "blocked", "blocked_by": "prereqs_confirm: [/opt/nusy]"},
            "blocked until you name it: prereqs_confirm: [/opt/nusy]",
        ),
        ({"cause": ""}, ""),
    ],
)
def test_causes_are_told_in_words(control, words):
    assert view.read(report_of({"id": "role/one", "state": "drifted", **control})).hosts[0].findings[0].why() == words


def test_only_reads_one_host_and_keeps_its_place():
    read = view.read(drift_reports.demo(), only="spark-3")
    assert [(host.name, host.index) for host in read.hosts] == [("spark-3", 2)]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"hosts": None, "run": [], "summary": "x", "catalogue": 5, "waivers": None, "trend": {}},
        {"hosts": [None, 1, "x", [], {"controls": {"a": 1}}, {"controls": [None, 1, "x", [], {}]}]},
        {"run": {"started": "2026-99-99T00:00:00Z", "seconds": float("inf")}, "summary": {"exit_code": -3}},
        {"run": {"started": "9999-12-31T23:59:59+23:59", "seconds": 10**400}, "trend": [None, {"drifted": "x"}]},
        {"hosts": [{"controls": [{"id": "a/b", "state": "drifted", "before": [1], "after": 5, "waiver": "x"}]}]},
    ],
)
def test_nonsense_is_read_and_never_clean(nonsense):
    assert view.read(nonsense).verdict()[0] != "clean"


@pytest.mark.parametrize(
    ("blocked_by", "argument"),
    [
        ("role_confirm: [/opt/nusy, 'a b']", """-e '{"role_confirm": ["/opt/nusy", "a b"]}'"""),
        ("storage_raid_confirm_serials: [S6Z2]", """-e '{"storage_raid_confirm_serials": ["S6Z2"]}'"""),
        # It came from a node, and Ansible evaluates what -e gives.
        ('role_confirm: [\'{{ lookup("pipe", "id") }}\']', ""),
        ("ansible_connection: local", ""),
        ("role_confirm: [a]\nansible_host: x", ""),
        ("role_confirm: {a: b}", ""),
        ("role_confirm: [a", ""),
        ("just words", ""),
    ],
)
def test_what_unblocks_is_in_the_command_when_it_is_plain(blocked_by, argument):
    control = {"id": "role/one", "state": "drifted", "cause": "blocked", "blocked_by": blocked_by}
    host = view.read(report_of(control)).hosts[0]
    assert host.findings[0].allowance() == argument
    assert host.findings[0].remedy(host) == f"fix --limit {host.name} {argument}".strip()


def test_this_machine_needs_its_name_for_a_repair():
    report = report_of({"id": "role/one", "state": "drifted"}, repair_with="-e spark_local_apply=box")
    host = view.read(report).hosts[0]
    assert host.findings[0].remedy(host) == f"fix --limit {host.name} -e spark_local_apply=box"


@pytest.mark.parametrize(("state", "word"), [("not_selected", "NOTHING CHECKED"), ("in_sync", "CLEAN")])
def test_nothing_looked_at_is_not_clean(state, word):
    report = view.read(report_of({"id": "role/one", "state": state, "reason": "tags"}))
    assert report.verdict()[1] == word
