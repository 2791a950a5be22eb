# SPDX-License-Identifier: GPL-3.0-or-later
"""The module inside Ansible: its options are what is documented, its results what is promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import TOOLS
from ansible_collections.nusy.dgx_spark.plugins.modules import cuda_toolchain

TOOL = "#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n"


def run(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args({"_ansible_check_mode": True, **arguments}):
        basic._ANSIBLE_PROFILE = "legacy"
        with pytest.raises(SystemExit):
            cuda_toolchain.main()
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    (tmp_path / "cuda/bin").mkdir(parents=True)
    for name in TOOLS:
        (tmp_path / "cuda/bin" / name).write_text(TOOL)
        (tmp_path / "cuda/bin" / name).chmod(0o755)
    return str(tmp_path / "cuda")


def test_every_returned_key_is_documented(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, prefix=prefix, link=f"{prefix}-link")
    documented = yaml.safe_load(cuda_toolchain.RETURN)
    sure = {name for name, key in documented.items() if key["returned"].startswith(("always", "on a supported"))}
    assert sure <= set(result) - {"changed", "diff", "invocation"} <= set(documented)
    assert set(result["controls"][0]) == set(documented["controls"]["contains"])
    assert set(result["binaries"]["nvcc"]) == set(documented["binaries"]["contains"])
    assert set(result["proof"]) == set(documented["proof"]["contains"])
    assert set(result["link"]) == set(documented["link"]["sample"])


def test_a_toolkit_that_only_says_so_is_no_proof(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, prefix=prefix, compile=False)
    states = {control["id"].partition("/")[2]: control["state"] for control in result["controls"]}
    assert (states["components"], states["builds"]) == ("in_sync", "drifted")
    assert (result["changed"], result["version"], result["plan"]) == (False, "13.0.88", [])


def test_bad_input_is_an_error_in_four_parts(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, version="13")
    assert result["failed"] is True and result["error"]["kind"] == "input"
    assert set(result["error"]) == {"key", "kind", "wanted", "found", "why", "fix"}


def test_a_password_of_an_index_is_shown_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    lock = f"nvidia-cuda-nvcc==13.0.88 --hash=sha256:{'0' * 64}"
    index = "https://me:correct-horse@index.test/simple"
    result = run(capsys, source="wheel", lock=lock, prefix="/nonexistent/13.0", index_url=index)
    assert "correct-horse" not in json.dumps(result) and "controls" in result
