# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench, with a private place for records."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from venv_bench import Bench, private


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from private(tmp_path, monkeypatch)


@pytest.fixture
def open_bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """In a place that other users can reach: folders of pytest are closed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield from private(Path(name), monkeypatch)
