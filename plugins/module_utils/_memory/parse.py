# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory says of engines and machine → Plan.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

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

# Allowances where nobody has measured: round numbers, named as assumed in every answer. llama.cpp computes 512 tokens
# at a time, captures nothing, and brings no Python with it.
ALLOWED_GIB = {
    "vllm": {"activation_gib": 2.0, "graphs_gib": 2.0, "process_gib": 4.0},
    "llama.cpp": {"activation_gib": 1.0, "process_gib": 1.0},
}
WHAT = {
    "weights_gib": "weights",
    "kv_cache_gib": "what is kept of tokens (KV cache)",
    "activation_gib": "activations while a batch is computed",
    "graphs_gib": "captured graphs",
    "process_gib": "the process itself",
}
# What says how large an engine is.
SUMMANDS = (
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
    "activation_gib",
    "graphs_gib",
    "process_gib",
    "options_gib",
)
# unit and health are for who starts it; an engine may be named by its unit in conflicts.
NAMES = (*SUMMANDS, "program", "unit", "health", "conflicts", "unknown")
# Of which parts it can be said that nobody knows them, and what would say it.
MAY_BE_UNKNOWN = {
    "weights_gib": "weights_gib",
    "kv_cache_gib": "kv_cache_gib, or config and context",
    "process_gib": "process_gib (with what its options take)",
}
# Every way to resolve conflicts is tried: that many engines with conflicts take a moment, and more a day.
MOST_CONFLICTING = 16
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
    found = [_engine(f"engines[{number}]", entry) for number, entry in enumerate(engines)]
    names = [engine.name for engine in found]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise _wrong(f"engines[{number}].name", "a name of its own", name)
    by_unit = {entry["unit"]: entry["name"] for entry in engines if entry.get("unit")}
    found = [_beside(f"engines[{number}]", engine, names, by_unit) for number, engine in enumerate(found)]
    _count_conflicts(found)
    parts = (
        Part("left to the system", _bytes("reserve_gib", reserve_gib), "reserve_gib"),
        Part("files being read", _bytes("page_cache_gib", page_cache_gib), "page_cache_gib"),
    )
    return Plan(total, parts, tuple(found))


def _beside(at: str, engine: Engine, names: Sequence[str], by_unit: Mapping[object, str]) -> Engine:
    """With what it excludes by name. A unit that is no engine takes none of this memory and is left out."""
    found = set()
    for other in sorted(engine.conflicts):
        name = by_unit.get(other, other)
        if name in names and name != engine.name:
            found.add(name)
        elif "." not in other or name == engine.name:
            near = difflib.get_close_matches(other, [one for one in names if one != engine.name], 1)
            wanted = "names of other engines, or units" + (f" (is {near[0]} meant?)" if near else "")
            raise _wrong(f"{at}.conflicts", wanted, other)
    return replace(engine, conflicts=frozenset(found))


def _count_conflicts(engines: Sequence[Engine]) -> None:
    found = {name for engine in engines if engine.conflicts for name in (engine.name, *engine.conflicts)}
    if len(found) > MOST_CONFLICTING:
        wanted = f"at most {MOST_CONFLICTING} that exclude each other"
        raise _wrong("engines", wanted, ", ".join(sorted(found)))


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
    program = given.get("program", "vllm")
    if program not in ALLOWED_GIB:
        raise _wrong(f"{at}.program", f"one of {', '.join(ALLOWED_GIB)}", program)
    unknown = _texts(f"{at}.unknown", given, MAY_BE_UNKNOWN)
    shared = f", shared by {nodes} nodes" if nodes > 1 else ""
    if "weights_gib" in unknown:
        parts = [_nobody_knows("weights_gib")]
    else:
        weights = -(-_bytes(f"{at}.weights_gib", given.get("weights_gib")) // nodes)
        parts = [Part(WHAT["weights_gib"], weights, f"weights_gib{shared}")]
    kept, cache = (_nobody_knows("kv_cache_gib"), None) if "kv_cache_gib" in unknown else _kept(at, given, nodes)
    parts.append(kept)
    for option in ("activation_gib", "graphs_gib", "process_gib"):
        allowed = ALLOWED_GIB[program].get(option)
        said = option in given
        if option == "graphs_gib" and _flag(f"{at}.enforce_eager", given.get("enforce_eager", False)):
            if said:
                raise _wrong(f"{at}.{option}", "nothing beside enforce_eager, which captures no graphs", given[option])
            continue
        if said or allowed is not None:
            size = _bytes(f"{at}.{option}", given.get(option, allowed))
            parts.append(Part(WHAT[option], size, option if said else f"assumed; {option} says it", not said))
    parts += _of_options(f"{at}.options_gib", given.get("options_gib", {}))
    if "process_gib" in unknown:
        # Beside the allowance, which has none of it.
        parts.append(_nobody_knows("process_gib", "what its options take"))
    return Engine(name, tuple(parts), kept.bytes, cache, frozenset(_texts(f"{at}.conflicts", given)))


def _of_options(at: str, sizes: object) -> list[Part]:
    """What options of the program take beside all that, by their names."""
    if not isinstance(sizes, Mapping):
        raise _wrong(at, "a mapping of names to GiB", sizes)
    return [Part(str(name), _bytes(f"{at}.{name}", size), "options_gib") for name, size in sizes.items()]


def _nobody_knows(option: str, what: str = "") -> Part:
    return Part(what or WHAT[option], 0, f"unknown: say {MAY_BE_UNKNOWN[option]}", known=False)


def _texts(at: str, given: Mapping[str, object], known: Collection[str] = ()) -> list[str]:
    """Of the option that the place ends with."""
    value = given.get(at.rpartition(".")[2], [])
    listed = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [None]
    found = [one for one in listed if isinstance(one, str) and (not known or one in known)]
    if len(found) != len(listed):
        raise _wrong(at, f"a list of {', '.join(known) or 'names'}", value)
    return found


def _kept(at: str, given: Mapping[str, object], nodes: int) -> tuple[Part, KvCache | None]:
    what = WHAT["kv_cache_gib"]
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
        wanted = f"one of {', '.join(caches.WIDTHS)}, or kv_cache_gib instead of config, which takes any"
        raise _wrong(f"{at}.kv_cache_dtype", wanted, dtype, f"say how large the cache is to be: {at}.kv_cache_gib")
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


def _wrong(at: str, wanted: str, found: object, fix: str = "") -> InputError:
    return InputError(
        "memory.bad_input",
        wanted=f"{at}: {wanted}",
        found=repr(found)[:200],
        why="a sum with a wrong summand would let a plan pass that freezes the machine",
        fix=fix or f"correct {at}",
    )
