# SPDX-License-Identifier: GPL-3.0-or-later
"""A role that looks before it declares: each look makes the document, judged and applied like any other."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Assertion, ControlSpec, File
from fake_node import FakeNode

CONTROLS = ("demo/file", "demo/level", "demo/file_extra")


def composed(skip=(), confirm=(), victim=(), left_out=()):
    """The file says what was seen; the level is raised by a step of its own."""

    def look(reader):
        level = "high" if reader.stat("/etc/level") else "low"
        raised = Assertion(
            *("level", "in_sync" if level == "high" else "drifted", level, "high"),
            steps=(Step("raise_level", "/etc/level"),),
            victim=victim,
        )
        return Look(
            (
                *([] if left_out else [ControlSpec("demo/file", files=(File("/etc/demo", "seen"),))]),
                ControlSpec("demo/level", assertions=(raised,)),
            ),
            {"raise_level": lambda step, _reader, writer: writer.write(step.target, "x", mode=0o644, uid=0, gid=0)},
            {"level": level},
            dict(left_out),
        )

    return Composed("demo", CONTROLS, {"skip_controls": list(skip), "confirm": list(confirm)}, look)


def states(plan):
    return {control.id: control.state for control in plan.controls}


def test_own_steps_are_part_of_the_one_plan_and_what_they_make_is_seen():
    node, subject = FakeNode(), composed()
    plan = subject.plan(node)
    assert [step.text() for step in plan.steps] == ["write_file /etc/demo", "raise_level /etc/level"]
    left = converge(subject, plan, node, node)
    assert set(states(left).values()) == {"in_sync"} and left.facts["level"] == "high"
    assert {control.cause for control in composed().plan(node).controls} == {""}


def test_what_is_refused_keeps_a_run_from_its_first_step():
    def look(_reader):
        wrong = Assertion("level", "drifted", "low", "high", "nobody can raise it here", refused=True)
        return Look(
            (ControlSpec("demo/file", files=(File("/etc/demo", "x"),)), ControlSpec("demo/level", assertions=(wrong,)))
        )

    node, subject = FakeNode(), Composed("demo", CONTROLS, {"skip_controls": [], "confirm": []}, look)
    plan = subject.plan(node)
    assert states(plan) == {"demo/file": "drifted", "demo/level": "drifted", "demo/file_extra": "in_sync"}
    with pytest.raises(NodeError, match="nobody can raise it here"):
        converge(subject, plan, node, node)
    assert node.effects == []


def test_a_step_that_takes_something_away_waits_for_its_name():
    node = FakeNode()
    plan = composed(victim=("path", "/etc/level")).plan(node)
    (level,) = [control for control in plan.controls if control.id == "demo/level"]
    assert level.blocked_by == "demo_confirm: [/etc/level]" and "raise_level" not in {s.action for s in plan.steps}
    assert "raise_level" in {
        s.action for s in composed(victim=("path", "/etc/level"), confirm=["/etc/level"]).plan(node).steps
    }


def test_what_is_skipped_is_left_alone():
    assert states(composed(skip=["demo/level"]).plan(FakeNode()))["demo/level"] == "not_selected"


def test_what_is_not_asked_for_is_said_in_its_place():
    left_out = {"demo/file": "no file is declared", "demo/file_extra": "no file is declared", "demo/level": "never"}
    plan = composed(left_out=left_out.items()).plan(FakeNode())
    assert [(c.id, c.state) for c in plan.controls] == [
        ("demo/file", "not_selected"),
        ("demo/level", "drifted"),
        ("demo/file_extra", "not_selected"),
    ]
    assert plan.controls[0].reason == "no file is declared"


def test_a_system_that_cannot_have_it_is_unknown_and_a_run_refuses():
    node, params = FakeNode(), {"skip_controls": ["demo/file"], "confirm": []}
    subject = Composed("demo", CONTROLS, params, lambda _reader: Look(unsupported="no apt here"))
    plan = subject.plan(node)
    assert states(plan) == {"demo/file": "not_selected", "demo/level": "unknown", "demo/file_extra": "unknown"}
    assert plan.controls[1].reason == "no apt here" and plan.steps == ()
    with pytest.raises(NodeError, match="no apt here"):
        converge(subject, plan, node, node)
    assert node.effects == []


def test_lines_that_nobody_declared_are_left_where_that_is_asked_for():
    node, subject = FakeNode(), composed()
    converge(subject, subject.plan(node), node, node)
    node.put("/etc/demo", "seen\nrogue\n")
    assert states(composed().plan(node))["demo/file_extra"] == "drifted"
    plan = composed(skip=["demo/file_extra"]).plan(node)
    assert states(plan)["demo/file_extra"] == "not_selected" and not plan.changed


@pytest.mark.parametrize("name", ["demo/lvel", "other/file_extra"])
def test_a_name_that_skips_nothing_is_refused(name):
    with pytest.raises(InputError) as caught:
        composed(skip=[name])
    assert "demo/file, demo/level" in caught.value.problem.wanted
