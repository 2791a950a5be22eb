# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: what differs and what will be done about it, as data.

Both modes of Ansible share one plan: check mode prints it, a real run applies it. So a
check predicts what the run does because it *is* what the run does.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

# As text: a "|" between types is evaluated here, and sanity reads node code as Python 3.8.
Value: TypeAlias = "str | int | float | bool | tuple[str, ...] | None"
State = Literal["in_sync", "drifted", "unknown", "not_selected"]


@dataclass(frozen=True)
class Change:
    """One property that differs: what a reader of --diff sees."""

    key: str
    before: Value
    after: Value
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """One effect on the node. Data, never a closure: a plan can be printed and compared.

    action: name of a function in the applying table.
    target: what it acts on (path, package, unit, …), as an operator would write it.
    args: further arguments of that action, in order.
    control: id of the control this step serves.
    """

    action: str
    target: str
    args: tuple[Value, ...] = ()
    control: str = ""

    def text(self) -> str:
        return f"{self.action} {self.target}"

    def names(self, index: int = 0) -> tuple[str, ...]:
        value = self.args[index]
        if not isinstance(value, tuple):
            raise TypeError(f"{self.action}: argument {index} is no list of names")
        return value

    def number(self, index: int = 0) -> int:
        value = self.args[index]
        if not isinstance(value, int):
            raise TypeError(f"{self.action}: argument {index} is no number")
        return value


@dataclass(frozen=True)
class Control:
    """The verdict on one control on one host.

    blocked_by: the inventory variable, with the value to give it, that would allow the
        step which can lose data, cut access or stop the machine; empty when not blocked.
    unmet: what no run can ensure, whether or not something else is allowed; for the run to fail with.
    """

    id: str
    state: State
    changes: tuple[Change, ...] = ()
    reason: str = ""
    blocked_by: str = ""
    cause: str = ""
    unmet: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "state": self.state,
            "before": {c.key: plain(c.before) for c in self.changes},
            "after": {c.key: plain(c.after) for c in self.changes},
            "reason": self.reason,
            "blocked_by": self.blocked_by,
            "cause": self.cause,
        }


@dataclass(frozen=True)
class Plan:
    """facts: further keys of the result, about the node as it is: after a real run, as that left it."""

    controls: tuple[Control, ...] = ()
    steps: tuple[Step, ...] = ()
    assumptions: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return bool(self.steps)

    def diff(self, header: str) -> dict[str, object]:
        """The ``diff`` of an Ansible result, derived from the controls and nothing else."""
        before: dict[str, dict[str, object]] = {}
        after: dict[str, dict[str, object]] = {}
        for control in self.controls:
            if control.state == "drifted" and control.changes:
                before[control.id] = {c.key: plain(c.before) for c in control.changes}
                after[control.id] = {c.key: plain(c.after) for c in control.changes}
        return {
            "before": before,
            "after": after,
            "before_header": f"{header} (as found)",
            "after_header": f"{header} (as declared)",
        }


def plain(value: Value) -> object:
    """A value as JSON knows it."""
    return list(value) if isinstance(value, tuple) else value


def one_line(text: str, limit: int = 300) -> str:
    """A reason is one sentence on one line, whatever a tool printed into it."""
    flat = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
