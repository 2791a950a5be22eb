# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts for real Triton binaries against the real ptxas of four CUDA releases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas import rules
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.observe import probe as probe_one
from conftest import CUDAS, TRITONS, Probe

PLAIN, BLACKWELL = "TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"
GPUS = ("sm_80", "sm_90a", "sm_120", "sm_121", "sm_121a", "sm_121f")
ROOT = Path(__file__).resolve().parents[3]

# What each wheel holds: CUDA version of ptxas, of ptxas-blackwell.
HOLDS = {
    "3.1.0": ("12.4.99", None),
    "3.2.0": ("12.4.99", None),
    "3.3.1": ("12.4.99", "12.8.61"),
    "3.4.0": ("12.8.93", None),
    "3.5.1": ("12.8.93", None),
    "3.6.0": ("12.8.93", "12.9.86"),
    "3.7.0": ("12.8.93", "13.1.80"),
    "3.8.0": ("12.9.86", "13.3.33"),
    "3.9.0": ("12.9.86", "13.4.59"),
}
# CUDA releases with which forcing makes sm_121a work; None: works without.
REPAIRED_BY: dict[str, tuple[str, ...] | None] = {
    "3.1.0": (),
    "3.2.0": (),
    "3.3.1": (),
    "3.4.0": ("12.9",),
    "3.5.1": ("12.9", "13.0"),
    "3.6.0": None,
    "3.7.0": None,
    "3.8.0": None,
    "3.9.0": None,
}


@pytest.mark.parametrize("triton", TRITONS)
def test_vendored_binaries_are_what_the_table_says(triton: str, vendored: Callable[[str], str], probe: Probe) -> None:
    result = probe(triton_dir=vendored(triton), candidates=[])
    found = {tool["kind"]: tool for tool in result["ptxas"]}
    plain, blackwell = HOLDS[triton]
    assert found["vendored"]["version"] == plain
    assert (found.get("vendored_blackwell") or {"version": None})["version"] == blackwell
    assert result["triton_version"] == triton
    for tool in found.values():
        knows = tuple(map(int, tool["version"].split("."))) >= (12, 9)
        assert tool["assembles"] is knows
        assert tool["exit_code"] == (0 if knows else 255)
        name = "ptxas" if tool["kind"] == "vendored" else "ptxas-blackwell"
        # The target's name is Triton's own where that is asked first to fail.
        said = "Value 'sm_121a' is not defined for option 'gpu-name'"
        assert tool["stderr"] == ("" if knows else f"{name} fatal   : {said}")


@pytest.mark.parametrize("release", CUDAS)
@pytest.mark.parametrize("triton", TRITONS)
def test_verdict_with_one_candidate(
    triton: str, release: str, vendored: Callable[[str], str], cuda: Callable[[str], str], probe: Probe
) -> None:
    path = cuda(release)
    result = probe(triton_dir=vendored(triton), candidates=[path])
    repaired_by = REPAIRED_BY[triton]
    if repaired_by is None:
        assert (result["verdict"], result["environment"], result["works_now"]) == ("ok", {}, True)
        assert result["chosen"].startswith(result["triton_dir"])
    elif release in repaired_by:
        assert (result["verdict"], result["environment"]) == ("forced_ok", {PLAIN: path})
        assert (result["chosen"], result["works_now"]) == (path, False)
    else:
        assert (result["verdict"], result["environment"], result["chosen"]) == ("unrepairable", {}, "")
    assert not result["assumptions"]
    assert "\n" not in result["explanation"]


@pytest.mark.parametrize("triton", TRITONS)
def test_cuda_13_forced_for_an_older_gpu(
    triton: str, vendored: Callable[[str], str], cuda: Callable[[str], str], probe: Probe
) -> None:
    path = cuda("13.0")
    result = probe(triton_dir=vendored(triton), candidates=[], arch="sm_80", environment={PLAIN: path})
    breaks = tuple(map(int, triton.split(".")[:2])) < (3, 5)
    assert result["current"][PLAIN]["effect"] == ("breaks" if breaks else "used")
    assert result["works_now"] is not breaks
    assert (result["verdict"], result["environment"]) == ("forced_ok" if breaks else "ok", {})
    assert result["unset"] == ([PLAIN] if breaks else [])
    if breaks:
        assert "fails for every GPU" in result["explanation"] and "remove it" in result["explanation"]


@pytest.mark.parametrize("triton", [version for version in TRITONS if REPAIRED_BY[version] is None])
def test_only_the_blackwell_variable_counts_from_3_6_on(
    triton: str, vendored: Callable[[str], str], cuda: Callable[[str], str], probe: Probe
) -> None:
    old = cuda("12.8")
    result = probe(triton_dir=vendored(triton), candidates=[], environment={PLAIN: old, BLACKWELL: old})
    assert result["current"][PLAIN]["effect"] == "ignored"
    assert result["current"][BLACKWELL]["effect"] == "breaks"
    assert (result["verdict"], result["environment"], result["unset"]) == ("forced_ok", {}, [BLACKWELL])
    assert result["works_now"] is False


@pytest.mark.parametrize("release", CUDAS)
@pytest.mark.parametrize("gpu", GPUS)
def test_what_each_cuda_assembles(gpu: str, release: str, cuda: Callable[[str], str], tmp_path: Path) -> None:
    found = probe_one(cuda(release), "candidate", [arch_of(gpu, "ptxas")], HostReader(), 60, tmp_path)
    needed = {"sm_80": "12.4", "sm_90a": "12.4", "sm_120": "12.8"}.get(gpu, "12.9")
    assert found.assembles is (tuple(map(int, release.split("."))) >= tuple(map(int, needed.split("."))))
    assert (found.stderr == "") is found.assembles


@pytest.mark.parametrize("gpu", rules._ISA)
def test_the_ptx_version_written_is_the_lowest_that_knows_the_target(
    gpu: str, cuda: Callable[[str], str], tmp_path: Path
) -> None:
    def assembles(isa: str) -> bool:
        source = tmp_path / "x.ptx"
        source.write_text(f".version {isa}\n.target {gpu}\n.address_size 64\n.visible .entry x()\n{{\n  ret;\n}}\n")
        argv = [cuda("13.0"), f"--gpu-name={gpu}", str(source), "-o", str(tmp_path / "x.cubin")]
        return subprocess.run(argv, capture_output=True, timeout=60).returncode == 0

    lowest = rules._ISA[gpu]
    known = sorted({*rules._ISA.values(), "6.0", "7.2", "7.5", "7.7", "8.5"})
    below = [isa for isa in known if isa < lowest]
    assert assembles(lowest)
    assert not any(assembles(isa) for isa in below[-2:])


def test_as_an_ansible_module_in_check_mode(
    vendored: Callable[[str], str], cuda: Callable[[str], str], tmp_path: Path
) -> None:
    """The real thing: packed, sent, run by a bare Python, and nothing left behind."""
    arguments = {"triton_dir": vendored("3.5.1"), "candidates": [cuda("13.0")], "environment": {}}
    # A configuration of its own: no callback of this repository, no file outside tmp_path.
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {ROOT}/collections\n")
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "TMPDIR": str(tmp_path),
    }
    ansible = Path(sys.executable).with_name("ansible")
    argv = [str(ansible), "-i", "localhost,", "-c", "local", "localhost", "--check", "--one-line"]
    argv += ["-e", json.dumps({"ansible_python_interpreter": sys.executable, "ansible_remote_tmp": str(tmp_path)})]
    argv += ["-m", "nusy.dgx_spark.ptxas_probe", "-a", json.dumps(arguments)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT)
    result = json.loads(done.stdout.partition("=>")[2])
    assert result["verdict"] == "forced_ok"
    assert result["changed"] is False
    assert "diff" not in result
    assert not list(tmp_path.rglob("ptxas_probe.*"))
