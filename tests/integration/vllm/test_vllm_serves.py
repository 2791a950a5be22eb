# SPDX-License-Identifier: GPL-3.0-or-later
"""Real vLLM by its unit on a real node: who is let in, adapters, twelve sessions, another model, and what breaks.

What is done to the engine so that it starts on processors is in cpu_engine.py, and helps tests alone; role and unit
are those of every node. A start takes half a minute, so that each shows several things. Tests share the node and run
in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cpu_engine
import pytest
import tiny_llama

sys.path[:0] = [str(cpu_engine.ROOT / "tests" / folder) for folder in ("nodes", "unit/plugins/module_utils/_inference")]

import endpoints
import nodes as node_control
import testing

VENV, PYTHON = "/srv/venv", "/opt/python"
MODELS, TLS = "/srv/tiny", "/srv/tiny/tls"
KEY, PORT, TAKEN = "open-sesame", 8003, 8004
UNIT, SPARE_UNIT = "vllm@main.service", "vllm@spare.service"
URL = f"https://127.0.0.1:{PORT}"
# Half a minute on a machine of its own; other tests run beside it.
START_SECONDS = 300
DRIVER = '#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: stand-in"\necho "version 580"\n'
ENGINE: dict[str, Any] = {
    **{"name": "main", "model": f"{MODELS}/first", "port": PORT, "context": 256, "sequences": 12},
    **{"kv_cache_gib": 0.05, "batched_tokens": 2048, "enforce_eager": True, "lora": {}, "lora_rank": 8},
    "process_gib": 3,
    **{"api_key": KEY, "start_seconds": START_SECONDS, "drain_seconds": 5},
    "tls": {
        **{"certificate": f"{TLS}/engine.pem", "key": f"{TLS}/engine.key", "client_ca": f"{TLS}/ca.pem"},
        **{"client_certificate": f"{TLS}/probe.pem", "client_key": f"{TLS}/probe.key"},
    },
}
# Beside the first: what it needs is looked at without disturbing that one.
SPARE: dict[str, Any] = {
    **{"name": "spare", "model": f"{MODELS}/second", "port": 8005, "context": 256, "kv_cache_gib": 0.05},
    **{"enforce_eager": True, "start_seconds": START_SECONDS, "drain_seconds": 1},
}
EXTRA: dict[str, Any] = {
    **{f"prereqs_packages_{part}": [] for part in ("build", "fabric")},
    # What the build for processors is linked to, and no wheel brings.
    "prereqs_packages_tools": ["libnuma1"],
    # A container may not keep a clock.
    "prereqs_skip_controls": ["prereqs/time_sync"],
    "vllm_runtime_venv": VENV,
    "vllm_runtime_compile": False,
    "vllm_runtime_environment": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_HOST_IP": "127.0.0.1"},
    "launchers_venv": VENV,
    "launchers_launchers": ["vllm-serve"],
    "launchers_binaries": dict.fromkeys(("NVCC_BIN", "PTXAS_BIN", "CUOBJDUMP_BIN", "NVDISASM_BIN"), ""),
    "vllm_release": cpu_engine.RELEASE,
}
# One request, by the Python of the node.
ASK = f"""
import json, ssl, sys, urllib.error, urllib.request
path, key, body = sys.argv[1:]
context = ssl.create_default_context(cafile="{TLS}/ca.pem")
context.load_cert_chain("{TLS}/probe.pem", "{TLS}/probe.key")
headers = {{"Authorization": f"Bearer {{key}}", "Content-Type": "application/json"}}
asked = urllib.request.Request("{URL}" + path, body.encode() or None, headers)
try:
    with urllib.request.urlopen(asked, timeout=60, context=context) as answer:
        status, text = answer.status, answer.read().decode()
except urllib.error.HTTPError as error:
    status, text = error.code, error.read().decode()
except OSError as error:
    status, text = 0, str(error)
print(json.dumps([status, text]))
"""


class Site:
    def __init__(self, machine: Any, directory: Path, options: Path) -> None:
        self.machine, self.directory = machine, directory
        self.extra = {**EXTRA, "vllm_options_file": str(options)}

    def run(self, *engines: dict[str, Any], check: bool = False, roles: tuple[str, ...] = ("vllm",)) -> Any:
        play = {"hosts": "all", "gather_facts": False, "roles": [f"nusy.dgx_spark.{role}" for role in roles]}
        extra = {**self.extra, "vllm_engines": list(engines)}
        done = testing.ansible_playbook([play], [self.machine], self.directory, check=check, extra=extra)
        assert KEY not in done.stdout + done.stderr + json.dumps(done.tasks)
        return done

    def failed(self, *engines: dict[str, Any]) -> str:
        """What a run that fails says."""
        done = self.run(*engines)
        assert done.rc
        (entry,) = done.of(action="vllm")
        return entry["result"]["msg"]

    def drifted(self, *engines: dict[str, Any], check: bool = True) -> dict[str, str]:
        """Control → what is said of it; what is neither in sync nor drifted is no answer."""
        done = self.run(*engines, check=check).assert_ok()
        controls = [control for entry in done.of(action="vllm") for control in entry["result"]["controls"]]
        assert controls and {c["state"] for c in controls} <= {"in_sync", "drifted", "not_selected"}, controls
        return {c["id"]: c["reason"] for c in controls if c["state"] == "drifted"}

    def probed(self, **options: Any) -> dict[str, Any]:
        """By who comes with everything, unless ``options`` say otherwise."""
        given = {"ca": f"{TLS}/ca.pem", "certificate": f"{TLS}/probe.pem", "private_key": f"{TLS}/probe.key"}
        given |= {"url": URL, "api_key": KEY, "model": "main", "expected": "", "tokens": 16}
        task = {"name": "Probe", "nusy.dgx_spark.inference_probe": {**given, **options}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
        done = testing.ansible_playbook([play], [self.machine], self.directory, check=True).assert_ok()
        (entry,) = done.of(task="Probe")
        return entry["result"]

    def ask(self, path: str, body: object = None, key: str = KEY) -> tuple[int, str]:
        text = "" if body is None else json.dumps(body)
        status, said = json.loads(self.machine.run("python3", "-c", ASK, path, key, text))
        return status, said

    def completed(self, model: str = "main") -> str:
        body = {"model": model, "prompt": "hello", "max_tokens": 12, "temperature": 0}
        status, said = self.ask("/v1/completions", body)
        assert status == 200, said
        return json.loads(said)["choices"][0]["text"]

    def show(self, name: str, unit: str = UNIT) -> str:
        return self.machine.run("systemctl", "show", "-P", name, unit).strip()

    def command(self) -> str:
        return self.machine.read(f"/proc/{self.show('MainPID')}/cmdline").replace("\0", " ")

    def processes(self, unit: str = UNIT) -> list[str]:
        group = self.show("ControlGroup", unit)
        return self.machine.shell(f"cat /sys/fs/cgroup{group}/cgroup.procs").split() if group else []


@contextlib.contextmanager
def node(models: Path, directory: Path) -> Iterator[Site]:
    """A node with the real vLLM and three models, ready for its role. ``models``: a folder that nobody else uses."""
    place = cpu_engine.install()
    for number, name in enumerate(("first", "second", "broken")):
        tiny_llama.model(models / name, seed=number)
    # Whole by its names, and half by its bytes.
    weights = models / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300_000])
    tiny_llama.adapter(models / "lora")
    (models / "tls").mkdir(mode=0o700)
    authority = endpoints.Authority(models / "tls")
    for name in ("engine", "probe"):
        authority.issue(name)
    models.chmod(0o755)
    name = f"v{os.getpid()}"
    mounts = (
        f"{place}/site:{VENV}/lib/python3.11/site-packages",
        f"{cpu_engine.prefix()}:{PYTHON}",
        f"{models}:{MODELS}",
    )
    (machine,) = testing.start([name], mounts=mounts)
    # Containers have 64 MiB of it, machines half of their memory; the processes of an engine talk through 160.
    machine.run("mount", "-o", "remount,size=1g", "/dev/shm")
    machine.shell(f"mkdir -p {VENV}/bin && ln -sfn {PYTHON}/bin/python3.11 {VENV}/bin/python")
    machine.write(f"{VENV}/pyvenv.cfg", f"home = {PYTHON}/bin\ninclude-system-site-packages = false\n")
    machine.write(f"{VENV}/bin/vllm", f"#!{VENV}/bin/python\n{cpu_engine.PROGRAM}", "0755")
    # Where that Python has a library of its own.
    machine.shell(f"echo {PYTHON}/lib > /etc/ld.so.conf.d/python.conf && ldconfig")
    machine.write("/usr/bin/nvidia-smi", DRIVER, "0755")
    found = Site(machine, directory, place / "options.json")
    found.run(roles=("prereqs", "vllm_runtime", "launchers")).assert_ok()
    machine.write("/etc/nusy/ptxas.env", "")
    try:
        yield found
    finally:
        node_control.down([name])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with node(tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("vllm")) as found:
        yield found


def wait_until(true: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(1)


def test_an_engine_is_started_when_it_has_answered(site):
    predicted = site.drifted(ENGINE)
    assert predicted.keys() == site.drifted(ENGINE, check=False).keys()
    assert f"vllm serve {MODELS}/first --served-model-name main" in site.command()
    assert "--kv-cache-memory-bytes 53687092 " in site.command() and KEY not in site.command()
    assert "main answers after" in site.machine.run("journalctl", "-u", UNIT, "-o", "cat")
    # The server, its engine and its worker.
    assert len(site.processes()) >= 3 and site.show("NRestarts") == "0"
    assert site.completed() == site.completed() != ""
    assert site.drifted(ENGINE) == {}


def test_twelve_sessions_are_served_and_nobody_without_key_or_certificate(site, capsys):
    found = site.probed(sessions=12, slo={"p95": 60})
    assert found["faults"] == [] and found["ok"]
    assert found["key_refused_without"] and found["certificate_refused_without"]
    load = found["load"]
    assert (load["requests"], load["answered"], load["errors"]) == (24, 24, [])
    assert load["tokens"] > 24 and 0 < load["p50"] <= load["p95"]
    figures = {name: load[name] for name in ("p50", "p95", "p99", "tokens_per_second")}
    with capsys.disabled():
        print(f"\ntwelve sessions, 24 answers of at most 16 tokens: {figures}")
    kinds = {
        "wrong key": site.probed(api_key="wrong"),
        "no certificate": site.probed(certificate="", private_key=""),
        "no TLS": site.probed(url=URL.replace("https", "http"), ca="", certificate="", private_key=""),
    }
    told = {name: one["faults"][0]["kind"] for name, one in kinds.items()}
    # TLS 1.3 turns a client away after its first words: whether it still hears why is chance.
    assert told.pop("no certificate") in ("certificate_refused", "cut")
    assert told == {"wrong key": "key_refused", "no TLS": "tls"}


def test_adapters_are_loaded_and_taken_away_while_it_runs(site):
    load, plain = {"lora_name": "sql", "lora_path": f"{MODELS}/lora"}, site.completed()
    assert site.ask("/v1/load_lora_adapter", load, key="wrong")[0] == 401
    assert site.ask("/v1/load_lora_adapter", {**load, "lora_path": f"{MODELS}/none"})[0] == 404
    assert site.ask("/v1/load_lora_adapter", load)[0] == 200
    listed = {model["id"]: model["parent"] for model in json.loads(site.ask("/v1/models")[1])["data"]}
    assert listed == {"main": None, "sql": "main"}
    assert site.completed("sql") != plain == site.completed()
    assert site.ask("/v1/load_lora_adapter", load)[0] == 400
    assert site.ask("/v1/unload_lora_adapter", {"lora_name": "sql"})[0] == 200
    assert site.ask("/v1/completions", {"model": "sql", "prompt": "hello"})[0] == 404


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"port": TAKEN}, f"127.0.0.1 port {TAKEN}: Address already in use"),
        ({"model": f"{MODELS}/none"}, f"{MODELS}/none/config.json cannot be read as a file"),
        ({"kv_cache_gib": 100_000}, "100000.0 GiB for the KV cache"),
    ],
)
def test_what_could_never_start_says_why_and_is_not_tried_again(site, change, said):
    site.machine.run("systemd-run", "--unit=taken", "--collect", "python3", "-m", "http.server", str(TAKEN))
    before = site.show("InvocationID")
    found = site.failed(ENGINE, {**SPARE, **change})
    site.machine.run("systemctl", "stop", "taken.service")
    assert said in found
    state = [site.show(name, SPARE_UNIT) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert state == ["failed", "78", "0"]
    assert site.show("InvocationID") == before and site.completed()


def test_what_only_the_engine_can_know_is_told_in_its_words(site):
    """A KV cache that is too small for one request: enough for the launcher, and found after the load."""
    before = site.show("InvocationID")
    found = site.failed(ENGINE, {**SPARE, "kv_cache_gib": 0.0001})
    assert "it said first: ValueError: To serve at least one request" in found and "KV cache" in found
    assert set(site.drifted(ENGINE)) == {"vllm/others"}
    site.run(ENGINE).assert_ok()
    assert not site.processes(SPARE_UNIT) and site.show("InvocationID") == before and site.completed()


def test_a_broken_model_brings_the_old_one_back(site):
    answer, before = site.completed(), site.show("InvocationID")
    # Known beforehand: nothing is stopped for it.
    assert "none/config.json" in site.failed({**ENGINE, "model": f"{MODELS}/none"})
    assert site.show("InvocationID") == before
    # Known by its start alone.
    said = site.failed({**ENGINE, "model": f"{MODELS}/broken"})
    assert "the former files are back, and it runs with them again" in said
    assert "safetensors" in said.lower()
    assert site.show("InvocationID") != before and site.completed() == answer


@pytest.mark.parametrize("which", ["main", "worker"])
def test_killed_all_of_it_goes_and_it_comes_back_by_itself(site, which):
    answer, before, starts = site.completed(), site.processes(), int(site.show("NRestarts"))
    victim = site.show("MainPID") if which == "main" else site.machine.run("pgrep", "-f", "^VLLM::Worker").strip()
    assert victim in before
    site.machine.run("kill", "-KILL", victim)

    def again() -> bool:
        """It is active again only when it has answered."""
        return int(site.show("NRestarts")) > starts and site.show("ActiveState") == "active"

    wait_until(again, f"back after its {which} was killed")
    assert site.completed() == answer and not set(before) & set(site.processes())


def test_another_model_takes_its_place_and_a_stop_is_clean(site):
    first, other = site.completed(), {**ENGINE, "model": f"{MODELS}/second"}
    assert set(site.drifted(other)) == {"vllm/engines"}
    site.run(other).assert_ok()
    assert site.completed() != first and f"vllm serve {MODELS}/second" in site.command()
    assert site.drifted(other) == {}
    site.machine.run("systemctl", "stop", UNIT)
    assert (site.show("ActiveState"), site.show("Result")) == ("inactive", "success")
    assert "without waiting" not in site.machine.run("journalctl", "-u", UNIT, "-o", "cat").rpartition("Stopping ")[2]
