# SPDX-License-Identifier: GPL-3.0-or-later
"""How many examples a property is tried with."""

from __future__ import annotations

import os

FEW = 15


def examples(full: int) -> int:
    """All where new mistakes are looked for; few (``EXAMPLES=few``) where another Python or ansible-core only
    runs the same tests once more, for what it does differently from the first example on."""
    return min(full, FEW) if os.environ.get("EXAMPLES") == "few" else full
