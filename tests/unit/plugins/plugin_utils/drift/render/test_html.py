# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as a document: self-contained, bounded, and deaf to what nodes put into it.

What it does in a browser is tested in tests/browser.
"""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import html
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports


class Page(HTMLParser):
    """Start tags, and the content of script and style, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if self._inside:
            self.raw.append((tag, ""))

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside:
            self.raw[-1] = (self.raw[-1][0], self.raw[-1][1] + data)
        else:
            self.text.append(data)

    @property
    def data(self):
        return json.loads(self.raw[1][1])


DEMO = Page(html.render(drift_reports.demo()))


def test_it_asks_for_nothing_from_anywhere():
    loading = ("src", "srcset", "href", "action", "data", "poster", "background")
    for report in (drift_reports.demo(), drift_reports.hostile()):
        for tag, attributes in Page(html.render(report)).tags:
            wanted = [attributes[name] for name in loading if name in attributes]
            assert [url for url in wanted if not str(url).startswith("#")] == [], tag
            assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert not re.search(r"@import|url\(|https?://", (html.TEMPLATE / "style.css").read_text())


def test_the_policy_allows_the_inline_code_by_hash_and_nothing_else():
    # The hashes are of exactly what stands between the tags.
    policy = next(a["content"] for tag, a in DEMO.tags if a.get("http-equiv") == "Content-Security-Policy")
    style, _data, code = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _tag, text in DEMO.raw)
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{code}'; style-src 'sha256-{style}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_code_cannot_write_markup():
    code = (html.TEMPLATE / "app.js").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|fetch\(|XMLHttp", code
    )
    assert "</script" not in code.lower()


def test_it_reads_without_javascript():
    said = " ".join("".join(DEMO.text).split())
    for words in ("Drift on 4 of 6 hosts", "9Drifted", "spark-5", "No route to host", "knows sm_121: no → yes",
                  "ansible-playbook site.yml --tags ptxas --limit spark-1"):  # fmt: skip
        assert words in said


def test_the_data_has_every_finding_once_and_no_control_in_sync():
    data = DEMO.data
    rows = [
        (host["name"], data["variants"][row[0] if isinstance(row, list) else row])
        for host in data["hosts"]
        for row in host["rows"]
    ]
    assert len(rows) == 9 + 62 + 1 + 2
    assert {variant["state"] for _host, variant in rows} == {"drifted", "unknown", "waived", "not_selected"}
    assert sum(host["counts"][3] for host in data["hosts"]) == 142
    said = [(data["controls"][v["control"]]["id"], v["state"]) for v in data["variants"]]
    assert said.count(("kernel_tuning/swappiness", "drifted")) == 1


def test_an_incomplete_run_is_an_alert():
    report = drift_reports.clean()
    report["run"] |= {"complete": False, "incomplete_reason": "killed"}
    page = Page(html.render(report))
    assert any(attributes.get("role") == "alert" for _tag, attributes in page.tags)
    assert "killed" in "".join(page.text)


@pytest.mark.parametrize("payload", drift_reports.PAYLOADS[:5])
def test_a_payload_is_text_wherever_it_stands(payload):
    text = html.render(drift_reports.hostile())
    page = Page(text)
    assert payload not in text.replace("javascript:window.pwned=1", "", 0 if "<" in payload else -1)
    assert payload in json.dumps(page.data, ensure_ascii=False).replace('\\"', '"')
    assert [tag for tag, _ in page.tags if tag in ("img", "svg", "iframe", "object", "embed", "base")] == []
    assert [tag for tag, _text in page.raw] == ["style", "script", "script"]


def test_the_data_block_has_no_character_that_could_end_it():
    data = Page(html.render(drift_reports.hostile())).raw[1][1]
    assert not re.search("[<>&\u2028\u2029]", data)


def test_long_values_are_shortened_before_findings_are_left_out(monkeypatch):
    report = drift_reports.fleet(20, 40, 10)
    for n, host in enumerate(report["hosts"]):
        for control in host["controls"]:
            if control["state"] == "drifted":
                control["before"] = {"file": f"{n} " + "x" * 3000}
    monkeypatch.setattr(html, "MOST_BYTES", 250_000)
    data = Page(html.render(report)).data
    assert data["cut"] == "Values are shortened to 800 characters. report.json has everything."
    assert sum(len(host["rows"]) for host in data["hosts"]) == 200


def test_findings_that_do_not_fit_are_counted(monkeypatch):
    monkeypatch.setattr(html, "MOST_BYTES", 35_000)
    monkeypatch.setattr(html, "LEVELS", ((60, None), (60, 50)))
    data = Page(html.render(drift_reports.fleet(20, 40, 10))).data
    assert "150 findings did not fit here." in data["cut"]
    assert [sum(host["counts"]) for host in data["hosts"]] == [40] * 20
