# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way of a module that ensures something: the only place that knows about check mode.

A module that only looks ends with ``exit_json`` by itself, or with ``report`` if what it found can be wrong; every
error goes through ``fail``.

observe → plan → (real run only: apply → observe → plan, which must be empty → settle). A run
that leaves something to do fails with ``did not converge``: idempotence is tested on every run.
A real run has the node for itself from the first look to its end; a check waits for nobody.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import inputs
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import ask
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import Declared, keep
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import (
    InputError,
    NodeError,
    SparkError,
    doing,
    refusal,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan, Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import LEAST_SECRET, Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import (
    HostReader,
    HostWriter,
    Reader,
    Writer,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.turn import taken

# A look takes a second. One that takes this long after a failure waits for something that is broken.
LOOK_SECONDS = 60.0
# Options that every module has which ensures something. Documented by the fragment ``ensuring``.
OPTIONS: dict[str, Any] = {
    "skip_controls": {"type": "list", "elements": "str", "default": []},
    "confirm": {"type": "list", "elements": "str", "default": []},
}


class Module(Protocol):
    """What is used of AnsibleModule, and nothing more."""

    check_mode: bool
    _diff: bool
    params: dict[str, Any]

    def exit_json(self, **result: Any) -> None: ...

    def fail_json(self, msg: str, **result: Any) -> None: ...


class ExactOptions:
    """Beside AnsibleModule: options that do not fit are told like every other error, with their exact place."""

    argument_spec: dict[str, Any]
    params: dict[str, Any]
    no_log_values: set[str]
    validation_result: Any = None

    def _load_params(self) -> None:
        cast(Any, super())._load_params()
        # As it was written: of text in the place of a mapping Ansible makes nothing, and of that no error.
        self._given = {name: value for name, value in self.params.items() if not name.startswith("_ansible_")}
        # Ansible knows those that have an option of their own. It shows what it was given with -vvv, and writes it into
        # the log of the node before the module can refuse it.
        found = inputs.secrets(self.argument_spec, self._given)
        self.no_log_values.update(text for text in found if len(text.strip()) >= LEAST_SECRET)

    def fail_json(self, msg: str, **result: Any) -> None:
        refused = "error" not in result and self.validation_result and self.validation_result.error_messages
        wrong = list(inputs.misfits(self.argument_spec, self._given)) if refused else []
        if wrong:
            redact = Redactor(inputs.secrets(self.argument_spec, self._given))
            told = _redacted(redact, refusal(wrong))
            # Ansible may not have got as far as to know the secrets among the options, and would show them here.
            msg, result = str(told.pop("msg")), {**result, **told, "invocation": {}}
        cast(Any, super()).fail_json(msg=msg, **result)


def exact(module: type) -> Any:
    """``module`` is AnsibleModule, which is not imported here: this code is tested without Ansible."""
    return type(module.__name__, (ExactOptions, module), {})


class Action(Protocol):
    """What carries out one step."""

    def __call__(self, step: Step, reader: Reader, writer: Writer, /) -> None: ...


class Subject(Protocol):
    """One thing that can be looked at and ensured. Implementations hold the desired state.

    record: the name under which the node keeps what is declared for it, and what was applied.
    """

    title: str
    record: str

    def plan(self, reader: Reader) -> Plan:
        """Look at the node and say what differs. Never touches it."""

    def apply(self, plan: Plan, reader: Reader, writer: Writer) -> None:
        """Carry out the steps of ``plan`` in order; raises NodeError at the first that fails."""

    def settle(self, left: Plan, reader: Reader, writer: Writer) -> None:
        """End a real run: leave a record, raise NodeError for what could not be ensured."""


@dataclass(frozen=True)
class Ensuring:
    """A module that ensures something, but for its documentation: for itself, and for who judges its options elsewhere.

    subject: raises InputError. secrets: what no result may show; every option with ``no_log`` if it is not given.
    kept: the options as the node keeps them. made: options that no operator writes and that are dear to make,
    each with what will do in its place where only the others are to be judged.
    """

    module: str
    options: Mapping[str, Any]
    subject: Callable[[Mapping[str, Any]], Subject]
    secrets: Callable[[Mapping[str, Any]], Iterable[str]] | None = None
    kept: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    made: Mapping[str, str] = field(default_factory=dict)

    def hidden(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(self.secrets(params) if self.secrets else inputs.secrets(self.options, params))


def ensure(ensuring: Ensuring, ansible_module: type) -> None:
    """The whole of such a module."""
    module = exact(ansible_module)(argument_spec=ensuring.options, supports_check_mode=True)
    secrets = ensuring.hidden(module.params)
    try:
        subject = ensuring.subject(module.params)
    except InputError as error:
        fail(module, error, Redactor(secrets))
        return
    declared = Declared(subject.record, ensuring.module, ensuring.kept(module.params))
    finish(module, subject, secrets=secrets, declared=declared)


def finish(module: Module, subject: Subject, *, secrets: Iterable[str] = (), declared: Declared | None = None) -> None:
    """Run ``subject`` in the mode of ``module`` and report. A real run leaves ``declared`` on the node.

    A run that fails half-way returns what it found and, as ``left``, what is true now.
    """
    redact = Redactor(secrets)
    reader = HostReader()
    result: dict[str, object] = {}
    try:
        if module.check_mode:
            result = result_of(subject.plan(reader), subject.title)
        else:
            # Without root there is no turn to take, and nothing will be applied.
            with taken(subject.title) if reader.is_root() else contextlib.nullcontext("") as scratch:
                found = subject.plan(reader)
                result = result_of(found, subject.title)
                writer = HostWriter(redact.text, scratch)
                if declared and reader.is_root():
                    keep(replace(declared, params=_redacted(redact, dict(declared.params))), reader, writer)
                try:
                    left = converge(subject, found, reader, writer)
                except SparkError:
                    result["left"] = left_by_failure(subject, found, reader)
                    raise
                result.update(left.facts)
    except SparkError as error:
        fail(module, error, redact, result)
        return
    module.exit_json(**_redacted(redact, result))


def result_of(plan: Plan, title: str) -> dict[str, object]:
    return {
        "changed": plan.changed,
        "controls": [control.as_dict() for control in plan.controls],
        "diff": plan.diff(title),
        "plan": [step.text() for step in plan.steps],
        "assumptions": list(plan.assumptions),
        **plan.facts,
    }


BECOME = "set ansible_become: true in the inventory, as inventories/single_spark does, or give --become"


def converge(subject: Subject, found: Plan, reader: Reader, writer: Writer) -> Plan:
    """Apply ``found`` and prove it: the plan made afterwards, which is returned, must have no steps."""
    left = found
    if found.steps:
        if not reader.is_root():
            raise NodeError(
                "core.needs_root",
                wanted=f"{subject.title} applied ({len(found.steps)} steps)",
                found="not running as root",
                why="half of the steps would fail after the first half was done",
                fix=f"{BECOME}, or use --check to only look",
            )
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
    hidden = [control for control in left.controls if control.state == "unknown"]
    if hidden and not reader.is_root():
        raise NodeError(
            "core.hidden",
            wanted=f"{subject.title} ensured",
            found=f"not running as root, and {len(hidden)} controls are unknown: {hidden[0].id}: {hidden[0].reason}",
            why="nothing was done about what could not be seen",
            fix=f"{BECOME}, or use --check to only look",
        )
    return left


def carry_out(steps: Iterable[Step], actions: Mapping[str, Action], reader: Reader, writer: Writer) -> None:
    """Every step by the function that ``actions`` has for it; stops at the first that fails."""
    for step in steps:
        with doing(step.text()):
            actions[step.action](step, reader, writer)


def left_by_failure(subject: Subject, found: Plan, reader: Reader) -> list[dict[str, object]]:
    """The controls as a failed run leaves them. What it may have touched is unknown if nobody can look.

    Asked aside, since the failure that is being reported must be reported: a look that hangs or
    breaks is a reason and not an error.
    """
    answer = ask(lambda: [control.as_dict() for control in subject.plan(reader).controls], LOOK_SECONDS)
    why = answer.silence or answer.bug.strip().rpartition("\n")[2]
    if not why:
        return cast("list[dict[str, object]]", answer.value)
    reason = one_line(f"the run failed, and what it left could not be seen: {why}")
    return [
        replace(control, state="unknown", changes=(), reason=reason).as_dict()
        if control.state == "drifted" and not control.blocked_by
        else control.as_dict()
        for control in found.controls
    ]


def report(module: Module, result: dict[str, object], wrong: SparkError | None, redact: Redactor) -> None:
    """End a module that only looks. Nobody repairs what is ``wrong``: a check tells it, a real run must not go on."""
    if wrong and not module.check_mode:
        fail(module, wrong, redact, result)
    else:
        module.exit_json(**_redacted(redact, result))


def fail(
    module: Module, error: SparkError, redact: Redactor | None = None, result: dict[str, object] | None = None
) -> None:
    redact = redact or Redactor()
    everything = {**(result or {}), "error": error.problem.as_dict(error.kind)}
    module.fail_json(msg=redact.text(error.problem.text()), **_redacted(redact, everything))


def _redacted(redact: Redactor, result: dict[str, object]) -> dict[str, Any]:
    return cast(dict[str, Any], redact(result))
