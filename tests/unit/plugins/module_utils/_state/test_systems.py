# SPDX-License-Identifier: GPL-3.0-or-later
"""A document that is made for some systems."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from declare import apply, states, subject
from fake_node import bare

FILE = {"id": "demo/file", "files": [{"path": "/etc/demo", "content": "x"}]}
MADE_FOR = ["debian", "ubuntu 24.04"]


@pytest.mark.parametrize(
    "text",
    [
        "ID=debian\n",
        "ID='debian'\nVERSION_ID=12\n",
        'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n',
    ],
)
def test_a_system_is_what_it_calls_itself(text):
    node = bare()
    node.put("/etc/os-release", text)
    assert states(subject(FILE, systems=MADE_FOR).plan(node))["demo/file"] == "drifted"


@pytest.mark.parametrize(
    "text",
    [
        "ID=arch\n",
        "NAME=debian\n",
        "",
        None,
        "ID=ubuntu\nVERSION_ID=26.04\n",  # another release
        "ID=ubuntu\n",
        "ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_ID=24.04\n",
    ],
)
def test_elsewhere_a_check_knows_nothing_and_a_run_does_nothing(text):
    node = bare()
    if text is not None:
        node.put("/etc/os-release", text)
    skipped = {"id": "demo/skipped", "files": [{"path": "/etc/other", "content": "x"}]}
    plan = subject(FILE, skipped, systems=MADE_FOR, skip_controls=["demo/skipped"]).plan(node)
    assert states(plan) == {"demo/file": "unknown", "demo/skipped": "not_selected", "demo/file_extra": "unknown"}
    assert all(control.reason for control in plan.controls) and plan.steps == ()
    bare_role = subject({"id": "demo/x"}, {"id": "demo/file_extra"}, systems=MADE_FOR).plan(node)
    assert states(bare_role) == {"demo/x": "unknown", "demo/file_extra": "unknown"}
    with pytest.raises(NodeError) as error:
        apply(node, FILE, systems=MADE_FOR)
    assert error.value.problem.key == "state.unsupported" and node.effects == []


def test_a_document_for_any_system_does_not_ask():
    node = bare()
    node.put("/etc/os-release", "ID=arch\n")
    assert states(subject(FILE).plan(node))["demo/file"] == "drifted"
