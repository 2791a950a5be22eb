# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the plan fit, how is that reckoned, and what would fit instead?

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.cache import size
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB, Engine, KvCache, Part, Plan


def budget(plan: Plan) -> dict[str, Any]:
    """The verdict, with every summand, as data and as a table to read."""
    owned = [(engine.name, part) for engine in plan.engines for part in engine.parts]
    unknown = [f"{owner}: {part.what}" for owner, part in owned if not part.known]
    # What is not known counts as nothing: too much is certain without it, enough is not.
    fits = plan.left >= 0 and not unknown
    return {
        "fits": fits,
        "unknown": unknown,
        "total_bytes": plan.total,
        "planned_bytes": plan.bytes,
        "left_bytes": plan.left,
        "engines": [_engine(plan, engine) for engine in plan.engines],
        "assumed": [f"{owner}: {part.what}" for owner, part in owned if part.assumed],
        "arithmetic": table(plan),
        "explanation": _sentence(plan, unknown),
        "fix": "" if fits else _fix(plan),
    }


def _engine(plan: Plan, engine: Engine) -> dict[str, Any]:
    return {
        "name": engine.name,
        "bytes": engine.bytes,
        "counted": engine in plan.together,
        "kv_cache_bytes": engine.kv_cache_bytes,
        "share": round(engine.bytes / plan.total, 4),
        "parts": [
            {
                "what": part.what,
                "bytes": part.bytes if part.known else None,
                "how": part.how,
                "assumed": part.assumed,
            }
            for part in engine.parts
        ],
    }


def table(plan: Plan) -> str:
    """One line a summand, in GiB, as one would reckon it on paper; then who is not in the sum, and for whom."""
    rows = [(f"{plan.total / GIB:9.2f}", "the machine has", "")]
    rows += [_row("the machine", part) for part in plan.parts]
    rows += [_row(engine.name, part) for engine in plan.together for part in engine.parts]
    rows.append((f"{plan.left / GIB:9.2f}", "left" if plan.left >= 0 else "too much", ""))
    for engine in plan.engines:
        if engine not in plan.together:
            rows += [(f"{'-':>9}", f"{engine.name}: all {engine.bytes / GIB:.2f} of it", _beside(plan, engine))]
            rows += [_row(engine.name, part) for part in engine.parts if not part.known]
    wide = max(len(what) for _size, what, _how in rows)
    return "\n".join(f"{size} GiB  {what:{wide}}  {how}".rstrip() for size, what, how in rows)


def _row(owner: str, part: Part) -> tuple[str, str, str]:
    size = f"{-part.bytes / GIB:9.2f}" if part.known else f"{'?':>9}"
    return size, f"{owner}: {part.what}", part.how


def _beside(plan: Plan, engine: Engine) -> str:
    others = [one.name for one in plan.together if engine.name in one.conflicts or one.name in engine.conflicts]
    return f"never together with {', '.join(others)}"


def _sentence(plan: Plan, unknown: Sequence[str]) -> str:
    wanted, there = f"{plan.bytes / GIB:.2f} GiB", f"{plan.total / GIB:.2f} GiB"
    if plan.left < 0:
        return (
            f"{wanted} are planned and there are {there}: {-plan.left / GIB:.2f} GiB too much, "
            "which would freeze the machine and not merely end the engine"
        )
    if unknown:
        return f"{wanted} of {there} are planned without what nobody knows ({'; '.join(unknown)})"
    return f"{wanted} of {there} are planned, {plan.left / GIB:.2f} GiB are left"


def _fix(plan: Plan) -> str:
    """What one engine alone could give up so that all fit, for each that can."""
    if plan.left >= 0:
        missing = [(engine.name, part) for engine in plan.engines for part in engine.parts if not part.known]
        return "; ".join(f"{name}: {part.how.removeprefix('unknown: ')} where it is declared" for name, part in missing)
    ways = [way for engine in plan.together for way in [_smaller(plan, engine)] if way]
    if ways:
        return "; or ".join(ways)
    if len(plan.together) > 1:
        return "start fewer engines at a time (conflicts says which never run together), or put one on another node"
    return "take a smaller model or a stronger quantisation, or share it among more nodes"


def _smaller(plan: Plan, engine: Engine) -> str:
    cache = engine.kv_cache
    room = plan.room(engine) - (engine.bytes - engine.kv_cache_bytes)
    if cache is None:
        return f"{engine.name}: kv_cache_gib of at most {room / GIB:.2f}" if room > 0 else ""
    sequences = _most(cache.sequences, lambda number: size(replace(cache, sequences=number)) <= room)
    if sequences:
        return f"{engine.name}: {sequences} instead of {cache.sequences} sequences of {cache.context} tokens"
    context = _most(cache.context, lambda number: size(_shorter(cache, number)) <= room)
    # Below this an engine is of no use: a system prompt with its tools takes as much.
    if context >= LEAST_CONTEXT:
        return f"{engine.name}: one sequence of {context} instead of {cache.context} tokens"
    return ""


LEAST_CONTEXT = 4096


def _shorter(cache: KvCache, context: int) -> KvCache:
    return replace(cache, sequences=1, context=context)


def _most(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to ``limit`` for which it holds, 0 for none; where it holds, it holds for smaller ones."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
