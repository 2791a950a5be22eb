# SPDX-License-Identifier: GPL-3.0-or-later
"""Every renderer, with any report that JSON can carry: none may raise, all must stay readable."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import (
    console,
    envelope,
    html,
    junit,
    markdown,
    prometheus,
    sarif,
)
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports
from ansible_collections.nusy.dgx_spark.tests.tools.examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TEXT = st.one_of(
    st.sampled_from([payload for payload in drift_reports.PAYLOADS if len(payload) < 1000]),
    st.sampled_from(["", "__proto__", "constructor", "spark-1", "role/control", "in_sync", "reached"]),
    st.text(st.characters(codec=None), max_size=30),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)


def either(*likely):
    """Mostly what belongs there, sometimes anything."""
    return st.one_of(*likely, ANYTHING)


STATES = st.sampled_from(["in_sync", "drifted", "unknown", "waived", "not_selected"])
CONTROL = st.fixed_dictionaries(
    {"id": either(TEXT, st.sampled_from(["role/a", "role/b"])), "state": either(STATES)},
    optional={
        "before": ANYTHING,
        "after": ANYTHING,
        "reason": either(TEXT),
        "blocked_by": either(TEXT),
        "cause": either(TEXT),
        "repaired": either(st.booleans()),
        "task": either(TEXT),
        "first_seen": either(TEXT),
        "age_seconds": either(st.floats(), st.integers()),
        "waiver": either(st.dictionaries(st.sampled_from(["reason", "owner", "expires"]), TEXT)),
    },
)
HOST = st.fixed_dictionaries(
    {
        "name": either(TEXT),
        "state": either(st.sampled_from(["reached", "unreachable", "partial"])),
        "reason": either(TEXT),
        "controls": either(st.lists(either(CONTROL), max_size=6)),
    }
)
CATALOGUE_ENTRY = st.fixed_dictionaries(
    {key: either(TEXT) for key in ("role", "title", "severity", "rationale", "remedy", "disrupts")},
    optional={"references": either(st.lists(either(TEXT), max_size=3))},
)
REPORT = st.fixed_dictionaries(
    {},
    optional={
        "run": either(
            st.dictionaries(st.sampled_from(["started", "seconds", "mode", "playbook", "complete"]), ANYTHING)
        ),
        "summary": either(st.dictionaries(TEXT, ANYTHING, max_size=3)),
        "catalogue": either(st.dictionaries(st.one_of(TEXT, st.just("role/a")), either(CATALOGUE_ENTRY), max_size=4)),
        "waivers": either(st.dictionaries(st.sampled_from(["file", "problems", "unused"]), ANYTHING)),
        "trend": ANYTHING,
        "hosts": either(st.lists(either(HOST), max_size=5)),
    },
)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.names, self.data, self._inside = set(), "", False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self._inside = ("type", "application/json") in attrs
        assert not any(name.startswith("on") for name, _value in attrs)

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        self.data += data if self._inside else ""


MARKUP = Tags(html.render(drift_reports.demo())).names | {"p", "b"}


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(REPORT)
def test_any_report_is_rendered_and_stays_inert(report):
    for board in (console.render(report), console.render(report, unicode=True)):
        assert all(line.isprintable() for line in board.split("\n"))
    page = Tags(html.render(report))
    assert page.names <= MARKUP
    json.loads(page.data)
    ET.fromstring(junit.render(report))
    assert json.loads(sarif.render(report))["version"] == "2.1.0"
    assert all(line.startswith(("# ", "spark_drift_")) for line in prometheus.render(report).splitlines())
    assert len(markdown.render(report)) <= markdown.MOST_CHARACTERS
    for _host, text in envelope.render_all(report):
        assert set(json.loads(text)) == {"ok", "data", "errors", "meta"}
        assert len(text.encode()) <= envelope.MOST_BYTES


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(CONTROL, min_size=1, max_size=8))
def test_nothing_but_in_sync_is_ever_counted_as_in_sync(controls):
    report = {"run": {"complete": True}, "hosts": [{"name": "h", "state": "reached", "controls": controls}]}
    fine = sum(control["state"] == "in_sync" for control in controls)
    assert json.loads(envelope.render(report, "h"))["data"]["counts"]["in_sync"] == fine
    cases = ET.fromstring(junit.render(report)).findall("./testsuite[@name='h']/testcase")
    passed = [case for case in cases if not {child.tag for child in case} & {"failure", "error", "skipped"}]
    assert (len(cases), len(passed)) == (len(controls), fine)


def test_a_million_characters_are_no_burden():
    report = drift_reports.hostile()
    for renderer in (console, html, junit, sarif, prometheus, markdown):
        assert len(renderer.render(report)) < 2_000_000
