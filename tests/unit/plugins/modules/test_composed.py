# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that look before they declare, inside Ansible: options, documents, results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

PACKAGE = "ansible_collections.nusy.dgx_spark.plugins.modules"
GIVEN: dict[str, dict[str, Any]] = {
    "ptxas_environment": {"venv": "/nonexistent"},
}
ROLES = {"ptxas_environment": "ptxas"}


def module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def run(name: str, capsys: pytest.CaptureFixture[str], **more: Any) -> dict[str, Any]:
    with patch_module_args({**GIVEN[name], **more, "_ansible_check_mode": True}):
        basic._ANSIBLE_PROFILE = "legacy"
        with pytest.raises(SystemExit):
            module(name).main()
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", GIVEN)
def test_a_check_of_a_bare_machine_fails_nowhere(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(name, capsys)
    assert "failed" not in result and result["changed"] is True
    role = ROLES.get(name, name)
    catalogue = yaml.safe_load((Path(__file__).parents[4] / "roles" / role / "meta" / "controls.yml").read_text())
    assert {c["id"] for c in result["controls"]} == {c["id"] for c in catalogue["controls"]}


@pytest.mark.parametrize("name", GIVEN)
def test_every_returned_key_is_documented(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    documented = set(yaml.safe_load(module(name).RETURN)) | {"changed", "diff", "invocation", "unused_confirm"}
    assert set(run(name, capsys)) <= documented


@pytest.mark.parametrize("name", GIVEN)
def test_options_and_their_documentation_agree(name: str) -> None:
    documented = yaml.safe_load(module(name).DOCUMENTATION)["options"]
    spec = module(name).ARGUMENT_SPEC
    assert list(documented) == list(spec)
    for option, told in documented.items():
        assert told["type"] == spec[option]["type"]
        assert told.get("default") == spec[option].get("default")
        assert told.get("required", False) == spec[option].get("required", False)
        assert told.get("choices") == spec[option].get("choices")
        assert set(told.get("suboptions") or {}) == set(spec[option].get("options") or {})


@pytest.mark.parametrize("name", GIVEN)
def test_a_control_that_is_misspelt_is_an_error_with_four_parts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(name, capsys, skip_controls=["nonsense"])
    assert result["failed"] is True and set(result["error"]) >= {"key", "wanted", "found", "why", "fix"}
