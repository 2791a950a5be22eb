# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit codes of ``bin/spark-drift`` (docs/contracts/exit-codes.md).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from typing import Any

CLEAN, CRASH, DRIFT, UNKNOWN, WAIVERS, USAGE = 0, 1, 2, 3, 4, 64


def of(report: dict[str, Any]) -> int:
    """Precedence 4 > 3 > 2 > 0; a crash (1) leaves no report to ask."""
    summary = report["summary"]
    if report["waivers"]["problems"]:
        return WAIVERS
    if not report["run"]["complete"] or summary["unknown"] or summary["unreachable"] or summary["partial"]:
        return UNKNOWN
    if not any(summary[state] for state in ("in_sync", "drifted", "waived")):
        return UNKNOWN  # nothing was judged: a mistyped tag must not look clean
    return DRIFT if summary["drifted"] else CLEAN
