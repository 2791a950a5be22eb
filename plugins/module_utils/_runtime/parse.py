# SPDX-License-Identifier: GPL-3.0-or-later
"""Module parameters → Runtime.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import plain_path
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.model import MOST_UTILIZATION, Cache, Runtime
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import confirms
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import environment_text

MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
# What says who somebody is. The file can be read by everybody.
SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|(?:ACCESS|PRIVATE)_KEY)(?:$|_)",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]*@")
# A day: more is a slip, and what waits for ever is no bound.
MOST_SECONDS = 86400
MOST_GIB = 1 << 20

ARGUMENT_SPEC: dict[str, Any] = {
    "venv": {"type": "str", "required": True},
    "environment_file": {"type": "str", "default": "/etc/nusy/vllm.env"},
    "ptxas_file": {"type": "str", "default": "/etc/nusy/ptxas.env"},
    "owner": {"type": "str", "default": "nusy"},
    "caches": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "limit_gib": {"type": "float", "required": True},
            "variable": {"type": "str", "default": ""},
        },
    },
    "environment": {"type": "dict", "default": {}},
    "max_jobs": {"type": "int", "default": 2},
    "nvcc_threads": {"type": "int", "default": 1},
    "kv_cache_memory_bytes": {"type": "int", "default": 0},
    "gpu_memory_utilization": {"type": "float", "default": 0.76},
    "imports": {"type": "list", "elements": "str", "default": []},
    "compile": {"type": "bool", "default": True},
    "arch": {"type": "str", "default": "sm_121a"},
    "timeout": {"type": "float", "default": 300},
    "measure_seconds": {"type": "float", "default": 5},
    **OPTIONS,
}


def runtime(params: Mapping[str, Any]) -> Runtime:
    """Raises InputError, with the name of the wrong value, before anything is looked at."""
    for name in ("venv", "environment_file", "ptxas_file"):
        _absolute(name, params[name])
    for name in ("max_jobs", "nvcc_threads"):
        if params[name] < 1:
            raise _wrong(name, "1 or more", params[name], "it is a bound")
    for name in ("timeout", "measure_seconds"):
        if not 0 < params[name] <= MOST_SECONDS:
            raise _wrong(name, f"more than 0 and at most {MOST_SECONDS}", params[name], "it is a bound")
    utilization, kv_cache_bytes = float(params["gpu_memory_utilization"]), int(params["kv_cache_memory_bytes"])
    if not 0 < utilization <= 1:
        raise _wrong("gpu_memory_utilization", "a share above 0, at most 1", utilization, "vLLM would refuse it")
    if kv_cache_bytes < 0:
        raise _wrong("kv_cache_memory_bytes", "bytes, or 0 for none", kv_cache_bytes, "vLLM would refuse it")
    for number, name in enumerate(params["imports"]):
        if MODULE.fullmatch(name) is None:
            raise _wrong(f"imports[{number}]", "the name of a module", name, "Python could not import it")
    arch_of(params["arch"], "vllm_runtime")
    wanted = Runtime(
        venv=params["venv"],
        environment_file=params["environment_file"],
        ptxas_file=params["ptxas_file"],
        owner=params["owner"],
        caches=_caches(params["caches"]),
        environment={str(name): _text(str(name), value) for name, value in params["environment"].items()},
        jit_limits={"MAX_JOBS": str(params["max_jobs"]), "FLASHINFER_NVCC_THREADS": str(params["nvcc_threads"])},
        kv_cache_bytes=kv_cache_bytes,
        utilization=utilization,
        confirmed=utilization <= MOST_UTILIZATION
        or confirms(params["confirm"], "value", f"gpu_memory_utilization={utilization:g}"),
        imports=tuple(params["imports"]),
        compile=params["compile"],
        arch=params["arch"],
        timeout=float(params["timeout"]),
        measure_seconds=float(params["measure_seconds"]),
    )
    _check_names(wanted)
    return wanted


def _caches(entries: list[dict[str, Any]]) -> tuple[Cache, ...]:
    for number, entry in enumerate(entries):
        _absolute(f"caches[{number}].path", entry["path"])
        if not 0 < entry["limit_gib"] < MOST_GIB:
            raise _wrong(f"caches[{number}].limit_gib", "GiB, more than 0", entry["limit_gib"], "it is a bound")
        inside = [other["path"] for other in entries if (entry["path"] + "/").startswith(other["path"] + "/")]
        if len(inside) > 1:
            raise _wrong(
                f"caches[{number}].path", "a folder of its own", entry["path"], "it would be counted and emptied twice"
            )
    return tuple(Cache(entry["path"], float(entry["limit_gib"]), entry["variable"]) for entry in entries)


def _check_names(wanted: Runtime) -> None:
    owned = [*wanted.cache_variables, *wanted.jit_limits, "NUSY_KV_CACHE_MEMORY_BYTES", "NUSY_GPU_MEMORY_UTILIZATION"]
    for name in (*wanted.environment, *wanted.cache_variables):
        if name.startswith("TRITON_"):
            raise _wrong(
                name, "another name", name, "which TRITON_ variable helps follows from the Triton: role ptxas sets them"
            )
    for name in wanted.environment:
        if name in owned:
            raise _wrong(f"environment.{name}", "the option that is for it", name, "the file would say it twice")
    if len(set(wanted.cache_variables)) < sum(1 for cache in wanted.caches if cache.variable):
        raise _wrong("caches", "each variable once", "one twice", "only one of both would count")
    try:
        environment_text(wanted.variables)
    except ValueError as error:
        raise _wrong("environment", "variables that systemd takes", error, "it would drop them") from error


def _text(name: str, value: object) -> str:
    at = f"environment.{name}"
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise _wrong(at, "text or a whole number", type(value).__name__, "how to write it differs: quote it")
    if SECRET_NAME.search(name) or SECRET_VALUE.search(str(value)):
        why = "everybody can read the file; give it to the unit by an EnvironmentFile= that root alone can read"
        raise _wrong(at, "no secret", "what looks like one", why)
    if len(str(value).splitlines()) > 1:
        raise _wrong(
            at, "one line", f"{len(str(value).splitlines())} lines", "each line of the file is judged by itself"
        )
    return str(value)


def _absolute(at: str, path: str) -> None:
    if not plain_path(path):
        raise _wrong(at, "an absolute path without .., // or a / at the end", path, "it could mean another place")


def _wrong(at: str, wanted: str, found: object, why: str) -> InputError:
    return InputError(
        "runtime.bad_input", wanted=f"{at}: {wanted}", found=repr(found), why=why, fix=f"correct what is given as {at}"
    )
