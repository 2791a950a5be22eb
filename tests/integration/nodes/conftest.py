# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes for tests: two that stay up for the session, fresh ones, plays, apt repositories."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "nodes"))

import apt_repo as apt
import host
import nodes as node_control
import testing

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def _able() -> None:
    if missing := host.doctor():
        text = "no test nodes on this machine, missing: " + "; ".join(missing)
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)


@pytest.fixture(scope="module")
def make_node(_able: None) -> Iterator[Callable[..., testing.Machine]]:
    """Start a node of a given flavour, with read-only mounts; it is removed after the file.

    All nodes of a session together would be more than systemd can watch files on: 128 inotify instances a user.
    """
    started: list[str] = []

    def make(flavour: str = "base", mounts: tuple[str, ...] = ()) -> testing.Machine:
        # The process id keeps two sessions on one machine apart.
        name = f"t{os.getpid()}-{next(_numbers)}"
        (machine,) = testing.start([name], flavour=flavour, mounts=mounts)
        started.append(name)
        return machine

    yield make
    node_control.down(started)


@pytest.fixture(scope="session")
def nodes(_able: None) -> Iterator[tuple[testing.Machine, testing.Machine]]:
    """Two nodes, shared by all tests of the session: leave them as you found them."""
    names = [f"t{os.getpid()}-a", f"t{os.getpid()}-b"]
    first, second = testing.start(names)
    yield first, second
    node_control.down(names)


@pytest.fixture(scope="module")
def full_node(make_node: Callable[..., testing.Machine]) -> testing.Machine:
    """One with python3-apt, so that Ansible's own apt module works: for comparing with it."""
    return make_node("full")


@pytest.fixture
def node(nodes: tuple[testing.Machine, testing.Machine]) -> testing.Machine:
    """The first of ``nodes``, for a test that takes away what would be in the way of another."""
    return nodes[0]


@pytest.fixture
def fresh_node(nodes: tuple[testing.Machine, testing.Machine]) -> testing.Machine:
    """The first of ``nodes``, as it was right after its first boot."""
    return nodes[0].reset()


@pytest.fixture
def ansible_playbook(tmp_path: Path) -> Callable[..., testing.PlayResult]:
    """``ansible_playbook(play, machines, *arguments, check=…, report=…, extra=…)``."""

    def run(play: object, machines: list[testing.Machine], *arguments: str, **options: object) -> testing.PlayResult:
        return testing.ansible_playbook(play, machines, tmp_path, *arguments, **options)

    return functools.wraps(testing.ansible_playbook)(run)


@pytest.fixture
def apt_repo(_able: None) -> Iterator[apt.AptRepo]:
    """An empty signed repository that nodes can ``use``."""
    repository = apt.AptRepo(f"t{os.getpid()}-{next(_numbers)}")
    repository.publish()
    yield repository
    repository.remove()
