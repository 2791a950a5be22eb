# SPDX-License-Identifier: GPL-3.0-or-later
"""Units that systemd calls started and that do not run."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import units
from declare import subject
from fake_node import FakeNode

CONTROL = {"id": "demo/s", "units": [{"name": "demo.service", "active": True}]}


class Dying(FakeNode):
    """The start of demo.service succeeds; a moment later it is as ``after`` says."""

    after: dict[str, str]

    def tool_systemctl(self, args):
        done = super().tool_systemctl(args)
        if args[0] == "start":
            self.units["demo.service"].update(self.after)
        return done

    def tool_journalctl(self, _args):
        return 0, "demo: no such device\n", ""


@pytest.mark.parametrize(
    "after",
    [{"ActiveState": "failed", "SubState": "failed"}, {"ActiveState": "activating", "SubState": "auto-restart"}],
)
def test_a_service_that_dies_at_its_start_is_an_error_with_its_log(after):
    node = Dying()
    node.after = after
    node.units["demo.service"] = node.unit()
    ensured = subject(CONTROL)
    with pytest.raises(NodeError) as error:
        converge(ensured, ensured.plan(node), node, node)
    assert error.value.problem.key == "units.failed"
    assert error.value.problem.found == "it ended right after its start; its log ends: demo: no such device"


def test_a_service_that_restarts_for_ever_is_not_active():
    node = FakeNode()
    node.units["demo.service"] = node.unit(active="activating", state="enabled") | {"SubState": "auto-restart"}
    plan = subject(CONTROL).plan(node)
    assert plan.controls[0].state == "drifted"


def test_nothing_is_waited_for_when_nothing_was_started(monkeypatch):
    monkeypatch.setattr(units.time, "sleep", lambda _seconds: pytest.fail("waited"))
    node = FakeNode()
    node.units["demo.service"] = node.unit(active="active", state="enabled")
    control = {"id": "demo/s", "units": [{"name": "demo.service", "active": True, "enabled": False}]}
    ensured = subject(control)
    converge(ensured, ensured.plan(node), node, node)
