# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything is looked at, and what the declaration becomes."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.parse import ARGUMENT_SPEC, runtime


def params(**given):
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    return {**defaults, "venv": "/opt/venv", **given}


def cache(path: str, limit: float = 1.0, variable: str = "") -> dict[str, object]:
    return {"path": path, "limit_gib": limit, "variable": variable}


WRONG = {
    "venv": {"venv": "venv"},
    "environment_file": {"environment_file": "/etc/../x"},
    "ptxas_file": {"ptxas_file": "//etc/x"},
    "max_jobs": {"max_jobs": 0},
    "timeout": {"timeout": -1},
    "timeout: more": {"timeout": float("inf")},
    "measure_seconds": {"measure_seconds": float("nan")},
    "gpu_memory_utilization": {"gpu_memory_utilization": 1.5},
    "kv_cache_memory_bytes": {"kv_cache_memory_bytes": -1},
    "imports[1]": {"imports": ["torch", "os; import evil"]},
    "TRITON_PTXAS_PATH": {"environment": {"TRITON_PTXAS_PATH": "/x"}},
    "TRITON_CACHE_DIR": {"caches": [cache("/c", 1, "TRITON_CACHE_DIR")]},
    "environment.MAX_JOBS": {"environment": {"MAX_JOBS": "9"}},
    "environment.NUSY_GPU_MEMORY_UTILIZATION": {"environment": {"NUSY_GPU_MEMORY_UTILIZATION": "0.99"}},
    "environment.FLAG": {"environment": {"FLAG": True}},
    "environment.LINES": {"environment": {"LINES": 'a"\nMAX_JOBS="99'}},
    "environment:": {"environment": {"NO-NAME": "x"}},
    "caches[0].path": {"caches": [cache("c")]},
    "caches[1].path": {"caches": [cache("/c"), cache("/c/inside")]},
    "caches[0].limit_gib": {"caches": [cache("/c", 0)]},
    "caches[1].limit_gib": {"caches": [cache("/c"), cache("/d", float("inf"))]},
    "caches:": {"caches": [cache("/c", 1, "A"), cache("/d", 1, "A")]},
}


@pytest.mark.parametrize("at", WRONG)
def test_wrong_input_is_refused_with_its_place(at):
    with pytest.raises(InputError) as caught:
        runtime(params(**WRONG[at]))
    assert caught.value.problem.wanted.startswith(at)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "hunter2"),
        ("OPENAI_API_KEY", "hunter2"),
        ("aws_secret_access_key", "hunter2"),
        ("HTTPS_PROXY", "http://me:hunter2@proxy:3128"),
    ],
)
def test_a_secret_is_refused_since_everybody_reads_the_file_and_is_not_repeated(name, value):
    with pytest.raises(InputError) as caught:
        runtime(params(environment={name: value}))
    assert "hunter2" not in str(caught.value.problem.as_dict("input")) and name in caught.value.problem.wanted


def test_what_only_sounds_like_a_secret_is_taken():
    given = {"TOKENIZERS_PARALLELISM": "false", "VLLM_KEYS": "a", "HTTPS_PROXY": "http://proxy:3128"}
    assert runtime(params(environment=given)).environment == given


def test_a_size_of_the_kv_cache_is_preferred_to_a_share():
    assert runtime(params(kv_cache_memory_bytes=7)).memory == {"NUSY_KV_CACHE_MEMORY_BYTES": "7"}
    assert runtime(params()).memory == {"NUSY_GPU_MEMORY_UTILIZATION": "0.76"}


@pytest.mark.parametrize(
    ("share", "confirm", "written"),
    [
        (0.85, [], "0.85"),
        (0.9, [], "0.85"),
        (0.9, ["gpu_memory_utilization=0.9"], "0.9"),
        (0.9, ["value:gpu_memory_utilization=0.9"], "0.9"),
        (0.95, ["gpu_memory_utilization=0.9"], "0.85"),
    ],
)
def test_a_share_that_freezes_a_spark_is_written_only_when_it_is_named(share, confirm, written):
    found = runtime(params(gpu_memory_utilization=share, confirm=confirm))
    assert found.memory == {"NUSY_GPU_MEMORY_UTILIZATION": written}
