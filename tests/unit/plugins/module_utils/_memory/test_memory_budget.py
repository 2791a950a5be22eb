# SPDX-License-Identifier: GPL-3.0-or-later
"""The sum of what engines take of one memory."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.budget import budget
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.cache import BLOCK_TOKENS, groups, size
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB, KvCache
from hypothesis import given
from hypothesis import strategies as some

SPARK = int(121.69 * GIB)
# Published configurations, as far as they count here.
LLAMA_8B = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
GPT_OSS_120B = {
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "hidden_size": 2880,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
}
DEEPSEEK = {"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
BIG = {**LLAMA_8B, "num_hidden_layers": 80, "num_attention_heads": 64, "hidden_size": 8192}


def main(**more):
    return {"name": "main", "weights_gib": 15.0, "config": LLAMA_8B, "context": 32768, "sequences": 4, **more}


def told(*engines, total=SPARK, **more):
    return budget(parse.plan(list(engines), total, **more))


@pytest.mark.parametrize(
    ("config", "dtype", "nodes", "per_token"),
    [
        (LLAMA_8B, "auto", 1, 131072),
        (LLAMA_8B, "fp8", 1, 65536),
        # For each of 128 numbers half a byte, and one of scale for each 16: 72 bytes instead of 256.
        (LLAMA_8B, "nvfp4", 1, 36864),
        (LLAMA_8B, "auto", 2, 65536),
        # Each node has at least one head, so more nodes than heads save nothing.
        (LLAMA_8B, "auto", 16, 16384),
        (DEEPSEEK, "auto", 1, 70272),
        # What is compressed for all heads together is kept whole by every node.
        (DEEPSEEK, "auto", 2, 70272),
        (BIG, "auto", 1, 327680),
        ({"text_config": LLAMA_8B, "vision_config": {"num_hidden_layers": 5}}, "auto", 1, 131072),
        # A head for every query is what models without that key have.
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}, "auto", 1, 2 * 2 * 4 * 16 * 2),
    ],
)
def test_a_token_takes_what_the_configuration_says(config, dtype, nodes, per_token):
    assert sum(group.layers * group.bytes_each for group in groups(config, dtype, nodes)) == per_token


def test_a_layer_with_a_window_keeps_the_window_and_what_is_being_computed():
    full, windowed = groups(GPT_OSS_120B, "auto", 1)
    assert (full.layers, full.window, windowed.layers, windowed.window) == (18, None, 18, 128)
    cache = KvCache(context=131072, sequences=1, batched_tokens=8192, groups=(full, windowed))
    assert size(cache) == 18 * 2 * 8 * 64 * 2 * ((131072 + BLOCK_TOKENS) + (8192 + 2 * BLOCK_TOKENS + BLOCK_TOKENS))
    # Without a word for every layer nobody knows which have one, so all count in full.
    unsaid = {name: value for name, value in GPT_OSS_120B.items() if name != "layer_types"}
    assert size(KvCache(131072, 1, 8192, groups(unsaid, "auto", 1))) > size(cache)


def test_kinds_of_layers_that_are_not_equally_many_are_filled_up():
    """62 layers, every sixth full: ten share with ten, and 52 windowed ones take the room of 60."""
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * 10 + ["sliding_attention"] * 2
    config = {**GPT_OSS_120B, "num_hidden_layers": 62, "layer_types": kinds}
    assert [group.layers for group in groups(config, "auto", 1)] == [10, 60]


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, "num_hidden_layers: a whole number of 1 or more is wanted, None was found"),
        ({**LLAMA_8B, "num_hidden_layers": "32"}, "'32' was found"),
        ({**LLAMA_8B, "num_hidden_layers": True}, "True was found"),
        ({**LLAMA_8B, "hidden_size": None}, "hidden_size"),
        ({**LLAMA_8B, "layer_types": ["full_attention"]}, "not one for each of the 32 layers"),
        ({**LLAMA_8B, "layer_types": ["linear_attention"] * 32}, "linear_attention keeps something else than tokens"),
        ({**LLAMA_8B, "layers_block_type": ["mamba"]}, "layers_block_type: layers that keep something else"),
        ({**GPT_OSS_120B, "sliding_window": None}, "sliding_window"),
        ({**DEEPSEEK, "qk_rope_head_dim": 0}, "qk_rope_head_dim"),
    ],
)
def test_what_is_not_known_is_said_and_not_guessed(config, found):
    with pytest.raises(InputError, match=r"engines\[0\]\.config") as error:
        told(main(config=config))
    assert found in error.value.problem.found


def test_a_latent_in_four_bits_is_not_guessed():
    with pytest.raises(InputError, match="less than 8 bits is not known here; say kv_cache_gib"):
        told(main(config=DEEPSEEK, kv_cache_dtype="nvfp4"))


def test_what_options_take_is_in_the_sum_by_their_names():
    found = told(main(options_gib={"kv_offloading_size": 8.0}))
    assert found["planned_bytes"] - told(main())["planned_bytes"] == 8 * GIB
    assert "-8.00 GiB  main: kv_offloading_size " in found["arithmetic"] and found["fits"]


def test_a_process_of_which_nobody_says_what_is_in_it_is_unknown():
    found = told(main(unknown=["process_gib"]))
    assert not found["fits"] and found["unknown"] == ["main: what its options take"]
    # What a process without them is allowed to take is in the sum that a start is held against.
    assert found["planned_bytes"] == told(main())["planned_bytes"]
    assert found["fix"] == "main: say process_gib (with what its options take) where it is declared"


def test_heads_that_nodes_cannot_share_are_refused():
    with pytest.raises(InputError, match="8 heads cannot be shared by 3 nodes"):
        told(main(nodes=3))


def test_a_plan_that_fits_says_the_sum():
    found = told(main())
    kept = 4 * (32768 + BLOCK_TOKENS) * 131072
    assert found["fits"] and found["fix"] == ""
    assert found["engines"][0]["kv_cache_bytes"] == kept
    others = (12.7, 4.0, 15.0, 2.0, 2.0, 4.0)
    assert found["planned_bytes"] == kept + sum(-int(-gib * GIB // 1) for gib in others)
    assert found["assumed"] == [
        "main: activations while a batch is computed",
        "main: captured graphs",
        "main: the process itself",
    ]


def test_the_table_is_what_one_would_reckon_on_paper():
    engine = main(sequences=1, activation_gib=1, graphs_gib=1, process_gib=1)
    found = told(engine, {"name": "small", "weights_gib": 2, "kv_cache_gib": 1, "enforce_eager": True})
    lines = found["arithmetic"].splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "121.69 GiB the machine has",
        "-12.70 GiB the machine: left to the system reserve_gib",
        "-4.00 GiB the machine: files being read page_cache_gib",
        "-15.00 GiB main: weights weights_gib",
        "-4.01 GiB main: what is kept of tokens (KV cache) 1 x 32768 tokens, up to 131072 bytes each",
        "-1.00 GiB main: activations while a batch is computed activation_gib",
        "-1.00 GiB main: captured graphs graphs_gib",
        "-1.00 GiB main: the process itself process_gib",
        "-2.00 GiB small: weights weights_gib",
        "-1.00 GiB small: what is kept of tokens (KV cache) kv_cache_gib",
        "-2.00 GiB small: activations while a batch is computed assumed; activation_gib says it",
        "-4.00 GiB small: the process itself assumed; process_gib says it",
        "73.98 GiB left",
    ]
    assert len({line.index(" GiB ") for line in lines}) == 1


def test_the_default_reserve_is_the_line_that_operators_plan_for():
    """109 GiB of a Spark, files being read among them."""
    empty = told()
    assert empty["left_bytes"] / GIB == pytest.approx(109 - 4, abs=0.05)


def test_a_plan_that_does_not_fit_says_what_would():
    found = told(main(sequences=40))
    assert not found["fits"] and found["left_bytes"] < 0
    assert "too much, which would freeze the machine" in found["explanation"]
    assert found["fix"] == "main: 20 instead of 40 sequences of 32768 tokens"
    assert told(main(sequences=20))["fits"] and not told(main(sequences=21))["fits"]
    assert found["arithmetic"].splitlines()[-1].endswith("too much")


def test_sequences_that_fill_the_memory_to_the_last_byte_fit():
    taken = SPARK - told(main(sequences=20))["left_bytes"]
    found = told(main(sequences=21), total=taken)
    assert found["fix"] == "main: 20 instead of 21 sequences of 32768 tokens"
    full = told(main(sequences=20), total=taken)
    assert full["fits"] and full["left_bytes"] == 0


def test_one_sequence_that_is_too_long_is_cut():
    found = told(main(weights_gib=70, config=BIG, context=131072, sequences=2))
    assert found["fix"].startswith("main: one sequence of ")
    context = int(found["fix"].split()[4])
    fits = main(weights_gib=70, config=BIG, sequences=1, context=context)
    assert told(fits)["fits"] and not told({**fits, "context": context + BLOCK_TOKENS})["fits"]


def test_weights_that_alone_are_too_much_are_told_apart():
    assert "smaller model" in told(main(weights_gib=130))["fix"]
    pair = told(main(weights_gib=70), main(name="second", weights_gib=70))
    assert "another node" in pair["fix"]
    assert told(main(weights_gib=130, nodes=2))["fits"]


def test_each_engine_that_could_give_way_is_named():
    fix = told(main(sequences=12), {"name": "b", "weights_gib": 10, "kv_cache_gib": 40})["fix"]
    assert fix.startswith("main: ") and "; or b: kv_cache_gib of at most " in fix


@pytest.mark.parametrize(
    ("engine", "at"),
    [
        ("main", r"engines\[0\]: a mapping"),
        ({"weights_gib": 1}, r"engines\[0\]\.name"),
        (main(weights_gib="15"), r"engines\[0\]\.weights_gib"),
        (main(weights_gib=-1), r"engines\[0\]\.weights_gib"),
        (main(weights_gib=float("nan")), r"engines\[0\]\.weights_gib"),
        (main(weights_gib=1e300), r"engines\[0\]\.weights_gib: a number of GiB from 0 to 1048576"),
        (main(weights_gib=10**400), r"engines\[0\]\.weights_gib"),
        (main(weights_gib=True), r"engines\[0\]\.weights_gib"),
        (main(nodes=0), r"engines\[0\]\.nodes"),
        (main(context=None), r"engines\[0\]\.context"),
        (main(context="32k"), r"engines\[0\]\.context"),
        (main(sequences=1.5), r"engines\[0\]\.sequences"),
        (main(sequences=True), r"engines\[0\]\.sequences"),
        (main(kv_cache_dtype="int4_per_token_head"), "kv_cache_dtype: .* kv_cache_gib instead of config"),
        (main(unknown=["graphs_gib"]), r"engines\[0\]\.unknown"),
        (main(options_gib=[1]), r"engines\[0\]\.options_gib: a mapping"),
        (main(options_gib={"swap_space": "4"}), r"engines\[0\]\.options_gib\.swap_space: a number of GiB"),
        (main(kv_cache_gib=3), r"engines\[0\]\.config: nothing beside kv_cache_gib"),
        (main(enforce_eager="yes"), r"engines\[0\]\.enforce_eager"),
        (main(enforce_eager=True, graphs_gib=1), r"engines\[0\]\.graphs_gib: nothing beside enforce_eager"),
        (main(weight_gib=3), r"is weights_gib meant\?"),
    ],
)
def test_bad_input_is_named_with_its_place(engine, at):
    with pytest.raises(InputError, match=at):
        told(engine)


def test_bad_input_beside_the_engines_is_named_as_well():
    for engines, more, at in (
        ("main", {}, "engines: a list"),
        ([main(), main()], {}, r"engines\[1\]\.name: a name of its own"),
        ([], {"total": 0}, "total_bytes"),
        ([], {"reserve_gib": -1}, "reserve_gib"),
        ([], {"page_cache_gib": "4"}, "page_cache_gib"),
    ):
        with pytest.raises(InputError, match=at):
            budget(parse.plan(engines, more.pop("total", SPARK), **more))


FIGURES = some.floats(0, 200)
ENGINES = some.lists(
    some.fixed_dictionaries(
        {"weights_gib": FIGURES},
        optional={"activation_gib": FIGURES, "process_gib": FIGURES, "nodes": some.integers(1, 8)},
    ).flatmap(
        lambda engine: some.one_of(
            FIGURES.map(lambda gib: {**engine, "kv_cache_gib": gib}),
            some.builds(
                lambda config, context, sequences: {
                    **engine, "nodes": 1, "config": config, "context": context, "sequences": sequences
                },
                some.sampled_from([LLAMA_8B, GPT_OSS_120B, DEEPSEEK, BIG]),
                some.integers(1, 1 << 20),
                some.integers(1, 512),
            ),
        )
    ),
    max_size=4,
).map(lambda found: [{**engine, "name": f"engine {number}"} for number, engine in enumerate(found)])  # fmt: skip


@given(ENGINES, some.integers(1, 1 << 45))
def test_the_sum_is_that_of_its_parts_and_decides(engines, total):
    found = told(*engines, total=total)
    parts = sum(part["bytes"] for engine in found["engines"] for part in engine["parts"])
    assert found["planned_bytes"] >= parts
    assert found["left_bytes"] == found["total_bytes"] - found["planned_bytes"]
    assert found["fits"] == (found["left_bytes"] >= 0) == (found["fix"] == "")


@given(some.sampled_from([LLAMA_8B, GPT_OSS_120B, DEEPSEEK, BIG]), some.integers(1, 1 << 20), some.integers(1, 512))
def test_more_never_takes_less(config, context, sequences):
    def taken(context, sequences):
        return size(KvCache(context, sequences, 8192, groups(config, "auto", 1)))

    assert taken(context, sequences) <= taken(context + 1, sequences) < taken(context + 1, sequences + 1)


def plain(name: str, gib: float, *conflicts: str, **more):
    """That takes so much and nothing besides."""
    none = dict.fromkeys(("activation_gib", "process_gib", "kv_cache_gib"), 0)
    return {"name": name, "weights_gib": gib, "enforce_eager": True, "conflicts": list(conflicts), **none, **more}


def counted(*engines) -> set[str]:
    return {
        engine["name"] for engine in told(*engines, reserve_gib=0, page_cache_gib=0)["engines"] if engine["counted"]
    }


@pytest.mark.parametrize(
    ("engines", "heaviest"),
    [
        ([plain("a", 5, "b"), plain("b", 6)], {"b"}),
        # One of two says it for both, and by the unit as well.
        ([plain("a", 7, "x@b.service"), plain("b", 6, unit="x@b.service")], {"a"}),
        # Two beside each other count more than the one that neither can run with.
        ([plain("a", 5), plain("b", 6), plain("c", 10, "a", "b")], {"a", "b"}),
        # In a row of four, who takes the largest first does not find the heaviest.
        ([plain("a", 5, "b"), plain("b", 6, "c"), plain("c", 4, "d"), plain("d", 2), plain("e", 1)], {"a", "c", "e"}),
        # Without weight it is not in the way of anybody: it is in unless somebody in the sum excludes it.
        ([plain("a", 0, "b"), plain("b", 0), plain("c", 3)], {"a", "c"}),
        # The unit of somebody else takes none of this memory.
        ([plain("a", 5, "ollama.service")], {"a"}),
    ],
)
def test_of_what_excludes_each_other_the_heaviest_that_may_run_together_counts(engines, heaviest):
    assert counted(*engines) == heaviest


@given(
    some.lists(some.integers(0, 50), min_size=1, max_size=7),
    some.sets(some.tuples(some.integers(0, 6), some.integers(0, 6)), max_size=9),
)
def test_no_set_that_may_run_together_is_heavier(sizes, pairs):
    """By trying all of them."""
    number = len(sizes)
    pairs = {(a, b) for a, b in pairs if a != b and a < number and b < number}
    engines = [plain(str(n), size, *(str(b) for a, b in pairs if a == n)) for n, size in enumerate(sizes)]
    sets = [{n for n in range(number) if mask >> n & 1} for mask in range(1 << number)]
    fitting = [one for one in sets if not any(a in one and b in one for a, b in pairs)]
    found = {int(name) for name in counted(*engines)}
    assert found in fitting and sum(sizes[n] for n in found) == max(sum(sizes[n] for n in one) for one in fitting)


def test_who_is_left_out_of_the_sum_is_shown_with_the_one_it_makes_room_for():
    found = told(plain("a", 90), plain("b", 95, "a"), reserve_gib=12, page_cache_gib=4)
    assert found["fits"] and found["left_bytes"] == SPARK - (12 + 4 + 95) * GIB
    last = " ".join(found["arithmetic"].splitlines()[-1].split())
    assert last == "- GiB a: all 90.00 of it never together with b"
    assert not told(plain("a", 90), plain("b", 95), reserve_gib=12, page_cache_gib=4)["fits"]


def test_what_one_could_give_up_is_reckoned_with_whom_it_runs():
    """Less of b alone helps no more than down to a, which is too much as well."""
    cache = {"kv_cache_gib": 50, "weights_gib": 60}
    a, b, c = plain("a", 0, **cache), plain("b", 0, "a", **{**cache, "kv_cache_gib": 60}), plain("c", 20)
    found = told(a, b, c, total=100 * GIB, reserve_gib=0, page_cache_gib=0)
    assert found["fix"].startswith("start fewer engines at a time (conflicts says")
    small = {**a, "kv_cache_gib": 10}
    assert (
        told(small, b, c, total=100 * GIB, reserve_gib=0, page_cache_gib=0)["fix"] == "b: kv_cache_gib of at most 20.00"
    )


def test_what_nobody_knows_is_never_fine():
    dark = {"name": "dark", "unknown": ["weights_gib", "kv_cache_gib"], "program": "llama.cpp"}
    found = told(main(), dark)
    assert not found["fits"] and found["left_bytes"] > 0
    assert found["unknown"] == ["dark: weights", "dark: what is kept of tokens (KV cache)"]
    assert "without what nobody knows (dark: weights; " in found["explanation"]
    assert found["fix"].startswith("dark: say weights_gib where it is declared; dark: say kv_cache_gib, or config")
    assert "? GiB  dark: weights" in found["arithmetic"]
    assert [part["bytes"] for part in found["engines"][1]["parts"][:2]] == [None, None]
    # Too much is too much, whatever the rest is; and whoever makes room for another may be the heavier one.
    assert "too much" in told(main(weights_gib=150), dark)["explanation"]
    hidden = told(main(), {**dark, "conflicts": ["main"]})
    assert not hidden["fits"] and hidden["arithmetic"].count("?") == 2


def test_allowances_are_those_of_the_program():
    found = told({"name": "x", "weights_gib": 1, "kv_cache_gib": 1, "program": "llama.cpp"})
    assert found["engines"][0]["bytes"] == 4 * GIB
    assert found["assumed"] == ["x: activations while a batch is computed", "x: the process itself"]


@pytest.mark.parametrize(
    ("engines", "said"),
    [
        ([plain("a", 1, "b")], r"engines\[0\]\.conflicts: names of other engines"),
        ([plain("swarm", 1, "swrm"), plain("swarms", 1)], "is swarms meant"),
        ([plain("a", 1, "a")], r"engines\[0\]\.conflicts"),
        ([plain("a", 1, "a.service", unit="a.service")], r"engines\[0\]\.conflicts"),
        ([plain("a", 1, program="sglang")], r"engines\[0\]\.program: one of vllm, llama\.cpp"),
        ([plain("a", 1, unknown=["activation_gib"])], r"engines\[0\]\.unknown: a list of weights_gib, kv_cache_gib"),
        ([plain("a", 1, unknown="weights_gib")], r"engines\[0\]\.unknown: a list of"),
        ([plain(str(n), 1, str((n + 1) % 17)) for n in range(17)], "at most 16 that exclude each other"),
    ],
)
def test_conflicts_that_cannot_be_meant_are_refused(engines, said):
    with pytest.raises(InputError, match=said):
        told(*engines)
