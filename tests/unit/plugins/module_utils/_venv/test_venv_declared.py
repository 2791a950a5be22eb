# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept on the node of a declaration is enough to judge by, small, and without secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import declared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.subject import EnsureVenv
from venv_bench import Bench

LOCKS = Path(__file__).resolve().parents[5] / "roles" / "vllm_venv" / "files" / "spark-vllm-0.27.1"


def test_the_kept_declaration_judges_as_the_given_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "STATE", str(bench.base / "state"))
    monkeypatch.setattr(declared, "FOLDER", str(bench.base / "state" / "declared"))
    url = "https://robot:hunter22@index.example.org/simple"
    stages = [bench.stage(path.stem, path.read_text(), index_url=url) for path in sorted(LOCKS.glob("*.lock"))]
    assert len(stages) == 2
    given = bench.params(stages=stages, find_links="", imports=["torch"], skip_controls=["vllm_venv/generations"])
    subject = EnsureVenv(parse.declaration(given))
    hidden = Redactor(parse.secrets(given, os.environ))(given)
    assert isinstance(hidden, dict)
    declared.keep(declared.Declared(subject.record, "vllm_venv", hidden), HostReader(), HostWriter())

    file = Path(declared.path_of(subject.record))
    assert "hunter22" not in file.read_text()
    assert file.stat().st_size < 64 << 10
    (kept,) = declared.find(HostReader())
    assert kept.declared is not None, kept.problem
    assert kept.declared.module == "vllm_venv"
    again = EnsureVenv(parse.declaration(kept.declared.params))
    assert again.plan(HostReader()) == subject.plan(HostReader())
