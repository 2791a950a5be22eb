# SPDX-License-Identifier: GPL-3.0-or-later
"""An authority that is trusted here, one that is not, and a certificate of a server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from endpoints import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another one, that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("strangers"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server")
