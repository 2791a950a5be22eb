# SPDX-License-Identifier: GPL-3.0-or-later
"""spark-models: what is on disk against the manifest, and what it could not see."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import declared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import tool
from conftest import Bench

WEIGHTS = "model.safetensors"


@pytest.fixture
def node(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """After a real run, which leaves its options without the token."""
    state = bench.place / "state"
    monkeypatch.setattr(declared, "STATE", str(state))
    monkeypatch.setattr(declared, "FOLDER", str(state / "declared"))
    bench.apply()
    params = bench.params()
    declared.keep(declared.Declared("models", "model_snapshot", {**params, "token": ""}), HostReader(), HostWriter())
    return bench


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = tool.main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_what_is_as_declared_passes_and_what_is_not_is_named(node: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = told(capsys)
    (model,) = found["models"]
    assert (code, model["state"], model["missing"], found["unseen"]) == (0, "PASS", 0, "")
    (node.folder / WEIGHTS).chmod(0o644)
    (node.folder / WEIGHTS).write_bytes(b"short")
    (node.root / "empty").mkdir()
    code, found = told(capsys)
    assert code == 2 and found["models"][0]["problems"] == [f"{WEIGHTS}: 5 bytes", f"{WEIGHTS}: open to changes"]
    assert found["others"] == []  # an empty folder is nobody's bytes
    assert tool.main([]) == 2
    printed = capsys.readouterr().out
    assert "FAIL    tiny" in printed and "Repair: run the playbook" in printed


def test_unused_bytes_are_counted(node: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    node.apply(node.manifest(), node.manifest("old", "acme/next"))
    code, found = told(capsys)
    (unused,) = found["unused"]
    assert code == 0 and unused["path"].startswith(str(node.root / "old")) and unused["size"] >= 4 << 20
    assert tool.main([]) == 0 and "4.0 MiB unused" in capsys.readouterr().out


def test_without_a_manifest_it_says_what_it_could_not_see(
    node: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared, "FOLDER", str(node.place / "nothing"))
    code, found = told(capsys, "--root", str(node.root))
    assert code == 3 and "never applied" in found["unseen"]
    assert [(model["name"], model["state"]) for model in found["models"]] == [("tiny", "UNKNOWN")]
    assert tool.main(["--root", str(node.root)]) == 3 and "Not seen: " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--delete"], ["--root", "models"]])
def test_wrong_usage_has_a_code_of_its_own(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tool.main(words)
    assert caught.value.code == 64
