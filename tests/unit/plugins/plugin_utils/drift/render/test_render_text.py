# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleaning, cutting and wrapping of text that nobody can be trusted to have written."""

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render import text
from hypothesis import given
from hypothesis import strategies as st

# Surrogates included: Python's JSON reader makes them from "\ud800".
ANY_TEXT = st.text(st.characters(codec=None), max_size=300)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("Grüße 漢字", "Grüße 漢字"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("a\u202eb", "a\\u202eb"),
        ("\u200b\ufeff\u2028", "\\u200b\\ufeff\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("non\xa0breaking", "non\\xa0breaking"),
        ("two\r\nlines\tand\ra tab", "two\nlines\tand\\ra tab"),
        (None, ""),
        (True, "true"),
        (7, "7"),
        ({"b": [1, None], "a": "\x07"}, '{"a": "\\u0007", "b": [1, null]}'),
        ({1: "a", "b": 2}, "<dict>"),
    ],
)
def test_clean_makes_the_invisible_visible(given, shown):
    assert text.clean(given) == shown


def test_clean_cuts_before_it_escapes():
    shown = text.clean("\x1b" * 1_000_000, limit=10)
    assert shown == "\\x1b" * 10 + " [… 999990 more characters]"


def test_clean_of_a_loop_does_not_end_in_recursion():
    loop: list[object] = []
    loop.append(loop)
    assert text.clean(loop) == "<list>"


@given(ANY_TEXT)
def test_clean_leaves_only_printable_text(value):
    shown = text.clean(value)
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    assert text.clean(shown) == shown
    shown.encode()


@given(ANY_TEXT)
def test_one_line_is_one_line(value):
    assert text.one_line(value).isprintable()


@given(ANY_TEXT.map(text.one_line), st.integers(min_value=8, max_value=100))
def test_clip_and_wrap_keep_to_the_columns(value, columns):
    assert text.width(text.clip(value, columns)) <= columns
    assert text.width(text.clip_middle(value, columns)) <= columns
    lines = text.wrap(value, columns)
    assert all(text.width(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == value.replace(" ", "")


def test_wrap_of_a_command_can_be_pasted():
    assert text.wrap("run --one --two spark-1", 14, " \\") == ["run --one \\", "--two spark-1"]
    assert text.wrap("""run -e '{"a": ["b c"]}' -x""", 10, " \\") == ["run \\", """-e '{"a": ["b c"]}' \\""", "-x"]


def test_clip_middle_keeps_the_end_of_a_path():
    assert text.clip_middle("/opt/nusy/venvs/vllm/bin/ptxas", 20) == "/opt/...lm/bin/ptxas"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (90, "1 minute"),
        (7200, "2 hours"),
        (86400 * 12, "12 days"),
        (1e308, "9999 years"),
    ],
)
def test_duration_uses_the_largest_sensible_unit(seconds, said):
    assert text.duration(seconds) == said


def test_listing_counts_what_it_leaves_out():
    assert text.listing(["a", "b", "c"], 40) == "a, b, c"
    assert text.listing([f"spark-{n}" for n in range(20)], 80, 3) == "spark-0, spark-1, spark-2 and 17 more"
    assert text.listing(["x" * 100], 40) == "x" * 23 + "..."
