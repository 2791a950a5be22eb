# SPDX-License-Identifier: GPL-3.0-or-later
"""What options of vLLM take of the one memory, beside what an engine's own words say.

Where a size follows from an option, it is counted. Where it does not, the engine has to say it: process_gib, which
without a word is an allowance for a process that has none of this. The sizes are those of vLLM 0.32 (its own source).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.model import Engine, dashed

# GiB, as the option says it. Weights that are offloaded stay in this memory; beside them are at most as many again,
# since torch rounds each pinned piece up to a power of two.
_SIZES = ("cpu-offload-gb", "kv-offloading-size", "swap-space")
# Of inputs that are no text, in each API process and in the engine: what vLLM keeps without a word.
_INPUTS, _INPUTS_GIB = "mm-processor-cache-gb", 4.0
# Of a configuration: the model takes more than text.
_SENSES = ("vision_config", "audio_config")
# What each takes that follows from no figure here.
_UNCOUNTED = {
    "speculative-config": "the weights of a draft model",
    "spec-model": "the weights of a draft model",
    "spec-method": "the weights of a draft model",
    "kv-transfer-config": "the buffers of its connector",
    "ec-transfer-config": "the buffers of its connector",
    "ec-manager-config": "the buffers of its connector",
    "weight-transfer-config": "weights on their way",
    "enable-eplb": "experts that are there twice",
    "eplb-config": "experts that are there twice",
    "offload-group-size": "pinned copies of layers, and those that are on their way",
    "enable-sleep-mode": "the copy of the weights that it sleeps on",
    "api-server-count": "each API process of its own",
    "kv-offloading-backend": "the cache of a server beside it",
}
_ADAPTERS = "rank x (inputs + outputs) x 2 bytes of each layer, and of each expert, for every adapter at a time"
# Values that take nothing. A draft by n-grams is looked up in the request itself.
_NOTHING: dict[str, tuple[object, ...]] = {
    "spec-method": ("ngram", "None"),
    "offload-group-size": (0, "0"),
    "api-server-count": (1, "1"),
    "kv-offloading-backend": ("native",),
}
WIDE = ("float", "float32")
# All that is read of an engine, and of its options.
READ = ("options", "lora", "dtype")
OPTIONS = (*_SIZES, _INPUTS, *_UNCOUNTED, "language-model-only")


def counted(engine: Engine) -> dict[str, float]:
    """GiB by option, as it is written in a declaration. Raises ValueError for what is no size."""
    options = _options(engine)
    found = {name: _gib(name, options[name]) for name in _SIZES if name in options}
    config = engine.get("config")
    sees = isinstance(config, Mapping) and any(config.get(sense) for sense in _SENSES)
    if _INPUTS in options or (sees and not options.get("language-model-only")):
        processes = options.get("api-server-count", 1)
        each = _gib(_INPUTS, options.get(_INPUTS, _INPUTS_GIB))
        found[_INPUTS] = each * (1 + _gib("api-server-count", processes))
    return {name.replace("-", "_"): size for name, size in found.items() if size}


def uncounted(engine: Engine) -> Iterator[tuple[str, str]]:
    """(word of the declaration, what it takes) of all that no figure is known of."""
    if "lora" in engine:
        yield "lora", _ADAPTERS
    if engine.get("dtype") in WIDE:
        yield f"dtype {engine['dtype']}", "4 bytes of each number, where files and figures have 2"
    for name, value in _options(engine).items():
        if name in _UNCOUNTED and value is not False and value not in _NOTHING.get(name, ()) and not _looked_up(value):
            yield f"options.{name.replace('-', '_')}", _UNCOUNTED[name]


def _looked_up(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("method") == "ngram"


def _options(engine: Engine) -> dict[str, object]:
    options = engine.get("options")
    return {dashed(name): value for name, value in options.items()} if isinstance(options, Mapping) else {}


def _gib(name: str, value: object) -> float:
    try:
        size = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise ValueError(f"{name.replace('-', '_')}: {value!r}")
    return size
