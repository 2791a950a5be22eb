# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of any origin becomes bounded, printable text."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import text
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[2J", "\\u001b[2J"),
        ("a\rb\x00", "a\\u000db\\u0000"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("lone \ud800", "lone \\ud800"),
        ("ünïcode 漢字", "ünïcode 漢字"),
        ("x" * 101, "x" * 100 + "… (1 more characters)"),
    ],
)
def test_clean(raw: str, safe: str) -> None:
    assert text.clean(raw, 100) == safe


def test_line_is_one_short_line() -> None:
    assert text.line("  two\n lines\tand \u2028 more ") == "two lines and more"
    assert text.line("x" * 5000, 20) == "x" * 19 + "…"
    assert text.line(None) == "None"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ensure the base of the node", "ensure-the-base-of-the-node"),
        ("a/b: 'c'", "a-b-c"),
        ("--", None),
        ("節点", None),
    ],
)
def test_slug(name: str, expected: str | None) -> None:
    found = text.slug(name)
    if expected is None:
        assert len(found) == 8
        assert found != text.slug(name + "x")
    else:
        assert found == expected


def test_long_slugs_stay_apart() -> None:
    assert text.slug("x" * 200 + "a") != text.slug("x" * 200 + "b")
    assert len(text.slug("x" * 200)) <= 80


def test_values_are_bounded_json() -> None:
    nested: object = "deep"
    for _ in range(20):
        nested = {"in": [nested]}
    wild = {
        "nan": float("nan"),
        "huge": 1 << 80,
        "bytes": b"\xff\x00",
        "many": list(range(1000)),
        "nested": nested,
        3: {1, 2},
        "object": object,
        "true": True,
    }
    found = text.value(wild)
    encoded = json.dumps(found, allow_nan=False)
    assert len(encoded) < 5000
    assert found["true"] is True
    assert found["huge"] == str(1 << 80)
    assert found["many"][-1] == "… 900 more"
    assert json.loads(encoded) == found


def test_differing_texts_are_cut_where_they_part() -> None:
    same = "equal line\n" * 1000
    before, after = text.differing(same + "old\n", same + "new\n")
    assert before == "… (11000 equal characters before this)\nold\n"
    assert after.endswith("\nnew\n")
    assert text.differing("a", "b") == ("a", "b")
    longer = text.differing("x" * 5000, "x" * 5001)
    assert longer[0] != longer[1]


@given(st.text(alphabet=st.characters()))
def test_whatever_comes_in_is_printable_utf8(raw: str) -> None:
    found = text.clean(raw, 50)
    found.encode("utf-8")
    assert not [c for c in found if ord(c) < 32 and c not in "\n\t"]
    assert "\n" not in text.line(raw)
    assert text.slug(raw)
