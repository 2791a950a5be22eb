# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service gets, with the real tools: imports and a compile in its environment, and proofs of its binaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wheels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.look import use
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.model import Tools
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.prove import prove_all
from conftest import available

TRITON = "3.5.1"


@pytest.fixture(scope="module")
def venv() -> str:
    python = str(available(lambda: Path(wheels.matching_python())))
    return str(available(wheels.environment, TRITON, python))


def prove(**binaries: str) -> Any:
    return prove_all(Tools("", "", (), "", "", binaries, "sm_121a", 120), HostReader())


@pytest.mark.parametrize("forced", [False, True])
def test_triton_compiles_with_the_variable_of_role_ptxas_and_not_without(forced, venv, cuda, tmp_path):
    ptxas_file = tmp_path / "ptxas.env"
    ptxas_file.write_text(f'TRITON_PTXAS_PATH="{cuda("13.0")}"\n' if forced else "")
    defaults = {name: option.get("default") for name, option in parse.ARGUMENT_SPEC.items()}
    given = {"venv": venv, "ptxas_file": str(ptxas_file), "imports": ["triton", "triton.nothing"]}
    found = use(parse.runtime({**defaults, **given}), HostReader())
    assert found.unknown == "" and found.imports is not None and found.imports["triton"] == ""
    assert "ModuleNotFoundError" in found.imports["triton.nothing"]
    assert (found.compiled == "") is forced
    assert forced or "sm_121a" in str(found.compiled)


def test_real_binaries_are_proven_and_say_their_version(venv, cuda):
    proofs = prove(PTXAS_BIN=cuda("13.0"), PY_BIN=f"{venv}/bin/python")
    assert {name: proof.state for name, proof in proofs.items()} == {"PTXAS_BIN": "in_sync", "PY_BIN": "in_sync"}
    assert "13.0" in proofs["PTXAS_BIN"].version and wheels.PYTHON in proofs["PY_BIN"].version


def test_a_ptxas_that_is_too_old_is_not_proven(venv):
    (old,) = Path(venv).glob("lib/python3.*/site-packages/triton/backends/nvidia/bin/ptxas")
    proof = prove(PTXAS_BIN=str(old))["PTXAS_BIN"]
    assert proof.state == "drifted" and "sm_121a" in proof.said
