# SPDX-License-Identifier: GPL-3.0-or-later
"""The presets of role vllm as tables to read: what each takes of a Spark, and the whole sum of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "collections"))

from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import budget, parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.arguments import budget_entry

FILE = "roles/vllm/files/presets.yml"
# What a DGX Spark of 128 GB says it has (docs/guides/memory.md).
SPARK = int(121.69 * GIB)


def presets(root: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((root / FILE).read_text("utf-8"))
    return found


def reckoned(name: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """The sum on one Spark, of this engine alone."""
    return budget.budget(parse.plan([budget_entry({**preset, "name": name})], SPARK))


def table(root: Path) -> str:
    lines = [
        "| Preset | What it is | Sparks | Weights GiB | Sessions × context | KV cache GiB | Planned GiB | Left GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, preset in presets(root).items():
        sums = reckoned(name, preset)
        figures = (sums["engines"][0]["kv_cache_bytes"], sums["planned_bytes"], sums["left_bytes"])
        cells = [f"`{name}`", f"{preset['about']}: {preset['repository']}", str(preset["sparks"])]
        cells += [f"{preset['weights_gib']:g}", f"{preset['sequences']} × {preset['context']}"]
        lines.append("| " + " | ".join([*cells, *(f"{figure / GIB:.1f}" for figure in figures)]) + " |")
    return "\n".join(lines)


def sums(root: Path) -> str:
    return "\n\n".join(_sums(root))


def _sums(root: Path) -> Iterator[str]:
    for name, preset in presets(root).items():
        each = " On each of the two." if preset["sparks"] > 1 else ""
        yield f"`{name}` ({preset['source']}).{each}\n\n```\n{reckoned(name, preset)['arithmetic']}\n```"
