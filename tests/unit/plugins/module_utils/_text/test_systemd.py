# SPDX-License-Identifier: GPL-3.0-or-later
"""What we write is what systemd reads: asked of systemd's own parser and of a real shell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import (
    command_line,
    environment_text,
    parse_environment,
)
from ansible_collections.nusy.dgx_spark.tests.tools.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).parents[5]
# Every character that any of the parsers treats as special, often, beside all of Unicode.
SPECIAL = "\"'`\\$%#;=:!@|-+~{}()*? \t\n\r\x01\x1b\x7fab0Ä"
TEXT = st.text(st.one_of(st.sampled_from(SPECIAL), st.characters(exclude_categories=["Cs"], exclude_characters="\0")))


def systemd_takes(text: str) -> bool:
    """No noncharacters: refused by us, tested below."""
    return not any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in text)


VALUES = TEXT.filter(systemd_takes)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
FILES = st.text(st.sampled_from("\"'\\$`#;= \t\n\rABab_1Ä"), max_size=40)


class Oracle:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, REPOSITORY / "tests/tools/systemd_oracle.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self.answer()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def ask(self, **question: str) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()


@pytest.fixture(scope="module")
def systemd() -> Iterator[Oracle]:
    oracle = Oracle()
    if "unavailable" in oracle.first:
        pytest.skip(oracle.first["unavailable"])
    yield oracle
    oracle.process.kill()
    oracle.process.wait()


@settings(max_examples=examples(400), deadline=None)
@given(variables=st.dictionaries(NAMES, VALUES, max_size=4))
def test_environment_text_is_read_back_by_systemd_as_it_was(systemd: Oracle, variables: dict[str, str]) -> None:
    text = environment_text(variables)
    assert systemd.ask(environment=text) == variables
    assert parse_environment(text) == variables


@settings(max_examples=examples(1000), deadline=None)
@given(text=FILES)
def test_parse_environment_reads_any_file_as_systemd_does(systemd: Oracle, text: str) -> None:
    # Until systemd 254 a backslash joined the line after a comment to it; see the next test.
    if any(line.lstrip(" \t")[:1] in ("#", ";") and "\\" in line for line in text.replace("\r", "\n").split("\n")):
        return
    assert parse_environment(text) == systemd.ask(environment=text)


@settings(max_examples=examples(50), deadline=None)
@given(variables=st.dictionaries(NAMES.map("V".__add__), TEXT.filter(systemd_takes), max_size=4))
def test_environment_text_gives_a_shell_the_same_values(variables: dict[str, str]) -> None:
    show = "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('V')}))"
    script = f'set -a\n{environment_text(variables)}\nexec "$0" -c "$1"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable, show], env={}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == variables


@settings(max_examples=examples(400), deadline=None)
@given(arguments=st.lists(VALUES, max_size=4))
def test_command_line_gives_a_program_exactly_these_arguments(systemd: Oracle, arguments: list[str]) -> None:
    argv = ["/usr/bin/some-program_1.2", *arguments]
    assert systemd.ask(command=command_line(argv)) == argv


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("# A=1\n;B=2\nC=3", {"C": "3"}),
        ("A = 1 2 \t\n", {"A": "1 2"}),
        ("A='it''s' \" b\"\n", {"A": "its b"}),
        ("A=1\\\n2\n", {"A": "12"}),
        ('A="1\\\n2\n3"\n', {"A": "12\n3"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("1A=1\nB C=2\nD\n=5\nE=\n", {"E": ""}),
        ('A="open', {"A": "open"}),
        ("# a comment ends here \\\nA=1\n", {"A": "1"}),
    ],
)
def test_parse_environment(text: str, variables: dict[str, str]) -> None:
    assert parse_environment(text) == variables


def test_environment_text_is_sorted_whatever_the_order_of_the_input() -> None:
    assert environment_text({"B": "2", "A": 'a "b" $c'}) == 'A="a \\"b\\" \\$c"\nB="2"\n'
    assert environment_text({}) == ""


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A\n", "Ä", "A=B"])
def test_environment_text_refuses_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not a variable name"):
        environment_text({name: "1"})


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "\ufdd0", "\uffff", "\U0001fffe"])
def test_text_that_systemd_drops_is_refused(systemd: Oracle, value: str) -> None:
    with pytest.raises(ValueError, match=r"the value of A holds .* at position"):
        environment_text({"A": value})
    with pytest.raises(ValueError, match=r"item 1 holds .* at position"):
        command_line(["/bin/true", value])
    assert parse_environment(f'A="{value}"') == {}
    if "\0" not in value:  # the refusal is right: systemd itself drops it, or the whole file
        assert not systemd.ask(environment=f'A="{value}"')


@pytest.mark.parametrize(
    "argv", [[], ["true"], ["./true"], ["/bin/"], ["-/bin/true"], ["/a b"], ["/$x"], ["/%h"], [""]]
)
def test_command_line_refuses_what_names_no_program(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="program"):
        command_line(argv)


def test_command_line_quotes_only_what_needs_it() -> None:
    assert command_line(["/bin/echo", "--port=80", "a b", "$HOME", "100%", ";"]) == (
        '/bin/echo --port=80 "a b" "$$HOME" "100%%" ";"'
    )
