# SPDX-License-Identifier: GPL-3.0-or-later
"""Files line by line: what counts as a line, and whose line it is."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import paths
from declare import subject
from fake_node import FakeNode


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
    assert paths.lines_of(text) == lines


@pytest.mark.parametrize("content", ["a\r\nb\fc\n", "x\u2028y\n", "a\n\n\nb\n", "\n"])
def test_text_is_written_to_the_letter(content):
    node, ensured = FakeNode(), subject({"id": "demo/f", "files": [{"path": "/etc/f", "content": content}]})
    converge(ensured, ensured.plan(node), node, node)
    assert node.files["/etc/f"].text == content
    assert not ensured.plan(node).changed
