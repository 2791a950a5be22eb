# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests break which control by hand: asked of pytest, which collects them and runs none.

usage: damage.py     prints control → tests

A test says by its mark what it breaks on a node or machine, out of the same table that it breaks it by:

    @pytest.mark.breaks(*DAMAGE)     a check names just these, and a run repairs them
    @pytest.mark.names("…")          a check names it; what brings it back is not this control, see NOT_REPAIRED

``role=`` before all names spares them the part before the slash.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# One at a time: files of two of them may have one name.
SUITES = ("tests/integration/nodes", "tests/integration/machines", "tests/integration/venv", "tests/integration/models")
MARKS = ("breaks", "names")
ANSWER = "DAMAGE_ANSWER"
# In sync, drifted and in sync again on a node as well, but by somebody else's doing.
NOT_REPAIRED = {
    "kernel_tuning/cppc": "a package of DGX OS sets it at boot; here its place in /sys is a stand-in",
    "launchers/cuda_binaries": "cuda_toolchain brings them, a run of launchers fails and says so",
    "launchers/driver_binaries": "nvidia_toolkit brings them, a run of launchers fails and says so",
    "launchers/engine_binaries": "the environment is of vllm_venv, a run of launchers fails and says so",
    "memory_guard/budget": "memory is not made: who declared the engines declares smaller ones",
    "models/space": "room is not made: who needs it names what may go, or brings a disk",
    "nvidia_toolkit/docker_legacy": "a container is made anew by who started it",
    "nvidia_toolkit/driver_match": "a loaded module is exchanged by a reboot alone",
    "nvidia_toolkit/gpu": "a GPU is put in and taken out by people, and so is what an inventory says of it",
    "nvidia_toolkit/smi": "it answers as soon as driver and GPU do",
    "nvidia_toolkit/versions": "another version may be as bad: its remedy is in the row of the matrix",
    "os_hardening/accounts": "a second root may be how somebody gets in: it is not taken away in silence",
    "ptxas/assembles": "which ptxas and Triton there are is for cuda_toolchain and vllm_venv",
    "updates/images": "an image is pulled or built anew by who runs it",
    "vllm_runtime/compiles": "it compiles once ptxas, cuda_toolchain and vllm_venv are in sync",
    "vllm_runtime/imports": "the environment is of vllm_venv, a run of vllm_runtime fails and says so",
    "vllm_venv/interpreter": "nothing is built by another Python than the locks are for: a run fails and says so",
    "vllm_venv/use": "an environment as its locks name it would be built again the same",
}
# For these there is nothing on a test node that could be broken.
NOT_BROKEN = {
    "kernel_tuning/cgroup_v2": "only a boot into the old hierarchy breaks it, which systemd 258 has not: tests/unit",
}


@dataclass(frozen=True)
class Mark:
    name: str
    control: str
    test: str  # as pytest calls it, without parameters


def marked(root: Path, suites: tuple[str, ...] = SUITES) -> list[Mark]:
    """Raises CalledProcessError where pytest cannot even collect."""
    found: list[Mark] = []
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "marks.json"
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        for suite in suites:
            argv = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "damage", suite]
            environment = {**os.environ, "PYTHONPATH": path, ANSWER: str(answer)}
            subprocess.run(argv, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, timeout=120)
            found += [Mark(*row) for row in json.loads(answer.read_text())]
    return list(dict.fromkeys(found))


def pytest_collection_finish(session: Any) -> None:
    """In the pytest that ``marked`` starts."""
    rows = [
        (mark.name, f"{mark.kwargs['role']}/{name}" if mark.kwargs else name, item.nodeid.partition("[")[0])
        for item in session.items
        for mark in item.iter_markers()
        if mark.name in MARKS
        for name in mark.args
    ]
    Path(os.environ[ANSWER]).write_text(json.dumps(rows))


def findings(
    controls: set[str], marks: list[Mark], not_repaired: Mapping[str, str], not_broken: Mapping[str, str]
) -> Iterator[str]:
    """What is promised of a control and proven by no test, and what is said of controls that is not so."""
    broken, named = ({mark.control for mark in marks if mark.name == name} for name in MARKS)
    for mark in marks:
        if mark.control not in controls:
            yield f"{mark.test}: there is no control {mark.control}"
    for name in sorted((not_repaired.keys() | not_broken.keys()) - controls):
        yield f"{name} has a reason and is no control"
    for name in sorted(controls):
        if name in broken and name in {*not_repaired, *not_broken}:
            yield f"{name} is broken and repaired by a test: it needs no reason"
        elif name in named and name in not_broken:
            yield f"{name} is named by a test, so it can be broken"
        elif name in not_repaired and name not in named:
            yield f"{name}: no test breaks it and finds it named (mark names)"
        elif name not in {*broken, *not_repaired, *not_broken}:
            yield f"{name}: no test breaks it by hand and has it repaired (mark breaks), and there is no reason why not"


if __name__ == "__main__":
    for one in sorted(marked(HERE.parents[1]), key=lambda mark: (mark.control, mark.name, mark.test)):
        print(f"{one.control:34} {one.name:6} {one.test}")
    for control, why in sorted(NOT_BROKEN.items()):
        print(f"{control:34} {'none':6} {why}")
