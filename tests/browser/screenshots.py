# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the pictures of the report page in docs/images: run it after a change of the page.

usage: PYTHONPATH=collections python tests/browser/screenshots.py [folder]
It needs pillow beside playwright, which makes the files a third as large.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import html
from ansible_collections.nusy.dgx_spark.tests.tools import drift_reports
from conftest import ARGUMENTS, SIZES
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        path = Path(temporary) / "index.html"
        path.write_text(html.render(drift_reports.site()), encoding="utf-8")
        chromium = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=chromium, headless=True, args=ARGUMENTS.split())
        for size, viewport in {**SIZES, "desktop": {"width": 1280, "height": 1190}}.items():
            for theme in ("light", "dark"):
                context = browser.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce")
                page = context.new_page()
                page.goto(path.as_uri())
                page.locator("#group").select_option("finding")
                page.locator("#list summary", has_text="ptxas/environment").first.click()
                page.mouse.move(0, 0)
                page.evaluate("document.activeElement.blur()")
                if size == "phone":
                    page.evaluate(
                        "scrollBy(0, document.querySelector('#list .card[open]').getBoundingClientRect().top - 16)"
                    )
                picture = folder / f"drift-report-{size}-{theme}.png"
                page.screenshot(path=picture)
                few = Image.open(picture).convert("RGB").quantize(128, dither=Image.Dither.NONE)
                few.save(picture, optimize=True)
                context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
