# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine is declared once, for the role that runs it, and is in the budget of a real machine's memory.

The budget is what role memory_guard judges; the role itself is tested on machines with a kernel of their own.
"""

from __future__ import annotations

from typing import Any

import pytest
import testing

BUDGET = (
    "{{ query('nusy.dgx_spark.published_engines')"
    " | nusy.dgx_spark.memory_budget(ansible_facts.spark.memory.total_bytes, 0, 0) }}"
)
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"nusy.dgx_spark.preflight": {}},
            {"nusy.dgx_spark.spark_facts": {"gather_subset": ["memory"]}},
            {"ansible.builtin.debug": {"msg": BUDGET}},
        ],
    }
]
GIB = 1 << 30
REVISION = "a" * 40


@pytest.fixture(scope="module")
def site(make_node, tmp_path_factory) -> tuple[Any, Any]:
    return make_node(), tmp_path_factory.mktemp("published")


def manifest(size: int) -> list[dict[str, Any]]:
    files = [{"path": "q.gguf", "size": size, "sha256": "b" * 64}]
    return [{"name": "q", "repository": "me/q", "revision": REVISION, "licence": "x", "files": files}]


def run(site: tuple[Any, Any], **declared: Any) -> testing.PlayResult:
    machine, directory = site
    return testing.ansible_playbook(PLAY, [machine], directory, check=True, become=True, extra=declared)


def budget(site: tuple[Any, Any], **declared: Any) -> dict[str, Any]:
    (entry,) = run(site, **declared).assert_ok().of(action="debug")
    found: dict[str, Any] = entry["result"]["msg"]
    return found


@pytest.fixture(scope="module")
def two(site) -> dict[str, Any]:
    """One of vLLM and one of llama.cpp, each of which takes six tenths of this memory."""
    total = int(site[0].shell("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    none = {"activation_gib": 0, "process_gib": 0, "kv_cache_gib": 0}
    weights = int(total * 0.6)
    return {
        "models_manifest": manifest(weights),
        "vllm_engines": [
            {
                "name": "large",
                "model": "/srv/m",
                "port": 8000,
                "weights_gib": weights / GIB,
                "enforce_eager": True,
                **none,
            }
        ],
        "llama_cpp_engines": [{"name": "swarm", "model": "q", "port": 8081, **none}],
    }


def test_engines_that_are_declared_for_their_roles_are_in_the_budget(site, two) -> None:
    found = budget(site, **two)
    assert not found["fits"] and "too much" in found["explanation"]
    assert {one["name"]: one["counted"] for one in found["engines"]} == {"vllm@large": True, "llama@swarm": True}
    # The weights of the second are nowhere but in the manifest.
    assert {one["bytes"] for one in found["engines"]} == {two["models_manifest"][0]["files"][0]["size"]}


def test_two_that_exclude_each_other_fit_where_both_would_not(site, two) -> None:
    (engine,) = two["llama_cpp_engines"]
    found = budget(site, **{**two, "llama_cpp_engines": [{**engine, "conflicts": ["vllm@large.service"]}]})
    assert found["fits"] and "never together with" in found["arithmetic"]
    assert sorted(one["counted"] for one in found["engines"]) == [False, True]


def test_an_engine_that_nobody_sized_is_unknown_and_never_fine(site) -> None:
    found = budget(site, llama_cpp_engines=[{"name": "dark", "model": "/srv/q.gguf", "port": 8081}])
    assert found["fits"] is False and found["left_bytes"] > 0 and "llama@dark: weights" in found["unknown"]


def test_what_cannot_fit_is_refused_before_the_node_is_touched(site, two) -> None:
    done = run(site, **two, memory_guard_total_gib=1)
    assert done.rc and "engines that fit into 1 GiB" in done.stdout and not done.of(action="spark_facts")


def test_a_name_that_is_in_no_manifest_is_refused_before_the_node_is_touched(site) -> None:
    engine = {"name": "swarm", "model": "qq", "port": 8081, "kv_cache_gib": 0}
    done = run(site, llama_cpp_engines=[engine], models_manifest=manifest(1))
    assert done.rc and "a name in models_manifest, or a path" in done.stdout and not done.of(action="spark_facts")
