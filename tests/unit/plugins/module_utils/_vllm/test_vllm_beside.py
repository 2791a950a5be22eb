# SPDX-License-Identifier: GPL-3.0-or-later
"""What options of vLLM take of the one memory is counted, or has to be said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import arguments, beside
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import help as texts

SETS = Path(__file__).parents[5] / "roles" / "vllm_venv" / "files"
SEES = {"text_config": {"num_hidden_layers": 1}, "vision_config": {"depth": 1}}


def refused(**more: object) -> list[str]:
    engine = {"name": "main", "model": "/m", "port": 8000, "kv_cache_gib": 1, **more}
    known = texts.from_data(json.loads((SETS / "spark-vllm-0.27.1" / "options.json").read_text(encoding="utf-8")))
    return [problem.text() for problem in arguments.problems(engine, known, "0.27.1", "vllm_engines[0]")]


@pytest.mark.parametrize(
    ("engine", "sizes"),
    [
        ({}, {}),
        ({"options": {"kv_offloading_size": 8, "seed": 1}}, {"kv_offloading_size": 8}),
        ({"options": {"cpu-offload-gb": "10.5", "kv-offloading-size": 0}}, {"cpu_offload_gb": 10.5}),
        ({"options": {"swap_space": 4}}, {"swap_space": 4}),
        # In the one API process and in the engine.
        ({"options": {"mm_processor_cache_gb": 3}}, {"mm_processor_cache_gb": 6}),
        ({"options": {"mm_processor_cache_gb": 3, "api_server_count": 3}}, {"mm_processor_cache_gb": 12}),
        ({"options": {"mm_processor_cache_gb": 0}, "config": SEES}, {}),
        # What vLLM keeps without a word, where the model sees.
        ({"config": SEES}, {"mm_processor_cache_gb": 8}),
        ({"config": SEES, "options": {"language_model_only": True}}, {}),
    ],
)
def test_what_follows_from_an_option_is_counted(engine: dict[str, object], sizes: dict[str, float]) -> None:
    assert beside.counted(engine) == sizes


@pytest.mark.parametrize("size", ["much", -1, "nan", "inf", [1]])
def test_what_is_no_size_is_refused_with_its_place(size: object) -> None:
    (said,) = refused(options={"kv_offloading_size": size})
    assert "vllm_engines[0].options: a size that the budget of memory can count" in said and "in GiB" in said


@pytest.mark.parametrize(
    "more",
    [
        {"lora": {}},
        {"dtype": "float32"},
        {"options": {"speculative_config": {"model": "/srv/draft", "num_speculative_tokens": 3}}},
        {"options": {"spec-method": "eagle3"}},
        {"options": {"kv_transfer_config": {"kv_connector": "LMCacheConnectorV1"}}},
        {"options": {"offload_group_size": 8}},
        {"options": {"api_server_count": 4}},
        {"options": {"kv_offloading_backend": "lmcache", "kv_offloading_size": 1}},
        {"options": {"enable_eplb": True}},
    ],
)
def test_what_no_figure_follows_from_has_to_be_said(more: dict[str, object]) -> None:
    (said,) = refused(**more)
    assert "vllm_engines[0].process_gib: the size of the process with" in said
    assert "declare vllm_engines[0].process_gib: 4 and what it takes" in said
    assert not refused(**more, process_gib=6.5)


@pytest.mark.parametrize(
    "options",
    [
        {"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}},
        {"spec_method": "ngram"},
        {"offload_group_size": 0},
        {"api_server_count": 1},
        {"kv_offloading_backend": "native", "kv_offloading_size": 8},
        {"enable_eplb": False},
    ],
)
def test_what_takes_nothing_needs_no_word(options: dict[str, object]) -> None:
    assert not refused(options=options)


def test_every_name_is_an_option_of_a_release() -> None:
    """A name that no release has would be a rule that never applies; swap-space is of older ones."""
    known = {name for path in SETS.glob("*/options.json") for name in json.loads(path.read_text(encoding="utf-8"))}
    assert set(beside.OPTIONS) - known == {"swap-space"}
