# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters: called as a template calls them, and once by full name in a real template."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.nusy.dgx_spark.tests.tools.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).parents[4]


def filtered(value: object, name: str, *arguments: object) -> Any:
    plugin = importlib.import_module(f"ansible_collections.nusy.dgx_spark.plugins.filter.{name}")
    return plugin.FilterModule().filters()[name](value, *arguments)


def refusal(value: object, name: str, *arguments: object) -> str:
    with pytest.raises(AnsibleError) as caught:
        filtered(value, name, *arguments)
    return str(caught.value)


def test_systemd_environment() -> None:
    assert filtered({"PORT": 8000, "A": 'x "$y"'}, "systemd_environment") == 'A="x \\"\\$y\\""\nPORT="8000"\n'


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["A=1"], "wants a dictionary of variables, got list"),
        ({1: "x"}, "the name 1 is int"),
        ({"A": True}, "the value of A is bool"),
        ({"A": 1.5}, "the value of A is float"),
        ({"A": None}, "the value of A is NoneType"),
        ({"A": ["x"]}, "the value of A is list"),
        ({"A-B": "x"}, "'A-B' is not a variable name"),
        ({"A": "x\0"}, "the value of A holds '\\x00' at position 1"),
    ],
)
def test_systemd_environment_refuses(value: object, said: str) -> None:
    message = refusal(value, "systemd_environment")
    assert f"nusy.dgx_spark.systemd_environment: {said}" in message


@settings(max_examples=examples(50), deadline=None)
@given(argv=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_argv_quote_is_split_by_a_shell_into_the_same_list(argv: list[str]) -> None:
    line = filtered(argv, "argv_quote")
    show = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {line}', "sh", *show], capture_output=True, text=True, check=True, env={}
    )
    assert json.loads(done.stdout) == argv


@pytest.mark.parametrize("name", ["argv_quote", "systemd_argv"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ls -l", "wants a list of arguments, got"),
        ({"a": 1}, "wants a list of arguments, got dict"),
        (["/bin/ls", True], "item 1 is bool"),
        (["/bin/ls", None], "item 1 is NoneType"),
        (["/bin/ls", "\0"], "item 1 holds"),
    ],
)
def test_lists_of_arguments_are_checked(name: str, value: object, said: str) -> None:
    assert f"nusy.dgx_spark.{name}: {said}" in refusal(value, name)


def test_systemd_argv() -> None:
    line = filtered(["/bin/echo", 80, "100% of $HOME", 'a "b"\\'], "systemd_argv")
    assert line == '/bin/echo 80 "100%% of $$HOME" "a \\"b\\"\\\\"'
    assert "nusy.dgx_spark.systemd_argv: the program 'echo'" in refusal(["echo"], "systemd_argv")


def test_version_in_range() -> None:
    assert filtered("580.159.03", "version_in_range", ">=580.126.09,<581") is True
    assert filtered("580.95", "version_in_range", ">=580.126.09,<581") is False
    assert "nusy.dgx_spark.version_in_range: the version is float" in refusal(13.0, "version_in_range", ">=13")
    assert "nusy.dgx_spark.version_in_range: the range is int" in refusal("13.0", "version_in_range", 13)
    assert "nusy.dgx_spark.version_in_range: '[N/A]' is not a version" in refusal("[N/A]", "version_in_range", ">=13")


def test_memory_budget() -> None:
    engine = {"name": "main", "weights_gib": 15, "kv_cache_gib": 4}
    assert filtered([engine], "memory_budget", 121 * 2**30)["fits"] is True
    assert "too much" in filtered([engine], "memory_budget", 32 * 2**30)["explanation"]
    assert "engines[0].weights_gib: a number of GiB" in refusal([{**engine, "weights_gib": "15"}], "memory_budget", 1)
    assert "nusy.dgx_spark.memory_budget: total_bytes" in refusal([engine], "memory_budget", "121 GiB")


def test_templates_find_the_filters_by_full_name_and_ansible_doc_knows_them() -> None:
    template = (
        "{{ {'A': 'b c'} | nusy.dgx_spark.systemd_environment }}"
        "{{ ['ls', 'b c'] | nusy.dgx_spark.argv_quote }} {{ ['/bin/ls', 'b c'] | nusy.dgx_spark.systemd_argv }} "
        "{{ '13.0.2' | nusy.dgx_spark.version_in_range('>=13.0,<13.1') }} "
        "{{ ([{'name': 'a', 'weights_gib': 1, 'kv_cache_gib': 1}] | nusy.dgx_spark.memory_budget(13 * 1024 ** 3, "
        "reserve_gib=1, page_cache_gib=1)).left_bytes }}"
    )
    tools, environment = Path(sys.executable).parent, {**os.environ, "ANSIBLE_LOAD_CALLBACK_PLUGINS": "0"}
    run = {"cwd": REPOSITORY, "capture_output": True, "text": True, "check": True, "env": environment}
    argv = [tools / "ansible", "localhost", "-m", "ansible.builtin.debug", "-a", json.dumps({"msg": template})]
    said = subprocess.run(argv, **run).stdout
    assert json.loads(said.partition("=>")[2])["msg"] == 'A="b c"\nls \'b c\' /bin/ls "b c" True 1073741824'
    names = [f"nusy.dgx_spark.{path.stem}" for path in sorted((REPOSITORY / "plugins/filter").glob("*.py"))]
    documents = json.loads(subprocess.run([tools / "ansible-doc", "-t", "filter", "-j", *names], **run).stdout)
    assert sorted(documents) == names


def test_trivy_images() -> None:
    report = {
        "SchemaVersion": 2,
        "CreatedAt": "2026-11-22T20:58:01.01087351Z",
        "ArtifactName": "demo",
        "ArtifactType": "container_image",
        "Metadata": {"ImageID": "sha256:" + "a" * 64},
        "Results": [{"Vulnerabilities": [{"VulnerabilityID": "CVE-1", "PkgName": "x", "Severity": "HIGH"}]}],
    }
    (image,) = filtered([report], "trivy_images")
    assert image["ids"] == ["a" * 64] and [one["id"] for one in image["findings"]] == ["CVE-1"]
    assert filtered([report], "trivy_images", "CRITICAL")[0]["findings"] == []
    assert "nusy.dgx_spark.trivy_images: the reports are dict" in refusal(report, "trivy_images")
    assert "nusy.dgx_spark.trivy_images: entry 0 is no report" in refusal([{}], "trivy_images")
    assert "nusy.dgx_spark.trivy_images: severity: LOW" in refusal([report], "trivy_images", "worst")


def test_osv_rows() -> None:
    affected = [{"package": {"ecosystem": "PyPI", "name": "torch"}, "versions": ["2.10.0"]}]
    (row,) = filtered([{"id": "X-1", "affected": affected}], "osv_rows")
    assert (row["id"], row["subject"], row["range"]) == ("x_1_torch", "python:torch", "==2.10.0")
    assert "nusy.dgx_spark.osv_rows: the advisories are dict" in refusal({}, "osv_rows")
    assert "nusy.dgx_spark.osv_rows: entry 0 is no OSV advisory" in refusal([1], "osv_rows")
    assert "nusy.dgx_spark.osv_rows: " in refusal([{"id": "X-1", "affected": ["x"]}], "osv_rows")


def release(version: str = "0.27.1") -> Any:
    return json.loads((REPOSITORY / f"roles/vllm_venv/files/spark-vllm-{version}/options.json").read_text("utf-8"))


def test_vllm_arguments() -> None:
    engine = {"name": "main", "model": "/srv/models/m", "port": 8001, "kv_cache_gib": 1, "sequences": 12}
    words = "/srv/models/m --port 8001 --kv-cache-memory-bytes 1073741824 -- --max-num-seqs 12"
    assert filtered(engine, "vllm_arguments", release()) == [*words.split(), "--max-num-batched-tokens", "8192"]
    said = refusal({**engine, "options": {"no-such": 1}}, "vllm_arguments", release(), "0.27.1")
    assert "nusy.dgx_spark.vllm_arguments: main.options.no-such: an option of vLLM 0.27.1" in said
    assert "wants an engine" in refusal([], "vllm_arguments", release())
    assert "is not how an option is written" in refusal(engine, "vllm_arguments", {"host": 1})


def test_placement() -> None:
    engines = [{"name": "large", "weights_gib": 120, "nodes": 2, "kv_cache_gib": 10}]
    memory = {"spark1": 130663231488, "spark2": 130663231488}
    found = filtered(engines, "placement", memory)
    assert (found["fits"], found["engines"]) == (True, {"large": ["spark1", "spark2"]})
    assert "wants a mapping of names to bytes" in refusal(engines, "placement", [1])
    assert "engines[0].weights_gib" in refusal([{"name": "x"}], "placement", memory)
