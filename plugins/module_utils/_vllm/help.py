# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``vllm serve --help=all`` prints → the options that this release takes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError

# An option stands at two columns, what is said of it further in; the examples at the end have three.
_ENTRY = re.compile(r"  (-.+?)(?:  .*)?\Z")
_NAME = re.compile(r"--[A-Za-z0-9][A-Za-z0-9-]*\Z")
_CHOICES = re.compile(r"\{([^{}]*)\}")
FLAG, SWITCH, VALUE, VALUES = KINDS = ("flag", "switch", "value", "values")
# Every release has these; a text without them is another program's, or half of one.
_EXPECTED = ("host", "port", "max-model-len", "kv-cache-memory-bytes")


@dataclass(frozen=True)
class Option:
    """kind: a ``switch`` is a flag with a ``--no-`` of its own; ``values`` takes several words.

    choices: the only values it takes; empty is any.
    """

    kind: str
    choices: tuple[str, ...] = ()


Options = Mapping[str, Option]


def parse(text: str) -> dict[str, Option]:
    """By name, without the dashes."""
    found: dict[str, Option] = {}
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            continue
        names, value = _invocation(entry.group(1))
        for name in names:
            if not (name.startswith("no-") and name[3:] in names):
                found[name] = _option(name, names, value)
    missing = [name for name in _EXPECTED if name not in found]
    if missing:
        raise ParseError("vllm serve --help=all", text, f"one entry for each option, --{missing[0]} among them")
    return found


def _invocation(text: str) -> tuple[list[str], str]:
    """``--model-len N, -l N`` → names and what stands for the value.

    Python 3.13 writes the value once, behind the last name.
    """
    names, value = [], ""
    # A comma within braces or brackets belongs to the value.
    for part in re.split(r", (?=-)", text):
        name, _space, rest = part.partition(" ")
        if _NAME.match(name):
            names.append(name[2:])
        value = rest or value
    return names, value


def _option(name: str, names: list[str], value: str) -> Option:
    if not value:
        return Option(SWITCH if f"no-{name}" in names else FLAG)
    choices = _CHOICES.match(value)
    several = value.endswith("...]")
    return Option(VALUES if several else VALUE, tuple(choices.group(1).split(",")) if choices else ())


def as_data(options: Options) -> dict[str, object]:
    """For a file: the kind, or the kind with the choices behind it."""
    return {name: " ".join([option.kind, *option.choices]) for name, option in sorted(options.items())}


def from_data(data: Mapping[str, object]) -> dict[str, Option]:
    """ValueError for what ``as_data`` does not write."""
    found = {}
    for name, text in data.items():
        kind, *choices = text.split(" ") if isinstance(text, str) else [""]
        if kind not in KINDS or not _NAME.match(f"--{name}"):
            raise ValueError(f"{name}: {text!r} is not how an option is written")
        found[name] = Option(kind, tuple(choices))
    return found
