# SPDX-License-Identifier: GPL-3.0-or-later
"""Several who ask at once: that they do, what they got, and what it comes to."""

from __future__ import annotations

import resource
import threading
import time

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Fault, Reply, percentile
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.sessions import at_once


def test_all_ask_at_the_same_time_and_never_the_same() -> None:
    together, names, guard = threading.Barrier(12), [], threading.Lock()

    def ask(name: str) -> Reply:
        # Whoever is alone here waits in vain.
        together.wait(10)
        with guard:
            names.append(name)
        return Reply("", 0.1, 0.5, 3)

    found = at_once(ask, sessions=12, each=2, seconds=60)
    assert (found.requests, found.tokens, len(set(names))) == (24, 72, 24)
    assert found.totals == (0.5,) * 24 and found.firsts == (0.1,) * 24 and not found.faults


def test_faults_are_counted_by_their_kind_and_end_nothing() -> None:
    def ask(name: str) -> Reply:
        if name.endswith(".1"):
            raise Fault("busy", f"HTTP 429 of {name}")
        return Reply("", 0.1, 0.5, None)

    found = at_once(ask, sessions=3, each=2, seconds=60)
    assert found.faults == {"busy": 3} and found.said == {"busy": "HTTP 429 of 1.1"}
    assert found.requests == 6 and found.tokens is None


def test_nothing_is_begun_when_the_time_is_over() -> None:
    def ask(_name: str) -> Reply:
        time.sleep(0.2)
        return Reply("", 0.1, 0.2, 1)

    assert at_once(ask, sessions=2, each=1000, seconds=0.5).requests == 6


def test_room_is_made_for_the_connections_of_all() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    rooms: set[int] = set()

    def ask(_name: str) -> Reply:
        rooms.add(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        return Reply("", 0.1, 0.5, 1)

    resource.setrlimit(resource.RLIMIT_NOFILE, (150, before[1]))
    try:
        at_once(ask, sessions=40, each=1, seconds=60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert rooms == {180}


def test_a_bug_is_not_taken_for_an_answer() -> None:
    def ask(_name: str) -> Reply:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        at_once(ask, sessions=2, each=1, seconds=1)


@pytest.mark.parametrize(
    ("values", "percent", "wanted"),
    [([5.0], 95, 5.0), ([3.0, 1.0, 2.0], 50, 2.0), ([float(n) for n in range(1, 21)], 95, 19.0),
     ([float(n) for n in range(1, 1001)], 95, 950.0), ([float(n) for n in range(1, 101)], 99, 99.0),
     ([1.0, 9.0], 99, 9.0), ([1.0, 9.0], 50, 1.0)],
)  # fmt: skip
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: float, wanted: float) -> None:
    assert percentile(values, percent) == wanted
