# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases are tried: a few in every run, all of them with PTXAS_MATRIX=1."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # wheels.py; this folder is no package

import wheels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import request_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.probe import examined
from ansible_collections.nusy.dgx_spark.plugins.modules.ptxas_probe import SPEC

MATRIX = os.environ.get("PTXAS_MATRIX", "") not in ("", "0")
ALL = tuple(pin.partition("==")[2] for pin in wheels.PINS if pin.startswith("triton=="))
NEWEST = ALL[-1]
TRITONS = ALL if MATRIX else ("3.4.0", "3.5.1", "3.6.0", NEWEST)
COMPILED = ALL if MATRIX else ("3.5.1", NEWEST)
# Kept whole from run to run; the others (up to 900 MB each) go when their tests are done.
KEPT = ("3.5.1", NEWEST)
CUDAS = {
    "12.4": ("nvidia-cuda-nvcc-cu12", "12.4.131"),
    "12.8": ("nvidia-cuda-nvcc-cu12", "12.8.93"),
    "12.9": ("nvidia-cuda-nvcc-cu12", "12.9.86"),
    "13.0": ("nvidia-cuda-nvcc", "13.0.88"),
}
if MATRIX:  # on both sides of the limits of Triton 3.1 and 3.2
    CUDAS |= {f"12.{minor}": ("nvidia-cuda-nvcc-cu12", full) for minor, full in ((5, "12.5.82"), (6, "12.6.85"))}

Probe = Callable[..., dict[str, Any]]


def available(get: Callable[..., Path], *arguments: str) -> Path:
    """Without a wheel nothing is proven: a failure where CI promises an index, a skip elsewhere."""
    try:
        return get(*arguments)
    except wheels.Unavailable as error:
        if os.environ.get("CI") == "true" and "has no wheel for" not in str(error):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cuda() -> Callable[[str], str]:
    """The ptxas of a CUDA release, as an absolute path."""
    return lambda release: str(available(wheels.ptxas, *CUDAS[release]))


@pytest.fixture(scope="session")
def vendored() -> Callable[[str], str]:
    """The folder ``triton`` of a release: out of a whole installation where one is needed anyway."""

    def folder(version: str) -> str:
        try:
            python = wheels.matching_python() if version in KEPT else ""
        except wheels.Unavailable:
            python = ""
        if python:
            venv = available(wheels.environment, version, python)
            (found,) = venv.glob("lib/python3.*/site-packages/triton")
            return str(found)
        return str(available(wheels.binaries, "triton", version) / "triton")

    return folder


@pytest.fixture(scope="session")
def probe() -> Probe:
    """The module's own code with its own defaults, on this machine, without Ansible around it."""

    def run(*, process: Mapping[str, str] | None = None, **params: Any) -> dict[str, Any]:
        defaults = {name: option.get("default") for name, option in SPEC.items()}
        return examined(request_of({**defaults, **params}, process or {}), HostReader())

    return run
