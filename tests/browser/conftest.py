# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's Chromium, driven by playwright, with the page opened from the disk as operators do.

A missing browser or driver is a failure: a page that nobody looked at is not tested.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import html

# As root there is no sandbox; the rest keeps the browser from calling anybody.
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.fail("Chromium is needed: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("playwright is needed: pip install playwright (its own browser is not)")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, headless=True, args=ARGUMENTS.split())
        yield running
        running.close()


class Opened:
    """A page with everything that it said, threw and asked for."""

    def __init__(self, page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def cards(self) -> list[str]:
        return self.page.locator("#list .card .title bdi:first-child").all_inner_texts()

    def choose(self, **filters: str) -> None:
        for name, value in filters.items():
            self.page.locator(f"#{name}").select_option(value)


@pytest.fixture
def opened(browser, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Writes the page of a report and opens it."""
    contexts = []

    def open_page(report, size="desktop", theme="light", fragment="", script=True, before="") -> Opened:
        path = tmp_path / "index.html"
        path.write_text(html.render(report), encoding="utf-8")
        context = browser.new_context(viewport=SIZES[size], color_scheme=theme, java_script_enabled=script)
        contexts.append(context)
        context.set_default_timeout(20_000)
        if before:
            context.add_init_script(before)
        found = Opened(context.new_page())
        found.page.goto(path.as_uri() + fragment)
        return found

    yield open_page
    for context in contexts:
        context.close()
