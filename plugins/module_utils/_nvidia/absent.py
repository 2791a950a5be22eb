# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that is declared to have no NVIDIA GPU: what roles about the GPU say then.

There is nothing for them to ensure, and they say so. Where the declaration is not true, or nobody can tell,
they know nothing: a Spark that was put into the wrong group must not look fine.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts import gpus
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Assertion, ControlSpec, Unknown

OPTION: dict[str, Any] = {"declared_gpu": {"type": "str", "choices": ["nvidia", "none"], "default": "nvidia"}}
WITHOUT = "declared without an NVIDIA GPU (spark_gpu: none)"
THING = "NVIDIA GPU"


def none_declared(params: Mapping[str, Any]) -> bool:
    return bool(params["declared_gpu"] == "none")


def seen(reader: Reader) -> tuple[str, ...] | Unknown:
    try:
        return gpus.shown(reader)
    except Unreadable as error:
        return Unknown(str(error))


def doubt(found: tuple[str, ...] | Unknown) -> str:
    """Why the declaration does not hold; empty if it does."""
    if isinstance(found, Unknown):
        return f"{WITHOUT}, and whether that is so cannot be seen: {found.reason}"
    return f"{WITHOUT}, and there is one: {', '.join(found)}" if found else ""


def nothing(controls: Iterable[str], found: tuple[str, ...] | Unknown) -> Look:
    """Of a role that is about the GPU alone."""
    why = doubt(found)
    if not why:
        return Look(left_out=dict.fromkeys(controls, WITHOUT))
    names = list(controls)
    # What nobody declared in a file is told of files that are declared.
    extra = {name: why for name in names if name.endswith("/file_extra")}
    unjudged = (Assertion(THING, "unknown", "", "", why),)
    return Look(tuple(ControlSpec(name, assertions=unjudged) for name in names if name not in extra), left_out=extra)


def judged(control: str, found: tuple[str, ...] | Unknown) -> ControlSpec:
    """The declaration itself."""
    state = "unknown" if isinstance(found, Unknown) else "drifted" if found else "in_sync"
    shown = "" if isinstance(found, Unknown) else ", ".join(found) or "none"
    fix = "take spark_gpu: none from this host, whose GPU is looked after then; or take the GPU out of it"
    judgement = Assertion(THING, state, shown, "none", doubt(found), fix)
    return ControlSpec(control, assertions=(judgement,), inputs='"none"')
