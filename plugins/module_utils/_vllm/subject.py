# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines of vLLM as a subject of ``_core.entry``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS as OF_EVERY_MODULE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import tls
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import Engine, Program
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.subject import Judged, ensure_engines
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import named
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Assertion, ControlSpec
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import arguments, installed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.help import Options, from_data
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.model import (
    ABOUT,
    CONTROLS,
    MEMORY,
    OPTIONS,
    WORDS,
)

_TYPES = {"text": "str", "whole": "int", "flag": "bool", "map": "dict"}
# Of the engine's unit and of the sum of memory, beside the words of the command line.
_OWN: dict[str, dict[str, Any]] = {
    "preset": {"type": "str"},
    "conflicts": {"type": "list", "elements": "str"},
    "enabled": {"type": "bool"},
    "api_key": {"type": "str", "no_log": True},
    "start_seconds": {"type": "int"},
    "drain_seconds": {"type": "int"},
    "weights_gib": {"type": "float"},
    "config": {"type": "dict"},
    "kv_cache_gib": {"type": "float"},
    "activation_gib": {"type": "float"},
    "graphs_gib": {"type": "float"},
    "process_gib": {"type": "float"},
}
# A word that is not there has no value: what vLLM does then is vLLM's to say. The name is what the unit is called.
ENGINE: dict[str, dict[str, Any]] = {
    **{name: {"type": _TYPES[word.kind]} for name, word in WORDS.items()},
    **_OWN,
    "name": {"type": "str", "required": True},
    "model": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    # A number of them, and no secret.
    "batched_tokens": {"type": "int", "no_log": False},
}
ARGUMENT_SPEC: dict[str, Any] = {
    "engines": {"type": "list", "elements": "dict", "default": [], "options": ENGINE},
    "presets": {"type": "dict", "default": {}},
    "options": {"type": "dict", "default": {}},
    "release": {"type": "str", "default": ""},
    "user": {"type": "str", "default": "nusy"},
    "writes": {"type": "list", "elements": "path", "default": []},
    **OF_EVERY_MODULE,
    **named.OPTIONS,
}
# A load of many GiB takes minutes, and a first start compiles.
START_SECONDS, DRAIN_SECONDS = 1800, 60
WRITE_OPTIONS = "write its options with tests/tools/vllm_options.py"
# Without seconds to drain in, a stop waits for nobody.
_LIMITS = {"start_seconds": (1, 7200), "drain_seconds": (0, 600)}

# systemd.exec(5). No PrivateDevices: the GPU is a device, and nothing else is let through. No MemoryDenyWriteExecute:
# kernels are compiled while it runs. Netlink: NCCL and gloo list the interfaces by it. The driver locks what it maps.
GPU = """\
DevicePolicy=closed
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidiactl rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
RestrictAddressFamilies=AF_NETLINK
LimitMEMLOCK=infinity
"""


def ensure_vllm(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    try:
        options = from_data(params["options"])
    except ValueError as error:
        fix = f"{WRITE_OPTIONS}, and name the file in vllm_options_file"
        raise _wrong(
            "options", "what tests/tools/vllm_options.py writes", str(error), "nothing could be held against it", fix
        ) from error
    if params["engines"] and not options:
        raise InputError(
            "vllm.unknown_release",
            wanted=f"the options of vLLM {params['release'] or 'as it is installed'}, to hold engines against them",
            found="none are known",
            why="what it does not take would be noticed after the engine that serves now was stopped",
            fix="declare vllm_release as one of the sets of role vllm_venv, in quotes; "
            f"or {WRITE_OPTIONS}, and name the file in vllm_options_file",
        )
    given = [
        _found(merged(one, params["presets"]), params["models"], params["models_root"], f"engines[{number}]")
        for number, one in enumerate(params["engines"])
    ]
    for problem in problems(given, params["engines"], params["presets"], options, params["release"]):
        raise InputError(problem.key, wanted=problem.wanted, found=problem.found, why=problem.why, fix=problem.fix)
    for number, path in enumerate(params["writes"]):
        if tls.PATH.fullmatch(path) is None:
            wanted, why = (
                "an absolute path of letters, digits and _./@+-",
                "the line of the unit would say something else",
            )
            raise _wrong(f"writes[{number}]", wanted, path, why, f"correct vllm_writes[{number}]")
    engines = [_engine(one, options, params["release"]) for one in given]

    def judge(reader: Reader) -> Judged:
        if OPTIONS in params["skip_controls"]:
            return Judged(engines, ControlSpec(OPTIONS))
        return _judged(given, engines, params["release"], installed.find(reader))

    return ensure_engines(program(params["user"], params["writes"]), CONTROLS, engines, params, judge)


def _judged(
    given: Sequence[Mapping[str, Any]], declared: Sequence[Engine], release: str, found: installed.Installed
) -> Judged:
    """What is declared was held against the declared release; here against the one that will start."""
    wanted = f"vLLM {release}"
    seen = [Assertion("release", "in_sync", wanted, wanted)] if found.release == release else []
    if found.release and not seen:
        reason = f"vLLM {found.release} is installed, and {release} is declared"
        fix = f"set vllm_release to {found.release}, or have role vllm_venv install {release}"
        seen.append(Assertion("release", "drifted", f"vLLM {found.release}", wanted, reason, fix))
    if found.options is None:
        doubt = f"{found.unknown}; engines are held against what vLLM {release} takes"
        seen.append(Assertion("word", "unknown", "", wanted, doubt))
        return Judged(declared, ControlSpec(OPTIONS, assertions=tuple(seen)))
    wrong = [
        problem
        for number, engine in enumerate(given)
        for problem in arguments.problems(_told(engine), found.options, found.release, f"engines[{number}]")
    ]
    for problem in wrong:
        reason = f"{problem.wanted} is wanted, found {problem.found}; {problem.fix}"
        seen.append(Assertion(problem.wanted, "drifted", problem.found, problem.wanted, reason, refused=True))
    if not found.noted:
        reason = f"what vLLM {found.release} takes is not noted, so that each look asks it for seconds"
        seen.append(Assertion("note", "drifted", "absent", "present", reason, steps=(installed.step(),)))
    engines = declared if wrong else [_engine(one, found.options, found.release) for one in given]
    kept = {installed.step().action: lambda _step, _reader, writer: installed.keep(found, writer)}
    return Judged(engines, ControlSpec(OPTIONS, assertions=tuple(seen)), kept)


def program(user: str, writes: Sequence[str]) -> Program:
    # What is not there is not made writable, and is no reason not to start.
    places = f"ReadWritePaths={' '.join(f'-{path}' for path in writes)}\n" if writes else ""
    return Program("vllm", "vLLM", "vllm", "vllm-serve", user, GPU + places)


def merged(one: Mapping[str, Any], presets: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine does not say itself its preset does."""
    preset = presets.get(one.get("preset") or "", {})
    said = {name: value for name, value in one.items() if value is not None and name != "preset"}
    # A size of the cache takes the place of what it would follow from.
    left_out = (*ABOUT, "config") if "kv_cache_gib" in said else ABOUT
    return {**{name: value for name, value in preset.items() if name not in left_out}, **said}


def no_preset(at: str, name: str, presets: Mapping[str, Any]) -> Problem:
    return _problem(at, "one that is there", name, _near(name, list(presets)))


def _found(engine: dict[str, Any], models: Sequence[object], root: str, at: str) -> dict[str, Any]:
    """A name of the manifest becomes its path; a path and a name of the hub, which has a slash, stay."""
    if "/" in engine["model"]:
        return engine
    return {**engine, "model": named.folder(engine["model"], models, root, f"{at}.model")}


def _told(engine: Mapping[str, Any]) -> dict[str, Any]:
    """What of it is of the command line, or of the memory that follows from it."""
    return {name: value for name, value in engine.items() if name in WORDS or name in MEMORY}


def problems(
    engines: Sequence[Mapping[str, Any]],
    declared: Sequence[Mapping[str, Any]],
    presets: Mapping[str, Any],
    options: Options,
    release: str,
) -> Iterator[Problem]:
    for number, engine in enumerate(engines):
        at = f"engines[{number}]"
        wanted = declared[number].get("preset")
        if wanted and wanted not in presets:
            yield no_preset(f"{at}.preset", wanted, presets)
        yield from arguments.problems(_told(engine), options, release, at)
        if engine.get("nodes", 1) != 1:
            fix = "start the part of each node by the launcher vllm-node"
            yield _problem(f"{at}.nodes", "1: a unit is of one node", str(engine["nodes"]), fix)
        for name, (least, most) in _LIMITS.items():
            if not least <= engine.get(name, least) <= most:
                yield _problem(f"{at}.{name}", f"{least} to {most}", str(engine[name]), "correct it")
        for path in engine.get("tls", {}).values():
            if tls.PATH.fullmatch(str(path)) is None:
                fix = "use letters, digits and _./@+-"
                yield _problem(f"{at}.tls", "paths that a unit can name", str(path), fix)


def _engine(one: Mapping[str, Any], options: Options, release: str) -> Engine:
    unit = f"vllm@{one['name']}.service"
    files = one.get("tls", {})
    held = tls.held(unit, files)
    # The name of a model is that of its engine, not a path that the next revision changes.
    served = one.get("served_name", one["name"])
    words = arguments.argv({**_told(one), "served_name": served, **({"tls": held} if held else {})}, options, release)
    return Engine(
        name=one["name"],
        words=tuple(words),
        served=served,
        port=one["port"],
        host=one.get("host", "127.0.0.1"),
        key=one.get("api_key", ""),
        tls=tls.shown(held),
        credentials=tls.credentials(files),
        conflicts=tuple(one.get("conflicts", ())),
        start_seconds=one.get("start_seconds", START_SECONDS),
        drain_seconds=one.get("drain_seconds", DRAIN_SECONDS),
        enabled=one.get("enabled", True),
    )


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"write {near[0]}" if near else f"declare it, or write one of {', '.join(known) or 'none'}"


def _problem(at: str, wanted: str, found: str, fix: str) -> Problem:
    return Problem("vllm.bad_engine", f"{at}: {wanted}", found[:200], "the unit would not start, or not as meant", fix)


def _wrong(at: str, wanted: str, found: str, why: str, fix: str) -> InputError:
    return InputError("vllm.bad_input", wanted=f"{at}: {wanted}", found=found[:200], why=why, fix=fix)


MODULE = Ensuring("vllm", ARGUMENT_SPEC, ensure_vllm)
