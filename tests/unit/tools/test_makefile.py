# SPDX-License-Identifier: GPL-3.0-or-later
"""``make help`` is how a newcomer finds a target."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_help_lists_every_target() -> None:
    (phony,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    told = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in told.splitlines() if line.startswith("  make ")} == set(phony.split()[1:])
