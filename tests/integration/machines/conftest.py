# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with a kernel of their own: one for the session, reset in a second where a test asks."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("machines", "nodes")]

import machine_testing
import machines as machine_control
import testing


@pytest.fixture(scope="session")
def _machine() -> Iterator[machine_testing.KernelMachine]:
    if missing := machine_control.doctor():
        text = "no test machines on this host, missing: " + "; ".join(missing)
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    name = f"m{os.getpid()}"
    yield machine_testing.start(name)
    machine_control.down([name])


@pytest.fixture(scope="module")
def machine(_machine: machine_testing.KernelMachine) -> machine_testing.KernelMachine:
    """As it is right after its first boot, for all tests of a file."""
    return _machine.reset()


@pytest.fixture
def fresh_machine(_machine: machine_testing.KernelMachine) -> machine_testing.KernelMachine:
    """As it is right after its first boot, for one test. Not beside ``machine`` in one file: it is the same one."""
    return _machine.reset()


@pytest.fixture
def ansible_playbook(tmp_path: Path) -> Callable[..., testing.PlayResult]:
    """``ansible_playbook(play, machines, *arguments, check=…, report=…, extra=…)``."""

    def run(play: object, machines: list[testing.Machine], *arguments: str, **options: object) -> testing.PlayResult:
        return testing.ansible_playbook(play, machines, tmp_path, *arguments, **options)

    return functools.wraps(testing.ansible_playbook)(run)
