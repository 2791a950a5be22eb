# SPDX-License-Identifier: GPL-3.0-or-later
"""Real engines, started on two nodes by their launchers as units of the service account.

Ray's head and worker join, a worker that is killed is noticed and comes back; llama.cpp answers a request. The
roles prove both beforehand. vLLM is in tests/integration/vllm.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engines
import pytest
import test_runtime_roles as stand_ins
import testing
import tiny_gguf

VENV = stand_ins.VENV
FOLDER = stand_ins.FOLDER
MODEL = "/srv/tiny/a model.gguf"
SECONDS = 120
RAY = f"#!{VENV}/bin/python\nimport sys\nfrom ray.scripts.scripts import main\nsys.exit(main())\n"
EXTRA = {
    # What llama.cpp is linked to, and no wheel brings.
    "prereqs_packages_tools": ["libgomp1"],
    "vllm_runtime_imports": ["ray", "xllamacpp"],
    "launchers_launchers": ["ray-head", "ray-worker", "llama-serve"],
    # Neither a driver nor a toolkit is there.
    "launchers_binaries": dict.fromkeys(
        ("NVIDIA_SMI_BIN", "NVCC_BIN", "PTXAS_BIN", "CUOBJDUMP_BIN", "NVDISASM_BIN"), ""
    ),
}
SMALL = ("--num-gpus", "0", "--object-store-memory", "100000000", "--", "--num-cpus", "1")
KEY = "open-sesame"
# What a caller might have by accident or malice.
HOSTILE = ("PATH=/nonexistent", "PYTHONPATH=/nonexistent", "PYTHONHOME=/nonexistent", "LD_PRELOAD=/nonexistent.so")
# One request, by the Python of the node: it has nothing else that speaks HTTP.
ASK = """
import json, sys, urllib.error, urllib.request
url, key, body = sys.argv[1:]
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
try:
    with urllib.request.urlopen(urllib.request.Request(url, body.encode() or None, headers), timeout=30) as answer:
        print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(json.dumps({"status": error.code}))
except OSError:
    print("null")
"""


@pytest.fixture(scope="module")
def pair(make_node, tmp_path_factory) -> Iterator[list[Any]]:
    site_packages = engines.site_packages()
    models = tmp_path_factory.mktemp("models")
    tiny_gguf.write(models / "a model.gguf")
    (models / "broken.gguf").write_bytes(b"no model")
    models.chmod(0o755)
    machines = []
    for _ in range(2):
        machine = make_node(mounts=(f"{site_packages}:{VENV}/lib/python3.13/site-packages", f"{models}:/srv/tiny"))
        machine.shell(f"mkdir -p {VENV}/bin && ln -s /usr/bin/python3 {VENV}/bin/python")
        machine.write(f"{VENV}/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
        machine.write(f"{VENV}/bin/ray", RAY, "0755")
        machines.append(machine)
    site = stand_ins.Site(machines, tmp_path_factory.mktemp("engines"))
    done = site.run(check=False, extra=EXTRA).assert_ok()
    for machine in machines:
        found = stand_ins.evidence(done, machine)
        assert found["launchers/engine_binaries"]["state"] == found["vllm_runtime/imports"]["state"] == "in_sync"
    yield machines


@pytest.fixture
def unit(pair) -> Iterator[Callable[..., str]]:
    """``unit(machine, launcher, words…)``: a service that restarts as one of an engine would."""
    started: list[tuple[Any, str]] = []

    def start(machine: Any, launcher: str, *words: str, environment: tuple[str, ...] = ()) -> str:
        name = f"probe-{launcher}"
        settings = [f"--setenv={line}" for line in (*HOSTILE, *environment)]
        service = ("Restart=always", "RestartSec=1", "RestartPreventExitStatus=64 78")
        # Ray takes half a minute to say goodbye.
        settings += [f"--property={line}" for line in (*service, "TimeoutStopSec=2")]
        machine.run(
            *("systemd-run", f"--unit={name}", "--uid=nusy", "--service-type=exec", "--collect"),
            *("--expand-environment=no", *settings),
            *(f"{FOLDER}/{launcher}", *words),
        )
        started.append((machine, name))
        return name

    yield start
    for machine, name in reversed(started):
        machine.run("systemctl", "stop", name, check=False)


def ask(machine: Any, url: str, body: object = None, key: str = "none") -> Any:
    return json.loads(machine.run("python3", "-c", ASK, url, key, "" if body is None else json.dumps(body)))


def probed(machine: Any, folder: Path, *, check: bool = True, **options: Any) -> dict[str, Any]:
    """What inference_probe says on the node."""
    task = {"name": "Probe", "nusy.dgx_spark.inference_probe": options}
    play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
    done = testing.ansible_playbook([play], [machine], folder, check=check)
    (entry,) = done.of(task="Probe")
    result = entry["result"]
    assert entry["status"] == ("ok" if check or result["ok"] else "failed") and KEY not in done.stdout + done.stderr
    return result


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if true():
            return
        time.sleep(0.5)
    pytest.fail(f"not within {SECONDS} s: {what}")


def main_pid(machine: Any, name: str) -> str:
    return machine.run("systemctl", "show", "-P", "MainPID", name).strip()


def test_a_server_answers_a_request_and_ends_with_its_unit(pair, unit, tmp_path):
    machine = pair[0]
    name = 'the "tiny" $HOME %n'
    words = (MODEL, "--port", "8085", "--served-model-name", name, "--max-model-len", "1024")
    assert "FAIL" not in machine.run(
        "setpriv", "--reuid=nusy", "--clear-groups", f"{FOLDER}/llama-serve", "--check", *words
    )
    service = unit(machine, "llama-serve", *words, environment=(f"LLAMA_API_KEY={KEY}",))
    wait_until(lambda: ask(machine, "http://127.0.0.1:8085/health") == {"status": "ok"}, "a healthy server")
    assert ask(machine, "http://127.0.0.1:8085/v1/models", key=KEY)["data"][0]["id"] == name
    url, body = "http://127.0.0.1:8085/v1/completions", {"prompt": "hello", "max_tokens": 4}
    assert ask(machine, url, body, key=KEY)["usage"]["completion_tokens"] >= 1
    assert ask(machine, url, body, key="wrong") == {"status": 401}
    # Of twelve who ask at once each is served. Weights of chance cannot add, and a machine that tests share is
    # held to no time: alone on it, P95 is 0.3 s.
    here = {"url": "http://127.0.0.1:8085", "api_key": KEY, "model": name, "tokens": 16}
    found = probed(machine, tmp_path, check=False, expected="", sessions=12, slo={"p95": 60}, **here)
    load = found["load"]
    assert found["faults"] == [] and found["ok"] and found["key_refused_without"]
    assert found["handshake"]["tokens"] >= 1
    assert (load["requests"], load["answered"], load["errors"]) == (24, 24, [])
    assert load["tokens"] > 24 and 0 < load["p50"] <= load["p95"]
    assert 0 < found["handshake"]["first_token_seconds"] < found["handshake"]["seconds"]
    # The question with one right answer finds such weights, and a key that is none is told apart from that.
    assert [one["kind"] for one in probed(machine, tmp_path, **here)["faults"]] == ["wrong_answer"]
    refused = probed(machine, tmp_path, check=False, **{**here, "api_key": "wrong"})
    assert refused["error"]["key"] == "inference.key_refused"
    # One process from the first to the last, without anything of its caller.
    pid = main_pid(machine, service)
    command = machine.read(f"/proc/{pid}/cmdline").split("\0")
    assert command[0] == f"{VENV}/bin/python" and KEY not in "".join(command)
    environment = machine.read(f"/proc/{pid}/environ").split("\0")
    assert "MAX_JOBS=2" in environment and not [line for line in environment if "nonexistent" in line]
    # Its port is taken now, and --check says so and nothing else.
    taken = machine.run(f"{FOLDER}/llama-serve", "--check", *words, check=False).splitlines()
    (failed,) = [line for line in taken if line.startswith("FAIL")]
    assert failed.startswith("FAIL port --port")
    machine.run("systemctl", "stop", service, timeout=20)
    assert machine.run("systemctl", "is-failed", service, check=False).strip() == "inactive"


def test_a_model_that_is_none_ends_the_engine_and_not_in_silence(pair):
    said = pair[0].shell(f"runuser -u nusy -- {FOLDER}/llama-serve /srv/tiny/broken.gguf --port 8086 2>&1; echo rc=$?")
    code = said.splitlines()[-1]
    assert code not in ("rc=0", "rc=78") and len(said.splitlines()) > 1


def nodes_of_ray(head: Any) -> list[str]:
    """The state of every node that the head has ever known."""
    found = ask(head, "http://127.0.0.1:8265/nodes?view=summary")
    return [node["raylet"].get("state", "") for node in ((found or {}).get("data") or {}).get("summary", [])]


def test_ray_joins_over_two_nodes_and_a_killed_worker_comes_back(pair, unit):
    head, worker = pair
    unit(head, "ray-head", "--node-ip-address", head.address, *SMALL)
    wait_until(lambda: nodes_of_ray(head) == ["ALIVE"], "a head")
    joining = ("--node-ip-address", worker.address, "--address", f"{head.address}:6380", *SMALL)
    service = unit(worker, "ray-worker", *joining)
    wait_until(lambda: nodes_of_ray(head) == ["ALIVE", "ALIVE"], "two nodes")
    before = main_pid(worker, service)
    raylet = worker.shell(
        f"for p in $(cat /proc/{before}/task/{before}/children); do grep -qx raylet /proc/$p/comm && echo $p; done"
    )
    worker.run("kill", "-KILL", raylet.strip())
    # Ray's own process ends with its raylet, and the unit starts it again.
    wait_until(lambda: sorted(nodes_of_ray(head)) == ["ALIVE", "ALIVE", "DEAD"], "it is noticed, and comes back")
    assert main_pid(worker, service) not in (before, "0")
