# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guides of serving say is so: presets fit, their figures are those of the file, controls are there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import presets
import pytest
import readme
import yaml
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.parse import BATCHED_TOKENS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import arguments
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.help import from_data
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.model import ABOUT

ROOT = Path(__file__).resolve().parents[2]
PRESETS = presets.presets(ROOT)
RELEASE = yaml.safe_load((ROOT / "roles/vllm/defaults/main.yml").read_text("utf-8"))["vllm_release"]
OPTIONS = ROOT / f"roles/vllm_venv/files/spark-vllm-{RELEASE}/options.json"
TROUBLES = ROOT / "docs/guides/troubleshooting.md"
IDS = {
    control["id"]
    for path in ROOT.glob("roles/*/meta/controls.yml")
    for control in yaml.safe_load(path.read_text("utf-8"))["controls"]
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_and_is_what_vllm_takes(name: str) -> None:
    preset: dict[str, Any] = PRESETS[name]
    assert all(preset[key] for key in ABOUT) and preset["sparks"] == preset.get("nodes", 1)
    assert presets.reckoned(name, preset)["fits"], presets.reckoned(name, preset)["arithmetic"]
    assert preset["batched_tokens"] <= BATCHED_TOKENS
    engine = {"name": "x", "model": "/m", "port": 8000, **{k: v for k, v in preset.items() if k not in ABOUT}}
    options = from_data(json.loads(OPTIONS.read_text("utf-8")))
    assert list(arguments.problems(engine, options, RELEASE, name)) == []


# What config.json says besides, where weights are reckoned: width, words, width inside, experts; and how many bytes a
# weight has that is not of embedding, output or router, which stay at two, and how many an input of a matrix.
FOUR_BITS = 0.5 + 2 / 128
# Files of GPTQ have a zero point for each scale and the order of the inputs as well, needed or not.
GPTQ, ORDER = FOUR_BITS + 0.5 / 128, 4
SHAPES = {
    "mistral-7b": (4096, 32768, 14336, 1, 2, 0),
    "qwen3-30b-a3b-fp8": (2048, 151936, 768, 128, 1, 0),
    "llama-3.3-70b-w4a16": (8192, 128256, 28672, 1, FOUR_BITS, 0),
    "llama-3.3-70b-bf16": (8192, 128256, 28672, 1, 2, 0),
    "qwen3-235b-a22b-int4": (4096, 151936, 1536, 128, GPTQ, ORDER),
}


@pytest.mark.parametrize("name", SHAPES)
def test_weights_are_what_the_shape_of_the_model_comes_to(name: str) -> None:
    width, words, inside, experts, size, order = SHAPES[name]
    config = PRESETS[name]["config"]
    heads = 2 * (config["num_attention_heads"] + config["num_key_value_heads"]) * config["head_dim"]
    layer = width * (heads + 3 * inside * experts) * size
    layer += 2 * width * experts if experts > 1 else 0
    layer += order * (3 * width + config["num_attention_heads"] * config["head_dim"] + experts * (2 * width + inside))
    found = (4 * words * width + config["num_hidden_layers"] * layer) / presets.GIB
    # Rounded up: what is left out, such as norms, is less than what that adds.
    assert 0 <= PRESETS[name]["weights_gib"] - found < 0.15, found


def test_all_others_have_the_size_that_was_published() -> None:
    assert set(PRESETS) - set(SHAPES) == {"gpt-oss-120b", "gpt-oss-120b-long"}


def test_a_preset_that_is_too_large_would_be_found() -> None:
    large = {**PRESETS["gpt-oss-120b"], "sequences": 64}
    assert not presets.reckoned("large", large)["fits"]


def test_the_sizes_that_were_asked_for_are_there() -> None:
    """A shared default, a 30B, a 70B in 4 bits and a 120B; for one Spark and for two."""
    ones = {name for name, preset in PRESETS.items() if preset["sparks"] == 1}
    assert {"mistral-7b", "qwen3-30b-a3b-fp8", "llama-3.3-70b-w4a16", "gpt-oss-120b"} <= ones < set(PRESETS)


def test_the_guide_has_the_figures_of_the_presets() -> None:
    assert readme.rendered_models(ROOT) == (ROOT / readme.MODELS).read_text("utf-8"), "run make docs"


def test_every_trouble_names_controls_that_are_there() -> None:
    rows = [line for line in TROUBLES.read_text("utf-8").splitlines() if line.startswith("| ") and "---" not in line][
        1:
    ]
    assert len(rows) >= 15
    for row in rows:
        named = re.findall(r"`([a-z_]+/[a-z0-9_]+)`", row.split("|")[2])
        assert set(named) <= IDS, f"no such control: {sorted(set(named) - IDS)}"
        assert named or "not yet" in row.split("|")[2], f"no control, and no word about it: {row}"
