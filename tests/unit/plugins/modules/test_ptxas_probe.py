# SPDX-License-Identifier: GPL-3.0-or-later
"""The module inside Ansible: arguments in, one result out, the same in check mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nusy.dgx_spark.plugins.modules import ptxas_probe

GOOD = """#!/bin/sh
if [ "$1" = --version ]; then echo "Cuda compilation tools, release 13.0, V13.0.88"; exit 0; fi
for out; do :; done
printf '\\177ELF\\002\\001\\001A\\010\\000\\000\\000\\000\\000\\000\\000\\002\\000\\276\\000' > "$out"
"""


def run(capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}):
        basic._ANSIBLE_PROFILE = "legacy"
        with pytest.raises(SystemExit):
            ptxas_probe.main()
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.fixture
def triton(tmp_path: Path) -> Path:
    folder = tmp_path / "lib" / "python3.12" / "site-packages" / "triton"
    (folder / "backends" / "nvidia" / "bin").mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '3.5.1'\n")
    return folder


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "cuda 13" / "ptxas"
    path.parent.mkdir()
    path.write_text(GOOD)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("check", [False, True])
def test_a_verdict(check: bool, triton: Path, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, check, triton_dir=str(triton), candidates=[good], environment={})
    assert result["changed"] is False and "diff" not in result and "failed" not in result
    assert result["verdict"] == "forced_ok"
    assert result["environment"] == {"TRITON_PTXAS_PATH": good}
    assert (result["chosen"], result["triton_version"], result["arch"]) == (good, "3.5.1", "sm_121a")
    assert "compiled" not in result


def test_every_returned_key_is_documented(triton: Path, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, triton_dir=str(triton), candidates=[good], compile=True)
    documented = yaml.safe_load(ptxas_probe.RETURN)
    assert set(result) - {"changed", "invocation"} == set(documented) - {"error"}
    assert set(result["ptxas"][0]) == set(documented["ptxas"]["contains"])
    assert set(result["compiled"]) == set(documented["compiled"]["contains"])


def test_the_documented_options_are_the_accepted_ones() -> None:
    documented = yaml.safe_load(ptxas_probe.DOCUMENTATION)["options"]
    assert {
        name: {key: option[key] for key in ("type", "elements", "default") if key in option}
        for name, option in documented.items()
    } == ptxas_probe.SPEC


def test_a_compile_that_cannot_run_is_not_called_fine(
    triton: Path, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, triton_dir=str(triton), candidates=[good], compile=True)
    assert (result["verdict"], result["compiled"]["ok"]) == ("unrepairable", False)
    assert result["explanation"].startswith("A real compile failed")


def test_no_triton_is_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, venv=str(tmp_path / "none"), compile=True)
    assert (result["verdict"], result["triton_version"], result["compiled"]) == ("no_triton", "", None)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({}, "ptxas.venv_or_triton_dir"),
        ({"venv": "/a", "triton_dir": "/b"}, "ptxas.venv_or_triton_dir"),
        ({"venv": "/a", "candidates": ["bin/ptxas"]}, "ptxas.absolute_path"),
        ({"venv": "/a", "arch": "sm_121a; reboot"}, "ptxas.arch"),
    ],
)
def test_bad_input_is_an_error_in_four_parts(
    arguments: dict[str, Any], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, **arguments)
    assert result["failed"] is True
    assert set(result["error"]) == {"key", "kind", "wanted", "found", "why", "fix"}
    assert (result["error"]["key"], result["error"]["kind"]) == (key, "input")
