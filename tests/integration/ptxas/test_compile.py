# SPDX-License-Identifier: GPL-3.0-or-later
"""Real compiles by whole Triton releases: what the probe predicts is what happens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wheels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.aot import compile_for
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.parse import triton_version
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.rules import rules_for
from conftest import COMPILED, CUDAS, KEPT, MATRIX, Probe, available

pytestmark = pytest.mark.parametrize("triton", COMPILED, indirect=True, scope="session")

NEEDS_NOTHING = (3, 6)
FAULTS = (
    "missing",
    "unreachable",
    "directory",
    "denied",
    "uninterpreted",
    "unrunnable",
    "failing",
    "garbage",
)


class Installed:
    def __init__(self, version: str, venv: Path) -> None:
        self.version = version
        self.release = tuple(map(int, version.split(".")[:2]))
        self.venv = str(venv)
        parsed = triton_version(version)
        assert parsed is not None
        self.rules = rules_for(parsed)[0]

    def compiles(self, arch: str, environment: dict[str, str], scratch: Path) -> tuple[bool, str]:
        """What really happens, without the probe's advice."""
        done = compile_for(arch_of(arch, "ptxas"), f"{self.venv}/bin/python", environment, HostReader(), 120, scratch)
        assert "ModuleNotFoundError" not in done.stderr, done.stderr  # that would prove nothing about ptxas
        return done.ok, done.stderr


@pytest.fixture(scope="session")
def triton(request: pytest.FixtureRequest) -> Iterator[Installed]:
    python = str(available(lambda: Path(wheels.matching_python())))
    venv = available(wheels.environment, request.param, python)
    yield Installed(request.param, venv)
    if request.param not in KEPT:
        shutil.rmtree(venv.parent)


@pytest.mark.parametrize("cuda_release", CUDAS)
def test_the_verdict_is_what_a_compile_shows(
    triton: Installed, cuda_release: str, cuda: Callable[[str], str], probe: Probe
) -> None:
    result = probe(venv=triton.venv, candidates=[cuda(cuda_release)], compile=True)
    good = result["verdict"] in ("ok", "forced_ok")
    assert result["compiled"]["ok"] is good, result["compiled"]["stderr"]
    # Reasoned out from the rules and the assembling, not corrected by the compile.
    assert not result["explanation"].startswith("A real compile")
    if not good:
        assert "sm_121" in result["compiled"]["stderr"]
    if triton.release >= NEEDS_NOTHING:
        assert result["verdict"] == "ok"


# sm_80 as well in the matrix: here the broken binaries are tried for it.
@pytest.mark.parametrize("arch", ["sm_90a", "sm_121a", *(["sm_80"] if MATRIX else [])])
@pytest.mark.parametrize("cuda_release", CUDAS)
def test_forcing_a_cuda_does_what_the_probe_says(
    triton: Installed, cuda_release: str, arch: str, cuda: Callable[[str], str], probe: Probe, tmp_path: Path
) -> None:
    # The hyphened variable of 3.3 too: a process can have it, though no service can.
    variable = triton.rules.variable(arch_of(arch, "ptxas"))
    environment = {variable: cuda(cuda_release)}
    result = probe(venv=triton.venv, candidates=[], environment=environment, arch=arch)
    compiles, stderr = triton.compiles(arch, environment, tmp_path)
    assert result["current"][variable]["effect"] == ("used" if compiles else "breaks"), stderr
    assert result["works_now"] is compiles


@pytest.mark.parametrize("fault", FAULTS)
def test_forcing_a_broken_binary_does_what_the_probe_says(
    triton: Installed, fault: str, probe: Probe, tmp_path: Path
) -> None:
    path = tmp_path / "ptxas"
    if fault == "unreachable":
        path.symlink_to(path)
    elif fault == "directory":
        path.mkdir()
    elif fault != "missing":
        path.write_text(
            {
                "uninterpreted": "#!/nonexistent/interpreter\n",
                "failing": "#!/bin/sh\nexit 1\n",
                "garbage": "#!/bin/sh\necho ptxas, honestly\n",
                "unrunnable": "\x7fELF, but not for this machine",
            }.get(fault, "#!/bin/sh\nexit 0\n")
        )
        path.chmod(0o644 if fault == "denied" else 0o755)
    arch = "sm_80"  # every release builds for it by itself, so that only the fault counts
    variable = triton.rules.variable(arch_of(arch, "ptxas"))
    environment = {variable: str(path)}
    result = probe(venv=triton.venv, candidates=[], environment=environment, arch=arch)
    compiles, stderr = triton.compiles(arch, environment, tmp_path)
    assert result["current"][variable]["effect"] == ("ignored" if compiles else "breaks"), stderr
    assert result["works_now"] is compiles


def test_a_compile_leaves_nothing_behind(
    triton: Installed, probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = {str(path) for path in Path(triton.venv).rglob("*")}
    probe(venv=triton.venv, candidates=[], arch="sm_80", compile=True)
    assert {str(path) for path in Path(triton.venv).rglob("*")} == before
    assert not list(tmp_path.iterdir())


def test_a_folder_named_triton_beside_the_caller_does_not_answer(
    triton: Installed, probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = probe(venv=triton.venv, candidates=[], arch="sm_80", compile=True)
    assert result["compiled"]["ok"], result["compiled"]["stderr"]
