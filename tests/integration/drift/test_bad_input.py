# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input stops a host before anything is touched, and says what, where, why and what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, ansible_playbook, validated

PREFLIGHT = "nusy.dgx_spark.preflight"
# Two engines that fit into 50 GiB one at a time.
TWO = f"""\
memory_guard_total_gib: 50
models_manifest:
  - name: b
    repository: a/b
    revision: {40 * "a"}
    licence: x
    files: [{{path: m.gguf, size: {20 << 30}, sha256: {64 * "a"}}}]
llama_cpp_engines:
  - {{name: a, model: /srv/a.gguf, port: 8081, weights_gib: 20, kv_cache_gib: 4}}
  - {{name: b, model: b, port: 8082, kv_cache_gib: 1}}
"""
# What is written for a host → the variable, a word of what was found, and the way out.
BAD = {
    "misspelt": ("prereqs_confrim: [/srv/models]", "prereqs_confrim", "misspelt.yml:1:18", "call it prereqs_confirm"),
    "shared": ("spark_usr: nusy", "spark_usr", "shared.yml:1:12", "call it spark_user"),
    "text": ("prereqs_packages_tools: jq", "prereqs_packages_tools", "the text 'jq'", "[jq]"),
    "number": ("prereqs_packages_build: 5", "prereqs_packages_build", "the number 5", "[5]"),
    "empty": ("prereqs_packages_fabric:", "prereqs_packages_fabric", "nothing (null)", "to have the default"),
    "list": ("prereqs_time_units: []", "prereqs_time_units", "a list of 0", "correct prereqs_time_units"),
    "flag": ("ptxas_compile: maybe", "ptxas_compile", "the text 'maybe'", "correct ptxas_compile"),
    "float": ("ptxas_arch: 12.1", "ptxas_arch", "the number 12.1", "in quotes"),
    "internal": ("ptxas_states: {}", "ptxas_states", "ptxas_states on internal", "spark_foreign_variables"),
    "elements": ("ptxas_confirm: [{path: /x}]", "ptxas_confirm[0]", "a mapping (path)", "correct ptxas_confirm[0]"),
}
# What only the call of a role would refuse: for the node layer a host must not be touched for this either.
JUDGED = {
    "account": (
        "prereqs_user: Bad User",
        "controls[4].groups[0].name: ",
        "'Bad User' on account, which is in prereqs_user",
    ),
    "control": (
        "launchers_skip_controls: [launchers/x]",
        "skip_controls[0]: ",
        "which is in launchers_skip_controls, at",
    ),
    "block": (
        "kernel_tuning_watchdog_seconds: 99999",
        "watchdog_seconds: 0 (off) to 600",
        "which is in kernel_tuning_watchdog_seconds, at",
    ),
    "name": ("vllm_venv_name: a b", "name: ", "'a b' on name, which is in vllm_venv_name, at"),
    "port": (
        "launchers_launchers: [llama-serve]\nspark_ports: {own: {ports: [8000-8100], bind: any, reason: x}}",
        "One service for tcp port 8080",
        "launchers/llama (tcp 8080 of loopback, by launchers_launchers, at",
    ),
    "release": (
        "vllm_release: '9.9'\nvllm_engines: [{name: main, model: /m, port: 8000}]",
        "the options of vLLM 9.9",
        "none are known",
    ),
    "version": ("cuda_toolchain_version: thirteen", "version: ", "which is in cuda_toolchain_version, at"),
    "budget": (
        "memory_guard_total_gib: 121.69\n"
        "memory_guard_engines: [{name: big, weights_gib: 120, kv_cache_gib: 1, unit: big.service}]",
        "engines that fit into 121.69 GiB",
        "-120.00 GiB  big: weights",
    ),
    # Declared once, for the role that runs it, and its weights nowhere but in the manifest.
    "together": (TWO, "engines that fit into 50 GiB", "-20.00 GiB  llama@b: weights"),
    "unsized": (
        "vllm_engines: [{name: a, model: /srv/a, port: 8000, weights_gib: -1, kv_cache_gib: 4}]",
        "engines[0].weights_gib: a number of GiB",
        "-1 on unsized",
    ),
    "model": (
        TWO.replace("model: b", "model: bb"),
        "engines[1].model: a name in models_manifest, or a path",
        "'bb'; the manifest has b",
    ),
}
FINE = {
    # Enough for the calls of all roles to be computed, as they are shipped.
    "shipped": "".join(
        f"{path.parents[1].name}_skip_controls: []\n" for path in ROOT.glob("roles/*/meta/argument_specs.yml")
    ),
    "good": "ansible_user: x\nprereqs: x\n",
    "later": "prereqs_user_groups: '{{ known_only_in_the_role }}'\nprereqs_user: \"{{ 'a' ~ 'b' }}\"\n",
    "apart": TWO.replace("kv_cache_gib: 1", "kv_cache_gib: 1, conflicts: [a]"),
    "preset": "memory_guard_total_gib: 121.69\nvllm_engines: [{name: a, preset: mistral-7b, model: /m, port: 8000}]\n",
    # Written for all hosts, and run on workstations: neither in the budget nor on the port of this one.
    "elsewhere": TWO.replace("kv_cache_gib: 1", "kv_cache_gib: 1, conflicts: [a]")
    + "ramalama_workers: [{name: w, model: /srv/w.gguf, port: 8081, context: 512, weights_gib: 49}]\n",
    "foreign": "prereqs_ours: 1\nspark_foreign_variables: [prereqs_ours]\n",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A host for every case. None is reached: what runs, runs here."""
    hosts = {name: {} for name in (*BAD, *JUDGED, *FINE)}
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    local["ansible_remote_tmp"] = str(tmp_path / "tmp")
    (tmp_path / "site" / "host_vars").mkdir(parents=True)
    (tmp_path / "site" / "hosts.yml").write_text(yaml.safe_dump({"spark": {"hosts": hosts, "vars": local}}))
    for name, text in {**{name: case[0] for name, case in (BAD | JUDGED).items()}, **FINE}.items():
        (tmp_path / "site" / "host_vars" / f"{name}.yml").write_text(text)
    return tmp_path / "site"


def play(site: Path, playbook: str | Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and task results of a run of this clone."""
    results = site.parent / "results"
    results.unlink(missing_ok=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "SPARK_DRIFT_"))}
    env |= {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACKS_ENABLED": "nusy.dgx_spark.drift,task_results",
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/nodes/callback_plugins"),
        "ANSIBLE_HOME": str(site.parent / "home"),
        "SPARK_DRIFT_DIR": str(site.parent / "drift"),
        "TASK_RESULTS": str(results),
    }
    command = [ansible_playbook(), "-i", str(site), str(playbook), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    assert lines, done.stdout + done.stderr
    return done.returncode, [json.loads(line) for line in lines]


def test_every_bad_input_is_told_in_four_parts_and_the_other_hosts_are_reported(site: Path) -> None:
    # A layer alone is guarded like the whole site.
    _code, results = play(site, "playbooks/runtime.yml", "--check", "--forks", "20", "--tags", "ptxas")
    judged = {line["host"]: line for line in results if line["action"] == PREFLIGHT}
    assert judged.keys() == BAD.keys() | JUDGED.keys() | FINE.keys()
    for host, (_text, variable, found, fix) in BAD.items():
        line = judged[host]
        assert line["status"] == "failed", host
        error = line["result"]["error"]
        assert error["kind"] == "input" and error["key"].startswith("input.") and error["why"]
        assert error["wanted"].startswith(f"{variable}: ") and found in error["found"] and fix in error["fix"], error
        assert host in error["found"]
        assert all(error[part] in line["result"]["msg"] for part in ("wanted", "found", "why", "fix"))
        assert {other["action"] for other in results if other["host"] == host} == {PREFLIGHT}
    for host, (_text, wanted, found) in JUDGED.items():
        error = judged[host]["result"]["error"]
        assert error["kind"] == "input" and error["wanted"].startswith(wanted) and found in error["found"], error
    assert {host for host, line in judged.items() if line["status"] != "failed"} == FINE.keys()
    # What could not be judged is named, and only where there is such a thing.
    left = {host: judged[host]["result"]["unjudged"] for host in FINE}
    assert [text.partition(" cannot be computed")[0] for text in left.pop("later")] == [
        "the call of role prereqs on later"
    ]
    assert not any(left.values()), left
    assert any(line["host"] == "good" and line["action"].endswith("ptxas_environment") for line in results)
    report = validated(site.parent / "drift/report.json")
    states = {host["name"]: host for host in report["hosts"]}
    assert report["summary"]["exit_code"] == 3 and "input.unknown" in json.dumps(states["misspelt"])
    assert "never started" not in json.dumps(states["good"])
    assert not any("refuse-what-nobody-meant" in control["id"] for control in states["good"]["controls"])


def test_a_workstation_that_is_no_spark_is_judged_before_its_roles_are_played(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    host = {"ansible_connection": "local", "ramalama_wrokers": [], "ramalama_confirm": []}
    (tmp_path / "site" / "hosts.yml").write_text(yaml.safe_dump({"workstation": {"hosts": {"desk": host}}}))
    _code, results = play(tmp_path / "site", "playbooks/serving.yml", "--check")
    assert [(line["action"], line["status"]) for line in results] == [(PREFLIGHT, "failed")]
    assert "call it ramalama_workers" in results[0]["result"]["error"]["fix"]


@pytest.mark.parametrize("example", ["single_spark", "spark_pair"])
def test_what_is_copied_from_an_example_is_judged_by_the_memory_of_a_spark(tmp_path: Path, example: str) -> None:
    site = shutil.copytree(ROOT / "inventories" / example, tmp_path / "office")
    main = {"name": "main", "port": 8000, "model": "/srv/m", "preset": "mistral-7b"}
    swarm = {"name": "swarm", "port": 8081, "model": "/srv/q.gguf", "weights_gib": 4.6, "kv_cache_gib": 0.5}
    large = {"name": "large", "port": 8001, "model": "/srv/l", "preset": "gpt-oss-120b"}

    def judged(*vllm: dict[str, Any]) -> list[dict[str, Any]]:
        given = json.dumps({"vllm_engines": vllm, "llama_cpp_engines": [swarm]})
        _code, results = play(site, "playbooks/preflight.yml", "--check", "-e", given)
        return [line for line in results if line["action"] == PREFLIGHT]

    assert {line["status"] for line in judged(main)} == {"ok"}
    both = judged(main, large)
    assert len(both) == (2 if example == "spark_pair" else 1)
    for line in both:
        error = line["result"]["error"]
        assert error["wanted"] == "engines that fit into 121.69 GiB (memory_guard_total_gib)"
        assert "vllm@large: weights" in error["found"] and line["host"] in error["found"]


def test_a_real_run_touches_no_host_while_one_is_in_doubt(site: Path) -> None:
    # Should the guard ever fail, what would be changed is this one file.
    target = site.parent / "ptxas.env"
    only = ("-l", "good,control")
    code, results = play(site, "playbooks/runtime.yml", "-e", f"ptxas_environment_file={target}", *only)
    assert code != 0 and not target.exists()
    assert {line["action"] for line in results} == {PREFLIGHT}


def test_a_run_of_all_layers_pays_once_and_only_hosts_that_passed_are_left_out(site: Path) -> None:
    """The second layer meets a host that did not pass: the others are still not said to have missed it."""
    # A role of each layer is enough; test_touch runs them all.
    arguments = ("--check", "-l", "good,foreign,flag", "--tags", "prereqs,ptxas")
    _code, results = play(site, "site.yml", *arguments)
    judged = [line for line in results if line["action"] == PREFLIGHT]
    assert sorted(line["host"] for line in judged if line["status"] != "failed") == ["foreign", "good"]
    assert not any(line["result"].get("changed") for line in judged)
    for role in ("prereqs", "ptxas"):
        ran = {line["host"] for line in results if line["task"].startswith(f"nusy.dgx_spark.{role}")}
        assert ran == {"good", "foreign"}
    report = validated(site.parent / "drift/report.json")
    assert len(report["hosts"]) == 3 and "never started" not in json.dumps(report)


# What a play of somebody else gives a role → the place, what was found, and the way out.
GIVEN = (
    ("prereqs_confrim: [x]", "prereqs_confrim: a name", "play.yml:", "call it prereqs_confirm"),
    ("prereqs_packages_tools: jq", "prereqs_packages_tools: a list", "the text 'jq' on good", "[jq]"),
    (
        "prereqs_user: Bad User",
        "controls[4].groups[0].name: an account",
        "'Bad User', which is in prereqs_user, at",
        "",
    ),
    ("prereqs_packages_tools: [jq, x y]", "controls[0].packages[1]", "which is in prereqs_packages_tools", ""),
    ("prereqs_time_units: ''", "controls[3].units[0].name", "which is in prereqs_time_units", ""),
    ("prereqs_root_code: opt", "controls[4].users[0].home", "'opt', which is in prereqs_root_code, at", ""),
    ("prereqs_skip_controls: [prereqs/x]", "skip_controls[0]", "which is in prereqs_skip_controls", ""),
)


def test_a_role_in_somebody_elses_play_judges_its_own_input(site: Path) -> None:
    playbook = site.parent / "play.yml"
    roles = "".join(
        f"    - role: nusy.dgx_spark.prereqs\n      ignore_errors: true\n      vars: {{{given}}}\n"
        for given, *_ in GIVEN
    )
    playbook.write_text(f"- hosts: good\n  gather_facts: false\n  roles:\n{roles}")
    _code, results = play(site, playbook, "--check")
    judged = [line["result"] for line in results if line["action"] == "nusy.dgx_spark.ensure_state"]
    for result, (given, wanted, found, fix) in zip(judged, GIVEN, strict=True):
        error = result["error"]
        assert wanted in error["wanted"] and found in error["found"] and fix in error["fix"] and error["why"], given
        assert "controls" not in result and found in result["msg"]


def test_a_play_can_ask_which_ports_its_hosts_listen_on(site: Path) -> None:
    playbook = site.parent / "play.yml"
    playbook.write_text("""\
- hosts: good,port
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: "{{ query('nusy.dgx_spark.published_ports') }}"}
""")
    _code, results = play(site, playbook, "--check")
    told = {line["host"]: line for line in results}
    assert [(one["service"], one["ports"]) for one in told["good"]["result"]["msg"]] == [
        ("ssh", ["22"]),
        ("vllm", ["8000"]),
        ("vllm-master", ["29510"]),
    ]
    assert told["port"]["status"] == "failed" and "One service for tcp port 8080" in told["port"]["result"]["msg"]


def test_options_of_modules_are_told_in_four_parts(site: Path) -> None:
    playbook = site.parent / "play.yml"
    playbook.write_text("""\
- hosts: good
  gather_facts: false
  tasks:
    - nusy.dgx_spark.ensure_state: {role: x, controls: [{id: x/a, files: [{pth: /etc/x}]}]}
      ignore_errors: true
    - nusy.dgx_spark.vllm_venv: {name: x, interpreter: /p, python: "3.12", stages: x}
      ignore_errors: true
    - nusy.dgx_spark.spark_facts: {gather_subset: [gpus]}
      ignore_errors: true
    - nusy.dgx_spark.spark_facts: {timeout: 1}
      ignore_errors: true
    - nusy.dgx_spark.ptxas_probe: {venv: /v, timeout: soon}
      ignore_errors: true
""")
    _code, results = play(site, playbook, "--check")
    told = [(line["result"]["error"]["wanted"], line["result"]["error"]["fix"]) for line in results]
    assert [wanted.split(":")[0] for wanted, _fix in told] == [
        "controls[0].files[0].pth", "stages", "gather_subset[0]", "2 to 300 s", "timeout",
    ]  # fmt: skip
    assert [fix for _wanted, fix in told] == [
        "call it path",
        "correct stages",
        "write gpu",
        "change timeout",
        "correct timeout",
    ]
    assert all(line["result"]["error"]["kind"] == "input" for line in results)
