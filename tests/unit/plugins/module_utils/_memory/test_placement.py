# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine goes where."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse, placement

GIB = 2**30


def engine(name: str, gib: float, nodes: int = 1) -> dict[str, Any]:
    """That takes so much on each of its nodes."""
    none = dict.fromkeys(("activation_gib", "process_gib", "kv_cache_gib"), 0)
    return {"name": name, "weights_gib": gib * nodes, "nodes": nodes, "enforce_eager": True, **none}


def placed(engines: list[dict[str, Any]], **rooms: float) -> dict[str, Any]:
    plans = {node: parse.plan(engines, int(gib * GIB), 0, 0) for node, gib in rooms.items()}
    return placement.place(plans, parse.shares(engines))


@pytest.mark.parametrize(
    ("engines", "rooms", "where"),
    [
        ([], {"a": 1}, {}),
        ([engine("x", 5)], {"a": 4, "b": 6}, {"x": ["b"]}),
        # Together on one node, so that the other is left whole.
        ([engine("x", 5), engine("y", 5)], {"a": 10, "b": 10}, {"x": ["a"], "y": ["a"]}),
        # Taking the largest to the fullest first would leave the three others no way: 6+4 and 5+5, not 6+5.
        (
            [engine("f", 5), engine("g", 6), engine("h", 4), engine("i", 5)],
            {"a": 10, "b": 10},
            {"g": ["a"], "h": ["a"], "f": ["b"], "i": ["b"]},
        ),
        ([engine("wide", 7, 2), engine("x", 3)], {"a": 8, "b": 10}, {"wide": ["a", "b"], "x": ["b"]}),
    ],
)
def test_every_engine_gets_a_place_that_has_room(engines: Any, rooms: dict[str, float], where: dict[str, Any]) -> None:
    found = placed(engines, **rooms)
    assert (found["fits"], found["engines"], found["unplaced"]) == (True, where, [])
    assert all(node["left_bytes"] >= 0 for node in found["nodes"].values())


def test_what_a_first_guess_would_miss_is_found() -> None:
    """Best fit, largest first, puts 7 with 3, and 6 with 4, and has no room for the last of 5, 5, 5."""
    engines = [engine(name, gib) for name, gib in zip("abcdefg", (7, 6, 5, 5, 4, 3, 3), strict=True)]
    found = placed(engines, p=11, q=11, r=11)
    assert found["fits"]
    assert sorted(node["planned_bytes"] // GIB for node in found["nodes"].values()) == [11, 11, 11]


def test_an_engine_that_fits_nowhere_is_named_with_its_figures() -> None:
    found = placed([engine("small", 1), engine("huge", 12)], a=10, b=8)
    assert (found["fits"], found["unplaced"], found["engines"]["small"]) == (False, ["huge"], ["b"])
    assert found["explanation"].startswith("huge needs a node with 12.00 GiB for it, and the emptiest of 2 has 10.00")


def test_a_shared_engine_wants_as_many_nodes_as_it_says() -> None:
    found = placed([engine("wide", 6, 3)], a=10, b=10)
    assert found["unplaced"] == ["wide"]
    assert "wide needs 3 nodes with 6.00 GiB" in found["explanation"]


def test_engines_that_fit_alone_and_not_together_are_told_apart() -> None:
    found = placed([engine("x", 6), engine("y", 6)], a=10)
    assert len(found["unplaced"]) == 1
    assert found["explanation"].startswith("each engine fits by itself, and not all at once")


def test_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "TRIES", 50)
    found = placed([engine(f"e{n}", 3 + n / 100) for n in range(12)], **{f"n{n}": 6.0 + n / 1000 for n in range(6)})
    assert not found["fits"]
    assert "no way was found in 50 tries" in found["explanation"]


def test_nodes_that_are_alike_are_not_tried_one_by_one() -> None:
    """Sixteen of forty alike can be chosen in 6e10 ways, and all are the same one."""
    engines = [engine(f"e{number}", 70, 16) for number in range(4)]
    found = placed(engines, **{f"n{number:02}": 121.69 for number in range(40)})
    assert not found["fits"] and len(found["unplaced"]) == 2
    assert found["engines"]["e0"] == [f"n{number:02}" for number in range(16)]


def test_the_table_has_a_line_for_each_node() -> None:
    assert placed([engine("x", 5.5)], a=8, b=4)["table"].splitlines() == [
        "node                  has   system  engines     left  GiB",
        "a                    8.00     0.00     5.50     2.50  x 5.50",
        "b                    4.00     0.00     0.00     4.00  nothing",
    ]


def test_engines_that_exclude_each_other_may_share_a_node() -> None:
    one, two = {**engine("one", 6), "conflicts": ["two"]}, engine("two", 7)
    assert placed([one, two, engine("x", 2)], a=9)["engines"] == {"one": ["a"], "two": ["a"], "x": ["a"]}
    found = placed([{**one, "conflicts": []}, two, engine("x", 2)], a=9)
    assert not found["fits"]
    # Two nodes with the same room are not the same for somebody who excludes the engine of one of them.
    found = placed([engine("p", 6), engine("q", 6), {**engine("r", 6), "conflicts": ["q"]}], a=9, b=9)
    assert found["fits"] and found["engines"]["r"] == found["engines"]["q"] != found["engines"]["p"]


def test_what_nobody_knows_is_placed_nowhere_for_sure() -> None:
    found = placed([{"name": "dark", "unknown": ["weights_gib"], "kv_cache_gib": 1}], a=90)
    assert not found["fits"] and "nobody knows dark: weights" in found["explanation"]


def test_a_fleet_has_more_engines_and_more_kinds_of_nodes_than_python_has_frames() -> None:
    found = placed(
        [engine(f"e{number:04}", 5) for number in range(1100)], **{f"n{node:02}": 110.0 for node in range(50)}
    )
    assert found["fits"] and {len(node["engines"]) for node in found["nodes"].values()} == {22}
    kinds = [[f"n{node}"] for node in range(1100)]
    assert [*placement._sets(kinds, 1)] == [(f"n{node}",) for node in range(1100)]
    assert [*placement._sets([["a", "b"], ["c"]], 2)] == [("a", "b"), ("a", "c")]
