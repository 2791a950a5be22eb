# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import started, starts

sys.path.append(str(Path(__file__).resolve().parent.parent / "_state"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(starts, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(started, "boot_time", lambda: 0.0)
