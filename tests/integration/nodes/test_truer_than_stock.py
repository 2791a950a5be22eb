# SPDX-License-Identifier: GPL-3.0-or-later
"""The committed list of differences is the one that the differential tests prove."""

from __future__ import annotations

import differential


def test_the_committed_list_is_current():
    hint = "run: .venv/bin/python tests/integration/nodes/differential.py"
    assert differential.LIST.read_text() == differential.listing(), hint


def test_every_kind_has_cases():
    assert {*differential.tables()} == {"accounts", "directories", "files", "links", "packages", "units"}
