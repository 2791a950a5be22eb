# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine as a dictionary → the words behind ``vllm-serve``, held against what the installed release takes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import called
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.tls import CLIENT
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse as memory
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import beside
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.help import FLAG, SWITCH, VALUES, Option, Options
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.model import (
    MEMORY,
    MOST_BATCHED_TOKENS,
    NOT_HERE,
    TAKEN,
    TLS,
    WORDS,
    Engine,
    dashed,
)

_LINE = re.compile(r"[^\x00-\x1f]+")
# In an address.
_PASSWORD = re.compile(r"://[^/@\s\"]*:[^/@\s\"]*@")
WHY = "vLLM would refuse it after the engine that serves now was stopped"
SHORT = "it comes out of the one memory and is in no figure, and what goes beyond that freezes the machine"
_MAP_OF = {
    "lora": "name of an adapter: its folder",
    "tls": f"one of {', '.join((*TLS, *CLIENT))}: a file",
    "options": "its value",
}


def argv(engine: Engine, options: Options, release: str) -> list[str]:
    """Raises InputError with the first of what is wrong; ``problems`` has all of it."""
    for problem in problems(engine, options, release, str(engine.get("name", "engine"))):
        raise InputError(problem.key, wanted=problem.wanted, found=problem.found, why=problem.why, fix=problem.fix)
    words = [str(engine["model"])]
    for name, word in WORDS.items():
        if word.launcher and word.option and name in engine:
            words += [f"--{word.option}", str(engine[name])]
    words += ["--share-gpu"] if engine.get("share_gpu") else []
    kept = kv_cache_bytes(engine)
    words += ["--kv-cache-memory-bytes", str(kept)] if kept else []
    further = [item for name, value in _further(engine) for item in _written(name, value, options[name])]
    return [*words, "--", *further] if further else words


def budget_entry(engine: Engine) -> dict[str, object]:
    """The engine as the memory budget takes it. A size that is given counts, whatever vLLM is told beside it."""
    left_out = ("context", "sequences", "kv_cache_dtype") if "kv_cache_gib" in engine else ()
    return {name: value for name, value in engine.items() if name in memory.SUMMANDS and name not in left_out}


def kv_cache_bytes(engine: Engine) -> int:
    """0 where the engine says nothing of it: the launcher then takes what the node declares (role vllm_runtime)."""
    if "kv_cache_gib" not in engine and "config" not in engine:
        return 0
    # Only the cache is asked for here; whether all fits is the budget's question.
    return memory.plan([{"weights_gib": 0, **budget_entry(engine)}], 1).engines[0].kv_cache_bytes


def problems(engine: object, options: Options, release: str, at: str) -> Iterator[Problem]:
    """Everything that is wrong with one engine, each with its place."""
    if not isinstance(engine, Mapping):
        yield _problem(at, "a mapping", repr(engine), "write one dictionary for each engine")
        return
    wrong = list(_of_words(engine, at))
    yield from wrong
    if wrong:
        return
    yield from _of_values(engine, at)
    twice = list(_said_twice(engine, at))
    yield from twice
    for name, value in [] if twice else _further(engine):
        yield from _of_option(name, value, options, release, at)
    yield from _of_memory(engine, at)


def _of_words(engine: Engine, at: str) -> Iterator[Problem]:
    for name, value in engine.items():
        word = WORDS.get(name)
        if word is None and name not in MEMORY:
            near = difflib.get_close_matches(str(name), (*WORDS, *MEMORY), 1)
            fix = f"write {near[0]}" if near else "leave it out, or put an option of vLLM into options"
            yield _problem(f"{at}.{name}", "a word that an engine has", f"{name!r}", fix)
        elif word is not None and not _fits(word.kind, value):
            wanted = {
                "text": "a text of one line that does not begin with -", "whole": "a whole number above 0",
                "flag": "true or false", "map": f"a mapping ({_MAP_OF.get(name, '')})",
            }[word.kind]  # fmt: skip
            yield _problem(f"{at}.{name}", wanted, repr(value), f"correct {at}.{name}")
    for name in ("name", "model", "port"):
        if name not in engine:
            yield _problem(f"{at}.{name}", "a value: it has no default", "nothing", f"declare {at}.{name}")


def _fits(kind: str, value: object) -> bool:
    if kind == "text":
        return isinstance(value, str) and bool(value) and value.isprintable() and not value.startswith("-")
    if kind == "whole":
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, bool) if kind == "flag" else isinstance(value, Mapping)


def _of_values(engine: Engine, at: str) -> Iterator[Problem]:
    """What contradicts itself, or is known to end badly."""
    port, batched = engine["port"], engine.get("batched_tokens", memory.BATCHED_TOKENS)
    if isinstance(port, int) and port > 65535:
        yield _problem(f"{at}.port", "a port up to 65535", str(port), "choose one of 8000-8019")
    if isinstance(batched, int) and batched > MOST_BATCHED_TOKENS:
        why = "65536 was seen to hang a Spark, which has one memory for everything"
        fix = f"declare {memory.BATCHED_TOKENS}"
        yield _problem(f"{at}.batched_tokens", f"at most {MOST_BATCHED_TOKENS}", str(batched), fix, why)
    adapters, tls, further = (_mapping(engine, name) for name in ("lora", "tls", "options"))
    if "lora_rank" in engine and "lora" not in engine:
        yield _problem(f"{at}.lora_rank", "adapters in lora", "no lora", "declare lora: {} to load them later")
    for name, path in adapters.items():
        if not _fits("text", name) or "=" in str(name) or not str(path).startswith("/"):
            fix = "write <name>: /<folder>"
            yield _problem(f"{at}.lora", "names without = and absolute folders", f"{name!r}: {path!r}", fix)
    for name, path in tls.items():
        if name not in (*TLS, *CLIENT) or not str(path).startswith("/"):
            known = ", ".join((*TLS, *CLIENT))
            yield _problem(f"{at}.tls.{name}", f"one of {known}, as an absolute path", f"{path!r}", "correct it")
    if tls and not {"certificate", "key"} <= set(tls):
        yield _problem(f"{at}.tls", "certificate and key together", ", ".join(tls), "declare both")
    if "client_ca" in tls and not set(CLIENT) <= set(tls):
        why = "nobody could tell whether the engine is ready: it lets in nobody without a certificate"
        wanted, fix = f"{' and '.join(CLIENT)} beside client_ca", "declare a certificate for the probe"
        yield _problem(f"{at}.tls", wanted, ", ".join(tls), fix, why)
    if engine.get("enforce_eager") and "compilation-config" in {dashed(name) for name in further}:
        why = "eager execution compiles nothing, so one of the two would be ignored"
        yield _problem(f"{at}.options", "no compilation_config beside enforce_eager", "both", "leave one out", why)
    try:
        kv_cache_bytes(engine)
    except InputError as error:
        said = error.problem
        yield Problem("vllm.bad_engine", f"{at}: {said.wanted}", said.found, said.why, said.fix)


def _said_twice(engine: Engine, at: str) -> Iterator[Problem]:
    seen = set()
    for name in map(dashed, _mapping(engine, "options")):
        if name in TAKEN:
            yield _problem(f"{at}.options.{name}", f"it as {TAKEN[name]}", f"--{name}", "declare it there alone")
        elif name in seen:
            yield _problem(f"{at}.options.{name}", "it once", "it with - and with _", "leave one out")
        seen.add(name)


def _further(engine: Engine) -> Iterator[tuple[str, object]]:
    """What the launcher hands on as it is: by name of vLLM, in the order of WORDS, then as declared."""
    for name, word in WORDS.items():
        if name in engine and word.option and not word.launcher:
            yield word.option, engine[name]
    # Without a word vLLM computes as many tokens at a time as it thinks the GPU is good for.
    if "batched_tokens" not in engine:
        yield "max-num-batched-tokens", memory.BATCHED_TOKENS
    if "tool_parser" in engine:
        yield from (("enable-auto-tool-choice", True), ("tool-call-parser", engine["tool_parser"]))
    if "lora" in engine:
        adapters = [f"{name}={path}" for name, path in _mapping(engine, "lora").items()]
        yield "enable-lora", True
        if adapters:
            yield "lora-modules", adapters
    tls = _mapping(engine, "tls")
    yield from ((TLS[name], path) for name, path in tls.items() if name in TLS)
    if "client_ca" in tls:
        yield "ssl-cert-reqs", 2  # ssl.CERT_REQUIRED
    yield from ((dashed(name), value) for name, value in _mapping(engine, "options").items())


def _of_memory(engine: Engine, at: str) -> Iterator[Problem]:
    """What the budget of memory could not have in its sum."""
    try:
        beside.counted(engine)
    except ValueError as error:
        fix = "write it in GiB"
        yield _problem(f"{at}.options", "a size that the budget of memory can count", str(error), fix, SHORT)
    if "process_gib" in engine:
        return
    for word, takes in beside.uncounted(engine):
        allowed = memory.ALLOWED_GIB["vllm"]["process_gib"]
        fix = f"declare {at}.process_gib: {allowed:g} and what it takes, or leave {word} out"
        wanted = f"the size of the process with {word}"
        yield _problem(f"{at}.process_gib", wanted, f"{word} alone, which takes {takes}", fix, SHORT)


def _of_option(name: str, value: object, options: Options, release: str, at: str) -> Iterator[Problem]:
    place, by_word = f"{at}.{TAKEN.get(name, f'options.{name}')}", name in TAKEN
    again = f"{at}.options.{name}"
    option = options.get(name)
    if list(called(name, value)) or _PASSWORD.search(json.dumps(value, default=str)):
        why = "everybody on the machine can read a command line"
        fix = f"declare {at}.api_key, which becomes a credential; keep any other in a file that the program reads"
        yield _problem(again, "no secret on a command line", "one, not shown", fix, why)
    elif name in NOT_HERE:
        fix = "declare this node's engine; several nodes are started by the launcher vllm-node"
        yield _problem(again, "an option of one engine on one node", name, fix)
    elif option is None:
        near = difflib.get_close_matches(name, list(options), 1)
        fix = f"write {near[0]}" if near else "leave it out, or install a release that has it"
        yield _problem(place if by_word else again, f"an option of vLLM {release}", f"--{name}", fix)
    elif not _takes(option, value):
        yield _problem(place if by_word else again, _wants(option), repr(value), "correct it")


def _takes(option: Option, value: object) -> bool:
    if option.kind in (FLAG, SWITCH):
        return isinstance(value, bool)
    if (
        isinstance(value, bool)
        or value is None
        or (isinstance(value, str) and not re.fullmatch(r"[^\x00-\x1f]+", value))
    ):
        return False
    if isinstance(value, (str, int, float)):
        return not option.choices or str(value) in option.choices
    if isinstance(value, Mapping):
        return not option.choices
    if not isinstance(value, Sequence):
        return False
    if option.kind == VALUES:
        return bool(value) and all(isinstance(item, (str, int)) and _takes(option, item) for item in value)
    return not option.choices  # a list as JSON, such as allowed-origins


def _wants(option: Option) -> str:
    if option.kind in (FLAG, SWITCH):
        return "true or false"
    return f"one of {', '.join(option.choices)}" if option.choices else "a text, a number, a list or a mapping"


def _written(name: str, value: object, option: Option) -> list[str]:
    if option.kind in (FLAG, SWITCH):
        if value:
            return [f"--{name}"]
        return [f"--no-{name}"] if option.kind == SWITCH else []
    if isinstance(value, (str, int, float)):
        # Joined: a value that begins with a dash would be read as another option.
        return [f"--{name}={value}"] if str(value).startswith("-") else [f"--{name}", str(value)]
    if option.kind == VALUES and isinstance(value, Sequence):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", json.dumps(value, sort_keys=True)]


def _mapping(engine: Engine, name: str) -> Mapping[str, object]:
    value = engine.get(name)
    return value if isinstance(value, Mapping) else {}


def _problem(at: str, wanted: str, found: str, fix: str, why: str = WHY) -> Problem:
    return Problem("vllm.bad_engine", f"{at}: {wanted}", found[:200], why, fix)
