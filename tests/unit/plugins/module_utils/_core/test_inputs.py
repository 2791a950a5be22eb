# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input, as a table: each one is named by its place, with what was found, why it matters and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import (
    misfits,
    plain_path,
    secrets,
    shown,
    value_misfits,
)

NAMES = {"type": "list", "elements": "str"}
FILE = {"path": {"type": "path", "required": True}, "mode": {"type": "raw"}}
SPEC: dict[str, Any] = {
    "names": NAMES,
    "text": {"type": "str"},
    "flag": {"type": "bool"},
    "count": {"type": "int"},
    "share": {"type": "float"},
    "kind": {"type": "str", "choices": ["restart", "reload"]},
    "kinds": {"type": "list", "elements": "str", "choices": ["gpu", "cpu"]},
    "files": {"type": "list", "elements": "dict", "options": FILE},
    "secrets": {"type": "dict", "no_log": True},
    "token": {"type": "list", "elements": "str", "no_log": True},
}


@pytest.mark.parametrize(
    ("given", "at", "found", "fix"),
    [
        ({"names": "jq"}, "names: a list of texts", "the text 'jq'", "write names: [jq]; on the command line as JSON"),
        ({"names": 5}, "names: a list of texts", "the number 5", "write names: [5]"),
        ({"names": {"a": 1}}, "names: a list of texts", "a mapping (a)", "correct names"),
        ({"names": ["a", None]}, "names[1]: text", "nothing (null)", "give names[1] a value"),
        ({"names": ["a", 1.10]}, "names[1]: text", "the number 1.1", "put the value of names[1] in quotes"),
        ({"names": ["a", ["b"]]}, "names[1]: text", "a list of 1", "correct names[1]"),
        ({"text": True}, "text: text", "the truth value true", "put the value of text in quotes"),
        ({"text": {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}}, "text: text", "a mapping (a, b, c, d, …)", "correct text"),
        ({"flag": "maybe"}, "flag: true or false", "the text 'maybe'", "correct flag"),
        ({"flag": 2}, "flag: true or false", "the number 2", "correct flag"),
        ({"count": "soon"}, "count: a whole number", "the text 'soon'", "correct count"),
        ({"count": True}, "count: a whole number", "the truth value true", "correct count"),
        ({"count": 1.5}, "count: a whole number", "the number 1.5", "correct count"),
        ({"share": "1,5"}, "share: a number", "the text '1,5'", "correct share"),
        ({"kind": "relaod"}, "kind: one of restart, reload", "the text 'relaod'", "write reload"),
        ({"kind": "xyz"}, "kind: one of restart, reload", "the text 'xyz'", "write one of restart, reload"),
        ({"kinds": ["gpu", "gpus"]}, "kinds[1]: one of gpu, cpu", "the text 'gpus'", "write gpu"),
        ({"tex": "a"}, "tex: a name that is documented", "tex, which is none", "call it text"),
        ({"zzz": "a"}, "zzz: a name that is documented", "zzz, which is none", "use one of names, text, flag"),
        (
            {"files": [{"path": "/a"}, {"pth": "/b", "path": "/b"}]},
            "files[1].pth: a name",
            "pth, which",
            "call it path",
        ),
        ({"files": [{"mode": 7}]}, "files[0].path: a path", "nothing", "add files[0].path"),
        ({"files": ["/a"]}, "files[0]: a mapping", "the text '/a'", "correct files[0]"),
        ({"files": [{"path": 5}]}, "files[0].path: a path", "the number 5", "in quotes"),
        ({"secrets": "hunter22"}, "secrets: a mapping", "a text, not shown", "correct secrets"),
        ({"token": "hunter22"}, "token: a list of texts", "a text, not shown", "correct token"),
        ({"token": [2222.5]}, "token[0]: text", "a number, not shown", "in quotes"),
    ],
)
def test_bad_input_is_told_in_four_parts(given, at, found, fix):
    (problem,) = misfits(SPEC, given)
    assert at in problem.wanted and found in problem.found and fix in problem.fix
    assert problem.why and problem.key.startswith("input.")
    assert "hunter22" not in problem.text() and "2222.5" not in problem.text()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"names": [], "text": "", "kinds": []},
        {"names": ["a", 5], "text": 10, "flag": "no", "count": "12", "share": "1.5", "kind": "reload"},
        {"flag": True, "count": -3, "share": 2, "kinds": ["gpu", "cpu"], "secrets": {"a": "b"}},
        {"files": [{"path": "/a", "mode": 0o644}, {"path": "/b"}]},
        # A module's option that is null is one that was not given.
        {"names": None, "files": None},
    ],
)
def test_what_is_as_documented_passes(given):
    assert not list(misfits(SPEC, given))


def test_every_wrong_place_is_named_at_once():
    found = [problem.wanted.split(":")[0] for problem in misfits(SPEC, {"names": 5, "flg": True, "files": [{}]})]
    assert found == ["flg", "names", "files[0].path"]


def test_a_variable_that_is_null_is_not_its_default():
    (problem,) = value_misfits(NAMES, None, "prereqs_packages_tools")
    assert problem.found == "nothing (null)" and "take it out to have the default" in problem.fix


def test_a_long_value_is_shown_by_its_beginning():
    assert len(shown("x" * 500)) < 80


@pytest.mark.parametrize(
    "text", ["", "/", "x/y", "/x/", "//x", "/x//y", "/x/./y", "/x/../y", "/x\ny", "/x\x1b", None, 3], ids=repr
)
def test_a_path_that_could_be_read_in_two_ways_is_none(text):
    assert not plain_path(text)


@pytest.mark.parametrize("text", ["/x", "/x/.y", "/x y/ä", "/x/...", "/etc/systemd/system/x@1.service"])
def test_a_path_written_in_one_way_is_plain(text):
    assert plain_path(text)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"secrets": {"a": "one", "b": ["two"]}}, ["one", "two"]),
        ({"api_key": "one"}, ["one"]),
        ({"texts": {"deep": [{"hf-token": 12345, "password_file": "/x", "n": 1}]}}, ["12345", "/x"]),
        ({"names": [{"Authorization": "x", "access_token": "y"}]}, ["y"]),
        # Documented as none, and words of models.
        ({"path": {"token": "x"}}, []),
        ({"texts": {"bos_token": "<s>", "max_tokens": "9", "tokenizer": "x", "key": "/etc/key.pem"}}, []),
    ],
)
def test_a_secret_is_known_by_its_option_or_where_there_is_none_by_its_name(given: Any, found: list[str]) -> None:
    spec = {**SPEC, "texts": {"type": "dict"}, "path": {"type": "dict", "no_log": False}}
    assert list(secrets(spec, given)) == found
