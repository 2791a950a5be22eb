# SPDX-License-Identifier: GPL-3.0-or-later
"""The document that follows from what was declared and what was found. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard import load_guard, model, pressure_watch, texts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.model import (
    CGROUPS,
    EARLYOOM,
    HANDS_ON,
    MIB,
    SLICE,
    Engine,
    Guard,
    Process,
    Protected,
    Seen,
    Swap,
    UnitState,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.observe import SYSTEM_SLICE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.budget import budget
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    File,
    Package,
    Unit,
)

DROPIN = "50-nusy-memory_guard"
# Of the load guard's, beside it on the same unit.
WAITS = "51-nusy-memory_guard_load"
# systemd-oomd asks for 64 MiB in its own unit; earlyoom has 2 MiB, locked.
KILLER_MIN = {EARLYOOM: 16 * MIB, model.OOMD: 64 * MIB}
UNITS_OF = {
    EARLYOOM: ("earlyoom.service",),
    model.OOMD: ("systemd-oomd.service", "systemd-oomd.socket"),
}


def controls(wanted: Guard, seen: Seen) -> list[ControlSpec]:
    return [
        replace(control, inputs=wanted.inputs[control.id])
        for control in (
            ControlSpec(model.BUDGET, assertions=tuple(_budget(seen))),
            _killer_settings(wanted, seen),
            _killer(wanted),
            _system_protected(wanted, seen),
            _load_guard(wanted),
            _engines(wanted, seen),
            ControlSpec(model.SWAP, assertions=tuple(_swap(wanted, seen))),
            _pressure(wanted),
        )
    ]


def left_out(wanted: Guard) -> dict[str, str]:
    """What this declaration does not ask for."""
    found = {}
    if not wanted.budget["engines"]:
        found[model.BUDGET] = "no engine is declared"
    if wanted.swap == "adopt":
        found[model.SWAP] = "swap stays as it is (memory_guard_swap: adopt)"
    return found


def _budget(seen: Seen) -> Iterator[Assertion]:
    if seen.plan is not None:
        verdict = budget(seen.plan)
        yield Assertion(
            "memory of the engines",
            "in_sync" if verdict["fits"] else "drifted" if seen.plan.left < 0 else "unknown",
            f"{seen.plan.bytes / GIB:.2f} GiB planned",
            f"at most {seen.total / GIB:.2f} GiB, which the machine has",
            "" if verdict["fits"] else f"{verdict['explanation']}:\n{verdict['arithmetic']}",
            fix=str(verdict["fix"]),
        )


def _killer_settings(wanted: Guard, seen: Seen) -> ControlSpec:
    """Before its package: that starts it at once, and by its own settings it would kill at 10 %."""
    name, least = UNITS_OF[wanted.killer][0], KILLER_MIN[wanted.killer]
    text = texts.earlyoom(wanted, least) if wanted.killer == EARLYOOM else texts.oomd(least)
    state = seen.units[name]
    assertions = [*_memory_min(name, least, state), *_score(name, -1000, state.main)]
    if wanted.killer == EARLYOOM and state.main is not None:
        # On a machine that swaps, who has to free memory must not wait for his own.
        locked = state.main.locked
        assertions.append(
            Assertion(
                f"unit {name}: memory",
                "unknown" if locked is None else "in_sync" if locked else "drifted",
                "not locked",
                "locked",
                "what earlyoom has locked cannot be seen" if locked is None else "its memory could be swapped out",
                steps=(Step("restart_unit", name),),
            )
        )
    unit = Unit(name, dropins=((DROPIN, text),))
    return ControlSpec(model.KILLER_SETTINGS, units=(unit,), assertions=tuple(assertions))


def _killer(wanted: Guard) -> ControlSpec:
    """One, and never both: each would take what the other has already made room with."""
    (other,) = UNITS_OF.keys() - {wanted.killer}
    return ControlSpec(
        model.KILLER,
        packages=(Package(wanted.killer),),
        units=(
            *(Unit(name, enabled=True, active=True) for name in UNITS_OF[wanted.killer]),
            *(Unit(name, enabled=False, active=False) for name in UNITS_OF[other]),
        ),
    )


def _system_protected(wanted: Guard, seen: Seen) -> ControlSpec:
    """What is there of what is listed. No service is restarted: systemd applies limits when it reads them again,
    and the score of a running process can be set."""
    there = [one for one in wanted.protected if seen.units[one.unit].loaded]
    services = sum(one.memory_min for one in there if not one.is_slice) + KILLER_MIN[wanted.killer]
    declared = {one.unit: one for one in there}
    # A unit has no more than its slice has: the slice has what all of them ask for, and nobody else shares in it.
    least = max(services, declared.get(SYSTEM_SLICE, Protected(SYSTEM_SLICE, 0)).memory_min)
    declared[SYSTEM_SLICE] = Protected(SYSTEM_SLICE, least)
    units: list[Unit] = []
    assertions: list[Assertion] = []
    for one in declared.values():
        own = one.score is not None and one.unit not in HANDS_ON
        text = texts.protected(one, wanted.killer, score=own)
        units.append(Unit(one.unit, dropins=((DROPIN, text),), on_change="none"))
        state = seen.units[one.unit]
        assertions += _memory_min(one.unit, one.memory_min, state)
        assertions += _score(one.unit, one.score, state.main)
    return ControlSpec(model.SYSTEM_PROTECTED, units=tuple(units), assertions=tuple(assertions))


def _engines(wanted: Guard, seen: Seen) -> ControlSpec:
    units = [Unit(SLICE, content=texts.engines_slice(wanted.killer), on_change="none")]
    assertions = list(_limit(SLICE, "memory.swap.max", "0", seen.units[SLICE]))
    for one in wanted.engines:
        state = seen.units[one.unit]
        units.append(Unit(one.unit, dropins=((DROPIN, texts.engine(wanted.engine_score)),), on_change="none"))
        assertions += _place(one, state)
        for process in state.processes:
            assertions += _score(one.unit, wanted.engine_score, process)
    return ControlSpec(model.ENGINES, units=tuple(units), assertions=tuple(assertions))


def _place(engine: Engine, state: UnitState) -> Iterator[Assertion]:
    """A unit changes its slice when it starts. A start of an engine takes minutes: by its name only."""
    if state.cgroup and f"/{SLICE}/" not in state.cgroup:
        yield Assertion(
            f"unit {engine.unit}: running",
            "drifted",
            f"in {state.cgroup}",
            f"in {SLICE}",
            f"{engine.unit} has to be restarted to run in {SLICE}",
            steps=(Step("restart_engine", engine.unit),),
            victim=("unit", engine.unit),
        )


def _load_guard(wanted: Guard) -> ControlSpec:
    units = [Unit("spark-load-guard@.service", content=texts.load_guard(wanted), on_change="none")]
    for one in wanted.engines:
        guard_unit = texts.load_guard_of(one)
        units.append(Unit(guard_unit, dropins=((DROPIN, texts.load_guard_options(one)),), on_change="none"))
        units.append(Unit(one.unit, dropins=((WAITS, texts.engine_waits(guard_unit)),), on_change="none"))
    return ControlSpec(
        model.LOAD_GUARD,
        directories=(Directory(texts.FOLDER),),
        files=(File(texts.LOAD_GUARD, texts.program(load_guard), mode=0o755),),
        units=tuple(units),
    )


def _pressure(wanted: Guard) -> ControlSpec:
    return ControlSpec(
        model.PRESSURE,
        directories=(Directory(texts.FOLDER),),
        files=(File(texts.PRESSURE_WATCH, texts.program(pressure_watch), mode=0o755),),
        units=(
            Unit(
                "spark-pressure-watch.service",
                content=texts.pressure_watch(wanted),
                enabled=True,
                active=True,
                restart_on=(texts.PRESSURE_WATCH,),
            ),
        ),
    )


def _swap(wanted: Guard, seen: Seen) -> Iterator[Assertion]:
    if wanted.swap == "adopt":
        return
    if isinstance(seen.swaps, str):
        yield Assertion("swap", "unknown", "", "off", seen.swaps)
        return
    yield from (_swap_off(one, seen.available) for one in seen.swaps)
    if not seen.swaps:
        yield Assertion("swap", "in_sync", "off", "off")


def _swap_off(swap: Swap, available: int) -> Assertion:
    found = f"{swap.size / GIB:.2f} GiB, {swap.used / GIB:.2f} GiB used"
    name = f"swap {swap.path}"
    if swap.used > available:
        # swapoff reads all of it back, and the machine would be where this role is to keep it from.
        reason = f"{swap.path} holds {swap.used / GIB:.2f} GiB and only {available / GIB:.2f} GiB are available"
        return Assertion(name, "drifted", found, "off", reason, fix="stop an engine first")
    if not swap.units:
        fix = f"swapoff {swap.path}, and take away what brings it"
        return Assertion(name, "drifted", found, "off", f"no unit of systemd brings {swap.path}", fix=fix)
    # Masked: fstab stays as its vendor wrote it, and its unit does not come back at the next boot.
    steps = [Step(verb, unit) for unit in swap.units for verb in ("stop_unit", "mask_unit")]
    return Assertion(name, "drifted", found, "off", steps=tuple(steps), victim=("path", swap.path))


# --- live values -----------------------------------------------------------------------------


def _memory_min(unit: str, least: int, state: UnitState) -> Iterator[Assertion]:
    yield from _limit(unit, "memory.min", str(least), state)


def _limit(unit: str, name: str, wanted: str, state: UnitState) -> Iterator[Assertion]:
    """systemd sets it when it has read its files again; one that was changed behind its back is set directly."""
    if state.cgroup:
        found = state.limits.get(name, "absent")
        path = f"{CGROUPS}{state.cgroup}/{name}"
        yield Assertion(
            f"unit {unit}: {name}",
            "in_sync" if found == wanted else "drifted",
            found,
            wanted,
            steps=(Step("set_value", path, (wanted,)),),
        )


def _score(unit: str, wanted: int | None, process: Process | None) -> Iterator[Assertion]:
    if wanted is None or process is None or process.score is None:
        return
    yield Assertion(
        f"unit {unit}: oom_score_adj",
        "in_sync" if process.score == wanted else "drifted",
        str(process.score),
        str(wanted),
        steps=(Step("set_value", f"/proc/{process.pid}/oom_score_adj", (str(wanted),)),),
    )
