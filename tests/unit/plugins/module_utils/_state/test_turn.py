# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real runs at once: the second waits, and plans anew."""

from __future__ import annotations

import contextlib
import fcntl

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import subject as subject_module
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import turn
from declare import subject
from fake_node import FakeNode


@pytest.fixture
def lock(tmp_path, monkeypatch):
    path = tmp_path / "nusy" / "turn.lock"
    monkeypatch.setattr(turn, "FILE", str(path))
    return path


def test_nobody_else_is_there(lock):
    for _again in range(2):
        with turn.taken(HostWriter()) as waited:
            assert not waited
            with lock.open() as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_it_waits_until_the_other_run_has_ended(lock, monkeypatch):
    lock.parent.mkdir()
    other = lock.open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    monkeypatch.setattr(turn.time, "sleep", lambda _seconds: other.close())
    with turn.taken(HostWriter()) as waited:
        assert waited and other.closed


def test_it_does_not_wait_for_ever(lock, monkeypatch):
    lock.parent.mkdir()
    monkeypatch.setattr(turn, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(turn, "POLL_SECONDS", 0.01)
    with lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(NodeError) as error, turn.taken(HostWriter()):
            pytest.fail("two at once")
    assert error.value.problem.key == "state.busy"


def test_who_waited_plans_anew(monkeypatch):
    node = FakeNode()
    ensured = subject({"id": "demo/g", "groups": [{"name": "one"}, {"name": "two"}]})
    plan = ensured.plan(node)

    @contextlib.contextmanager
    def meanwhile(_writer):
        node.groups["one"] = [990, []]  # groupadd would fail on it
        yield True

    monkeypatch.setattr(subject_module.turn, "taken", meanwhile)
    ensured.apply(plan, node, node)
    assert node.effects == ["groupadd two"]
