# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench of the unit tests, for what takes longer."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "unit" / "plugins" / "module_utils" / "_venv"
sys.path.insert(0, str(UNIT))

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


@pytest.fixture(params=["uv", "pip"])
def tool(request: pytest.FixtureRequest, bench: Bench) -> str:
    if request.param == "pip":
        bench.uv = []
    return str(request.param)
