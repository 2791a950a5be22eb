# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error says to correct is there to be corrected."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.nusy.dgx_spark.plugins.module_utils._console.judge import SUBJECTS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError

ROOT = Path(__file__).parents[4]
ROLES = {path.name: path / "meta" / "argument_specs.yml" for path in (ROOT / "roles").iterdir()}
VARIABLES = {
    name: set(yaml.safe_load(path.read_text("utf-8"))["argument_specs"]["main"]["options"])
    for name, path in ROLES.items()
}
# How messages name a variable, and not a file, a function or a key.
BEFORE = "as|by|correct|declare|give|in|lower|name|no|set"
NAMED = re.compile(rf"\b(?:{BEFORE}) ((?:{'|'.join(ROLES)})_[a-z_]*[a-z])(?![\w./])")
MODEL = {"name": "a", "repository": "a/b", "revision": "0" * 40, "licence": "mit", "gated": False, "quantisation": ""}
FILE = {"path": "config.json", "size": 1, "sha256": "0" * 64}
TIER = {"name": "scratch", "path": "", "owner": "", "mode": "0750", "mounted": None, "file_systems": [], "free_gib": 1}
WRONG = [
    ("model_snapshot", {"models": [{**MODEL, "files": [{**FILE, "size": -1}]}]}, "models_manifest[0].files[0].size"),
    ("model_snapshot", {"models": [{**MODEL, "files": [FILE], "revision": "main"}]}, "models_manifest[0].revision"),
    ("model_snapshot", {"tiers": [TIER]}, "models_tiers[0].path"),
    ("model_snapshot", {"endpoint": "ftp://x"}, "models_endpoint"),
    ("launchers", {"suite": "sha256:0", "python": "python3"}, "launchers_python"),
    ("launchers", {"suite": "sha256:0", "timeout": 0}, "timeout"),
    ("launchers", {"suite": "sha256:0", "state_tool": "x"}, "state_tool"),
    ("launchers", {"suite": "no archive"}, "suite"),
    ("cuda_toolchain", {"prefix": "/usr/local/cuda-13.0", "timeout": 0}, "timeout"),
    ("cuda_toolchain", {"version": "13"}, "cuda_toolchain_version"),
    ("kernel_tuning", {"host": "a", "sysctls": {"net.x": 1}}, "kernel_tuning_sysctls"),
    ("memory_guard", {"term_percent": 0}, "memory_guard_term_percent"),
    ("vllm", {"writes": ["cache"]}, "vllm_writes[0]"),
    ("vllm", {"options": {"dtype": "sometimes"}}, "vllm_options_file"),
]  # fmt: skip


def completed(module: str, given: dict[str, Any]) -> dict[str, Any]:
    """As Ansible does, as far as these need it."""
    return {**{name: option.get("default") for name, option in SUBJECTS[module].options.items()}, **given}


@pytest.mark.parametrize(("module", "given", "named"), WRONG)
def test_an_error_names_what_its_operator_can_correct(module: str, given: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        SUBJECTS[module].subject(completed(module, given))
    assert error.value.problem.fix.endswith(f" {named}")
    word, role = re.split(r"[.\[]", named)[0], {"model_snapshot": "models"}.get(module, module)
    assert word in VARIABLES[role] or f"{role}_{word}" not in VARIABLES[role]


def test_every_variable_that_a_message_names_is_there() -> None:
    known = set(ROLES).union(SUBJECTS, *VARIABLES.values())
    named = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in sorted((ROOT / "plugins").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in NAMED.findall(node.value)
    ]
    assert len(named) > 20
    assert [one for one in named if one[1] not in known] == []
