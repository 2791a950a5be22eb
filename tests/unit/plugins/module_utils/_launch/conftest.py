# SPDX-License-Identifier: GPL-3.0-or-later
"""A node on which every precondition of every launcher holds."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_node import LaunchNode, make


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A launcher gives its process over to a program as systems do, with signals that end it. Here it goes on."""
    before = {one: signal.getsignal(one) for one in (signal.SIGPIPE, signal.SIGXFSZ)}
    yield
    for one, was in before.items():
        signal.signal(one, was)


@pytest.fixture
def node(tmp_path: Path) -> LaunchNode:
    return make(tmp_path)


@pytest.fixture
def head(node: LaunchNode) -> Iterator[LaunchNode]:
    """Somebody listens where a worker looks for its head."""
    with socket.create_server(("127.0.0.1", node.port)):
        yield node
