# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator writes is understood whole, or refused with its place."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.parse import guard
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB
from guard_node import LOGIND, MAIN, SSH, params


def test_an_engine_is_a_unit_and_a_sum():
    wanted = guard(params(engines=[MAIN, {"name": "by hand", "weights_gib": 2, "kv_cache_gib": 1}]))
    (engine,) = wanted.engines
    # Weights, cache, activations, graphs and the process, as the filter reckons them.
    assert (engine.unit, engine.health, engine.need) == ("vllm.service", MAIN["health"], (15 + 20 + 2 + 2 + 4) * GIB)
    assert [entry["name"] for entry in wanted.budget["engines"]] == ["main", "by hand"]


def test_what_other_roles_publish_counts_unless_it_is_declared_here() -> None:
    """By the same unit, or the same name: who has measured it knows better."""
    published = [
        {"name": "vllm@main", "unit": "vllm@main.service", "weights_gib": 30, "kv_cache_gib": 1, "health": "unit"},
        {"name": "llama@swarm", "unit": "llama@swarm.service", "program": "llama.cpp", "unknown": ["weights_gib"],
         "kv_cache_gib": 3, "health": "http://127.0.0.1:8081/health"},
    ]  # fmt: skip
    wanted = guard(params(published=published))
    needs = {engine.unit: engine.need // GIB for engine in wanted.engines}
    # What nobody knows cannot be waited for; what is known can.
    assert needs == {"vllm@main.service": 39, "llama@swarm.service": 5}
    measured = {
        "name": "main",
        "unit": "vllm@main.service",
        "weights_gib": 10,
        "kv_cache_gib": 1,
        "enforce_eager": True,
    }
    wanted = guard(params(published=published, engines=[measured, {**published[1], "unit": "", "health": ""}]))
    assert {engine.unit: engine.need // GIB for engine in wanted.engines} == {"vllm@main.service": 17}
    assert [entry["name"] for entry in wanted.budget["engines"]] == ["main", "llama@swarm"]
    # When it has loaded nobody has to say again; who does is believed.
    assert [engine.health for engine in wanted.engines] == ["unit"]
    asked = {**measured, "health": "http://127.0.0.1:8000/health"}
    assert [one.health for one in guard(params(published=published[:1], engines=[asked])).engines] == [asked["health"]]


def test_what_never_runs_together_is_refused_only_where_one_alone_is_too_much() -> None:
    one = {"name": "vllm@one", "unit": "vllm@one.service", "weights_gib": 60, "kv_cache_gib": 10}
    two = {"name": "vllm@two", "unit": "vllm@two.service", "weights_gib": 60, "kv_cache_gib": 12}
    with pytest.raises(InputError, match="would freeze the machine"):
        guard(params(published=[one, two], total_gib=121.69))
    assert guard(params(published=[one, {**two, "conflicts": ["vllm@one.service"]}], total_gib=121.69))
    # What is not known may fit; the control says that nobody knows.
    assert guard(params(published=[one, {"name": "x", "unknown": ["weights_gib", "kv_cache_gib"]}], total_gib=121.69))


def test_a_plan_that_cannot_fit_is_refused_where_the_memory_is_known_beforehand():
    big = {**MAIN, "kv_cache_gib": 100}
    assert guard(params(engines=[big]))
    with pytest.raises(InputError) as refused:
        guard(params(engines=[big], total_gib=121.69))
    problem = refused.value.problem
    assert problem.key == "memory_guard.too_much" and problem.fix == "main: kv_cache_gib of at most 81.99"
    assert "121.69 GiB  the machine has" in problem.found and "too much" in problem.found
    assert guard(params(engines=[{**big, "kv_cache_gib": 81}], total_gib=121.69))


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ({"engines": [{**MAIN, "weights_gib": "15"}]}, r"engines\[0\]\.weights_gib"),
        ({"engines": [{**MAIN, "unit": "vllm"}]}, r"engines\[0\]\.unit: a service"),
        ({"engines": [{**MAIN, "unit": "vllm@.service"}]}, r"engines\[0\]\.unit: a service"),
        ({"engines": [{**MAIN, "unit": "vllm.socket"}]}, r"engines\[0\]\.unit: a service"),
        ({"engines": [MAIN, {**MAIN, "name": "b"}]}, r"engines\[1\]\.unit: a unit of its own"),
        ({"engines": [{**MAIN, "unit": ""}]}, r"engines\[0\]\.health: nothing without unit"),
        ({"engines": [{**MAIN, "health": "https://127.0.0.1:8000/"}]}, r"engines\[0\]\.health"),
        ({"engines": [{**MAIN, "health": "http://127.0.0.1/"}]}, r"engines\[0\]\.health"),
        ({"engines": [{**MAIN, "health": "http://a:b@127.0.0.1:80/"}]}, r"engines\[0\]\.health"),
        ({"engines": [{**MAIN, "health": "http://127.0.0.1:80/ --need 0"}]}, r"engines\[0\]\.health"),
        ({"engines": [{**MAIN, "health": "http://127.0.0.1:80/%h"}]}, r"engines\[0\]\.health"),
        ({"engines": [{**MAIN, "health": "http://127.0.0.1:99999/"}]}, r"engines\[0\]\.health"),
        ({"engines": [{**MAIN, "helth": "x"}]}, r"engines\[0\]\.helth"),
        ({"reserve_gib": -1.0}, "reserve_gib"),
        ({"term_percent": 1.0}, "term_percent: from 2 to 50"),
        ({"kill_percent": 0.0}, "kill_percent"),
        ({"engines": [{**MAIN, "unit": "ssh.service"}]}, r"engines\[0\]\.unit: the unit of an engine"),
        (
            {"engines": [{**MAIN, "unit": "mine.service"}], "protected": [{**SSH, "unit": "mine.service"}]},
            r"engines\[0\]",
        ),
        ({"swap_percent": 101.0}, "swap_percent"),
        ({"engine_score": 0}, "engine_score"),
        ({"load_seconds": 0}, "load_seconds"),
        ({"stall_percent": 0.0}, "stall_percent"),
        ({"prefer": "("}, "prefer: a regular expression"),
        ({"avoid": "a\nb"}, "avoid: one line"),
        ({"protected": [{**SSH, "unit": "ssh"}]}, r"protected\[0\]\.unit"),
        ({"protected": [SSH, SSH]}, r"protected\[1\]\.unit: a unit that is not there yet"),
        ({"protected": [{**LOGIND, "oom_score_adjust": 1}]}, r"protected\[0\]\.oom_score_adjust"),
        ({"protected": [{**LOGIND, "unit": "user.slice"}]}, r"protected\[0\]\.oom_score_adjust: of a service"),
        ({"protected": [{**SSH, "memory_min_mib": -1}]}, r"protected\[0\]\.memory_min_mib"),
    ],
)
def test_bad_input_is_named_with_its_place(given, at):
    with pytest.raises(InputError, match=at):
        guard(params(**given))
