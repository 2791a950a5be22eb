# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the plan fit, how is that reckoned, and what would fit instead?

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.cache import size
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB, Engine, KvCache, Part, Plan


def budget(plan: Plan) -> dict[str, Any]:
    """The verdict, with every summand, as data and as a table to read."""
    assumed = [f"{owner}: {part.what}" for owner, part in _owned(plan) if part.assumed]
    fits = plan.left >= 0
    return {
        "fits": fits,
        "total_bytes": plan.total,
        "planned_bytes": plan.bytes,
        "left_bytes": plan.left,
        "engines": [_engine(plan, engine) for engine in plan.engines],
        "assumed": assumed,
        "arithmetic": table(plan),
        "explanation": _sentence(plan),
        "fix": "" if fits else _fix(plan),
    }


def _owned(plan: Plan) -> list[tuple[str, Part]]:
    own = [("the machine", part) for part in plan.parts]
    return own + [(engine.name, part) for engine in plan.engines for part in engine.parts]


def _engine(plan: Plan, engine: Engine) -> dict[str, Any]:
    return {
        "name": engine.name,
        "bytes": engine.bytes,
        "kv_cache_bytes": engine.kv_cache_bytes,
        "share": round(engine.bytes / plan.total, 4),
        "parts": [
            {"what": part.what, "bytes": part.bytes, "how": part.how, "assumed": part.assumed} for part in engine.parts
        ],
    }


def table(plan: Plan) -> str:
    """One line a summand, in GiB, as one would reckon it on paper."""
    rows = [(plan.total, "the machine has", "")]
    rows += [(-part.bytes, f"{owner}: {part.what}", part.how) for owner, part in _owned(plan)]
    rows.append((plan.left, "left" if plan.left >= 0 else "too much", ""))
    wide = max(len(what) for _bytes, what, _how in rows)
    return "\n".join(f"{bytes_ / GIB:9.2f} GiB  {what:{wide}}  {how}".rstrip() for bytes_, what, how in rows)


def _sentence(plan: Plan) -> str:
    wanted, there = f"{plan.bytes / GIB:.2f} GiB", f"{plan.total / GIB:.2f} GiB"
    if plan.left >= 0:
        return f"{wanted} of {there} are planned, {plan.left / GIB:.2f} GiB are left"
    return (
        f"{wanted} are planned and there are {there}: {-plan.left / GIB:.2f} GiB too much, "
        "which would freeze the machine and not merely end the engine"
    )


def _fix(plan: Plan) -> str:
    """What one engine alone could give up so that all fit, for each that can."""
    ways = [way for engine in plan.engines for way in [_smaller(plan, engine)] if way]
    if ways:
        return "; or ".join(ways)
    if len(plan.engines) > 1:
        return "start fewer engines at a time, or put one on another node"
    return "take a smaller model or a stronger quantisation, or share it among more nodes"


def _smaller(plan: Plan, engine: Engine) -> str:
    cache = engine.kv_cache
    if cache is None:
        over = engine.kv_cache_bytes + plan.left
        return f"{engine.name}: kv_cache_gib of at most {over / GIB:.2f}" if over > 0 else ""
    room = engine.kv_cache_bytes + plan.left
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
