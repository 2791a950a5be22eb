# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench, with a private place for records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from venv_bench import Bench, private


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from private(tmp_path, monkeypatch)
