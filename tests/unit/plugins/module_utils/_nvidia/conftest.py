# SPDX-License-Identifier: GPL-3.0-or-later
"""The node in memory of ensure_state's tests is used here, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))
