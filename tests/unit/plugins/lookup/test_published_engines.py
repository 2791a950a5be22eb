# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines are declared once: what roles run is what the budget of memory gets, and what nobody says is named."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.lookup.published_engines import LookupModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.budget import budget
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB

SPARK = int(121.69 * GIB)
REVISION = "a" * 40
MANIFEST = [
    {"name": "m", "revision": REVISION, "files": [{"path": "model.safetensors", "size": 14 * GIB}]},
    {"name": "q", "revision": REVISION, "files": [{"path": "q.gguf", "size": 4 * GIB}]},
]
FIGURES = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}


def query(**variables: Any) -> list[dict[str, Any]]:
    """As it is in an inventory."""
    known = {"inventory_hostname": "spark-1", **variables}
    loader = DataLoader()
    return LookupModule(loader, Templar(loader=loader, variables=known)).run([], known)


def vllm(**words: Any) -> dict[str, Any]:
    (found,) = query(vllm_engines=[{"name": "main", "model": "/m", "port": 8000, **words}], models_manifest=MANIFEST)
    return found


def llama(**words: Any) -> dict[str, Any]:
    (found,) = query(llama_cpp_engines=[{"name": "x", "model": "q", "port": 8081, **words}], models_manifest=MANIFEST)
    return found


def test_a_host_without_engines_publishes_none() -> None:
    assert query() == query(vllm_engines=[], ramalama_workers=[]) == []


def test_a_preset_is_enough_for_the_budget() -> None:
    found = vllm(preset="gpt-oss-120b")
    assert (found["name"], found["unit"], found["program"]) == ("vllm@main", "vllm@main.service", "vllm")
    assert found["unknown"] == [] and found["weights_gib"] == 60.8 and found["sequences"] == 12
    assert budget(parse.plan([found], SPARK))["fits"]


def test_the_files_of_the_manifest_count_more_than_a_preset_and_less_than_what_the_engine_says() -> None:
    assert vllm(model="m", preset="mistral-7b")["weights_gib"] == 14
    assert vllm(model=f"/srv/models/m/{REVISION}")["weights_gib"] == 14
    assert vllm(model="m", preset="mistral-7b", weights_gib="15.5")["weights_gib"] == 15.5
    assert llama()["weights_gib"] == 4


def test_what_an_engine_says_of_its_cache_takes_the_place_of_what_it_would_follow_from() -> None:
    found = vllm(preset="mistral-7b", kv_cache_gib=8)
    assert found["kv_cache_gib"] == 8 and not {"config", "context", "sequences"} & found.keys()
    assert vllm(weights_gib=1)["unknown"] == ["kv_cache_gib"]
    engines = [{"name": "main", "model": "m", "port": 8000}]
    (found,) = query(vllm_engines=engines, models_manifest=MANIFEST, vllm_runtime_kv_cache_memory_bytes=3 * GIB)
    assert (found["kv_cache_gib"], found["unknown"]) == (3, [])


def test_a_role_fills_in_its_defaults() -> None:
    """llama.cpp takes memory for all of its sequences at the start."""
    found = llama(config=FIGURES)
    assert (found["context"], found["sequences"], found["program"]) == (4096, 4, "llama.cpp")
    kept = budget(parse.plan([found], SPARK))["engines"][0]["kv_cache_bytes"]
    assert kept == 4 * (4096 + 64) * 131072


def test_what_nobody_says_is_unknown_and_names_its_engine() -> None:
    workers = [{"name": "vision", "model": "/srv/v.gguf", "projector": "/srv/p.gguf", "port": 8082, "context": 8192}]
    (found,) = query(ramalama_workers=workers)
    assert found["unknown"] == ["weights_gib", "kv_cache_gib"] and found["unit"] == "ramalama-vision.service"
    said = budget(parse.plan([found], SPARK))
    assert not said["fits"] and "ramalama-vision: weights" in said["explanation"]
    # Half of what is loaded is not known, so nothing is.
    workers[0]["model"] = f"/srv/models/q/{REVISION}/q.gguf"
    assert "weights_gib" in query(ramalama_workers=workers, models_manifest=MANIFEST)[0]["unknown"]
    del workers[0]["projector"]
    (found,) = query(ramalama_workers=[{**workers[0], "kv_cache_gib": 1}], models_manifest=MANIFEST)
    assert found["unknown"] == [] and budget(parse.plan([found], SPARK))["fits"]


@pytest.mark.parametrize(
    ("groups", "counted"),
    [
        (["spark"], {"llama@x"}),
        (["workstation"], {"ramalama-x"}),
        (["spark", "spark_head", "workstation"], {"llama@x", "ramalama-x"}),
        # Of plays that we do not know: all of the roles may run there.
        (["lab"], {"llama@x", "ramalama-x"}),
        ([], {"llama@x", "ramalama-x"}),
    ],
)
def test_what_is_declared_for_all_hosts_counts_where_it_runs(groups: list[str], counted: set[str]) -> None:
    one = [{"name": "x", "model": "/q.gguf", "port": 1, "weights_gib": 1, "kv_cache_gib": 1}]
    found = query(llama_cpp_engines=one, ramalama_workers=one, group_names=groups)
    assert {engine["name"] for engine in found} == counted


def test_what_options_take_is_published_and_what_does_not_follow_from_them_is_unknown() -> None:
    found = vllm(preset="mistral-7b", options={"kv-offloading-size": 8, "seed": "{{ known_to_a_vault_alone }}"})
    assert found["options_gib"] == {"kv_offloading_size": 8} and found["unknown"] == []
    assert "kv_offloading_size" in budget(parse.plan([found], SPARK))["arithmetic"]
    draft = {"speculative_config": {"model": "/srv/draft"}}
    assert vllm(preset="mistral-7b", options=draft)["unknown"] == ["process_gib"]
    assert vllm(preset="mistral-7b", options=draft, process_gib=7)["unknown"] == []
    assert vllm(preset="mistral-7b", lora={})["unknown"] == ["process_gib"]
    with pytest.raises(AnsibleLookupError, match=r"vllm_engines\[0\]\.options: a size in GiB"):
        vllm(preset="mistral-7b", options={"kv_offloading_size": "8G"})


def test_a_flag_as_text_is_the_flag_that_the_role_takes_it_for() -> None:
    found = vllm(preset="mistral-7b", enforce_eager="yes")
    assert found["enforce_eager"] is True
    assert "graphs" not in budget(parse.plan([found], SPARK))["arithmetic"]
    assert vllm(preset="mistral-7b", enforce_eager="perhaps")["enforce_eager"] == "perhaps"


def test_conflicts_are_units_across_roles() -> None:
    found = query(
        vllm_engines=[{"name": "large", "model": "/m", "port": 8000, "weights_gib": 90, "kv_cache_gib": 1,
                       "conflicts": ["llama@x.service", "ollama.service"]}],
        llama_cpp_engines=[{"name": "x", "model": "/q.gguf", "port": 8081, "weights_gib": 80, "kv_cache_gib": 1}],
    )  # fmt: skip
    said = budget(parse.plan(found, SPARK))
    assert said["fits"] and {one["name"]: one["counted"] for one in said["engines"]} == {
        "vllm@large": True, "llama@x": False,
    }  # fmt: skip
    assert [one["conflicts"] for one in query(llama_cpp_engines=[
        {"name": "x", "model": "/q.gguf", "port": 1, "conflicts": ["y"]}, {"name": "y", "model": "/q.gguf", "port": 2}
    ])] == [["llama@y.service"], []]  # fmt: skip


def test_no_key_is_computed_or_handed_on() -> None:
    found = vllm(preset="mistral-7b", api_key="{{ known_to_a_vault_alone }}", host="fd00::1")
    assert "api_key" not in found and "host" not in found


def test_when_it_has_loaded_is_told_by_its_unit_but_for_a_container() -> None:
    """With TLS nobody could ask it who has no certificate."""
    assert vllm(tls={"certificate": "/c", "key": "/k"})["health"] == llama()["health"] == "unit"
    (worker,) = query(ramalama_workers=[{"name": "vision", "model": "/srv/v.gguf", "port": 8082, "context": 8192}])
    assert worker["health"] == "http://127.0.0.1:8082/health"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"vllm_engines": "main"}, "vllm_engines: a list of engines"),
        ({"llama_cpp_engines": [{"port": 1}]}, r"llama_cpp_engines\[0\]: a mapping with a name"),
        (
            {"vllm_engines": [{"name": "main", "model": "mm", "port": 1}], "models_manifest": MANIFEST},
            r"vllm_engines\[0\]\.model: a name in models_manifest",
        ),
        (
            {"vllm_engines": [{"name": "x", "model": "/m", "conflicts": "y"}]},
            r"vllm_engines\[0\]\.conflicts: a list of names",
        ),
        (
            {"vllm_engines": [{"name": "x", "model": "/m", "preset": ["y"]}]},
            r"vllm_engines\[0\]\.preset: the name of one",
        ),
        # Whoever says all sizes needs no preset for them; the role would refuse it, and says what was probably meant.
        (
            {
                "vllm_engines": [
                    {"name": "x", "model": "/m", "preset": "mistral-7", "weights_gib": 1, "kv_cache_gib": 1}
                ]
            },
            r"(?s)vllm_engines\[0\]\.preset: one that is there.*'?mistral-7\b.*write mistral-7b",
        ),
    ],
)
def test_what_cannot_be_sized_is_an_error(variables: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleLookupError, match=said):
        query(**variables)


def test_it_takes_no_terms() -> None:
    with pytest.raises(AnsibleLookupError, match="takes no terms"):
        LookupModule().run(["x"])
