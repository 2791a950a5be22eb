# SPDX-License-Identifier: GPL-3.0-or-later
"""What was there before a role ever applied it is somebody's until it is named."""

from __future__ import annotations

import pytest
from declare import apply, states, subject, verdict
from fake_node import FakeNode, Killed, bare

PATH = "/etc/environment"
THEIRS = "PATH=/usr/bin\nTOKEN=1\n"


def control(content: str = "A=1", **options: object) -> dict:
    return {"id": "demo/env", "files": [{"path": PATH, "content": content, **options}]}


def blocked(node: FakeNode, *controls: dict, **params: object) -> str:
    plan = subject(*controls, **params).plan(node)
    assert not [step for step in plan.steps if step.target == PATH] or not plan.controls[0].blocked_by
    return plan.controls[0].blocked_by


@pytest.mark.parametrize(
    ("text", "mode", "uid", "waits"),
    [
        (THEIRS, 0o644, 0, True),
        ("A=1\n", 0o600, 0, True),
        ("A=1\n", 0o644, 7, True),
        ("A=1\n", 0o644, 0, False),
        ("", 0o600, 7, False),
    ],
)
def test_a_file_from_before_the_role_that_is_not_as_declared_waits_for_its_name(text, mode, uid, waits):
    node = bare()
    node.put(PATH, text, mode=mode, uid=uid)
    assert blocked(node, control()) == ("demo_confirm: [/etc/environment]" if waits else "")
    apply(node, control())
    entry = node.files[PATH]
    assert (entry.text, entry.mode, entry.uid) == ((text, mode, uid) if waits else ("A=1\n", 0o644, 0))
    apply(node, control(), confirm=[PATH])
    assert (node.files[PATH].text, node.files[PATH].mode) == ("A=1\n", 0o644)
    node.put(PATH, THEIRS)
    assert not blocked(node, control()) and not blocked(node, control("A=2"))


def test_a_path_that_is_new_to_a_role_is_not_taken_for_the_record_of_another_one():
    node = bare()
    apply(node, {"id": "demo/env", "files": [{"path": "/etc/ours", "content": "A=1"}]})
    node.put(PATH, THEIRS)
    assert blocked(node, control())


def test_who_may_not_read_the_key_sees_what_was_taken():
    node = bare()
    apply(node, control())
    node.root = False
    node.unreadable.add("/var/lib/nusy/applied/.key")
    node.put(PATH, THEIRS)
    assert not blocked(node, control())
    node.unreadable.add("/var/lib/nusy/applied/demo.json")
    assert blocked(node, control())


@pytest.mark.parametrize("lives", range(8))
def test_a_run_that_was_killed_or_fails_has_taken_what_it_wrote(lives):
    node = bare()
    failing = {"id": "demo/s", "assertions": [{"name": "x", "state": "drifted", "found": "1", "wanted": "2"}]}
    node.lives = lives
    try:
        apply(node, control(), failing)
    except Killed:
        pass
    except Exception as error:
        assert "state.not_ensured" in str(error.problem.key)
    node.lives = None
    assert not blocked(node, control("A=2"), failing)


def test_a_file_as_its_package_brought_it_may_be_written():
    node = bare()
    node.conffiles[PATH] = THEIRS
    node.put(PATH, THEIRS)
    assert not blocked(node, control())
    node.put(PATH, THEIRS + "MINE=1\n")
    assert blocked(node, control())


def test_lines_of_somebody_else_around_ours_make_the_file_theirs():
    node = bare()
    parts = [{"id": f"demo/{n}", "files": [{"path": PATH, "content": f"{n}=1", "fragment": True}]} for n in "ab"]
    node.put(PATH, "a=1\nTOKEN=1\nb=1\n")
    for _run in range(2):
        plan = apply(node, *parts)
        assert {c.blocked_by for c in plan.controls} == {"demo_confirm: [/etc/environment]"}
        assert set(states(plan).values()) == {"drifted"} and "TOKEN=1" in node.files[PATH].text
    apply(node, *parts, confirm=[PATH])
    assert node.files[PATH].text == "a=1\nb=1\n"


def test_a_directory_with_something_in_it_keeps_its_mode_until_it_is_named():
    node = bare()
    node.put("/tmp/x", "1")
    node.files["/tmp"].mode = 0o1777
    wanted = {"id": "demo/d", "directories": [{"path": "/tmp", "mode": "0755"}]}
    assert verdict(apply(node, wanted), "demo/d").blocked_by == "demo_confirm: [/tmp]"
    assert node.files["/tmp"].mode == 0o1777
    apply(node, wanted, confirm=["/tmp"])
    assert node.files["/tmp"].mode == 0o755
    node.files["/tmp"].mode = 0o700
    apply(node, wanted)
    assert node.files["/tmp"].mode == 0o755


def test_a_link_that_leads_elsewhere_is_set_only_when_named_or_ours():
    node = bare()
    node.put("/opt/current", "/opt/theirs", kind="link")
    wanted = {"id": "demo/l", "links": [{"path": "/opt/current", "target": "/opt/ours"}]}
    assert verdict(apply(node, wanted), "demo/l").blocked_by == "demo_confirm: [/opt/current]"
    apply(node, wanted, confirm=["/opt/current"])
    node.put("/opt/current", "/opt/theirs", kind="link")
    apply(node, wanted)
    assert node.files["/opt/current"].text == "/opt/ours"
