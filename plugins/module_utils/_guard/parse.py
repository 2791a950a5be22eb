# SPDX-License-Identifier: GPL-3.0-or-later
"""Module parameters → Guard.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard import model
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.load_guard import OF_UNIT
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.model import Engine, Guard, Protected
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse as memory
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.budget import budget
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB, PAGE_CACHE_GIB, RESERVE_GIB
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.hazards import ACCESS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.resources import UNIT

# Of which control each option is.
INPUTS = {
    model.BUDGET: ("engines", "published", "total_gib", "reserve_gib", "page_cache_gib"),
    model.KILLER_SETTINGS: ("killer", "term_percent", "kill_percent", "swap_percent", "prefer", "avoid"),
    model.KILLER: ("killer",),
    model.SYSTEM_PROTECTED: ("protected", "killer"),
    model.ENGINES: ("engines", "published", "engine_score", "killer"),
    model.LOAD_GUARD: ("engines", "published", "load_free_gib", "load_seconds"),
    model.SWAP: ("swap",),
    model.PRESSURE: ("stall_percent",),
}

ARGUMENT_SPEC: dict[str, Any] = {
    "engines": {"type": "list", "elements": "dict", "default": []},
    "published": {"type": "list", "elements": "dict", "default": []},
    "total_gib": {"type": "float", "default": 0},
    "reserve_gib": {"type": "float", "default": RESERVE_GIB},
    "page_cache_gib": {"type": "float", "default": PAGE_CACHE_GIB},
    "killer": {"type": "str", "choices": [model.EARLYOOM, model.OOMD], "default": model.EARLYOOM},
    "term_percent": {"type": "float", "default": 4},
    "kill_percent": {"type": "float", "default": 2},
    "swap_percent": {"type": "float", "default": 100},
    "prefer": {"type": "str", "default": ""},
    "avoid": {"type": "str", "default": ""},
    "protected": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "unit": {"type": "str", "required": True},
            "memory_min_mib": {"type": "int", "default": 0},
            "oom_score_adjust": {"type": "int"},
        },
    },
    "engine_score": {"type": "int", "default": 500},
    "load_free_gib": {"type": "float", "default": 8},
    "load_seconds": {"type": "int", "default": 1800},
    "swap": {"type": "str", "choices": ["adopt", "off"], "default": "adopt"},
    "stall_percent": {"type": "float", "default": 10},
    **OPTIONS,
}


def guard(params: Mapping[str, Any]) -> Guard:
    """Raises InputError, with the name of the wrong value, before anything is looked at."""
    _between("kill_percent", params["kill_percent"], 0.1, 50, "below it everything preferred is killed at once")
    least = params["kill_percent"]
    _between("term_percent", params["term_percent"], least, 50, "an engine is asked to end before it is killed")
    _between("swap_percent", params["swap_percent"], 0, 100, "it is a share")
    _between("stall_percent", params["stall_percent"], 1, 100, "it is a share of the time")
    _between("engine_score", params["engine_score"], 1, 1000, "an engine has to go before the system does")
    _between("load_seconds", params["load_seconds"], 1, 86400, "it is a bound")
    _between("load_free_gib", params["load_free_gib"], 0, 1 << 20, "it is a size")
    for name in ("prefer", "avoid"):
        _regex(name, params[name])
    protected = _protected(params["protected"])
    entries = _all(params["engines"], params["published"])
    engines = _engines(entries, ACCESS.union(one.unit for one in protected))
    sizes = {"reserve_gib": params["reserve_gib"], "page_cache_gib": params["page_cache_gib"]}
    arguments = {"engines": entries, **sizes}
    _between("total_gib", params["total_gib"], 0, 1 << 20, "it is a size")
    # Also without the size of the machine the entries are read, and what is wrong with them is said.
    plan = memory.plan(entries, int(params["total_gib"] * GIB) or 1, **sizes)
    # What nobody knows is for the control to say: it may fit.
    if params["total_gib"] and plan.left < 0:
        verdict = budget(plan)
        raise InputError(
            "memory_guard.too_much",
            wanted=f"engines that fit into {params['total_gib']:g} GiB (memory_guard_total_gib)",
            found=f"{verdict['explanation']}\n{verdict['arithmetic']}",
            why="GPU and system share one memory",
            fix=str(verdict["fix"]),
        )
    return Guard(
        engines=engines,
        budget=arguments,
        killer=params["killer"],
        term_percent=params["term_percent"],
        kill_percent=params["kill_percent"],
        swap_percent=params["swap_percent"],
        prefer=params["prefer"],
        avoid=params["avoid"],
        protected=protected,
        engine_score=params["engine_score"],
        swap=params["swap"],
        load_free=int(params["load_free_gib"] * GIB),
        load_seconds=params["load_seconds"],
        stall_percent=params["stall_percent"],
        inputs={
            control: json.dumps({name: params[name] for name in names}, sort_keys=True)
            for control, names in INPUTS.items()
        },
    )


def _all(declared: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of other roles, but for what is declared here by the same unit or name: who measured knows better. Of when
    it has loaded its role goes on to know."""
    here = {str(one[word]) for one in declared for word in ("unit", "name") if one.get(word)}
    health = {one["unit"]: {"health": one["health"]} for one in published if one.get("unit") and one.get("health")}
    mine = [{**health.get(str(one.get("unit")), {}), **one} for one in declared]
    return [*mine, *(one for one in published if here.isdisjoint((one.get("unit"), one.get("name"))))]


def _engines(entries: Sequence[Mapping[str, Any]], spared: Collection[str]) -> tuple[Engine, ...]:
    """Those with a unit."""
    needs = [engine.bytes for engine in memory.plan(entries, 1).engines]
    engines: dict[str, Engine] = {}
    for number, (entry, need) in enumerate(zip(entries, needs, strict=True)):
        at, unit, health = f"engines[{number}]", entry.get("unit", ""), entry.get("health", "")
        if not unit and health:
            raise _wrong(f"{at}.health", "nothing without unit", health, "there is no start to watch over")
        if not unit:
            continue
        if not isinstance(unit, str) or UNIT.fullmatch(unit) is None or not unit.endswith(".service") or "@." in unit:
            raise _wrong(f"{at}.unit", "a service such as vllm.service", unit, "only a service can be marked")
        if unit in spared:
            why = "what the node is reached by would be the first to go, and would not start when memory is short"
            raise _wrong(f"{at}.unit", "the unit of an engine", unit, why)
        if unit in engines:
            raise _wrong(f"{at}.unit", "a unit of its own", unit, "one start would be checked for another's size")
        engines[unit] = Engine(unit, _health(f"{at}.health", health), need)
    return tuple(engines.values())


def _health(at: str, url: object) -> str:
    """A plain address: the guard asks it every second and has nothing to log in with."""
    if url in ("", OF_UNIT):
        return str(url)
    parts = None
    if isinstance(url, str) and re.fullmatch(r"[!-$&-~]+", url):  # % would be expanded by systemd
        try:
            parts = urlsplit(url)
            known = parts.scheme == "http" and parts.hostname and parts.port and not parts.username
        except ValueError:
            known = False
        if known:
            return url
    wanted = f"an address such as http://127.0.0.1:8000/health, or {OF_UNIT}"
    raise _wrong(at, wanted, url, "the guard could not ask it")


def _protected(entries: Sequence[Mapping[str, Any]]) -> tuple[Protected, ...]:
    found: dict[str, Protected] = {}
    for number, entry in enumerate(entries):
        at, unit, score = f"protected[{number}]", entry["unit"], entry["oom_score_adjust"]
        if UNIT.fullmatch(unit) is None or not unit.endswith((".service", ".slice")) or "@." in unit:
            raise _wrong(f"{at}.unit", "the full name of a service or slice", unit, "nothing would be protected")
        if unit in found:
            raise _wrong(f"{at}.unit", "a unit that is not there yet", unit, "only one of both would count")
        if not 0 <= entry["memory_min_mib"] <= 1 << 20:
            raise _wrong(f"{at}.memory_min_mib", "MiB, or 0 for none", entry["memory_min_mib"], "it is a size")
        if score is not None and (not -1000 <= score <= 0 or not unit.endswith(".service")):
            why = "only a service has a process of its own, and above 0 it would be killed first"
            raise _wrong(f"{at}.oom_score_adjust", "of a service, from -1000 to 0", score, why)
        found[unit] = Protected(unit, entry["memory_min_mib"] * model.MIB, score)
    return tuple(found.values())


def _regex(name: str, text: str) -> None:
    """earlyoom reads it as a POSIX extended expression, which is nearly the same."""
    try:
        re.compile(text)
    except re.error as error:
        raise _wrong(name, "a regular expression", f"{text}: {error}", "earlyoom would not start") from error
    if not text.isprintable():
        raise _wrong(name, "one line", text, "earlyoom would not start")


def _between(name: str, value: float, least: float, most: float, why: str) -> None:
    if not least <= value <= most:
        raise _wrong(name, f"from {least:g} to {most:g}", value, why)


def _wrong(at: str, wanted: str, found: object, why: str) -> InputError:
    return InputError(
        "memory_guard.bad_input",
        wanted=f"{at}: {wanted}",
        found=repr(found)[:200],
        why=why,
        fix=f"correct memory_guard_{at}",
    )
