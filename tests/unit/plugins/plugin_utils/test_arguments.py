# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters take as a list of arguments."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleTypeError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.arguments import arguments


def test_whole_numbers_become_text() -> None:
    assert arguments("x", ("ls", 8000, "")) == ["ls", "8000", ""]
    assert arguments("x", []) == []


@pytest.mark.parametrize("argv", ["ls -l", b"ls", {"a": 1}, None, 5, iter(["ls"])])
def test_what_is_no_list_is_refused_by_the_name_of_the_filter(argv: object) -> None:
    with pytest.raises(AnsibleTypeError, match="some_filter: wants a list"):
        arguments("some_filter", argv)


@pytest.mark.parametrize("word", [True, None, 1.5, ["x"], b"x"])
def test_what_is_no_argument_is_refused_by_its_place(word: object) -> None:
    with pytest.raises(AnsibleTypeError, match="some_filter: item 1 is"):
        arguments("some_filter", ["ls", word])
