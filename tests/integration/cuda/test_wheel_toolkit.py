# SPDX-License-Identifier: GPL-3.0-or-later
"""A real toolkit of NVIDIA's wheels: installed by the module's own code, and made to build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # parts.py; this folder is no package

import parts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.parse import ARGUMENT_SPEC
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.subject import PROVIDES, ensure_toolchain
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed

PROGRAM = """
#include <cstdio>
#include <cuda_runtime.h>
#include <cuda/std/array>
__global__ void kernel(cuda::std::array<float, 4> *out) { (*out)[threadIdx.x] = 1; }
int main() {
  int version = 0;
  cudaError_t error = cudaRuntimeGetVersion(&version);
  std::printf("%d %d\\n", error, version);
}
"""


def declared(**params: Any) -> Composed:
    defaults = {name: option["default"] for name, option in ARGUMENT_SPEC.items()}
    return ensure_toolchain({**defaults, **params})


def states(plan: Plan) -> dict[str, str]:
    return {c.id.partition("/")[2]: c.state for c in plan.controls if c.state != "not_selected"}


def control(plan: Plan, name: str) -> Any:
    return next(c for c in plan.controls if c.id == f"cuda_toolchain/{name}")


class Made:
    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "cuda" / "13.0"
        self.wanted = declared(
            source="wheel",
            prefix=str(self.prefix),
            lock=parts.LOCK.read_text(),
            find_links=str(parts.wheels()),
            interpreter=sys.executable,
        )
        self.before = self.wanted.plan(HostReader())
        self.wanted.apply(self.before, HostReader(), HostWriter())
        self.after = self.wanted.plan(HostReader())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        # This machine is no node of anybody's.
        patch.setattr(record, "FOLDER", f"{folder}/state/applied")
        patch.setattr(record, "KEY", f"{folder}/state/applied/.key")
        yield Made(folder)


def test_one_run_makes_all_of_it_and_the_proof_is_real(made: Made) -> None:
    assert states(made.before) == {"toolkit": "drifted", "components": "drifted", "builds": "drifted"}
    assert [step.action for step in made.before.steps] == ["install_wheels", "make_link"]
    assert set(states(made.after).values()) == {"in_sync"} and made.after.steps == ()
    assert made.after.facts["proof"] == {
        "arch": "sm_121", "assembled": True, "built": True, "read_back": "cuobjdump", "reason": "",
    }  # fmt: skip
    assert made.after.facts["version"] == "13.0.88"
    assert made.before.facts["provides"] == {} and set(made.after.facts["provides"]) == set(PROVIDES)


def test_it_behaves_as_the_root_of_a_toolkit(made: Made, tmp_path: Path) -> None:
    """Compiled and linked with nothing but the path of nvcc, static and shared, and run."""
    source = tmp_path / "program.cu"
    source.write_text(PROGRAM)
    nvcc = [f"{made.prefix}/bin/nvcc", "-arch=sm_121a"]
    subprocess.run([*nvcc, "-c", "-o", "program.o", str(source)], cwd=tmp_path, check=True, timeout=120)
    for runtime in ("static", "shared"):
        argv = [*nvcc, f"--cudart={runtime}", "-o", "program", "program.o"]
        subprocess.run(argv, cwd=tmp_path, check=True, timeout=120)
        env = {"LD_LIBRARY_PATH": f"{made.prefix}/lib64"}
        done = subprocess.run([tmp_path / "program"], env=env, capture_output=True, text=True, timeout=60)
        assert done.stdout == "0 13000\n"


def test_nothing_is_left_of_making_it(made: Made) -> None:
    assert len(list(made.prefix.parent.iterdir())) == 2  # the link, and what it leads to
    modes = {path.stat().st_mode & 0o777 for path in made.prefix.resolve().rglob("*") if not path.is_symlink()}
    assert modes == {0o755, 0o644}


@pytest.mark.parametrize("arch", ["sm_121a", "sm_90a", "sm_80"])
def test_other_targets_are_read_back_by_their_names(made: Made, arch: str) -> None:
    found = declared(prefix=str(made.prefix), arch=arch).plan(HostReader())
    assert (states(found)["builds"], found.facts["proof"]["read_back"]) == ("in_sync", "cuobjdump")


def test_a_target_that_it_does_not_know_is_drift_in_its_own_words(made: Made) -> None:
    found = control(declared(prefix=str(made.prefix), arch="sm_155").plan(HostReader()), "builds")
    assert found.state == "drifted" and "sm_155" in found.reason


@pytest.mark.parametrize("missing", ["nvvm/bin/cicc", "include/cuda_runtime.h", "include/crt", "bin/cudafe++"])
def test_a_part_that_only_building_needs_is_found_by_building(missing: str, tmp_path: Path) -> None:
    prefix = parts.existing(tmp_path / "cuda")
    place = prefix / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    found = declared(prefix=str(prefix)).plan(HostReader())
    assert states(found) == {"toolkit": "in_sync", "components": "in_sync", "builds": "drifted"}
    assert Path(missing).name.partition(".")[0] in control(found, "builds").reason


def test_a_toolkit_without_readers_is_proven_by_the_header(tmp_path: Path) -> None:
    prefix = parts.existing(tmp_path / "cuda")
    (prefix / "bin/cuobjdump").unlink()
    found = declared(prefix=str(prefix), components=["nvcc", "ptxas"]).plan(HostReader())
    assert set(states(found).values()) == {"in_sync"}
    assert found.facts["proof"]["read_back"] == "elf" and "CUOBJDUMP_BIN" not in found.facts["provides"]


def test_a_program_of_another_machine_is_named_as_such(tmp_path: Path) -> None:
    prefix = parts.existing(tmp_path / "cuda")
    head = bytearray((prefix / "bin/nvlink").resolve().read_bytes()[:64])
    head[18:20] = (183 if os.uname().machine == "x86_64" else 62).to_bytes(2, "little")
    (prefix / "bin/nvlink").unlink()
    (prefix / "bin/nvlink").write_bytes(head)
    (prefix / "bin/nvlink").chmod(0o755)
    found = control(declared(prefix=str(prefix)).plan(HostReader()), "components")
    assert found.state == "drifted" and "it is a program for" in found.reason
