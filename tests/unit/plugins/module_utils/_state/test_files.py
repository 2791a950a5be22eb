# SPDX-License-Identifier: GPL-3.0-or-later
"""Files line by line: what counts as a line, and whose line it is."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import files
from declare import apply, subject, verdict
from fake_node import FakeNode, bare


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ()),
        ("\n", ("",)),
        ("a", ("a",)),
        ("a\n", ("a",)),
        ("a\n\n", ("a", "")),
        ("a\r\nb\fc\vd\x1ee\x85f\u2028g\n", ("a\r", "b\fc\vd\x1ee\x85f\u2028g")),
    ],
)
def test_a_line_feed_ends_a_line_and_nothing_else_does(text, lines):
    assert files.lines_of(text) == lines


@pytest.mark.parametrize("content", ["a\r\nb\fc\n", "x\u2028y\n", "a\n\n\nb\n", "\n"])
def test_text_is_written_to_the_letter(content):
    node, ensured = FakeNode(), subject({"id": "demo/f", "files": [{"path": "/etc/f", "content": content}]})
    converge(ensured, ensured.plan(node), node, node)
    assert node.files["/etc/f"].text == content
    assert not ensured.plan(node).changed


def test_a_file_its_validator_refuses_is_not_written():
    node = bare()
    control = {
        "id": "demo/conf",
        "files": [{"path": "/etc/demo.conf", "content": "BAD", "validate": ["/x/validator", "%s"]}],
    }
    with pytest.raises(NodeError) as error:
        apply(node, control)
    assert error.value.problem.key == "paths.validation_failed" and "/etc/demo.conf" not in node.files
    assert not [path for path in node.files if path.startswith("/tmp/nusy")]


def test_what_is_in_the_way_is_moved_aside_only_when_named_and_never_deleted():
    node = bare()
    node.put("/etc/demo.conf/inner", "precious")
    control = {"id": "demo/conf", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
    assert verdict(apply(node, control), "demo/conf").blocked_by == "demo_confirm: [/etc/demo.conf]"
    apply(node, control, confirm=["/etc/demo.conf"])
    assert node.files["/etc/demo.conf"].text == "a\n"
    assert node.files["/etc/demo.conf.replaced.1/inner"].text == "precious"


def test_two_controls_cannot_own_one_file_whole():
    file = {"path": "/etc/demo.conf", "content": "a"}
    with pytest.raises(InputError) as error:
        subject({"id": "demo/a", "files": [file]}, {"id": "demo/b", "files": [file]})
    assert error.value.problem.key == "state.file_declared_twice"


def test_a_secret_of_several_lines_in_a_file_that_differs():
    node = bare()
    node.put("/etc/demo.pem", "old\n", mode=0o600)
    file = {"path": "/etc/demo.pem", "content": "${secret:key}", "mode": "0600"}
    control = {"id": "demo/key", "files": [file]}
    apply(node, control, secrets={"key": "line one\nline two"})
    assert node.files["/etc/demo.pem"].text == "line one\nline two\n"


def test_what_a_validator_says_of_a_sensitive_file_stays_hidden():
    node = bare()
    file = {"path": "/etc/demo.conf", "content": "BAD", "validate": ["/x/validator", "%s"], "sensitive": True}
    with pytest.raises(NodeError) as error:
        apply(node, {"id": "demo/conf", "files": [file]})
    assert "BAD" not in error.value.problem.found and "not shown" in error.value.problem.found
