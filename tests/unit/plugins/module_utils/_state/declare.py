# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations for tests, through the real parser with the defaults of the argument spec."""

from __future__ import annotations

from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.subject import EnsureState
from fake_node import FakeNode


def filled(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What AnsibleModule does with defaults of nested options."""
    unknown = set(given) - set(spec)
    assert not unknown, f"unsupported options: {unknown}"
    result = {}
    for name, option in spec.items():
        value = given.get(name, option.get("default"))
        if "options" in option and value:
            spec_of = option["options"]
            value = filled(spec_of, value) if isinstance(value, dict) else [filled(spec_of, entry) for entry in value]
        result[name] = value
    return result


def document(*controls: dict[str, Any], **params: Any) -> parse.Document:
    given = {"role": "demo", "controls": list(controls), **params}
    return parse.document(filled(parse.ARGUMENT_SPEC, given))


def subject(*controls: dict[str, Any], **params: Any) -> EnsureState:
    return EnsureState(document(*controls, **params))


def apply(node: FakeNode, *controls, **params):
    """A whole real run; returns the plan it found."""
    ensured = subject(*controls, **params)
    found = ensured.plan(node)
    converge(ensured, found, node, node)
    return found


def states(plan) -> dict[str, str]:
    return {control.id: control.state for control in plan.controls}


def verdict(plan, name):
    return next(control for control in plan.controls if control.id == name)
