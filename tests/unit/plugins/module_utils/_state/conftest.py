# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes in memory need no time to settle, and have a clock of their own, which starts at 0."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import started, starts


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(starts, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(started, "boot_time", lambda: 0.0)
