# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to a Declaration, or an error that names the option. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import plain_path
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import version_in_range
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import installer, lock
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import (
    CONTROLS,
    ROOT,
    Assertion,
    Declaration,
    Pin,
    Stage,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge as versions

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "root": {"type": "str", "default": ROOT},
    "interpreter": {"type": "str", "required": True},
    "python": {"type": "str", "required": True},
    "machine": {"type": "str", "default": ""},
    "stages": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "lock": {"type": "str", "required": True},
            # May hold a user and a password.
            "index_url": {"type": "str", "default": "", "no_log": True},
            "assertions": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "distribution": {"type": "str", "required": True},
                    "version": {"type": "str", "default": ""},
                    "file": {"type": "str", "default": ""},
                    "attribute": {"type": "str", "default": "__version__"},
                    "suffix": {"type": "str", "default": ""},
                },
            },
        },
    },
    "find_links": {"type": "str", "default": ""},
    "blocklist": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "distribution": {"type": "str", "required": True},
            "versions": {"type": "list", "elements": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "imports": {"type": "list", "elements": "str", "default": []},
    "entry_points": {"type": "list", "elements": "str", "default": []},
    "cuda": {"type": "bool", "default": False},
    "owner": {"type": "str", "default": "root"},
    "generation": {"type": "str", "choices": ["declared", "previous"], "default": "declared"},
    "size_mib": {"type": "int", "default": 0},
    "uv": {"type": "list", "elements": "str", "default": ["/usr/local/bin/uv", "/usr/bin/uv"]},
    **OPTIONS,
    **versions.OPTIONS,
}

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_BLOCKED_BOUND = re.compile(r"\s*[<>=!]")


def declaration(params: Mapping[str, Any]) -> Declaration:
    found = Declaration(
        root=_absolute("root", params["root"]),
        name=_word("name", params["name"]),
        interpreter=_absolute("interpreter", params["interpreter"]),
        python=_matching("python", params["python"], re.compile(r"3\.[0-9]+\Z"), "major.minor such as 3.12"),
        machine=params["machine"],
        stages=_stages(params["stages"]),
        find_links=_absolute("find_links", params["find_links"]) if params["find_links"] else "",
        imports=_each("imports", params["imports"], _MODULE, "the name of a module"),
        entry_points=_each("entry_points", params["entry_points"], _WORD, "the name of a program, without folders"),
        cuda=params["cuda"],
        owner=_word("owner", params["owner"]),
        generation=params["generation"],
        size_mib=_at_least("size_mib", params["size_mib"], 0),
        uv=tuple(_absolute(f"uv[{index}]", path) for index, path in enumerate(params["uv"])),
        skipped=frozenset(params["skip_controls"]),
        confirmed=frozenset(params["confirm"]),
    )
    if unknown := found.skipped - set(CONTROLS):
        raise _wrong("skip_controls", f"ids of controls: {', '.join(CONTROLS)}", ", ".join(map(repr, sorted(unknown))))
    for stage in found.stages:
        for assertion in stage.assertions:
            if lock.canonical(assertion.distribution) not in found.pins:
                raise _wrong(
                    f"assertions of stage {stage.name}", "distributions that a lock names", assertion.distribution
                )
    refuse_blocked(found.stages, [*params["blocklist"], *versions.known_bad(versions.matrix(params["version_matrix"]))])
    return found


def _stages(given: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    pinned: dict[str, tuple[Pin, str]] = {}
    for index, item in enumerate(given):
        name = _word(f"stages[{index}].name", item["name"])
        source = f"stages[{index}].lock ({name})"
        pins = lock.parse(item["lock"], source)
        if name in (stage.name for stage in stages):
            raise _wrong(f"stages[{index}].name", "each name once", f"{name} twice")
        for pin in pins:
            other, where = pinned.setdefault(pin.name, (pin, name))
            if other.version != pin.version:
                raise lock.refused(
                    source, pin.line, f"{pin.name}=={pin.version}, but stage {where} has {other.version}"
                )
        stages.append(Stage(name, pins, _assertions(index, item["assertions"]), _index(index, item["index_url"])))
    if not stages:
        raise _wrong("stages", "at least one", "none")
    return tuple(stages)


def _assertions(stage: int, given: Sequence[Mapping[str, Any]]) -> tuple[Assertion, ...]:
    found = []
    for index, item in enumerate(given):
        where = f"stages[{stage}].assertions[{index}]"
        if bool(item["file"]) != bool(item["suffix"]):
            raise _wrong(where, "file and suffix together", "one of them")
        if not (item["version"] or item["suffix"]):
            raise _wrong(where, "version, or file and suffix", "neither")
        if item["file"].startswith("/") or ".." in item["file"].split("/"):
            raise _wrong(f"{where}.file", "a path below site-packages", item["file"])
        attribute = item["attribute"] if item["file"] else ""
        found.append(Assertion(item["distribution"], item["version"], item["file"], attribute, item["suffix"]))
    return tuple(found)


def _index(stage: int, url: str) -> str:
    if url and urlsplit(url).scheme not in ("https", "http"):
        raise _wrong(f"stages[{stage}].index_url", "an https or http URL", "another scheme, or none")
    return url


def secrets(params: Mapping[str, Any], inherited: Mapping[str, str]) -> Iterator[str]:
    """What must never be shown of index and proxy URLs: user and password, in every spelling.

    What is left of them when these are hidden is still a URL, and the declaration still one.
    """
    for url in (*(item["index_url"] or "" for item in params["stages"]), *installer.handed_on(inherited).values()):
        parts = urlsplit(url)
        if parts.password or parts.username:
            yield parts.netloc.rpartition("@")[0]
            for word in (parts.password, parts.username if not parts.password else ""):
                if word:
                    yield from (word, unquote(word))


def refuse_blocked(stages: Sequence[Stage], blocklist: Sequence[Mapping[str, Any]]) -> None:
    """A release that is known to harm is never installed, whoever locked it."""
    for index, stage in enumerate(stages):
        for pin in stage.pins:
            for position, entry in enumerate(blocklist):
                if lock.canonical(entry["distribution"]) == pin.name and any(
                    _blocks(bound, pin.version, f"blocklist[{position}].versions") for bound in entry["versions"]
                ):
                    raise InputError(
                        "venv.blocked",
                        wanted=f"stages[{index}].lock ({stage.name}) without releases of the blocklist",
                        found=f"line {pin.line}: {pin.name}=={pin.version}",
                        why=entry["reason"],
                        fix=str(entry.get("fix") or "lock another release; the entry is in the option blocklist"),
                    )


def _blocks(bound: str, version: str, where: str) -> bool:
    """``*``, a range such as ``>=2.10,<2.11``, or one version (whatever its local part)."""
    if bound.strip() == "*":
        return True
    try:
        return version_in_range(version, bound if _BLOCKED_BOUND.match(bound) else f"=={bound}")
    except ValueError as error:
        raise _wrong(where, "*, a version, or a range such as >=2.10,<2.11", str(error)) from error


def _absolute(option: str, path: str) -> str:
    if not plain_path(path):
        raise _wrong(option, "an absolute path without .., // or a / at the end", repr(path))
    return path


def _word(option: str, text: str) -> str:
    return _matching(option, text, _WORD, "letters, digits and . _ -")


def _each(option: str, items: Sequence[str], pattern: re.Pattern[str], wanted: str) -> tuple[str, ...]:
    return tuple(_matching(f"{option}[{index}]", item, pattern, wanted) for index, item in enumerate(items))


def _matching(option: str, text: str, pattern: re.Pattern[str], wanted: str) -> str:
    if not pattern.match(text):
        raise _wrong(option, wanted, repr(text))
    return text


def _at_least(option: str, number: int, least: int) -> int:
    if number < least:
        raise _wrong(option, f"a number of at least {least}", str(number))
    return number


def _wrong(option: str, wanted: str, found: str) -> InputError:
    return InputError(
        "venv.input",
        wanted=f"{option}: {wanted}",
        found=found,
        why="nothing is looked at or changed with a declaration that cannot be what was meant",
        fix=f"correct vllm_venv_{option}; the documentation of vllm_venv shows an example",
    )
