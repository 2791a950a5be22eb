# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what an operator wrote fit what is documented?

Judges by an argument spec (that of a module, or the ``options`` of a role), names the exact place
and guesses what was meant. Stricter than Ansible where its goodwill changes a meaning in
silence: text is no list, null is no default, 1.10 is no text.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import called, texts

# What Ansible takes for a truth value; -e name=value makes text of everything.
FLAGS = frozenset(("yes", "no", "on", "off", "true", "false", "y", "n", "t", "f", "1", "0"))
KINDS = {
    "str": "text",
    "path": "a path",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "list": "a list",
    "dict": "a mapping",
}


def plain_path(text: object) -> bool:
    """Is it an absolute path that is written in one way only, and on one line?"""
    if not isinstance(text, str) or not text.startswith("/") or text == "/" or not text.isprintable():
        return False
    # normpath keeps two slashes at the start: POSIX leaves their meaning open.
    return not text.startswith("//") and os.path.normpath(text) == text


def misfits(
    options: Mapping[str, Mapping[str, object]], given: Mapping[str, object], at: str = ""
) -> Iterator[Problem]:
    """Every value of ``given`` that is not as documented, every name that is not, and what is missing."""
    for name in given:
        if name not in options:
            yield unknown(f"{at}{name}", name, options)
    for name, option in options.items():
        if given.get(name) is not None:
            yield from value_misfits(option, given[name], f"{at}{name}")
        elif option.get("required"):
            kind = wanted_kind(option)
            why = "there is no sensible default for it"
            yield Problem("input.missing", f"{at}{name}: {kind}", "nothing", why, f"add {at}{name}")


def secrets(options: Mapping[str, Mapping[str, object]], given: Mapping[str, object]) -> Iterator[str]:
    """Every text in an option that must not be logged, also where the shape around it is wrong.

    And what is called a secret where none belongs: it is refused, and nobody is to read it in the refusal.
    """
    for name, value in given.items():
        if name not in options:
            yield from texts(list(called(name, value)))
    for name, option in options.items():
        value, nested = given.get(name), option.get("options")
        if option.get("no_log"):
            yield from texts(value)
        elif isinstance(nested, Mapping):
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(item, Mapping):
                    yield from secrets(nested, item)
                elif any(inner.get("no_log") for inner in nested.values()):
                    yield from texts(item)
        elif option.get("no_log") is None:
            yield from texts(list(called("", value)))


def value_misfits(option: Mapping[str, object], value: object, at: str) -> Iterator[Problem]:
    kind = str(option.get("type", "str"))
    if not _fits(kind, value):
        secret = bool(option.get("no_log"))
        yield Problem(
            "input.type",
            wanted=f"{at}: {wanted_kind(option)}",
            found=shown(value, secret=secret),
            why=_why(kind, value),
            fix=_fix(kind, value, at, quote=not secret and option.get("elements") != "dict"),
        )
        return
    choices, nested = option.get("choices"), option.get("options")
    if kind == "list" and isinstance(value, Sequence):
        element = {**option, "type": option.get("elements", "raw")}
        for i, item in enumerate(value):
            yield from value_misfits(element, item, f"{at}[{i}]")
    elif kind == "dict" and isinstance(value, Mapping) and isinstance(nested, Mapping):
        yield from misfits(nested, value, f"{at}.")
    elif isinstance(choices, Sequence) and str(value) not in [str(choice) for choice in choices]:
        known = ", ".join(str(choice) for choice in choices)
        meant = nearest(str(value), [str(choice) for choice in choices])
        yield Problem(
            "input.choice",
            wanted=f"{at}: one of {known}",
            found=shown(value),
            why="nothing is done for a word that nobody knows",
            fix=f"write {meant}" if meant else f"write one of {known}",
        )


def unknown(
    at: str, name: str, known: Iterable[str], *, prefix: str = "", found: str = "", otherwise: str = ""
) -> Problem:
    """A name that nobody knows. ``prefix``: what makes all of them alike, so it does not count.

    ``otherwise``: what else may have to be done about it.
    """
    known = list(known)
    meant = nearest(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known])
    meant = meant and prefix + meant
    fix = f"call it {meant}" if meant else f"use one of {', '.join(known)}, or take it out"
    return Problem(
        "input.unknown",
        wanted=f"{at}: a name that is documented",
        found=found or f"{name}, which is none",
        why="nothing would be done about it, and nobody would notice",
        fix=f"{fix}; {otherwise}" if otherwise else fix,
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or nothing."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)), "")


def wanted_kind(option: Mapping[str, object]) -> str:
    kind = str(option.get("type", "str"))
    if kind == "list" and option.get("elements") in KINDS:
        of = {"str": "texts", "path": "paths", "dict": "mappings"}.get(str(option["elements"]), "numbers")
        return f"a list of {of}"
    return KINDS.get(kind, "a value")


def shown(value: object, *, secret: bool = False) -> str:
    """A value as an operator knows it, at most a few words of it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in list(value)[:4])
        return f"a mapping ({keys}{', …' if len(value) > 4 else ''})"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    kind = "true or false" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else "text"
    if secret:
        return f"a {kind}, not shown"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    text = str(value)
    return f"the {kind} {text if kind == 'number' else repr(text if len(text) <= 60 else text[:59] + '…')}"


def _fits(kind: str, value: object) -> bool:
    if kind == "raw":
        return value is not None
    if kind == "list":
        return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    if kind == "dict":
        return isinstance(value, Mapping)
    if kind == "bool":
        return isinstance(value, bool) or (isinstance(value, (str, int)) and str(value).lower() in FLAGS)
    if kind in ("int", "float"):
        number = r"[+-]?\d+" if kind == "int" else r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
        plain = isinstance(value, (int, str) if kind == "int" else (int, float, str)) and not isinstance(value, bool)
        return plain and re.fullmatch(number, str(value).strip()) is not None
    # Text. YAML reads 1.10 as 1.1 and no as false; a whole number stays what it was.
    return isinstance(value, str) or (kind == "str" and isinstance(value, int) and not isinstance(value, bool))


def _why(kind: str, value: object) -> str:
    if value is None:
        return "an empty value is not the default, and would be taken for nothing at all"
    if kind == "list" and isinstance(value, str):
        return "text would be cut at its commas, or taken letter by letter"
    if kind in ("str", "path") and isinstance(value, (bool, int, float)):
        return "YAML has already changed what was written: 1.10 becomes 1.1, no becomes false"
    return "what is made of it would not be what was meant"


def _fix(kind: str, value: object, at: str, *, quote: bool) -> str:
    """``quote``: may the value be repeated, in the brackets that it lacks?"""
    if value is None:
        return f"give {at} a value, or take it out to have the default"
    if kind == "list" and isinstance(value, (str, int)) and not isinstance(value, bool) and quote:
        text = str(value)
        return (
            f'write {at}: [{text if len(text) <= 60 else "…"}]; on the command line as JSON, -e \'{{"name": ["…"]}}\''
        )
    if kind in ("str", "path") and isinstance(value, (bool, int, float)):
        return f"put the value of {at} in quotes"
    return f"correct {at}"
