# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page does in a browser."""

import copy

import pytest
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports

DEMO = drift_reports.demo()
LOOKS = pytest.mark.parametrize(("size", "theme"), [(s, t) for s in ("desktop", "phone") for t in ("light", "dark")])

# The least contrast of any text that can be seen, with the place where it was found.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => (c * top[3] + below[i] * (255 - top[3])) / 255);
  const behind = (node) => {
    if (!node) return [255, 255, 255];
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] === 255 ? own : over(own, behind(node.parentElement));
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let worst = [99, "", 0];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || /SCRIPT|STYLE/.test(node.tagName)) continue;
    const ground = behind(node);
    const ink = over(rgba(getComputedStyle(node).color), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    seen += 1;
    if (ratio < worst[0]) worst = [ratio, `${node.tagName}.${node.className}: ${node.textContent.slice(0, 40)}`, 0];
  }
  worst[2] = seen;
  return worst;
}"""


def open_all_cards(page):
    page.evaluate("document.querySelectorAll('#list .card').forEach((card) => { card.fill(); card.open = true; })")


@LOOKS
@pytest.mark.parametrize("name", ["clean", "demo", "hostile"])
def test_it_is_quiet_fits_and_runs_nothing_of_the_report(opened, name, size, theme):
    found = opened(getattr(drift_reports, name)(), size, theme)
    open_all_cards(found.page)
    found.choose(group="finding")
    open_all_cards(found.page)
    found.page.wait_for_timeout(200)
    assert found.said == []
    assert [url for url in found.asked if not url.startswith("file:")] == []
    assert len(found.asked) == 1
    assert found.page.evaluate("window.pwned") is None
    assert found.page.evaluate("({}).pwned") is None
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert found.page.locator("#list img, #list svg, #list script, #list iframe").count() == 0


def test_the_policy_stops_code_that_got_in_anyhow(opened):
    found = opened(DEMO)
    found.page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.pwned = 1";
        document.body.append(script);
        const image = document.createElement("img");
        image.setAttribute("onerror", "window.pwned = 1");
        image.src = "http://127.0.0.1:9/x.png";
        document.body.append(image);
    }""")
    found.page.wait_for_timeout(200)
    assert found.page.evaluate("window.pwned") is None
    assert len(found.said) >= 2
    assert all("Content Security Policy" in text for text in found.said)


@LOOKS
def test_all_text_has_enough_contrast(opened, size, theme):
    found = opened(DEMO, size, theme)
    open_all_cards(found.page)
    ratio, where, seen = found.page.evaluate(CONTRAST)
    assert seen > 150
    assert ratio >= 4.5, where


@pytest.mark.parametrize(
    ("filters", "cards"),
    [
        ({"host": "spark-2"}, 4),
        ({"state": "waived"}, 1),
        ({"role": "ptxas", "host": "spark-1"}, 1),
        ({"severity": "critical", "state": "drifted"}, 3),
        ({"state": "not_selected"}, 2),
        ({"state": "repaired"}, 0),
    ],
)
def test_filters_work(opened, filters, cards):
    found = opened(DEMO)
    assert len(found.cards()) == 15
    found.choose(**filters)
    assert len(found.cards()) == cards
    found.page.locator("#reset").click()
    assert len(found.cards()) == 15


def test_search_finds_controls_values_and_hosts(opened):
    found = opened(DEMO)
    for words, expected in (("13.0.88", 1), ("SSHD vendor", 1), ("spark-2 xgrammar", 1), ("no such thing", 0)):
        found.page.locator("#text").fill(words)
        found.page.wait_for_timeout(250)
        assert len(found.cards()) == expected, words
    assert "Nothing matches" in found.page.locator("#list").inner_text()


def test_tiles_and_hosts_are_filters_with_a_state(opened):
    found = opened(DEMO)
    tile = found.page.locator("button.tile[data-state=waived]")
    tile.click()
    assert (tile.get_attribute("aria-pressed"), found.cards()) == (
        "true",
        ["Changes to accounts and sudo are recorded"],
    )
    tile.click()
    host = found.page.locator("#hosts button[data-host='spark-3']")
    host.click()
    assert (host.get_attribute("aria-pressed"), len(found.cards())) == ("true", 2)


def test_grouping_by_finding_says_a_thing_once(opened):
    found = opened(DEMO)
    found.choose(group="finding", state="drifted")
    assert found.cards().count("vm.swappiness keeps weights in memory") == 1
    assert found.cards()[0] == "Triton finds an assembler that knows sm_121"
    card = found.page.locator("#list .card", has_text="swappiness")
    card.locator("summary").click()
    card.locator(".chips").wait_for()
    assert card.locator(".chips bdi").all_inner_texts() == ["spark-4", "spark-1", "spark-2", "spark-3"]
    assert card.locator(".command code").inner_text().endswith("--limit spark-4,spark-1,spark-2,spark-3")


def test_what_is_unknown_for_one_reason_is_said_once_however_it_is_grouped(opened):
    found = opened(drift_reports.site())
    found.choose(group="finding", state="unknown")
    card = found.page.locator("#list .card")
    assert card.count() == 1
    assert "spark-5 · 12 controls" in card.locator("summary").inner_text()
    card.locator("summary").click()
    card.locator(".chips").wait_for()
    assert card.locator(".chips li").count() == 12


def test_a_difference_is_marked_by_whole_words(opened):
    found = opened(drift_reports.site(), fragment="#spark-1/ptxas/environment")
    assert found.page.locator(".diff mark").all_inner_texts() == ["12.8", "13.0"]


def test_what_no_run_repairs_has_advice_and_what_is_blocked_names_its_victim(opened):
    found = opened(drift_reports.site(), fragment="#spark-3/ptxas/assembles")
    assert "Upgrade Triton" in found.page.locator(".card[open] .remedy").inner_text()
    assert found.page.locator(".card[open] .copy").count() == 0
    found.page.evaluate("location.hash = '#spark-4/prereqs/root_code'")
    found.page.wait_for_selector(".card[open] .copy")
    command = found.page.locator(".card[open] .command code").inner_text()
    assert command.endswith("""--limit spark-4 -e '{"prereqs_confirm": ["/opt/nusy"]}'""")
    assert "may be taken over or lost" in found.page.locator(".card[open] .remedy").inner_text()


@LOOKS
def test_a_deep_link_opens_its_finding(opened, size, theme):
    found = opened(DEMO, size, theme, "#spark-1/ptxas/assembler")
    card = found.page.locator("#list .card[open]")
    assert card.count() == 1
    assert "12.4.131" in card.locator("td.before").all_inner_texts()[2]
    assert "why" in card.inner_text().lower()
    assert card.locator("summary").evaluate("(node) => node === document.activeElement")
    assert card.evaluate("(node) => node.getBoundingClientRect().top < innerHeight / 2")
    found.page.evaluate("location.hash = '#spark-3/os_hardening/sshd_root'")
    found.page.wait_for_selector("#list .card[open] .chips")
    assert "os_hardening/sshd_root" in found.page.locator("#list .card[open]").inner_text()


@pytest.mark.parametrize(
    "fragment", ["#", "#x", "#%", "#%E0%A4%A/x", "#spark-1/none", "#__proto__/constructor", "#list"]
)
def test_a_wrong_link_shows_the_report(opened, fragment):
    found = opened(DEMO, fragment=fragment)
    assert (len(found.cards()), found.said) == (15, [])


def test_a_link_to_a_hostile_host_works(opened):
    report = copy.deepcopy(DEMO)
    report["hosts"][0]["name"] = "a/b#<img src=x>%2F"
    found = opened(report)
    found.page.locator("#list .card", has_text="ptxas/assembler").locator("summary").click()
    link = found.page.locator("#list .card[open] .permalink").get_attribute("href")
    again = opened(report, fragment=link)
    assert "12.4.131" in again.page.locator("#list .card[open]").inner_text()


COMMAND = "ansible-playbook site.yml --tags ptxas --limit spark-1"
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined });"


@pytest.mark.parametrize("before", ["", NO_CLIPBOARD])
def test_the_remedy_can_be_copied(opened, before):
    found = opened(DEMO, fragment="#spark-1/ptxas/assembler", before=before)
    found.page.locator(".copy").click()
    found.page.wait_for_function("document.querySelector('.copy').textContent === 'Copied'")
    assert found.page.locator("#said").inner_text() == "Command copied"
    found.page.locator("#text").focus()
    found.page.keyboard.press("Control+V")
    assert found.page.locator("#text").input_value() == COMMAND


def test_without_any_clipboard_the_remedy_is_selected(opened):
    found = opened(
        DEMO, fragment="#spark-1/ptxas/assembler", before=NO_CLIPBOARD + "document.execCommand = () => false;"
    )
    found.page.locator(".copy").click()
    found.page.wait_for_function("document.querySelector('.copy').textContent === 'Press Ctrl+C'")
    assert found.page.evaluate("getSelection().toString()") == COMMAND


def test_it_works_with_the_keyboard_alone(opened):
    found = opened(DEMO)
    found.page.keyboard.press("Tab")
    assert found.page.evaluate("document.activeElement.textContent") == "Skip to the findings"
    found.page.keyboard.press("Enter")
    found.page.keyboard.press("Tab")
    assert found.page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert found.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    found.page.keyboard.press("Enter")
    found.page.locator("#list .card[open] .diff").wait_for()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_everything_that_can_be_pressed_has_a_name(opened, size):
    found = opened(DEMO, size)
    open_all_cards(found.page)
    nameless = found.page.evaluate("""() => [...document.querySelectorAll("button, a, input, select, summary")]
        .filter((node) => !node.textContent.trim() && !node.getAttribute("aria-label") && !node.labels?.length)
        .map((node) => node.outerHTML)""")
    assert nameless == []


def test_the_theme_follows_the_system_until_it_is_chosen(opened):
    found = opened(DEMO, theme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = found.page.evaluate(ground)
    found.page.locator("#theme").click()
    light = found.page.evaluate(ground)
    found.page.reload()
    assert dark != light == found.page.evaluate(ground)


def test_without_javascript_the_report_can_be_read(opened):
    found = opened(DEMO, script=False)
    said = found.page.locator("body").inner_text()
    for words in (
        "on 4 of 6 hosts",
        "No route to host",
        "knows sm_121: no → yes",
        "needs root",
        "--tags ptxas --limit spark-1",
    ):
        assert words in said
    assert not found.page.locator("#app").is_visible()


def test_on_paper_all_that_is_listed_is_open(opened):
    found = opened(DEMO)
    found.page.emulate_media(media="print")
    found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert found.page.locator("#list .card:not([open])").count() == 0
    assert not found.page.locator("#filters").is_visible()
    assert "12.4.131" in found.page.locator("#list").inner_text()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_big_fleet_stays_usable(opened, size):
    found = opened(drift_reports.fleet(1000, 300, 30), size)
    assert found.page.locator("#list .card").count() == 60
    found.page.locator("#more").click()
    assert found.page.locator("#list .card").count() == 120
    found.choose(group="host")
    found.choose(host="spark-0500")
    # Thirty findings, of which ten are unknown for one reason.
    assert len(found.cards()) == 21
    milliseconds = found.page.evaluate("""() => {
        document.getElementById("host").value = "";
        const started = performance.now();
        document.getElementById("host").dispatchEvent(new Event("change"));
        return performance.now() - started;
    }""")
    assert milliseconds < 2000
    assert found.said == []
