# SPDX-License-Identifier: GPL-3.0-or-later
"""One virtual environment as a subject of ``_core.entry``.

Whoever needs a directory populated exactly from a lock declares a Declaration and uses this
(a CUDA toolkit of wheels is ``<link>/lib/python3.12/site-packages/nvidia/cu13``).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from typing import Any, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import declared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, doing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import ControlSpec, Document
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import plan as planning
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.apply import Builder
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.installer import Tool
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import CONTROLS, Declaration
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.observe import Seen, observe


class EnsureVenv:
    def __init__(self, wanted: Declaration) -> None:
        self.wanted = wanted
        self.title = f"virtual environment {wanted.home}"
        self.record = wanted.record

    def plan(self, reader: Reader) -> Plan:
        return self.judge(observe(self.wanted, reader), self._last(reader))

    def _last(self, reader: Reader) -> record.Record:
        last = record.read(reader, self.record)
        return (None if last.text else self._by_name_alone(reader)) or last

    def _by_name_alone(self, reader: Reader) -> record.Record | None:
        """Records were told apart by name alone once: that one, if it tells of this home and no other."""
        if self.record == self.wanted.record_by_name:
            return None
        old, document = record.read(reader, self.wanted.record_by_name), self._document("")
        of_home = (spec for spec in document.controls if spec.id in (planning.PLACE, planning.GENERATIONS))
        ours = any(old.cause(spec, document, "drifted", blocked=False) == "corrective" for spec in of_home)
        return old if ours else None

    def judge(self, seen: Seen, last: record.Record) -> Plan:
        """Pure: from what was declared and what was found to verdicts and steps."""
        found = planning.judge(self.wanted, seen)
        document = self._document(seen.machine)
        specs = {spec.id: spec for spec in document.controls}
        return replace(found, controls=tuple(_caused(c, specs[c.id], document, last) for c in found.controls))

    def _document(self, machine: str) -> Document:
        """What each control wants, for the applied record: no index, no secret, no bytes of a lock."""
        wanted = self.wanted
        content = [wanted.home, wanted.digest(machine), wanted.generation]
        asserted = [asdict(a) for stage in wanted.stages for a in stage.assertions]
        interpreter, place, packages, files, current, use, generations = CONTROLS
        inputs: dict[str, list[object]] = {
            interpreter: [wanted.interpreter, wanted.python, wanted.machine],
            place: [wanted.home, wanted.owner],
            packages: [*content],
            files: [*content],
            current: [*content],
            use: [wanted.home, asserted, wanted.entry_points, wanted.imports],
            generations: [wanted.home],
        }
        return Document(self.record, tuple(ControlSpec(name, inputs=json.dumps(said)) for name, said in inputs.items()))

    def apply(self, plan: Plan, reader: Reader, writer: Writer) -> None:
        facts: Any = plan.facts["venv"]
        tool = Tool(**facts["installer"]) if facts["installer"] else None
        Builder(self.wanted, facts["machine"], tool, reader, writer).run(plan.steps)

    def settle(self, left: Plan, reader: Reader, writer: Writer) -> None:
        """After a real run: leave the record, or say what keeps the declaration from being true."""
        obstacles = cast("list[dict[str, str]]", left.facts["obstacles"])
        for problem in obstacles:
            raise NodeError(**{name: problem[name] for name in ("key", "wanted", "found", "why", "fix")})
        # What is only kept because nobody could tell whether it is used does no harm.
        told = [c for c in left.controls if c.id != planning.GENERATIONS or c.state != "unknown"]
        unseen = [c for c in told if c.state == "unknown" or (c.state == "drifted" and not c.blocked_by)]
        if unseen:
            raise NodeError(
                "venv.not_ensured",
                wanted=f"{self.title} as declared",
                found="; ".join(f"{c.id} is {c.state}: {c.reason or 'see its before and after'}" for c in unseen),
                why="a run that cannot tell must not say that all is well",
                fix="mend the reasons named, then run the play again",
            )
        if not reader.is_root():
            return
        facts: Any = left.facts["venv"]
        with doing(f"a record of what was applied for {self.title}"):
            old, document = self._by_name_alone(reader), self._document(facts["machine"])
            record.write(document, self._last(reader), left.controls, {}, reader, writer)
            if old:
                for path_of in (declared.path_of, record.path_of):
                    if reader.stat(path_of(self.wanted.record_by_name)):
                        writer.remove(path_of(self.wanted.record_by_name))


def _caused(control: Control, spec: ControlSpec, document: Document, last: record.Record) -> Control:
    """With who moved, or why that cannot be told."""
    cause = last.cause(spec, document, control.state, blocked=bool(control.blocked_by))
    if control.state != "drifted" or not last.distrust:
        return replace(control, cause=cause)
    doubt = f"who moved cannot be told: {last.distrust}"
    return replace(control, cause=cause, reason="; ".join(filter(None, (control.reason, doubt))))


MODULE = Ensuring(
    "vllm_venv",
    parse.ARGUMENT_SPEC,
    lambda params: EnsureVenv(parse.declaration(params)),
    lambda params: parse.secrets(params, os.environ),
)
