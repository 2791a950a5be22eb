# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines on a node as a subject of ``_core.entry``: their units, and whether they answer.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import HIDDEN
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import given, states, texts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import CREDENTIALS, Engine, Program
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.ready import (
    METRICS_SECONDS,
    QUESTION,
    fingerprint,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import client, faults
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint, Fault, Unusable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    UNIT_DIRECTORY,
    Assertion,
    ControlSpec,
    Directory,
    File,
    Unit,
)

# One token of a model that has loaded: who waits longer for it has no service.
ANSWER_SECONDS = 15.0
NONE = "no engine is declared"


@dataclass(frozen=True)
class Judged:
    """Engines as this node can run them, with a control of the role's own that says so."""

    engines: Sequence[Engine]
    control: ControlSpec
    actions: Mapping[str, Action] = field(default_factory=dict)


def ensure_engines(
    program: Program,
    names: Sequence[str],
    engines: Sequence[Engine],
    params: Mapping[str, Any],
    judge: Callable[[Reader], Judged] | None = None,
) -> Composed:
    """``names``: of its controls, as _controls makes them, and that of what nobody declares. Raises InputError."""

    given.check(program, engines)

    def look(reader: Reader) -> Look:
        judged = judge(reader) if judge and engines else None
        found = [_with_key(engine, program, reader) for engine in (judged.engines if judged else engines)]
        unkept = [engine.name for engine in engines if engine.key == HIDDEN]
        shown = states.observe([engine.unit(program) for engine in found], reader)
        own = (judged.control,) if judged else ()
        controls = (*own, *_controls(program, found, unkept, shown, reader))
        declared = [] if engines else [name for name in names if not name.endswith("/others")]
        left_out = dict.fromkeys(declared, NONE)
        kept = tuple(control for control in controls if control.id not in left_out)
        actions = judged.actions if judged else {}
        return Look(kept, actions, facts={"engines": [_told(e, program) for e in found]}, left_out=left_out)

    return Composed(program.role, names, params, look)


def _with_key(engine: Engine, program: Program, reader: Reader) -> Engine:
    """On the node itself the declaration is kept without its secrets: there the key that is in use stands for it."""
    if engine.key != HIDDEN:
        return engine
    try:
        return replace(engine, key=(reader.read(engine.key_file(program)) or "").rstrip("\n") or HIDDEN)
    except Unreadable:
        return engine


def _controls(
    program: Program,
    engines: Sequence[Engine],
    unkept: Sequence[str],
    shown: Mapping[str, states.Shown],
    reader: Reader,
) -> Iterator[ControlSpec]:
    """``unkept``: engines whose key nobody can compare, since only its controller has it."""
    role = program.role
    keyed = [engine for engine in engines if engine.key]
    yield ControlSpec(
        f"{role}/credentials",
        directories=(
            *([Directory(CREDENTIALS, mode=0o700)] if keyed else []),
            *(Directory(f"{CREDENTIALS}/{engine.unit(program)}", mode=0o700) for engine in keyed),
        ),
        files=tuple(File(e.key_file(program), e.key, mode=0o600, sensitive=True) for e in keyed if e.key != HIDDEN),
        assertions=tuple(
            Assertion(
                f"key of {one}", "unknown", "", "", f"whether the key of {one} is as declared is not kept on the node"
            )
            for one in unkept
        ),
    )
    yield ControlSpec(f"{role}/template", units=(Unit(program.template, content=texts.template(program)),))
    yield ControlSpec(f"{role}/engines", units=tuple(_unit(engine, program) for engine in engines))
    answers = (_answers(one, program, shown.get(one.unit(program), {}), reader) for one in engines)
    yield ControlSpec(f"{role}/answers", assertions=tuple(answers))
    yield ControlSpec(f"{role}/others", assertions=tuple(_others(program, engines, reader)))


def _unit(engine: Engine, program: Program) -> Unit:
    return Unit(
        engine.unit(program),
        enabled=engine.enabled,
        active=engine.enabled,
        dropins=((texts.DROPIN, texts.dropin(engine, program)),),
        # systemd reads them at a start, and hands out what was there then.
        restart_on=(*((engine.key_file(program),) if engine.key else ()), *engine.credentials.values()),
        rollback=True,
        trial=texts.trial(engine, program),
    )


def _answers(engine: Engine, program: Program, shown: states.Shown, reader: Reader) -> Assertion:
    """By a request, as its clients make it. One that runs and answers nobody is started anew."""
    unit, name, wanted = engine.unit(program), f"engine {engine.name}", f"{engine.served} answers"
    if not engine.enabled:
        return Assertion(name, "in_sync", "not wanted", "not wanted")
    if silent := states.silent(name, wanted, unit, shown):
        return silent
    fault = _fault(engine)
    if fault is None:
        return Assertion(name, "in_sync", wanted, wanted)
    problem = faults.problem(fault.kind, fault.found)
    reason = one_line(f"{engine.name}: {fault.kind}: {fault.found}")
    others = _under_way(engine) if fault.kind in ("no_answer", "busy") else 0
    if others:
        # Nobody can tell from outside whether it is slow or stuck, and a restart would end what others wait for.
        return Assertion(name, "unknown", "", wanted, f"{reason}; it has {others} requests under way")
    # A restart is for what runs as it is declared; what does not gets one with its new files.
    mends = _as_declared(engine, program, reader) and fault.kind not in ("open", "key_refused", "no_model")
    steps = (Step("restart_unit", unit),) if mends else ()
    return Assertion(name, "drifted", fault.kind, wanted, reason, problem.fix, steps=steps)


def _fault(engine: Engine) -> Fault | None:
    try:
        client.complete(_endpoint(engine, engine.key), engine.served, QUESTION, 1)
        if engine.key:
            # Who reaches the port and has no key must be turned away.
            try:
                client.complete(_endpoint(engine, ""), engine.served, QUESTION, 1)
            except Fault as fault:
                return None if fault.kind == "key_refused" else fault
            return Fault("open", "it answered a request without a key")
    except Fault as fault:
        return fault
    except Unusable as error:
        return Fault("no_certificate", str(error))
    return None


def _under_way(engine: Engine) -> int:
    """0 as well for one that does not even say that."""
    try:
        return client.under_way(replace(_endpoint(engine, engine.key), seconds=METRICS_SECONDS)) or 0
    except (Fault, Unusable):
        return 0


def _endpoint(engine: Engine, key: str) -> Endpoint:
    """As who looks from the node itself. Raises Unusable."""
    found = Endpoint(engine.host, engine.port, key=key, seconds=ANSWER_SECONDS)
    if not engine.tls:
        return found
    try:
        pin = fingerprint(engine.tls.certificate)
    except (OSError, ValueError) as error:
        raise Unusable(f"{engine.tls.certificate}: {error}") from error
    tls = engine.tls
    return replace(found, tls=True, pin=pin, certificate=tls.client_certificate, private_key=tls.client_key)


def _as_declared(engine: Engine, program: Program, reader: Reader) -> bool:
    unit = engine.unit(program)
    wanted = {
        f"{UNIT_DIRECTORY}/{program.template}": texts.template(program),
        f"{UNIT_DIRECTORY}/{unit}.d/{texts.DROPIN}.conf": texts.dropin(engine, program),
    }
    try:
        return all((reader.read(path) or "").rstrip("\n") == text.rstrip("\n") for path, text in wanted.items())
    except Unreadable:
        return False


def _others(program: Program, engines: Sequence[Engine], reader: Reader) -> Iterator[Assertion]:
    """Engines of ours that are declared no more: they hold memory and ports, and would come back with a boot."""
    declared = {engine.unit(program) for engine in engines}
    try:
        folders = [name.removesuffix(".d") for name in reader.listdir(UNIT_DIRECTORY) or () if name.endswith(".d")]
        mine = [name for name in folders if name.startswith(f"{program.prefix}@") and name != program.template]
        yield Assertion(f"units in {UNIT_DIRECTORY}", "in_sync", "looked at", "looked at")
        for unit in sorted(set(mine) - declared):
            path = f"{UNIT_DIRECTORY}/{unit}.d/{texts.DROPIN}.conf"
            if not (reader.read(path) or "").startswith(f"# Made by role {program.role};"):
                continue
            steps = (
                Step("stop_unit", unit),
                Step("disable_unit", unit),
                Step("remove_file", path),
                Step("reload_manager", "systemd"),
            )
            yield Assertion(f"unit {unit}", "drifted", "present", "absent", f"{unit} is declared no more", steps=steps)
        keyed = {engine.unit(program) for engine in engines if engine.key}
        for unit in reader.listdir(CREDENTIALS) or ():
            path = f"{CREDENTIALS}/{unit}/api-key"
            if unit.startswith(f"{program.prefix}@") and unit not in keyed and reader.stat(path):
                why, remove = f"no engine of {unit} has a key", Step("remove_file", path)
                yield Assertion(f"key of {unit}", "drifted", "present", "absent", why, steps=(remove,))
    except Unreadable as error:
        yield Assertion(f"units in {UNIT_DIRECTORY}", "unknown", "", "those that are declared", str(error))


def _told(engine: Engine, program: Program) -> dict[str, object]:
    return {"name": engine.name, "unit": engine.unit(program), "host": engine.host, "port": engine.port}
