# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole site on test nodes: what is declared, and runs of site.yml over them, kept by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import outside
import testing

TESTS = Path(__file__).resolve().parents[2]
sys.path.append(str(TESTS / "tools"))

import wheelhouse

SITE = "site.yml"
VENV = "/srv/venv"
PTXAS = "/usr/local/cuda-13.0/bin/ptxas"
ENVIRONMENT = "/etc/nusy/ptxas.env"
WHEELS = wheelhouse.demo(TESTS.parent / "build" / "cache" / "wheelhouse")
ENGINE = "/opt/nusy/venvs/vllm"
EXTRA = {
    # What torch and vLLM are on a Spark is a tiny stand-in here; the nodes have no network and no uv.
    # Without the compiler, which takes longer than all the rest: test_triton_story.py installs it, and uses it.
    "prereqs_packages_build": ["ninja-build", "python3-venv"],
    "vllm_venv_find_links": "/srv/wheels",
    "vllm_venv_interpreter": "/usr/bin/python3.13",
    "vllm_venv_python": "3.13",
    "vllm_venv_cuda": False,
    "vllm_venv_imports": ["engine"],
    "vllm_venv_entry_points": ["engine"],
    "vllm_venv_stages": [
        {
            "name": "base",
            "lock": (WHEELS / "base.lock").read_text(),
            "assertions": [{"distribution": "base", "file": "base/version.py", "suffix": "+cu130"}],
        },
        {"name": "engine", "lock": (WHEELS / "new.lock").read_text()},
    ],
    "ptxas_venv": VENV,
    # Only the binaries of the wheels are on the nodes; real compiles are proven by the ptxas layer.
    "ptxas_compile": False,
    # The host compiler that nvcc needs comes with this very run; whole proofs are in test_cuda.py.
    "cuda_toolchain_compile": False,
    # These two have a story of their own; what other tests of the whole site need of them is that they converge.
    "vllm_runtime_venv": VENV,
    "vllm_runtime_imports": [],
    "vllm_runtime_compile": False,
    "launchers_launchers": [],
    "launchers_cuda_home": "/usr/local/cuda-13.0",
    "launchers_binaries": {"PY_BIN": "/usr/bin/python3"}
    | dict.fromkeys(("NVIDIA_SMI_BIN", "NVCC_BIN", "CUOBJDUMP_BIN", "NVDISASM_BIN"), ""),
    "spark_local": False,
}
# Roles with a story of their own: test_runtime_roles.py, test_llama_cpp.py, test_vllm.py, test_updates.py,
# test_access.py, test_nvidia.py, test_models.py.
ELSEWHERE = ("vllm_runtime", "launchers", "llama_cpp", "vllm", "updates", "access", "nvidia_toolkit", "models", "probe")
CONTROLS = {
    "prereqs/packages_tools",
    "prereqs/packages_build",
    "prereqs/packages_fabric",
    "prereqs/time_sync",
    "prereqs/service_user",
    "prereqs/root_config",
    "prereqs/root_state",
    "prereqs/root_code",
    "prereqs/root_models",
    # Not of the source "existing": cuda_toolchain/{key,repository,file_extra}.
    "cuda_toolchain/toolkit",
    "cuda_toolchain/components",
    "cuda_toolchain/link",
    "cuda_toolchain/builds",
    "vllm_venv/interpreter",
    "vllm_venv/place",
    "vllm_venv/packages",
    "vllm_venv/files",
    "vllm_venv/current",
    "vllm_venv/use",
    "vllm_venv/generations",
    "ptxas/assembles",
    "ptxas/environment",
    "ptxas/file_extra",
}
ROLES = {name.partition("/")[0] for name in CONTROLS}
# What follows from read-only mounts: it is right from the beginning, and cannot be broken by hand.
MOUNTED = {"cuda_toolchain/toolkit", "cuda_toolchain/components", "cuda_toolchain/builds"}


class Site:
    """Two nodes and the runs over them, kept for the tests that come later in the story."""

    def __init__(self, machines: list[Any], twin: Any, directory: Path) -> None:
        self.machines = machines
        self.twin = twin
        self.directory = directory
        self.runs: dict[str, Any] = {}
        self.listings: dict[str, dict[str, outside.Listing]] = {}

    def run(
        self,
        name: str,
        *,
        check: bool,
        extra: dict[str, Any] | None = None,
        on: Any = None,
        role: str = "",
        mitogen: bool = False,
    ) -> Any:
        """on: that node alone. role: by its tag, where a story is about one and the others stand still."""
        done = testing.ansible_playbook(
            SITE,
            [on] if on else self.machines,
            self.directory,
            *(("--tags", role) if role else ("--skip-tags", ",".join(ELSEWHERE))),
            check=check,
            report=True,
            extra={**EXTRA, **(extra or {})},
            env={**testing.MITOGEN, "ANSIBLE_STRATEGY": "mitogen_linear"} if mitogen else {},
        )
        self.runs[name] = done
        return done

    def look(self, name: str) -> None:
        self.listings[name] = {machine.name: outside.listing(machine) for machine in self.machines}

    def changes(self, before: str, after: str, machine: Any) -> dict[str, outside.Change]:
        return outside.changes(self.listings[before][machine.name], self.listings[after][machine.name])

    def evidence(self, name: str, machine: Any) -> dict[str, dict[str, Any]]:
        """What the own modules returned, by control: not yet through the report."""
        modules = ("ensure_state", "cuda_toolchain", "vllm_venv", "ptxas_environment")
        results = [entry for module in modules for entry in self.runs[name].of(host=machine.name, action=module)]
        return {control["id"]: control for entry in results for control in entry["result"]["controls"]}

    def promised(self, machine: Any) -> dict[str, dict[str, Any]]:
        """What the bare check said item by item; of an environment it names packages, and the rest follows."""
        evidence = self.evidence("bare check", machine)
        return outside.promised(control for name, control in evidence.items() if not name.startswith("vllm_venv/"))

    def states(self, name: str, machine: Any) -> dict[str, str]:
        """What the report says."""
        (host,) = [host for host in self.runs[name].report["hosts"] if host["name"] == machine.name]
        return {control["id"]: control["state"] for control in host["controls"] if control["id"] in CONTROLS}
