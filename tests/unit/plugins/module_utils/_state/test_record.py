# SPDX-License-Identifier: GPL-3.0-or-later
"""The applied record: the same bytes for the same declaration, and nothing written without need."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.record import plainly
from declare import apply, states, subject
from fake_node import FakeNode

RECORD = "/var/lib/nusy/applied/demo.json"
FILE = {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
GROUP = {"id": "demo/group", "groups": [{"name": "one"}]}


def text(node: FakeNode) -> str:
    return node.files[RECORD].text


def test_the_same_declaration_leaves_the_same_bytes_whatever_was_declared_before():
    node = FakeNode()
    apply(node, GROUP)
    first = text(node)
    assert [*json.loads(first)["controls"]] == ["demo/group"]
    apply(node, GROUP, FILE)
    assert [*json.loads(text(node))["controls"]] == ["demo/file", "demo/file_extra", "demo/group"]
    apply(node, GROUP)
    assert text(node) == first


def test_a_run_that_changes_nothing_writes_nothing_and_foreign_lines_alone_change_no_record():
    node = FakeNode()
    apply(node, FILE)
    before = text(node)
    node.effects.clear()
    apply(node, FILE)
    assert node.effects == []
    node.files["/etc/demo.conf"].text += "rogue\n"
    apply(node, FILE)
    assert node.effects == ["write /etc/demo.conf"] and text(node) == before


def test_a_node_in_sync_without_a_record_gets_one():
    node = FakeNode()
    node.put("/etc/demo.conf", "a\n")
    apply(node, FILE)
    assert [*json.loads(text(node))["controls"]] == ["demo/file", "demo/file_extra"]


def test_what_was_skipped_keeps_what_it_had():
    node = FakeNode()
    apply(node, FILE, GROUP)
    moved = {**FILE, "files": [{"path": "/etc/demo.conf", "content": "b"}]}
    apply(node, moved, GROUP, skip_controls=["demo/file"])
    assert states(subject(FILE, GROUP).plan(node))["demo/file"] == "in_sync"
    causes = {c.id: c.cause for c in subject(moved, GROUP).plan(node).controls}
    assert causes["demo/file"] == "intentional"


def test_a_record_that_cannot_be_written_is_an_error_with_four_parts(monkeypatch):
    node = FakeNode()
    write = node.write

    def full(path: str, *args: object, **options: object) -> None:
        if path == RECORD:
            raise OSError(28, "No space left on device", path)
        write(path, *args, **options)

    monkeypatch.setattr(node, "write", full)
    with pytest.raises(NodeError) as error:
        apply(node, FILE)
    assert error.value.problem.key == "core.step_failed" and "a record of" in error.value.problem.wanted
    assert "/etc/demo.conf" not in node.files


def test_an_option_that_a_later_release_adds_does_not_move_the_declaration():
    """Only what was said counts, so that a default that did not exist yet reads the same."""
    declared = subject(FILE).document.controls[0]
    assert plainly(declared) == {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
