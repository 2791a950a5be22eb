# SPDX-License-Identifier: GPL-3.0-or-later
"""Every control of every role is broken by hand on a node or machine, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from damage import NOT_BROKEN, NOT_REPAIRED, Mark, findings, marked
from rules import Tree

HERE = Tree(Path(__file__).resolve().parents[2])
TEST = "tests/demo/test_demo.py::test_demo"


def test_every_control_is_broken_by_a_test() -> None:
    controls = {control["id"] for role in HERE.roles for control in HERE.controls(role)}
    found = list(findings(controls, marked(HERE.root), NOT_REPAIRED, NOT_BROKEN))
    assert not found, "\n  " + "\n  ".join(found)


def test_marks_are_those_of_the_tests_that_pytest_would_run(tmp_path: Path) -> None:
    """With their parameters, of a class or a file too, and of nothing that only looks like a test."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "test_demo.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.names('demo/all')\n"
        "DAMAGE = {name: '' for name in 'ab'}\n"
        "@pytest.mark.breaks(*DAMAGE, role='demo')\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_demo(number): ...\n"
        "@pytest.mark.breaks('demo/never')\n"
        "def helper(): ...\n"
    )
    found = marked(tmp_path, ("demo",))
    assert {(mark.name, mark.control) for mark in found} == {
        ("names", "demo/all"),
        ("breaks", "demo/a"),
        ("breaks", "demo/b"),
    }
    assert {mark.test for mark in found} == {"demo/test_demo.py::test_demo"} and len(found) == 3


@pytest.mark.parametrize(
    ("marks", "not_repaired", "not_broken", "expected"),
    [
        ({"breaks": "demo/one"}, {}, {}, ""),
        ({"names": "demo/one"}, {"demo/one": "why"}, {}, ""),
        ({}, {}, {"demo/one": "why"}, ""),
        ({}, {}, {}, "demo/one: no test breaks it by hand"),
        # Named, and nobody says why it is not repaired.
        ({"names": "demo/one"}, {}, {}, "demo/one: no test breaks it by hand"),
        ({}, {"demo/one": "why"}, {}, "demo/one: no test breaks it and finds it named"),
        ({"breaks": "demo/one"}, {"demo/one": "why"}, {}, "it needs no reason"),
        ({"breaks": "demo/one"}, {}, {"demo/one": "why"}, "it needs no reason"),
        ({"names": "demo/one"}, {}, {"demo/one": "why"}, "so it can be broken"),
        ({"breaks": "demo/two"}, {}, {"demo/one": "why"}, "there is no control demo/two"),
        ({"breaks": "demo/one"}, {"demo/two": "why"}, {}, "demo/two has a reason and is no control"),
    ],
)
def test_what_is_not_proven_is_found(marks, not_repaired, not_broken, expected) -> None:
    given = [Mark(name, control, TEST) for name, control in marks.items()]
    found = "\n".join(findings({"demo/one"}, given, not_repaired, not_broken))
    assert expected in found and bool(expected) == bool(found)
