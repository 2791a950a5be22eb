# SPDX-License-Identifier: GPL-3.0-or-later
"""A role that has to look before it can declare: what only use proves, and what follows from it.

Such a role has a module of its own. Each look makes its document, and ``ensure_state`` judges and
applies that as it does any other: one plan, one record, one code path.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, Plan, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import ControlSpec, Document
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.subject import EnsureState
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.systems import cannot_have


@dataclass(frozen=True)
class Look:
    """What one look found: the document that follows from it, actions of its own, facts for the result.

    left_out: controls that this declaration does not ask for, each with why; they are ``not_selected``.
    unsupported: why this system cannot have what is declared: a check knows nothing, a run refuses.
    hidden: what the caller may not see, without which nothing can be declared: as above.
    """

    controls: tuple[ControlSpec, ...] = ()
    actions: Mapping[str, Action] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    unsupported: str = ""
    hidden: NodeError | None = None


class Composed:
    """A subject of ``_core.entry``.

    controls: of the role, in the order of its report.
    look: makes the document of these; ``<role>/file_extra`` comes by itself.
    """

    def __init__(
        self, role: str, controls: Sequence[str], params: Mapping[str, Any], look: Callable[[Reader], Look]
    ) -> None:
        self.role = self.record = role
        self.title = f"role {role}"
        self.skipped = frozenset(params["skip_controls"])
        self.confirmed = frozenset(params["confirm"])
        self._look = look
        self._order = tuple(controls)
        self._state = EnsureState(Document(role, ()))
        self._refusal: NodeError | None = None
        for number, name in enumerate(params["skip_controls"]):
            if name not in controls:
                raise InputError(
                    "compose.no_such_control",
                    wanted=f"skip_controls[{number}]: a control of role {role}: {', '.join(controls)}",
                    found=repr(name),
                    why="a misspelt name would skip nothing",
                    fix=f"correct {role}_skip_controls",
                )

    def plan(self, reader: Reader) -> Plan:
        look = self._look(reader)
        document = Document(self.role, look.controls, skipped=self.skipped, confirmed=self.confirmed)
        self._state = EnsureState(document, look.actions)
        self._refusal = look.hidden or (cannot_have(self.title, look.unsupported) if look.unsupported else None)
        if self._refusal:
            why = look.unsupported or self._refusal.problem.found
            return Plan(tuple(self._not_looked_at(name, why) for name in self._order))
        found = self._state.plan(reader)
        there = {control.id for control in found.controls}
        rest = (Control(name, "not_selected", reason=why) for name, why in look.left_out.items() if name not in there)
        verdicts = sorted((*found.controls, *rest), key=lambda control: self._order.index(control.id))
        return replace(found, controls=tuple(verdicts), facts={**found.facts, **look.facts})

    def _not_looked_at(self, name: str, why: str) -> Control:
        if name in self.skipped:
            return Control(name, "not_selected", reason=f"named in {self.role}_skip_controls")
        return Control(name, "unknown", reason=one_line(why))

    def apply(self, plan: Plan, reader: Reader, writer: Writer) -> None:
        self._state.apply(plan, reader, writer)

    def settle(self, left: Plan, reader: Reader, writer: Writer) -> None:
        if self._refusal:
            raise self._refusal
        self._state.settle(left, reader, writer)
