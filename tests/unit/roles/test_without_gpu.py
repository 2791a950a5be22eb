# SPDX-License-Identifier: GPL-3.0-or-later
"""What two words of an inventory (spark_gpu, spark_venv) make of the calls of roles."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import documents, variables

TOOLKIT = {"NVIDIA_SMI_BIN", "NVCC_BIN", "PTXAS_BIN", "CUOBJDUMP_BIN", "NVDISASM_BIN"}
# Of those that name the environment: what it is, and what leads into it.
NAMED = {
    ("vllm_venv", "name"): "{}",
    ("vllm_runtime", "venv"): "/opt/nusy/venvs/{}/current",
    ("ptxas", "venv"): "/opt/nusy/venvs/{}/current",
    ("models", "python"): "/opt/nusy/venvs/{}/current/bin/python",
}
OWN = {
    "vllm_venv_name": "a",
    "vllm_runtime_venv": "/b",
    "ptxas_venv": "/c",
    "models_python": "/d",
    "launchers_venv": "/e",
}


def given(role: str, option: str, **written: Any) -> Any:
    """What the one call of a role is given for an option."""
    loader, folder = DataLoader(), variables.ROOT / "roles" / role
    host = variables.Variables("spark-1", written, Templar(loader=loader, variables=written).template)
    there = documents.environment(folder, host, loader, Templar(loader=loader, variables=written))
    (task,) = loader.load_from_file(str(folder / "tasks" / "main.yml"), trusted_as_template=True)
    (options,) = (options for word, options in task.items() if word.startswith(documents.NAMESPACE))
    return there.template(options[option])


@pytest.mark.parametrize(("role", "option"), NAMED)
def test_one_word_names_the_environment_for_all(role: str, option: str) -> None:
    path = NAMED[role, option]
    assert given(role, option) == path.format("vllm")
    assert given(role, option, spark_venv="llama") == path.format("llama")
    # Who says otherwise for a role is heard.
    assert given(role, option, spark_venv="llama", **OWN) == OWN[f"{role}_{option}"]


def test_launchers_take_programs_out_of_it() -> None:
    assert binaries(spark_venv="llama")["PY_BIN"] == "/opt/nusy/venvs/llama/current/bin/python"
    assert binaries(spark_venv="llama", **OWN)["PY_BIN"] == "/e/bin/python"


def test_nothing_of_driver_and_toolkit_is_proven_without_a_gpu() -> None:
    assert binaries().keys() > TOOLKIT and binaries(spark_gpu="nvidia") == binaries()
    assert binaries(spark_gpu="none").keys() == binaries().keys() - TOOLKIT
    # One that is named is proven all the same.
    named = binaries(spark_gpu="none", launchers_binaries={"PTXAS_BIN": "/opt/ptxas"})
    assert named.keys() & TOOLKIT == {"PTXAS_BIN"}


def binaries(**written: Any) -> dict[str, str]:
    return given("launchers", "binaries", **written)


@pytest.mark.parametrize(("role", "option"), [("vllm_runtime", "compile"), ("vllm_venv", "cuda")])
def test_nothing_is_asked_of_a_gpu_that_is_not_there(role: str, option: str) -> None:
    assert given(role, option) is True
    assert given(role, option, spark_gpu="none") is False
    assert given(role, option, **{f"{role}_{option}": False}) is False


@pytest.mark.parametrize("role", ["nvidia_toolkit", "cuda_toolchain", "ptxas"])
def test_roles_about_the_gpu_are_told(role: str) -> None:
    assert given(role, "declared_gpu") == "nvidia"
    assert given(role, "declared_gpu", spark_gpu="none") == "none"
