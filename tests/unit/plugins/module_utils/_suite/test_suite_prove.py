# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs by use, against programs that are not what their name says. The real tools: tests/integration/ptxas."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.model import tools
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.prove import Proof, prove_all
from test_suite_model import params

BUILDS = r"""#!/bin/sh
if [ "$1" = --version ]; then echo "Copyright"; echo "Cuda compilation tools, release 13.0, V13.0.88"; exit 0; fi
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
printf '\177ELF\002\001\001A\010\000\000\000\000\000\000\000\002\000\276\000' > "$out"
"""
READS = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'release 13.0' && exit 0\necho '.text.probe'\n"


@pytest.fixture
def program(tmp_path):
    def make(name: str, text: str = "#!/bin/sh\necho 1.0\n", mode: int = 0o755) -> str:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return make


def prove(**binaries):
    return prove_all(tools(params(binaries=binaries, timeout=2)), HostReader())


def test_a_program_that_says_its_version_is_proven_and_what_it_leads_to_is_told(program, tmp_path):
    (tmp_path / "current").symlink_to(program("vllm"))
    proof = prove(VLLM_BIN=str(tmp_path / "current"))["VLLM_BIN"]
    assert (proof.state, proof.version, proof.leads_to) == ("in_sync", "1.0", str(tmp_path / "vllm"))


def test_the_tools_of_a_toolkit_build_and_read(program):
    proofs = prove(
        CUOBJDUMP_BIN=program("cuobjdump", READS), NVCC_BIN=program("nvcc", BUILDS), PTXAS_BIN=program("ptxas", BUILDS)
    )
    assert {name: proof.state for name, proof in proofs.items()} == dict.fromkeys(proofs, "in_sync")
    assert proofs["NVCC_BIN"].version.endswith("V13.0.88")


LIES = {
    "exit code 0 and no object": ("PTXAS_BIN", "#!/bin/sh\necho release 13.0\n", "no object was written"),
    "an error": (
        "NVCC_BIN",
        "#!/bin/sh\n[ $1 = --version ] && echo 13 && exit 0\necho no g++ >&2; exit 1\n",
        "no g++",
    ),
    "no version": ("VLLM_BIN", "#!/bin/sh\necho broken >&2; exit 3\n", "broken"),
    "it hangs": ("VLLM_BIN", "#!/bin/sh\nsleep 60\n", "still running"),
    "another machine's program": ("RAY_BIN", "\x7fELF", "Exec format error"),
}


@pytest.mark.parametrize("case", LIES)
def test_what_is_not_what_it_says_is_drift_with_the_reason(case, program):
    name, text, told = LIES[case]
    proof = prove(**{name: program("it", text)})[name]
    assert proof.state == "drifted" and told in proof.said


def test_what_another_user_may_see_or_run_is_not_judged(program, monkeypatch):
    """Root may see and run all, so the kernel's answers are stand-ins; test_runtime_roles.py has real ones."""
    path = program("vllm", mode=0o700)
    monkeypatch.setattr(os, "access", lambda where, _mode: where != path)
    assert prove(VLLM_BIN=path)["VLLM_BIN"] == Proof("unknown", "who looks may not run it", hidden=True)

    def closed(where, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", where)

    monkeypatch.setattr(os, "stat", closed)
    assert prove(VLLM_BIN=path)["VLLM_BIN"] == Proof("unknown", "Permission denied", hidden=True)


def test_what_is_not_there_is_drift(program, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    proofs = prove(
        A_BIN=str(tmp_path / "missing"),
        B_BIN=str(tmp_path),
        C_BIN=program("text", mode=0o644),
        D_BIN=str(tmp_path / "nowhere"),
        E_BIN=str(tmp_path / "loop"),
    )
    assert {name: proof.said for name, proof in proofs.items()} == {
        "A_BIN": "absent",
        "B_BIN": "not a regular file",
        "C_BIN": "not executable",
        "D_BIN": "a link that leads nowhere",
        "E_BIN": "Too many levels of symbolic links",
    }
    assert {proof.state for proof in proofs.values()} == {"drifted"}


def test_without_a_gpu_or_an_object_nothing_is_claimed(program):
    smi = program("nvidia-smi", "#!/bin/sh\n[ $1 = --version ] && echo 580 && exit 0\necho 'No devices were found'\n")
    proofs = prove(NVIDIA_SMI_BIN=smi, NVDISASM_BIN=program("nvdisasm", READS))
    assert {name: proof.state for name, proof in proofs.items()} == dict.fromkeys(proofs, "unknown")
    assert "No devices were found" in proofs["NVIDIA_SMI_BIN"].said
