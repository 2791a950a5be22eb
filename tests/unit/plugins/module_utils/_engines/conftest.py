# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoints of the client's own tests, and nodes in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import started, starts

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "_inference"), str(HERE.parent / "_state")]

from endpoints import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(starts, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(started, "boot_time", lambda: 0.0)
