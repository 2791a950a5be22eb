# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine keeps of every token, from the model's own ``config.json``.

Where the architecture is one that this does not know, it says so and does not guess: a
figure that is too small freezes the machine.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import Cached, Config, KvCache

# Bytes of one number. "auto" is that of the model, and no model in use computes in more than two bytes. NVFP4 has half
# a byte, and one of scale for each 16 numbers (vLLM 0.32, utils/torch_utils.py). Others have scales of their own.
WIDTHS = {
    **{"auto": Fraction(2), "bfloat16": Fraction(2), "float16": Fraction(2)},
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"), Fraction(1)),
    **dict.fromkeys(("nvfp4", "nvfp4_4over6"), Fraction(9, 16)),
}
# Engines hand out the cache in blocks of this many tokens at most (vLLM: 16, with FlashMLA 64).
BLOCK_TOKENS = 64
# Layers that look at everything, or at more than their kind would have to; both count in full.
FULL = ("full_attention", "chunked_attention", "attention")
WINDOWED = "sliding_attention"
# Signs of layers that keep a state instead of tokens. Where one is set, the sum here would be of another model.
STATEFUL = (
    "layers_block_type",
    "hybrid_override_pattern",
    "full_attention_interval",
    "attn_layer_indices",
    "mamba_d_state",
    "ssm_state_size",
    "state_size",
)
SAY = "say kv_cache_gib instead, as the engine's log gives it"


def groups(config: Config, dtype: str, nodes: int) -> tuple[Cached, ...]:
    """Raises ValueError, with what the configuration lacks or has that is not known here.

    nodes: that share the model by tensor parallelism.
    """
    inner = config.get("text_config")
    if "num_hidden_layers" not in config and isinstance(inner, Mapping):
        config = inner  # a model that sees as well: what answers has the cache
    stateful = [name for name in STATEFUL if config.get(name)]
    if stateful:
        raise ValueError(f"{stateful[0]}: layers that keep something else than tokens; {SAY}")
    layers = _number(config, "num_hidden_layers")
    each = _bytes_each(config, WIDTHS[dtype], nodes)
    windowed = _windowed(config, layers)
    if not windowed:
        return (Cached(layers, each),)
    window = _number(config, "sliding_window")
    found = (Cached(layers - windowed, each), Cached(windowed, each, window))
    return _evened(tuple(group for group in found if group.layers))


def size(cache: KvCache) -> int:
    """Bytes on one node, with every sequence at its longest."""
    return sum(
        group.layers * group.bytes_each * cache.sequences * _blocks(_tokens(cache, group)) * BLOCK_TOKENS
        for group in cache.groups
    )


def _tokens(cache: KvCache, group: Cached) -> int:
    """A windowed layer keeps its window, and what is being computed before the oldest go."""
    if group.window is None:
        return cache.context
    return min(cache.context, group.window - 1 + cache.batched_tokens)


def _blocks(tokens: int) -> int:
    """One more than full ones: a sequence seldom begins where a block does."""
    return -(-tokens // BLOCK_TOKENS) + 1


def _evened(found: tuple[Cached, ...]) -> tuple[Cached, ...]:
    """Layers of different kinds share one pool in groups of equal size, the last one filled up."""
    smallest = min(group.layers for group in found)
    return tuple(Cached(-(-group.layers // smallest) * smallest, group.bytes_each, group.window) for group in found)


def _bytes_each(config: Config, width: Fraction, nodes: int) -> int:
    if config.get("kv_lora_rank"):
        # Latent attention: one compressed row instead of keys and values, the same on every node.
        if width < 1:
            raise ValueError(f"kv_lora_rank: latent attention in less than 8 bits is not known here; {SAY}")
        return math.ceil((_number(config, "kv_lora_rank") + _number(config, "qk_rope_head_dim")) * width)
    attention = _number(config, "num_attention_heads")
    heads = _number(config, "num_key_value_heads") if config.get("num_key_value_heads") else attention
    dim = _number(config, "head_dim") if config.get("head_dim") else _number(config, "hidden_size") // attention
    if heads % nodes and nodes % heads:
        raise ValueError(f"num_key_value_heads: {heads} heads cannot be shared by {nodes} nodes")
    return 2 * max(1, heads // nodes) * math.ceil(dim * width)


def _windowed(config: Config, layers: int) -> int:
    """Without a word for every layer each counts in full: too much is safe, too little is not."""
    kinds = config.get("layer_types")
    if kinds is None:
        return 0
    if not isinstance(kinds, (list, tuple)) or len(kinds) != layers:
        raise ValueError(f"layer_types: not one for each of the {layers} layers")
    unknown = sorted({str(kind) for kind in kinds} - {*FULL, WINDOWED})
    if unknown:
        raise ValueError(f"layer_types: {unknown[0]} keeps something else than tokens; {SAY}")
    return sum(kind == WINDOWED for kind in kinds)


def _number(config: Config, name: str) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: a whole number of 1 or more is wanted, {value!r} was found")
    return value
