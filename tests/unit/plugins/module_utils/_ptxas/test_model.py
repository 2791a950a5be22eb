# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task may ask for, and how it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Arch, arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import MAX_CANDIDATES, Setting, request_of

PARAMS: dict[str, Any] = {
    "venv": "/opt/v",
    "triton_dir": None,
    "candidates": None,
    "arch": "sm_121a",
    "compile": False,
    "environment": None,
    "environment_files": [],
    "timeout": 60,
}


@pytest.mark.parametrize("name", ["sm_80", "sm_90a", "sm_120", "sm_121", "sm_121a", "sm_121f"])
def test_targets(name: str) -> None:
    assert arch_of(name, "ptxas").name == name


def test_a_target_has_parts() -> None:
    assert arch_of("sm_121a", "ptxas") == Arch(121, "a")


@pytest.mark.parametrize(
    "text",
    ["", "121", "sm_", "sm_1", "sm_121b", "sm_1210a", "compute_121", "sm_121a ", "sm_121a -o x", "SM_121", "sm_٣٣"],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(InputError) as caught:
        arch_of(text, "ptxas")
    assert caught.value.problem.key == "ptxas.arch"


@pytest.mark.parametrize(
    ("changed", "key", "where"),
    [
        ({"triton_dir": "/x/triton"}, "ptxas.venv_or_triton_dir", "both"),
        ({"venv": None}, "ptxas.venv_or_triton_dir", "neither"),
        ({"venv": "opt/v"}, "ptxas.absolute_path", "opt/v"),
        ({"venv": None, "triton_dir": "triton"}, "ptxas.absolute_path", "triton"),
        ({"candidates": ["/x/ptxas", "ptxas"]}, "ptxas.absolute_path", "candidates[1]"),
        ({"candidates": [""]}, "ptxas.absolute_path", "candidates[0]"),
        ({"candidates": ["/x\0y"]}, "ptxas.absolute_path", "candidates[0]"),
        ({"environment_files": ["x.env"]}, "ptxas.absolute_path", "environment_files[0]"),
        ({"candidates": [f"/{n}" for n in range(MAX_CANDIDATES + 1)]}, "ptxas.too_many_candidates", "33"),
        ({"arch": "gb10"}, "ptxas.arch", "gb10"),
        ({"timeout": 0}, "ptxas.timeout", "0"),
        ({"timeout": float("nan")}, "ptxas.timeout", "nan"),
    ],
)
def test_bad_input_says_what_to_do(changed: dict[str, Any], key: str, where: str) -> None:
    with pytest.raises(InputError) as caught:
        request_of({**PARAMS, **changed}, {})
    problem = caught.value.problem
    assert problem.key == key
    assert where in problem.wanted + problem.found
    assert problem.why and problem.fix


def test_the_environment_of_the_process_is_the_default_and_only_ptxas_counts() -> None:
    process = {"TRITON_PTXAS_PATH": "/a", "TRITON_CACHE_DIR": "/b", "PATH": "/c", "TRITON_PTXAS-BLACKWELL_PATH": "/d"}
    assert request_of(PARAMS, process).environment == (
        Setting("TRITON_PTXAS-BLACKWELL_PATH", "/d", "the process environment"),
        Setting("TRITON_PTXAS_PATH", "/a", "the process environment"),
    )
    assert request_of({**PARAMS, "environment": {}}, process).environment == ()
    given = {**PARAMS, "environment": {"TRITON_PTXAS_PATH": "/e", "X": 1}}
    assert request_of(given, process).environment == (Setting("TRITON_PTXAS_PATH", "/e", "the option environment"),)


def test_none_and_an_empty_list_of_candidates_differ() -> None:
    assert request_of(PARAMS, {}).candidates is None
    assert request_of({**PARAMS, "candidates": []}, {}).candidates == ()
    assert request_of({**PARAMS, "candidates": ["/a", "/b", "/a"]}, {}).candidates == ("/a", "/b")
