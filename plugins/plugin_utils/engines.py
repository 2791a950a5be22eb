# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engines does a host have, by what roles publish, and how large is each?

A role publishes in ``meta/engines.yml`` which variable declares them and what their units are called. What an engine
does not say of its size follows from its preset, from the manifest of models, or is unknown: never a guess.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import shown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.parse import SUMMANDS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import named
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm import beside
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.model import dashed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.subject import merged, no_preset
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.documents import environment
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.groups import running
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables, options

FILE = "engines.yml"
MANIFEST, ROOT = "models_manifest", "models_root"
# Beside kv_cache_gib they would say the same a second time.
OF_THE_CACHE = ("config", "context", "sequences", "kv_cache_dtype")
# What is read of an engine.
READ = (*SUMMANDS, "model", "projector", "preset", "conflicts", "port", *beside.READ)
# Of summands; all others are numbers or mappings.
TEXTS, FLAGS = ("name", "kv_cache_dtype"), ("enforce_eager",)


def declaring(owners: Mapping[str, Path], host: Variables, loader: DataLoader) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The roles that run engines on that host, each with what it publishes of them.

    Not those for which nothing is written: they declare none, and computing that takes time on every host.
    """
    for folder in running(owners, host, loader).values():
        path = folder / "meta" / FILE
        if path.is_file():
            said = loader.load_from_file(str(path), trusted_as_template=True)
            if said["variable"] in host.written:
                yield folder, said


def published(
    owners: Mapping[str, Path], host: Variables, loader: DataLoader, templar: Templar
) -> Iterator[dict[str, Any]]:
    """Raises InputError for what nobody could size, and AnsibleError for what cannot be computed."""
    for folder, said in declaring(owners, host, loader):
        there = environment(folder, host, loader, templar)
        yield from _of_role(folder, said, host.written[said["variable"]], loader, there)


def _of_role(
    folder: Path, said: Mapping[str, Any], written: object, loader: DataLoader, there: Templar
) -> Iterator[dict[str, Any]]:
    variable = said["variable"]
    given = there.template(written) if isinstance(written, str) else written
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
        raise _wrong(variable, "a list of engines", given)
    presets = loader.load_from_file(str(folder / said["presets"])) if "presets" in said else {}
    manifest = there.template(trust_as_template(f"{{{{ {MANIFEST} | default([]) }}}}"))
    root = str(there.template(trust_as_template(f"{{{{ {ROOT} | default('{named.ROOT}') }}}}")))
    cache = there.template(said.get("kv_cache_gib", 0))
    words = options(folder)[variable].get("options", {})
    defaults = {name: word["default"] for name, word in words.items() if "default" in word}
    for number, entry in enumerate(given):
        at = f"{variable}[{number}]"
        one = there.template(entry) if isinstance(entry, str) else entry
        if isinstance(one, Mapping):
            # Nothing else is computed: a key that only a vault has is not needed here, and goes nowhere.
            one = {str(name): _computed(name, value, there) for name, value in one.items() if name in READ}
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise _wrong(at, "a mapping with a name", one)
        for word, kind, wanted in (("preset", str, "the name of one"), ("conflicts", list, "a list of names")):
            if not isinstance(one.get(word), (kind, type(None))):
                raise _wrong(f"{at}.{word}", wanted, one[word])
        if one.get("preset") and presets and one["preset"] not in presets:
            # Also of an engine that says all of its sizes: its role would refuse it.
            raise InputError(**dataclasses.asdict(no_preset(f"{at}.preset", one["preset"], presets)))
        engine = {**defaults, **merged(one, presets)}
        unknown = []
        if said["program"] == "vllm":
            sizes = _of_options(engine, at)
            engine = {**engine, "options_gib": sizes} if sizes else engine
            unknown = ["process_gib"] if "process_gib" not in engine and any(beside.uncounted(engine)) else []
        weights = _weights(engine, said["program"], manifest, root, at)
        if weights and one.get("weights_gib") is None:
            # The files themselves: what a preset says was reckoned.
            engine["weights_gib"] = weights / 2**30
        if cache and "kv_cache_gib" not in engine and "config" not in engine:
            engine["kv_cache_gib"] = cache
        yield _entry(engine, said, unknown)


def _computed(name: str, value: object, there: Templar) -> Any:
    """Of options of a program those that take memory."""
    if name == "options" and isinstance(value, Mapping):
        return {str(one): there.template(text) for one, text in value.items() if dashed(one) in beside.OPTIONS}
    return there.template(value)


def _of_options(engine: Mapping[str, Any], at: str) -> dict[str, float]:
    try:
        return beside.counted(engine)
    except ValueError as error:
        raise _wrong(f"{at}.options", "a size in GiB", str(error)) from error


def _weights(engine: Mapping[str, Any], program: str, manifest: Sequence[object], root: str, at: str) -> int:
    """Bytes of the model and of what is loaded beside it; 0 where the manifest does not have all of it."""
    sizes = []
    for word in ("model", "projector"):
        path = str(engine.get(word, ""))
        if path and not path.startswith("/") and program == "llama.cpp":
            path = named.gguf(path, manifest, root, f"{at}.{word}")
        elif path and "/" not in path:
            path = named.folder(path, manifest, root, f"{at}.{word}")
        if path:
            sizes.append(named.weights(path, manifest, root))
    return sum(sizes) if sizes and all(sizes) else 0


def _entry(engine: Mapping[str, Any], said: Mapping[str, Any], unknown: Sequence[str]) -> dict[str, Any]:
    """As the budget takes it."""
    pattern = str(said["unit"])
    unit = pattern.format(name=engine["name"])
    sums = {name: _number(name, engine[name]) for name in SUMMANDS if name in engine and name != "name"}
    if "kv_cache_gib" in sums:
        sums = {name: value for name, value in sums.items() if name not in OF_THE_CACHE}
    unknown = [*([] if "weights_gib" in sums else ["weights_gib"]), *unknown]
    if not {"kv_cache_gib", "config"} & sums.keys():
        unknown.append("kv_cache_gib")
        sums = {name: value for name, value in sums.items() if name not in OF_THE_CACHE}
    others = [str(other) for other in engine.get("conflicts") or ()]
    return {
        "name": unit.removesuffix(".service"),
        "unit": unit,
        "program": str(said["program"]),
        **sums,
        "conflicts": [other if "." in other else pattern.format(name=other) for other in others],
        "unknown": unknown,
        "health": str(said["health"]).format(port=engine.get("port")),
    }


def _number(name: str, value: Any) -> Any:
    """Text that a module would take for a number or a flag is one here, too."""
    if name in FLAGS:
        return _flag(value)
    if isinstance(value, str) and name not in TEXTS:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _flag(value: Any) -> Any:
    try:
        return boolean(value)
    except TypeError:
        return value


def _wrong(at: str, wanted: str, found: object) -> InputError:
    why = "an engine that nobody sizes would not be in the budget of memory"
    return InputError("memory.bad_engine", wanted=f"{at}: {wanted}", found=shown(found), why=why, fix=f"correct {at}")
