# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes in memory count their own seconds."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access import running


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "boot_time", lambda: 0.0)
