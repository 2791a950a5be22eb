# SPDX-License-Identifier: GPL-3.0-or-later
"""The surroundings of an engine as a subject of ``_core.entry``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.place import held, thing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime import model
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.look import Size, Used, measure, use
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.model import GIB, Cache, Runtime
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.parse import ARGUMENT_SPEC, runtime
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    File,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import environment_text

FIND = "/usr/bin/find"
EMPTY_SECONDS = 600.0
COMMENT = "# Made by role vllm_runtime; lines added by hand are drift. TRITON_ variables are role ptxas's.\n"


def ensure_runtime(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    wanted = runtime(params)

    def look(reader: Reader) -> Look:
        sizes = {cache: measure(cache.path, wanted.measure_seconds) for cache in wanted.caches}
        used = use(wanted, reader)
        facts: dict[str, object] = {
            "caches": {cache.path: round(size.size / GIB, 3) for cache, size in sizes.items()},
            "environment": wanted.variables,
        }
        return Look(tuple(controls(wanted, sizes, used)), {"empty_cache": empty_cache}, facts)

    return Composed(model.ROLE, model.CONTROLS, params, look)


def controls(wanted: Runtime, sizes: Mapping[Cache, Size], used: Used) -> list[ControlSpec]:
    """Pure: the document that follows from what was declared and what was found."""

    def lines(variables: Mapping[str, str], head: str = "") -> tuple[File, ...]:
        return (File(wanted.environment_file, head + environment_text(variables), fragment=True),)

    parents = sorted({os.path.dirname(cache.path) for cache in wanted.caches if cache.variable})
    return [
        ControlSpec(
            model.CACHES,
            directories=(
                *(Directory(path) for path in parents),
                *(Directory(cache.path, wanted.owner, wanted.owner, 0o750) for cache in wanted.caches),
            ),
        ),
        ControlSpec(model.CACHE_SIZE, assertions=tuple(_size(cache, size) for cache, size in sizes.items())),
        ControlSpec(model.ENVIRONMENT, files=lines({**wanted.environment, **wanted.cache_variables}, COMMENT)),
        ControlSpec(model.JIT_LIMITS, files=lines(wanted.jit_limits)),
        ControlSpec(model.MEMORY, files=lines(wanted.memory), assertions=_memory(wanted)),
        ControlSpec(model.IMPORTS, assertions=_imports(wanted, used)),
        ControlSpec(model.COMPILES, assertions=_compiles(wanted, used)),
    ]


def _size(cache: Cache, size: Size) -> Assertion:
    over = size.size > cache.limit_gib * GIB
    return Assertion(
        name=f"size of {cache.path}",
        state="drifted" if over else "unknown" if size.problem else "in_sync",
        found=f"{'at least ' if size.problem else ''}{size.size / GIB:.2f} GiB",
        wanted=f"at most {cache.limit_gib:g} GiB",
        reason=f"{cache.path} is larger than its limit" if over else size.problem,
        steps=(Step("empty_cache", cache.path),),
        # Not the path itself: who allows that a folder is taken over has not allowed that it is emptied.
        victim=("path", f"{cache.path}/*"),
    )


def _memory(wanted: Runtime) -> tuple[Assertion, ...]:
    if wanted.kv_cache_bytes or wanted.confirmed:
        return ()
    allowed = wanted.memory[model.UTILIZATION]
    reason = f"GPU and system share one memory: above {model.MOST_UTILIZATION:g} a full one freezes the machine"
    return (
        Assertion(
            "gpu_memory_utilization",
            "drifted",
            f"{allowed} (the most that goes unnamed)",
            f"{wanted.utilization:g}",
            reason,
            victim=("value", wanted.victim),
        ),
    )


def _imports(wanted: Runtime, used: Used) -> tuple[Assertion, ...]:
    if not wanted.imports:
        return ()
    if used.unknown:
        return (Assertion("imports", "unknown", "", "work", used.unknown),)
    return tuple(
        Assertion(
            f"import {name}",
            "drifted" if problem else "in_sync",
            problem or "works",
            "works",
            f"{name} cannot be imported: {problem}" if problem else "",
            fix="apply role vllm_venv; if it is in sync, its lock does not fit this machine",
        )
        for name, problem in (used.imports or {}).items()
    )


def _compiles(wanted: Runtime, used: Used) -> tuple[Assertion, ...]:
    name = f"a kernel for {wanted.arch}"
    if not wanted.compile:
        return ()
    if used.unknown or used.compiled is None:
        return (Assertion(name, "unknown", "", "compiles", used.unknown),)
    if "No module named 'triton'" in used.compiled:
        return (Assertion(name, "unknown", "", "compiles", "there is no Triton in this environment"),)
    return (
        Assertion(
            name,
            "drifted" if used.compiled else "in_sync",
            used.compiled or "compiles",
            "compiles",
            f"a kernel does not compile: {used.compiled}" if used.compiled else "",
            fix="apply role ptxas, which says what this Triton needs",
        ),
    )


def empty_cache(step: Step, _reader: Reader, writer: Writer) -> None:
    """All of it: what is left of half a cache may be used, and be wrong. It can be made again at any time.

    By what is open and not by its path: its owner could put a link in its place meanwhile. find follows no
    link below it, and leaves what is mounted inside.
    """
    with held(step.target) as place, thing(*place) as cache:
        inside = f"/proc/{os.getpid()}/fd/{cache}/"
        done = writer.run([FIND, inside, "-xdev", "-mindepth", "1", "-delete"], timeout=EMPTY_SECONDS)
    if not done.ok:
        raise NodeError(
            "runtime.cache_not_emptied",
            wanted=f"{step.target} empty",
            found=f"find {done.ending}: {done.said()}",
            why="the cache would go on growing until the disk is full",
            fix=f"stop the engines that write to {step.target}, then run the play again",
        )


MODULE = Ensuring("vllm_runtime", ARGUMENT_SPEC, ensure_runtime)
