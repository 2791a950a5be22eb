# SPDX-License-Identifier: GPL-3.0-or-later
"""Use of an environment, with a Python that is there: the one that runs this test."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.look import use
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.parse import runtime
from test_runtime_parse import cache, params


@pytest.fixture
def venv(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nenv > {tmp_path}/env\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path


def look(venv, **given):
    wanted = {"venv": str(venv / "venv"), "ptxas_file": str(venv / "ptxas.env"), "compile": False, **given}
    return use(runtime(params(**wanted)), HostReader())


def test_each_module_is_judged_and_gets_the_environment_of_a_service(venv):
    (venv / "ptxas.env").write_text('TRITON_PTXAS_PATH="/p"\nOTHER="no"\n')
    caches = [cache("/var/lib/x", 1, "VLLM_CACHE_ROOT")]
    found = look(venv, imports=["json", "no_such_module"], environment={"CUDA_HOME": "/cuda"}, caches=caches)
    assert found.imports["json"] == "" and found.imports["no_such_module"].startswith("ModuleNotFoundError")
    got = dict(line.split("=", 1) for line in (venv / "env").read_text().splitlines() if "=" in line)
    assert (got["CUDA_HOME"], got["MAX_JOBS"], got["TRITON_PTXAS_PATH"]) == ("/cuda", "2", "/p")
    # A look leaves nothing: what an import writes goes into a folder that is removed.
    assert got["VLLM_CACHE_ROOT"] == got["HOME"] != "/var/lib/x" and "OTHER" not in got


def test_no_python_is_unknown_and_one_that_dies_is_not_fine(venv):
    python = venv / "venv" / "bin" / "python"
    python.write_text("#!/bin/sh\necho 'Segmentation fault' >&2\nexit 139\n")
    assert "139" in look(venv, imports=["torch"]).imports["torch"]
    python.unlink()
    assert "role vllm_venv makes it" in look(venv, imports=["torch"]).unknown


def test_one_that_hangs_is_stopped(venv):
    (venv / "venv" / "bin" / "python").write_text("#!/bin/sh\nsleep 60\n")
    assert "still running" in look(venv, imports=["torch"], timeout=0.5).unknown


def test_a_compile_that_cannot_work_says_why(venv):
    assert "triton" in look(venv, compile=True).compiled
