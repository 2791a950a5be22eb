# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines of llama.cpp as a subject of ``_core.entry``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import tls
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import Engine, Program
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.subject import ensure_engines
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.texts import NO_DEVICES
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse as memory
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import named
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed

CONTROLS = (
    "llama_cpp/credentials",
    "llama_cpp/template",
    "llama_cpp/engines",
    "llama_cpp/answers",
    "llama_cpp/others",
    "llama_cpp/file_extra",
)

ENGINE: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "model": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "host": {"type": "str", "default": "127.0.0.1"},
    "served_name": {"type": "str", "default": ""},
    "context": {"type": "int", "default": 4096},
    "sequences": {"type": "int", "default": 4},
    "threads": {"type": "int", "default": 0},
    "api_key": {"type": "str", "default": "", "no_log": True},
    "conflicts": {"type": "list", "elements": "str", "default": []},
    "start_seconds": {"type": "int", "default": 300},
    "drain_seconds": {"type": "int", "default": 30},
    "enabled": {"type": "bool", "default": True},
    # Paths of files, and no secrets.
    "tls": {"type": "dict", "options": {name: {"type": "str", "no_log": False} for name in (*tls.SERVER, *tls.CLIENT)}},
    # Of the budget of memory alone.
    "weights_gib": {"type": "float"},
    "config": {"type": "dict"},
    "kv_cache_gib": {"type": "float"},
    "activation_gib": {"type": "float"},
    "process_gib": {"type": "float"},
}
ARGUMENT_SPEC: dict[str, Any] = {
    "engines": {"type": "list", "elements": "dict", "default": [], "options": ENGINE},
    "user": {"type": "str", "default": "nusy"},
    **OPTIONS,
    **named.OPTIONS,
}


def program(user: str) -> Program:
    return Program("llama_cpp", "llama.cpp", "llama", "llama-serve", user, NO_DEVICES)


def ensure_llama_cpp(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    given = [_found(one, params, f"engines[{number}].model") for number, one in enumerate(params["engines"])]
    engines = [_engine(one, f"engines[{number}]") for number, one in enumerate(given)]
    return ensure_engines(program(params["user"]), CONTROLS, engines, params)


def _found(one: Mapping[str, Any], params: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    """A name of the manifest becomes the path of its file."""
    if one["model"].startswith("/"):
        return one
    return {**one, "model": named.gguf(one["model"], params["models"], params["models_root"], at)}


def _kept(one: Mapping[str, Any]) -> int:
    """Bytes of its KV cache, for the check of its launcher; 0 where nobody says. Raises InputError."""
    said = {name: one[name] for name in ("kv_cache_gib", "config") if one.get(name) is not None}
    if not said:
        return 0
    tokens = {} if "kv_cache_gib" in said else {name: one[name] for name in ("context", "sequences")}
    engine = {"name": one["name"], "program": "llama.cpp", "weights_gib": 0, **said, **tokens}
    return memory.plan([engine], 1).engines[0].kv_cache_bytes


def _engine(one: Mapping[str, Any], at: str) -> Engine:
    if not (one["model"].startswith("/") and one["model"].endswith(".gguf") and one["model"].isprintable()):
        raise _wrong(f"{at}.model", "the absolute path of a .gguf file", one["model"], "llama.cpp reads nothing else")
    for what, least, most in (
        ("context", 1, 1 << 24),
        ("sequences", 1, 256),
        ("threads", 0, 1024),
        ("start_seconds", 1, 7200),
        ("drain_seconds", 0, 600),
    ):
        if not least <= one[what] <= most:
            raise _wrong(f"{at}.{what}", f"{least} to {most}", str(one[what]), "no engine runs so")
    served = one["served_name"] or one["name"]
    words = [one["model"], "--host", one["host"], "--port", str(one["port"]), "--served-model-name", served]
    words += ["--max-model-len", str(one["context"]), "--max-num-seqs", str(one["sequences"])]
    kept = _kept(one)
    words += ["--kv-cache-memory-bytes", str(kept)] if kept else []
    words += ["--threads", str(one["threads"])] if one["threads"] else []
    files = {name: path for name, path in (one["tls"] or {}).items() if path}
    _check(files, f"{at}.tls")
    held = tls.held(f"llama@{one['name']}.service", files)
    words += [word for name in tls.SERVER if name in held for word in (f"--tls-{name.replace('_', '-')}", held[name])]
    return Engine(
        name=one["name"],
        words=tuple(words),
        served=served,
        port=one["port"],
        host=one["host"],
        key=one["api_key"],
        tls=tls.shown(held),
        credentials=tls.credentials(files),
        conflicts=tuple(one["conflicts"]),
        start_seconds=one["start_seconds"],
        drain_seconds=one["drain_seconds"],
        enabled=one["enabled"],
    )


def _check(files: Mapping[str, str], at: str) -> None:
    for name, path in files.items():
        if tls.PATH.fullmatch(path) is None:
            raise _wrong(f"{at}.{name}", "an absolute path of letters, digits and _./@+-", path, "no unit can name it")
    told = ", ".join(files) or "nothing"
    if files and not {"certificate", "key"} <= set(files):
        raise _wrong(at, "certificate and key together", told, "there is no TLS without both")
    if ("client_ca" in files or set(tls.CLIENT) & set(files)) and not {"client_ca", *tls.CLIENT} <= set(files):
        why = "nobody could tell whether the engine is ready: it lets in nobody without a certificate"
        raise _wrong(at, f"{' and '.join(tls.CLIENT)} beside client_ca", told, why)


def _wrong(at: str, wanted: str, found: str, why: str) -> InputError:
    return InputError(
        "llama_cpp.bad_input", wanted=f"{at}: {wanted}", found=found, why=why, fix=f"correct llama_cpp_{at}"
    )


MODULE = Ensuring("llama_cpp", ARGUMENT_SPEC, ensure_llama_cpp)
