# SPDX-License-Identifier: GPL-3.0-or-later
"""What only a role's call would refuse is refused before: with its variable, without secrets, at no cost to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import documents, variables

ROLES = sorted(path.name for path in (variables.ROOT / "roles").iterdir())
PASSWORD = "hunter22"
# Lookups, which read the locks that are shipped, are for real runs: tests/integration/drift/test_bad_input.py.
LOCK = "vllm_venv_stages: [{name: a, lock: b}]"
HOST = "inventory_hostname: spark-1\n"
LOCKED = "lock: 'b==1.0 --hash=sha256:" + 64 * "0" + "'"


def refused(folder: Path, text: str) -> list[Problem]:
    return [one for one in judged(folder, text) if isinstance(one, Problem)]


def judged(folder: Path, text: str) -> list[Problem | documents.Unjudged]:
    path = folder / "spark-1.yml"
    path.write_text(text)
    loader = DataLoader()
    written: dict[str, Any] = loader.load_from_file(str(path), trusted_as_template=True) or {}
    templar = Templar(loader=loader, variables=written)
    host = variables.Variables("spark-1", written, templar.template)
    assert not list(host.misfits(variables.of_collection()))  # or preflight would have stopped there
    return list(documents.refusals(variables.of_collection(), host, loader, templar))


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("prereqs_user: Bad User", "controls[4].groups[0].name: an account", "'Bad User' on spark-1, which is in pre"),
        ("spark_user: Bad User", "controls[4].groups[0].name: an account", "'Bad User' on spark-1, which is in spark"),
        ("prereqs_skip_controls: [prereqs/x]", "skip_controls[0]", "which is in prereqs_skip_controls, at"),
        ("cuda_toolchain_version: thirteen", "version: major.minor", "which is in cuda_toolchain_version, at"),
        # In a block, that gives its calls what they have in common.
        (HOST + "kernel_tuning_parameters: ['a=b c']", "parameters[0]: name", "is in kernel_tuning_parameters, at"),
        (HOST + "kernel_tuning_killed_modules: [nvme]", "killed_modules[0]", "is in kernel_tuning_killed_modules, at"),
        ("launchers_folder: opt", "folder: an absolute path", "which is in launchers_folder, at"),
        ("ptxas_venv: opt", "venv", "which is in ptxas_venv, at"),
        ("vllm_runtime_skip_controls: [x]", "skip_controls[0]", "which is in vllm_runtime_skip_controls, at"),
        ("vllm_venv_name: a b\n" + LOCK, "name: letters", "'a b' on spark-1, which is in vllm_venv_name, at"),
        (
            "nvidia_toolkit_gpu: expected\nspark_gpu: none",
            "gpu: not expected",
            "'expected' on spark-1, which is in nvidia_toolkit_gpu, at",
        ),
        (LOCK, "stages[0].lock (a)", "line 1: 'b' is not pinned"),
        # The index for all stages is that of your own as well, unless they name one.
        (
            f"vllm_venv_index_url: ftp://x\nvllm_venv_stages: [{{name: a, index_url: 'https://y/', {LOCKED}}}, "
            f"{{name: c, {LOCKED.replace('b==', 'c==')}}}]",
            "stages[1].index_url: an https or http URL", "another scheme",
        ),
        (
            "models_manifest: [{name: swarm, repository: a/b, revision: " + 40 * "a" + ", licence: x, files: ["
            "{path: m.gguf, size: 1, sha256: " + 64 * "a" + "}]}]\n"
            "llama_cpp_engines: [{name: a, model: swrm, port: 8081}]",
            "engines[0].model: a name in models_manifest, or a path", "'swrm'; the manifest has swarm",
        ),
        ("vllm_venv_stages: [{nam: a, lock: b}]", "stages[0].nam: a name that is documented", "nam, which is none"),
    ],
)  # fmt: skip
def test_what_only_the_call_of_a_role_would_refuse(tmp_path, text, wanted, found):
    problem = refused(tmp_path, text)[0]
    assert problem.wanted.startswith(wanted) and found in problem.found and problem.why and problem.fix


@pytest.mark.parametrize("role", ROLES)
def test_the_call_of_every_role_is_found(role):
    """One that preflight passed over would be refused after the roles before it were applied."""
    path = variables.ROOT / "roles" / role / "tasks" / "main.yml"
    made = {name for name in documents.SUBJECTS if f"nusy.dgx_spark.{name}:" in path.read_text("utf-8")}
    calls = documents._calls(DataLoader().load_from_file(str(path)))
    assert set(calls) == made and all("skip_controls" in arguments for arguments in calls.values())
    assert made or role == "probe"  # which looks, and ensures nothing


@pytest.mark.parametrize("role", ROLES)
def test_no_role_is_refused_as_it_is_shipped(role, tmp_path):
    words = {name for name in variables.options(variables.ROOT / "roles" / role) if name.endswith("_confirm")}
    assert refused(tmp_path, "".join(f"{name}: []\n" for name in words)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ansible_user: x\nenvironment: x\ngroups: x",
        "prereqs_user: '{{ known_only_to_the_role }}'",
        "vllm_venv_find_links: '{{ ansible_facts.x }}'",
    ],
)
def test_what_cannot_be_computed_yet_is_left_to_the_role(tmp_path, text):
    assert refused(tmp_path, text) == []


def test_what_cannot_be_computed_yet_is_named(tmp_path):
    found = judged(tmp_path, "prereqs_user: '{{ known_only_to_the_role }}'\nptxas_venv: /opt/x")
    assert [(one.role, one.what, one.why) for one in found] == [
        ("prereqs", "the call", "'known_only_to_the_role' is undefined")
    ]


def test_a_role_that_playbooks_do_not_run_there_is_refused_for_nothing(tmp_path):
    """Declared for all hosts, and what it needs only for those that run it."""
    engines = "llama_cpp_engines: [{name: a, model: swrm, port: 8081%s}]\ngroup_names: [%s]"
    later = ", context: '{{ known_to_sparks }}'"
    assert refused(tmp_path, engines % ("", "spark")) != [] == refused(tmp_path, engines % ("", "workstation"))
    for group, named in (("spark", True), ("workstation", False)):
        assert ("llama_cpp" in {one.role for one in judged(tmp_path, engines % (later, group))}) is named


def test_a_role_that_reads_nothing_of_what_is_written_is_not_computed(tmp_path, monkeypatch):
    computed = []
    monkeypatch.setattr(documents, "_refusals", lambda folder, *_: computed.append(folder.name) or iter(()))
    refused(tmp_path, "spark_local_apply: x\nansible_user: x\ngroups: x\nrole_path: x")
    assert computed == []
    refused(tmp_path, "prereqs_packages_tools: [jq]")
    assert computed == ["prereqs"]
    refused(tmp_path, "spark_user: nusy")
    assert "prereqs" in computed[1:]


def test_no_secret_is_shown(tmp_path):
    url = f"https://robot:{PASSWORD}@index.example.org/"
    stage = f"name: a, lock: b, index_url: '{url}'"
    for text in (f"vllm_venv_stages: [{{{stage}}}]", f"vllm_venv_stages: [{{{stage}, nme: x}}]",
                 f"vllm_venv_stages: [{{name: '{url}', lock: b, index_url: '{url}'}}]"):  # fmt: skip
        problems = refused(tmp_path, text)
        assert problems and PASSWORD not in str(problems)
