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
from ansible_collections.nusy.dgx_spark.plugins.lookup.suite import LookupModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._console.judge import SUBJECTS

PACKAGE = "ansible_collections.nusy.dgx_spark.plugins.modules"
MODEL = {
    "name": "tiny",
    "repository": "nusy/tiny",
    "revision": "0" * 40,
    "licence": "mit",
    "files": [{"path": "config.json", "size": 2, "sha256": "0" * 64}],
}
GIVEN: dict[str, dict[str, Any]] = {
    "access": {},
    "kernel_tuning": {"host": "here", "parameters": ["nusy.test=1"], "sysctls": {"vm.max_map_count": 1048577}},
    "launchers": {"suite": LookupModule().run([])[0], "binaries": {"PY_BIN": "/nonexistent/python"}},
    "llama_cpp": {"engines": [{"name": "a", "model": "/nonexistent/a.gguf", "port": 8081, "api_key": "open-sesame"}]},
    "model_snapshot": {"root": "/nonexistent/models", "owner": "nobody", "models": [MODEL]},
    "nvidia_toolkit": {},
    "memory_guard": {"engines": [{"name": "a", "weights_gib": 1.0, "kv_cache_gib": 1.0}]},
    "ptxas_environment": {"venv": "/nonexistent"},
    "vllm": {
        "engines": [{"name": "a", "model": "/nonexistent/a", "port": 8000, "api_key": "open-sesame"}],
        "options": {"max-num-batched-tokens": "value", "served-model-name": "values", "port": "value"},
    },
    "vllm_runtime": {"venv": "/nonexistent", "imports": ["torch"]},
}
ROLES = {"model_snapshot": "models", "ptxas_environment": "ptxas"}


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
    assert "failed" not in result
    # Nothing is changed of how one gets into a machine that this test did not log in to, there is nothing of NVIDIA,
    # and whose cgroups are not those of a Spark is unknown to a role that limits memory.
    unknown = {control["state"] for control in result["controls"]} == {"unknown"}
    idle = name in ("access", "nvidia_toolkit") or (name == "memory_guard" and unknown)
    assert result["changed"] is not idle
    role = ROLES.get(name, name)
    catalogue = yaml.safe_load((Path(__file__).parents[4] / "roles" / role / "meta" / "controls.yml").read_text())
    assert {c["id"] for c in result["controls"]} == {c["id"] for c in catalogue["controls"]}


@pytest.mark.parametrize("name", GIVEN)
def test_every_returned_key_is_documented(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    documented = set(yaml.safe_load(module(name).RETURN)) | {"changed", "diff", "invocation"}
    assert set(run(name, capsys)) <= documented


@pytest.mark.parametrize("name", GIVEN)
def test_a_control_that_is_misspelt_is_an_error_with_four_parts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(name, capsys, skip_controls=["nonsense"])
    assert result["failed"] is True and set(result["error"]) >= {"key", "wanted", "found", "why", "fix"}


MAPPINGS = [
    ("ensure_state", {"role": "a", "controls": "x"}, "controls: a list of mappings"),
    ("ensure_state", {"role": "a", "controls": [{"id": "a/b", "files": "x"}]}, "controls[0].files: a list of mappings"),
    ("ensure_state", {"role": "a", "controls": [{"id": "a/b", "files": ["x"]}]}, "controls[0].files[0]: a mapping"),
    ("vllm_venv", {"name": "a", "interpreter": "/p", "python": "3.12", "stages": "x"}, "stages: a list of mappings"),
    ("vllm_venv", {"name": "a", "interpreter": "/p", "python": "3.12", "stages": ["x"]}, "stages[0]: a mapping"),
    ("launchers", {"suite": "sha256:0", "binaries": "x"}, "binaries: a mapping"),
]


@pytest.mark.parametrize(("name", "given", "wanted"), MAPPINGS)
def test_text_in_the_place_of_a_mapping_is_an_error_with_four_parts(name, given, wanted, capsys) -> None:
    with patch_module_args(given):
        basic._ANSIBLE_PROFILE = "legacy"
        with pytest.raises(SystemExit):
            module(name).main()
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert (error["wanted"], error["key"], error["found"]) == (wanted, "input.type", "the text 'x'")
    assert error["fix"] == f"correct {wanted.partition(':')[0]}"


STAGE = {"name": "x", "lock": "", "index_url": "https://robot:hunter22@index.example.org/"}
LEAKS = [
    ("ensure_state", {"role": "a", "controls": "x", "secrets": {"token": "hunter22"}}),
    ("ensure_state", {"role": "a", "controls": "hunter22", "secrets": {"token": "hunter22"}}),
    ("vllm_venv", {"name": "a", "interpreter": "/p", "python": "3.12", "stages": STAGE}),
    ("vllm_venv", {"name": "a", "interpreter": "/p", "python": "3.12", "stages": STAGE["index_url"]}),
    ("vllm_venv", {"name": "a", "interpreter": "/p", "python": "3.12", "stages": [STAGE, "x"]}),
]


@pytest.mark.parametrize(("name", "given"), LEAKS)
def test_options_that_do_not_fit_show_no_secret(name, given, capsys) -> None:
    with patch_module_args(given):
        basic._ANSIBLE_PROFILE = "legacy"
        with pytest.raises(SystemExit):
            module(name).main()
    out = capsys.readouterr().out
    assert json.loads(out)["error"]["kind"] == "input" and "hunter22" not in out


# Where nobody asks for a secret, and somebody writes one.
STRAYS: list[tuple[str, dict[str, Any]]] = [
    ("vllm", {"options": {"api-key": "hunter22"}}),
    ("vllm", {"options": {"hf_token": 22334455}}),
    ("vllm", {"options": {"kv_transfer_config": {"kv_connector_extra_config": [{"redis_password": "hunter22"}]}}}),
    ("llama_cpp", {"options": {"api_key": "hunter22"}}),
    ("llama_cpp", {"api_token": "hunter22"}),
]


@pytest.mark.parametrize(("name", "more"), STRAYS)
def test_a_secret_in_the_wrong_place_is_in_no_result_and_no_log(name, more, capsys, monkeypatch) -> None:
    """Before a module can refuse anything Ansible writes into the log of the node what it was called with."""
    logged: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda _self, msg, log_args=None: logged.append(f"{msg}{log_args}"))
    known = dict.fromkeys(("kv-transfer-config", "api-key", "hf-token"), "value")
    engine = {**GIVEN[name]["engines"][0], "process_gib": 5, **more}
    others = {"options": {**GIVEN[name]["options"], **known}} if name == "vllm" else {}
    result = run(name, capsys, engines=[engine], **others)
    assert result["failed"] is True and result["error"]["kind"] == "input"
    out = json.dumps(result) + "".join(logged)
    assert "hunter22" not in out and "22334455" not in out
    # vllm takes options, so it is its own code that refuses them, after the call was logged.
    assert bool(logged) is (name == "vllm")


def test_the_archive_is_in_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    result = run("launchers", capsys)
    assert GIVEN["launchers"]["suite"][:40] not in json.dumps(result)
    # ansible-core 2.21 returns no options at all.
    if "invocation" in result:
        assert result["invocation"]["module_args"]["suite"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def test_whatever_a_module_ensures_can_be_judged_on_the_node() -> None:
    """One that forgets to leave its options, or that the tool does not know, would be unknown there for ever."""
    folder = Path(__file__).parents[4] / "plugins" / "modules"
    ensuring = {path.stem for path in folder.glob("*.py") if "ensure(MODULE" in path.read_text()}
    assert ensuring == set(SUBJECTS) and all(module(name).MODULE is SUBJECTS[name] for name in ensuring)
    # And no other way leads to a real run.
    assert not [path.stem for path in folder.glob("*.py") if "finish(" in path.read_text()]
