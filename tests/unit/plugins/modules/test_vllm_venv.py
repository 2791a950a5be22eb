# SPDX-License-Identifier: GPL-3.0-or-later
"""The module around the engine: its options are what is documented, its results what is promised."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import CONTROLS
from ansible_collections.nusy.dgx_spark.plugins.modules import vllm_venv

LOCK = f"torch==2.13.0 --hash=sha256:{'a' * 64}\n"
PARAMS = {"name": "vllm", "interpreter": sys.executable, "python": f"3.{sys.version_info[1]}"}


def run(capsys: pytest.CaptureFixture[str], **params: Any) -> dict[str, Any]:
    """The module as Ansible calls it, in check mode: a unit test must not touch this machine."""
    with patch_module_args({**PARAMS, **params, "_ansible_check_mode": True}), pytest.raises(SystemExit):
        vllm_venv.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_check_mode_lists_packages_and_writes_nothing(capsys, tmp_path) -> None:
    root = tmp_path / "venvs"
    result = run(capsys, root=str(root), stages=[{"name": "torch", "lock": LOCK}])
    assert result["changed"] and not root.exists()
    assert tuple(control["id"] for control in result["controls"]) == CONTROLS
    assert result["diff"]["before"]["vllm_venv/packages"] == {"torch": "absent"}
    assert result["diff"]["after"]["vllm_venv/packages"] == {"torch": "2.13.0"}
    assert {"venv", "cuda", "obstacles", "plan", "assumptions"} <= set(result)


def test_what_is_returned_is_what_is_documented(capsys, tmp_path) -> None:
    result = run(capsys, root=str(tmp_path / "venvs"), stages=[{"name": "torch", "lock": LOCK}])
    contains = yaml.safe_load(vllm_venv.RETURN)
    assert set(result["venv"]) == set(contains["venv"]["contains"])
    assert set(result["controls"][0]) == set(contains["controls"]["contains"])
    assert set(result) - {"changed", "diff", "invocation"} == set(contains) - {"error", "left"}


def test_a_refused_lock_names_its_line_and_no_secret(capsys, tmp_path) -> None:
    stage = {"name": "torch", "lock": "torch==2.13.0\n", "index_url": "https://robot:hunter22@index.example.org/simple"}
    result = run(capsys, root=str(tmp_path / "venvs"), stages=[stage])
    assert result["failed"] and result["error"]["key"] == "venv.lock"
    assert result["error"]["found"] == "line 1: torch==2.13.0 has no --hash=sha256:…"
    assert "hunter22" not in json.dumps(result)


def test_a_password_is_in_no_result(capsys, tmp_path) -> None:
    stage = {"name": "torch", "lock": LOCK, "index_url": "https://robot:hunter22@index.example.org/simple"}
    assert "hunter22" not in json.dumps(run(capsys, root=str(tmp_path / "venvs"), stages=[stage]))
