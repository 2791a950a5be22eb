# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose Triton 3.5.1 cannot compile for a Spark, made one that does: as the drift report tells it.

Everything is real: the wheel of Triton, built into an environment by role vllm_venv, NVIDIA's wheels
as the toolkit, and a kernel compiled for sm_121a with what services get. Only the GPU is missing,
which a compile does not need.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import testing

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "integration" / "cuda"))

import parts

LOCK = TESTS.parent / "roles" / "vllm_venv" / "files" / "small" / "1-triton.lock"
CACHE = TESTS.parent / "build" / "cache" / "wheelhouse"
TOOLKIT = "/usr/local/lib/nusy/cuda/13.0"
ROLES = ("prereqs", "cuda_toolchain", "vllm_venv", "ptxas", "vllm_runtime")
# What was there when the trouble began: somebody had followed the first half of a guide.
HALF = ("prereqs", "vllm_venv")
EXTRA: dict[str, Any] = {
    # A container may not keep a clock.
    "prereqs_skip_controls": ["prereqs/time_sync"],
    "prereqs_packages_fabric": [],
    "cuda_toolchain_source": "wheel",
    "cuda_toolchain_find_links": "/srv/cuda-wheels",
    "vllm_venv_find_links": "/srv/triton-wheels",
    "vllm_venv_interpreter": "/usr/bin/python3.13",
    "vllm_venv_python": "3.13",
    "vllm_venv_stages": [{"name": "triton", "lock": LOCK.read_text()}],
    "vllm_venv_imports": ["triton"],
    "vllm_venv_cuda": False,
    "vllm_venv_size_mib": 700,
    "vllm_runtime_cuda_home": TOOLKIT,
    "vllm_runtime_imports": ["triton"],
}


def wheel() -> Path:
    """A folder with the wheel that the lock names for the Python of a node."""
    folder = CACHE / f"triton-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    argv += ["--python-version=3.13", "--platform=manylinux_2_28_x86_64", "-d", str(folder), "-r", str(LOCK)]
    if not [*folder.glob("*.whl")]:
        subprocess.run(argv, check=True, capture_output=True, timeout=540, stdin=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def node(make_node: Any) -> Any:
    return make_node(mounts=(f"{wheel()}:/srv/triton-wheels", f"{parts.wheels()}:/srv/cuda-wheels"))


def run(node: Any, directory: Path, roles: tuple[str, ...], *, check: bool) -> dict[str, dict[str, Any]]:
    """The controls of its drift report, by id."""
    play = [{"hosts": "all", "gather_facts": False, "roles": [f"nusy.dgx_spark.{role}" for role in roles]}]
    done = testing.ansible_playbook(play, [node], directory, check=check, extra=EXTRA, report=True).assert_ok()
    (host,) = done.report["hosts"]
    return {control["id"]: control for control in host["controls"]}


@pytest.mark.names("vllm_runtime/compiles", "ptxas/assembles")
def test_triton_3_5_1_compiles_for_a_spark_once_all_is_applied(node: Any, tmp_path: Path) -> None:
    run(node, tmp_path, HALF, check=False)
    before = run(node, tmp_path, ROLES, check=True)
    assert before["vllm_venv/packages"]["state"] == before["vllm_runtime/imports"]["state"] == "in_sync"
    # Each says its part of it.
    assert before["vllm_runtime/compiles"]["state"] == "drifted"
    assert "sm_121a" in before["vllm_runtime/compiles"]["reason"]
    assert before["ptxas/assembles"]["state"] == before["cuda_toolchain/toolkit"]["state"] == "drifted"

    run(node, tmp_path, ROLES, check=False)

    after = run(node, tmp_path, ROLES, check=True)
    left = {name: c["state"] for name, c in after.items() if c["state"] != "in_sync"}
    not_asked = ("prereqs/time_sync", "prereqs/packages_fabric")
    not_asked += tuple(f"cuda_toolchain/{name}" for name in ("key", "repository", "file_extra"))
    assert left == dict.fromkeys(not_asked, "not_selected")
    assert node.read("/etc/nusy/ptxas.env").splitlines()[-1] == f'TRITON_PTXAS_PATH="{TOOLKIT}/bin/ptxas"'
