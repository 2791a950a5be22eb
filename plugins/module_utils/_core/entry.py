# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that knows about check mode, ``exit_json`` and ``fail_json``.

observe → plan → (real run only: apply → observe → plan, which must be empty). A run that
leaves something to do fails with ``did not converge``: idempotence is tested on every run.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import (
    HostReader,
    HostWriter,
    Reader,
    Writer,
)


class Module(Protocol):
    """What is used of AnsibleModule, and nothing more."""

    check_mode: bool
    _diff: bool
    params: dict[str, Any]

    def exit_json(self, **result: Any) -> None: ...

    def fail_json(self, msg: str, **result: Any) -> None: ...


class Subject(Protocol):
    """One thing that can be looked at and ensured. Implementations hold the desired state."""

    title: str

    def plan(self, reader: Reader) -> Plan:
        """Look at the node and say what differs. Never touches it."""

    def apply(self, plan: Plan, reader: Reader, writer: Writer) -> None:
        """Carry out the steps of ``plan`` in order; raises NodeError at the first that fails."""

    def settle(self, left: Plan, reader: Reader, writer: Writer) -> None:
        """End a real run: leave a record, raise NodeError for what could not be ensured."""


def result_of(plan: Plan, title: str) -> dict[str, object]:
    return {
        "changed": plan.changed,
        "controls": [control.as_dict() for control in plan.controls],
        "diff": plan.diff(title),
        "plan": [step.text() for step in plan.steps],
        "assumptions": list(plan.assumptions),
        **plan.facts,
    }


def converge(subject: Subject, found: Plan, reader: Reader, writer: Writer) -> None:
    """Apply ``found`` and prove it: the plan made afterwards must be empty."""
    left = found
    if found.steps:
        subject.apply(found, reader, writer)
        left = subject.plan(reader)
    if left.steps:
        raise NodeError(
            "core.did_not_converge",
            wanted=f"{subject.title} as declared after applying {len(found.steps)} steps",
            found="still to do: " + "; ".join(step.text() for step in left.steps[:10]),
            why="something on the node undoes the change or a tool reported success without effect",
            fix="run the same play with --check --diff to see what comes back, and look for another manager of it",
        )
    subject.settle(left, reader, writer)


def finish(module: Module, subject: Subject, *, secrets: Mapping[str, str] | None = None) -> None:
    """Run ``subject`` in the mode of ``module`` and report.

    A run that fails half-way still returns the controls: what was found stays evidence.
    """
    redact = Redactor((secrets or {}).values())
    reader = HostReader()
    result: dict[str, object] = {}
    try:
        found = subject.plan(reader)
        result = result_of(found, subject.title)
        if not module.check_mode:
            converge(subject, found, reader, HostWriter(redact.text))
    except SparkError as error:
        fail(module, error, redact, result)
        return
    module.exit_json(**_redacted(redact, result))


def fail(
    module: Module, error: SparkError, redact: Redactor | None = None, result: dict[str, object] | None = None
) -> None:
    redact = redact or Redactor()
    everything = {**(result or {}), "error": error.problem.as_dict(error.kind)}
    module.fail_json(msg=redact.text(error.problem.text()), **_redacted(redact, everything))


def _redacted(redact: Redactor, result: dict[str, object]) -> dict[str, Any]:
    return cast(dict[str, Any], redact(result))
