# SPDX-License-Identifier: GPL-3.0-or-later
"""The module around the engine: its options are what is documented, its results what is promised."""

from __future__ import annotations

import getpass
import grp
import json
import os
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nusy.dgx_spark.plugins.modules import ensure_state


def run(capsys: pytest.CaptureFixture[str], **params: Any) -> dict[str, Any]:
    """The module as Ansible calls it, in check mode: a unit test must not touch this machine."""
    with patch_module_args({**params, "_ansible_check_mode": True}), pytest.raises(SystemExit):
        ensure_state.main()
    return json.loads(capsys.readouterr().out)


def test_check_mode_reports_and_writes_nothing(capsys, tmp_path):
    path = tmp_path / "deep" / "demo.conf"
    file = {"path": str(path), "content": "a = ${secret:token}\n", "owner": getpass.getuser(), "mode": "0600"}
    file["group"] = grp.getgrgid(os.getgid()).gr_name
    result = run(capsys, role="demo", controls=[{"id": "demo/file", "files": [file]}], secrets={"token": "hunter22"})
    assert result["changed"] and not path.parent.exists()
    assert {control["id"]: control["state"] for control in result["controls"]} == {
        "demo/file": "drifted",
        "demo/file_extra": "in_sync",
    }
    assert result["plan"] == [f"make_parent {path.parent}", f"write_file {path}"]
    assert "hunter22" not in json.dumps({key: value for key, value in result.items() if key != "invocation"})
    assert "hunter22" not in json.dumps(result.get("invocation", {}))


def test_bad_input_names_its_place(capsys):
    result = run(capsys, role="demo", controls=[{"id": "demo/x", "directories": [{"path": "not/absolute"}]}])
    assert result["failed"] and result["error"]["kind"] == "input"
    assert "controls[0].directories[0].path" in result["msg"]
