# SPDX-License-Identifier: GPL-3.0-or-later
"""A fact is known, or unknown with a reason. There is nothing in between.

While looking, an unknown fact stands at its place in the tree as ``Unknown``. ``settle``
splits such a tree into what a playbook wants: plain values, from which the unknown ones are
absent (so that using one by accident fails instead of reading as false), and one flat map of
reasons by dotted path. ``None`` is a value: the machine says that the property does not apply.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, Union, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line

# No fact is a longer text than a kernel command line can be.
MAX_TEXT = 8192


@dataclass(frozen=True)
class Unknown:
    """The place of a fact that could not be learned. The reason is for the operator."""

    reason: str


class NotKnown(Exception):
    """Raised while looking: this fact cannot be learned here, and the text says why."""


Node = Union[None, bool, int, float, str, Unknown, "Sequence[Node]", "Mapping[str, Node]"]
Tree = Mapping[str, Node]

P = ParamSpec("P")
T = TypeVar("T")


def learn(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Unknown:
    """The answer, or why there is none. The only place where a failed look becomes Unknown."""
    try:
        return question(*args, **kwargs)
    except (NotKnown, Unreadable) as error:
        return Unknown(one_line(str(error)))
    except ParseError as error:
        problem = error.problem
        return Unknown(one_line(f"{problem.wanted}, but found {problem.found}"))


def clean(text: str) -> str:
    """Text that every terminal, log and JSON reader can take, whatever bytes a tool printed."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:MAX_TEXT])


def settle(tree: Tree) -> tuple[dict[str, object], dict[str, str]]:
    """The values of ``tree`` and, by dotted path, the reasons of what is unknown in it."""
    reasons: dict[str, str] = {}
    return cast(dict[str, object], _settle(tree, "", reasons)), reasons


def _settle(node: Node, path: str, reasons: dict[str, str]) -> object:
    if isinstance(node, str):
        return clean(node)
    if isinstance(node, Mapping):
        kept: dict[str, object] = {}
        for key, below in node.items():
            name = clean(key)
            place = f"{path}.{name}" if path else name
            if isinstance(below, Unknown):
                reasons[place] = clean(below.reason)
            else:
                kept[name] = _settle(below, place, reasons)
        return kept
    if isinstance(node, Sequence):
        # An unknown element keeps its place: later ones must not move up into it.
        items: list[object] = []
        for index, below in enumerate(node):
            place = f"{path}.{index}"
            if isinstance(below, Unknown):
                reasons[place] = clean(below.reason)
                items.append(None)
            else:
                items.append(_settle(below, place, reasons))
        return items
    return node
