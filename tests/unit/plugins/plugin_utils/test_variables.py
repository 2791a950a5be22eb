# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of a host against what roles document: whose is a name, where was it written, what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import variables


@pytest.fixture
def owners(tmp_path: Path) -> dict[str, Path]:
    """Roles whose names begin alike, and shared variables."""
    documented = {
        "spark": {"spark_user": {"type": "str", "default": "nusy"}, variables.FOREIGN: {"type": "list", "default": []}},
        "vllm": {"vllm_port": {"type": "int", "default": 8000}, "vllm_venv_path": {"type": "path", "default": "/v"}},
        "vllm_venv": {"vllm_venv_lock": {"type": "str"}, "vllm_venv_extra": {"type": "list", "elements": "str"}},
    }
    for name, options in documented.items():
        specs = tmp_path / name / "meta" / "argument_specs.yml"
        specs.parent.mkdir(parents=True)
        specs.write_text(yaml.safe_dump({"argument_specs": {"main": {"options": options}}}))
    (tmp_path / "odd" / "meta").mkdir(parents=True)  # a role that documents nothing
    return variables.beside(tmp_path / "any")


def host(folder: Path, text: str) -> variables.Variables:
    path = folder / "spark-1.yml"
    path.write_text(text)
    loader = DataLoader()
    written: dict[str, Any] = loader.load_from_file(str(path), trusted_as_template=True) or {}
    return variables.Variables("spark-1", written, Templar(loader=loader, variables=written).template)


@pytest.mark.parametrize(
    ("text", "wanted", "found", "fix"),
    [
        ("vllm_prot: 1", "vllm_prot: a name", "vllm_prot on spark-1, at {file}:1:12", "call it vllm_port"),
        ("a: 1\nspark_usr: x", "spark_usr: a name", "spark_usr on spark-1, at {file}:2:12", "call it spark_user"),
        ("vllm_venv_lok: x", "vllm_venv_lok: a name", "on spark-1", "call it vllm_venv_lock"),
        ("vllm_venv_pth: x", "vllm_venv_pth: a name", "on spark-1", "call it vllm_venv_path"),
        ("vllm_venv_zz: x", "vllm_venv_zz: a name", "on spark-1", "use one of vllm_venv_extra, vllm_venv_lock"),
        ("vllm_prot: true", "vllm_prot: a name", "on spark-1, named at {file}:1:1", "call it vllm_port"),
        ("odd_thing: 1", "odd_thing: a name", "on spark-1", "if it belongs to something else"),
        (
            "vllm_port: often",
            "vllm_port: a whole number",
            "the text 'often' on spark-1, at {file}:1:12",
            "correct vllm_",
        ),
        ("vllm_port:", "vllm_port: a whole number", "nothing (null) on spark-1, named at {file}:1:1", "take it out"),
        ("vllm_port: '{{ x }}'\nx: often", "vllm_port: a whole number", "the text 'often'", "correct vllm_port"),
        ("vllm_port: '{{ 1 | nosuch }}'", "vllm_port: a value", "nosuch", "correct vllm_port"),
        ("spark_foreign_variables: vllm_x", "spark_foreign_variables: a list", "the text 'vllm_x'", "write spark_for"),
    ],
)
def test_a_variable_that_nobody_documents_or_that_is_of_another_kind(tmp_path, owners, text, wanted, found, fix):
    (problem,) = host(tmp_path, text).misfits(owners)
    assert wanted in problem.wanted and fix in problem.fix and problem.why
    assert found.format(file=tmp_path / "spark-1.yml") in problem.found


@pytest.mark.parametrize(
    "text",
    [
        "ansible_user: x\n__vllm_states: {}\nvllm: x\nvll_port: x\nsparky: x",
        "vllm_port: 8000\nvllm_venv_path: /opt\nvllm_venv_lock: a\nspark_user: x",
        "vllm_port: '{{ known_only_to_the_role }}'",
        "vllm_venv_lock:",  # no default: not managed
        "vllm_ours: 1\nspark_foreign_variables: [vllm_ours]",
    ],
)
def test_what_is_somebody_elses_or_documented_passes(tmp_path, owners, text):
    assert not list(host(tmp_path, text).misfits(owners))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("vllm_ven_lock: x", "vllm_venv_lock"),
        ("vllm_vennv_lock: x", "vllm_venv_lock"),
        ("vlm_port: 1", ""),  # one letter of four is another word
        ("vllm_venv_lock: x", ""),
        ("park_user: x", ""),
        ("vllm_ven_lock: x\nspark_foreign_variables: [vllm_ven_lock]", ""),
    ],
)
def test_a_name_that_begins_almost_like_those_of_a_role_is_told(tmp_path, text, meant):
    owners = {"spark": tmp_path, "vllm_venv": tmp_path}
    told = list(host(tmp_path, text).nearly_ours(owners))
    assert len(told) == bool(meant) and all(f"is {meant} meant?" in one and "spark-1.yml:1:" in one for one in told)


def test_a_role_alone_judges_what_is_its_own(tmp_path, owners):
    given = host(tmp_path, "vllm_prot: 1\nvllm_venv_lok: x\nspark_usr: x\nvllm_venv_path: 5")
    assert [p.wanted.split(":")[0] for p in given.misfits(owners, only="vllm")] == ["vllm_prot", "vllm_venv_path"]


def test_an_error_of_a_document_leads_back_to_the_variable(tmp_path, owners):
    given = host(tmp_path, "vllm_venv_lock: 'x y'\nvllm_venv_extra: [a, 'x z']")
    place = f"at {tmp_path / 'spark-1.yml'}"
    assert given.source("'x y'", owners["vllm_venv"]) == f", which is in vllm_venv_lock, {place}:1:17"
    assert given.source("'x z'", owners["vllm_venv"]) == f", which is in vllm_venv_extra, {place}:2:18"
    assert given.source("'other'", owners["vllm_venv"]) == ""


def test_places_are_told_from_the_working_directory(tmp_path, owners, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (problem,) = host(tmp_path, "vllm_prot: 1").misfits(owners)
    assert problem.found.endswith("at spark-1.yml:1:12")


def test_our_own_roles_and_shared_variables_are_known():
    every = variables.of_collection()
    assert {"spark", "prereqs", "ptxas"} <= every.keys()
    assert "spark_local_apply" in variables.options(every["spark"])
    assert all(name.startswith(f"{owner}_") for owner, folder in every.items() for name in variables.options(folder))
