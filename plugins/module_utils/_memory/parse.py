# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory says of engines and machine → Plan.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import cache as caches
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import (
    GIB,
    PAGE_CACHE_GIB,
    RESERVE_GIB,
    Engine,
    KvCache,
    Part,
    Plan,
)

# Allowances where nobody has measured: round numbers, named as assumed in every answer.
ALLOWED_GIB = {"activation_gib": 2.0, "graphs_gib": 2.0, "process_gib": 4.0}
WHAT = {
    "activation_gib": "activations while a batch is computed",
    "graphs_gib": "captured graphs",
    "process_gib": "the process itself",
}
NAMES = (
    "name",
    "weights_gib",
    "nodes",
    "kv_cache_gib",
    "config",
    "context",
    "sequences",
    "batched_tokens",
    "kv_cache_dtype",
    "enforce_eager",
    *ALLOWED_GIB,
)
# What vLLM computes at a time on a Spark at most without trouble (65536 made one hang).
BATCHED_TOKENS = 8192
MOST = 1 << 31
# A pebibyte, more than any model: what is larger was not meant, and a float may not hold it in bytes.
MOST_GIB = 1 << 20


def plan(
    engines: object,
    total_bytes: object,
    reserve_gib: object = RESERVE_GIB,
    page_cache_gib: object = PAGE_CACHE_GIB,
) -> Plan:
    """Raises InputError, with the exact place of what is wrong."""
    total = _whole("total_bytes", total_bytes, 1, None)
    if isinstance(engines, (str, bytes, Mapping)) or not isinstance(engines, Sequence):
        raise _wrong("engines", "a list of mappings", engines)
    found = tuple(_engine(f"engines[{number}]", entry) for number, entry in enumerate(engines))
    names = [engine.name for engine in found]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise _wrong(f"engines[{number}].name", "a name of its own", name)
    parts = (
        Part("left to the system", _bytes("reserve_gib", reserve_gib), "reserve_gib"),
        Part("files being read", _bytes("page_cache_gib", page_cache_gib), "page_cache_gib"),
    )
    return Plan(total, parts, found)


def shares(engines: object) -> dict[str, int]:
    """Of engines that ``plan`` took: how many nodes each of them wants."""
    return {entry["name"]: entry.get("nodes", 1) for entry in engines} if isinstance(engines, Sequence) else {}


def _engine(at: str, given: object) -> Engine:
    if not isinstance(given, Mapping):
        raise _wrong(at, "a mapping", given)
    for name in given:
        if name not in NAMES:
            near = difflib.get_close_matches(str(name), NAMES, 1)
            raise _wrong(
                f"{at}.{name}", f"one of {', '.join(NAMES)}" + (f" (is {near[0]} meant?)" if near else ""), name
            )
    name = given.get("name")
    if not isinstance(name, str) or not name.strip():
        raise _wrong(f"{at}.name", "a name", name)
    nodes = _whole(f"{at}.nodes", given.get("nodes", 1), 1, 64)
    weights = -(-_bytes(f"{at}.weights_gib", given.get("weights_gib")) // nodes)
    shared = f", shared by {nodes} nodes" if nodes > 1 else ""
    kept, cache = _kept(at, given, nodes)
    parts = [Part("weights", weights, f"weights_gib{shared}"), kept]
    for option, allowed in ALLOWED_GIB.items():
        said = option in given
        if option == "graphs_gib" and _flag(f"{at}.enforce_eager", given.get("enforce_eager", False)):
            if said:
                raise _wrong(f"{at}.{option}", "nothing beside enforce_eager, which captures no graphs", given[option])
            continue
        size = _bytes(f"{at}.{option}", given.get(option, allowed))
        parts.append(Part(WHAT[option], size, option if said else f"assumed; {option} says it", not said))
    return Engine(name, tuple(parts), kept.bytes, cache)


def _kept(at: str, given: Mapping[str, object], nodes: int) -> tuple[Part, KvCache | None]:
    what = "what is kept of tokens (KV cache)"
    if "kv_cache_gib" in given:
        for other in ("config", "context", "sequences", "kv_cache_dtype"):
            if other in given:
                raise _wrong(f"{at}.{other}", "nothing beside kv_cache_gib, which says the size", given[other])
        return Part(what, _bytes(f"{at}.kv_cache_gib", given["kv_cache_gib"]), "kv_cache_gib"), None
    config = given.get("config")
    if not isinstance(config, Mapping):
        raise _wrong(f"{at}.config", "the model's config.json as a mapping, or kv_cache_gib", config)
    dtype = given.get("kv_cache_dtype", "auto")
    if dtype not in caches.WIDTHS:
        raise _wrong(f"{at}.kv_cache_dtype", f"one of {', '.join(caches.WIDTHS)}", dtype)
    try:
        groups = caches.groups(config, str(dtype), nodes)
    except ValueError as error:
        raise _wrong(f"{at}.config", "a configuration that says what a token takes", str(error)) from error
    cache = KvCache(
        context=_whole(f"{at}.context", given.get("context"), 1, MOST),
        sequences=_whole(f"{at}.sequences", given.get("sequences", 1), 1, MOST),
        batched_tokens=_whole(f"{at}.batched_tokens", given.get("batched_tokens", BATCHED_TOKENS), 1, MOST),
        groups=groups,
    )
    token = sum(group.layers * group.bytes_each for group in groups)
    how = f"{cache.sequences} x {cache.context} tokens, up to {token} bytes each"
    return Part(what, caches.size(cache), how), cache


def _bytes(at: str, gib: object) -> int:
    if isinstance(gib, bool) or not isinstance(gib, (int, float)) or not 0 <= gib <= MOST_GIB:
        raise _wrong(at, f"a number of GiB from 0 to {MOST_GIB}", gib)
    return math.ceil(gib * GIB)


def _whole(at: str, value: object, least: int, most: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        raise _wrong(at, f"a whole number from {least}" + (f" to {most}" if most else " on"), value)
    return value


def _flag(at: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(at, "true or false", value)
    return value


def _wrong(at: str, wanted: str, found: object) -> InputError:
    return InputError(
        "memory.bad_input",
        wanted=f"{at}: {wanted}",
        found=repr(found)[:200],
        why="a sum with a wrong summand would let a plan pass that freezes the machine",
        fix=f"correct {at}",
    )
