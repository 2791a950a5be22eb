# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the archive begins."""

from __future__ import annotations

import io
import sys

from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.entry import main


def test_what_is_no_text_is_printed_as_the_bytes_that_it_is(monkeypatch):
    """Words and paths are bytes; most locales make Python refuse to print those that are no UTF-8."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "utf-8", errors="strict"))
    monkeypatch.setattr(sys, "argv", ["spark.pyz", "--version"])
    assert main("release \udcff") == 0
    sys.stdout.flush()
    assert printed.getvalue() == b"release \xff\n"
