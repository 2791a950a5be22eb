# SPDX-License-Identifier: GPL-3.0-or-later
"""Role vllm on a real node: units, credentials, swap and way back, and every control broken by hand.

What the units start is a stand-in that answers as vLLM does and takes a second for it, since the real one, in
tests/integration/vllm, takes half a minute. Tests share the node and run in order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import calls
import pytest
import testing

ROLES = ("vllm",)
VENV = "/srv/venv"
MODEL = "/srv/tiny"
KEY = "open-sesame"
UNIT, FOLDER = "vllm@main.service", "/usr/local/libexec/nusy"
DROPIN = f"/etc/systemd/system/{UNIT}.d/engine.conf"
# vLLM, as far as clients, probes and launchers see it. A model without its config.json ends it after it has begun.
STAND_IN = r"""#!/usr/bin/python3
import http.server, json, os, sys
if sys.argv[1:] == ["serve", "--help=all"]:
    open("/srv/asked", "a").write("x")
    sys.exit(print(open("/srv/venv/help").read()))
if sys.argv[1:2] != ["serve"]:
    sys.exit(print("0.27.1"))
words = sys.argv[2:]
value = lambda name: words[words.index(name) + 1]
served, key = value("--served-model-name"), os.environ.get("VLLM_API_KEY", "")
if "broken" in words[0]:
    sys.exit("ValueError: no tensors in " + words[0])

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_words):
        pass

    def say(self, status, text, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        self.say(200, "vllm:num_requests_running 0.0\n")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if key and self.headers["Authorization"] != "Bearer " + key:
            return self.say(401, '{"error": "Unauthorized"}')
        if asked["model"] != served or os.path.exists("/var/lib/nusy/cache/mute"):
            return self.say(404, '{"error": {"message": "The model does not exist."}}')
        pieces = [{"choices": [{"delta": {"content": "yes"}}]}, {"choices": [], "usage": {"completion_tokens": 1}}]
        text = "".join(f"data: {p}\n\n" for p in (*map(json.dumps, pieces), "[DONE]"))
        self.say(200, text, "text/event-stream")

http.server.ThreadingHTTPServer(("127.0.0.1", int(value("--port"))), Handler).serve_forever()
"""
DRIVER = '#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: stand-in"\necho "version 580"\n'
ENGINE: dict[str, Any] = {
    **{"name": "main", "model": f"{MODEL}/first", "port": 8003, "context": 256, "sequences": 12, "kv_cache_gib": 0.01},
    **{"api_key": KEY, "start_seconds": 30, "drain_seconds": 5},
}
EXTRA: dict[str, Any] = {
    **{f"prereqs_packages_{part}": [] for part in ("tools", "build", "fabric")},
    # A container may not keep a clock.
    "prereqs_skip_controls": ["prereqs/time_sync"],
    "vllm_runtime_venv": VENV,
    "launchers_venv": VENV,
    "vllm_runtime_imports": [],
    "vllm_runtime_compile": False,
    "launchers_launchers": ["vllm-serve"],
    "launchers_binaries": dict.fromkeys(("NVCC_BIN", "PTXAS_BIN", "CUOBJDUMP_BIN", "NVDISASM_BIN"), ""),
}
OPTIONS = Path(__file__).parents[3] / "roles/vllm_venv/files"
INFO = f"{VENV}/lib/python3.13/site-packages/vllm-%s.dist-info"
NOTE = "/var/lib/nusy/vllm-options.json"
DAMAGE = {
    "vllm/options": f"sed -i s/0.27.1/0.26.0/ {NOTE}; echo >> {INFO % '0.27.1'}/RECORD",
    "vllm/credentials": f"chmod 0644 /etc/nusy/credentials/{UNIT}/api-key",
    "vllm/template": "sed -i s/^OOMPolicy=.*/OOMPolicy=continue/ /etc/systemd/system/vllm@.service",
    "vllm/engines": f"sed -i 's/--max-num-seqs 12/--max-num-seqs 99/' {DROPIN}",
    "vllm/file_extra": f"echo Nice=5 >> {DROPIN}",
    "vllm/others": (
        f"mkdir /etc/systemd/system/vllm@old.service.d && cp {DROPIN} /etc/systemd/system/vllm@old.service.d/"
    ),
}


def help_of(release: str) -> str:
    """As vllm serve --help=all lists them, of what is kept of that release."""
    lines = []
    for name, text in json.loads((OPTIONS / f"spark-vllm-{release}/options.json").read_text()).items():
        kind, *choices = text.split(" ")
        value = "{" + ",".join(choices) + "}" if choices else "VALUE"
        tail = {"flag": "", "switch": f", --no-{name}", "value": f" {value}", "values": f" {value} [{value} ...]"}
        lines.append(f"  --{name}{tail[kind]}")
    return "\n".join(lines)


class Site:
    def __init__(self, machine: Any, directory: Any) -> None:
        self.machine, self.directory = machine, directory

    def run(self, *engines: dict[str, Any], check: bool = False, roles: tuple[str, ...] = ("vllm",)) -> Any:
        play = {"hosts": "all", "gather_facts": False, "roles": [f"nusy.dgx_spark.{role}" for role in roles]}
        extra = {**EXTRA, "vllm_engines": list(engines)}
        return testing.ansible_playbook([play], [self.machine], self.directory, check=check, extra=extra)

    def controls(self, *engines: dict[str, Any], check: bool = True) -> dict[str, dict[str, Any]]:
        done = self.run(*engines, check=check).assert_ok()
        assert KEY not in done.stdout + done.stderr + json.dumps(done.tasks)
        return {control["id"]: control for entry in done.of(action="vllm") for control in entry["result"]["controls"]}

    def drifted(self, *engines: dict[str, Any]) -> set[str]:
        found = self.controls(*engines)
        assert {control["state"] for control in found.values()} <= {"in_sync", "drifted", "not_selected"}, found
        return {name for name, control in found.items() if control["state"] == "drifted"}


def install(machine: Any, release: str) -> None:
    machine.shell(f"rm -rf {INFO % '*'} && mkdir -p {INFO % release}")
    machine.write(f"{INFO % release}/RECORD", f"vllm/version.py,sha256={release},1\n")
    machine.write(f"{VENV}/help", help_of(release))


@pytest.fixture(scope="module")
def site(make_node, tmp_path_factory) -> Site:
    machine = make_node()
    machine.shell(f"mkdir -p {VENV}/bin {MODEL}/first {MODEL}/second {MODEL}/broken")
    machine.shell(f"for m in first second broken; do echo '{{}}' > {MODEL}/$m/config.json; done")
    machine.shell(f"ln -s /usr/bin/python3 {VENV}/bin/python")
    machine.write(f"{VENV}/bin/vllm", STAND_IN, "0755")
    machine.shell("touch /srv/asked && chmod 0666 /srv/asked")
    install(machine, "0.27.1")
    machine.write(
        "/usr/bin/nvidia-smi", '#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: stand-in"\necho "version 580"\n', "0755"
    )
    found = Site(machine, tmp_path_factory.mktemp("vllm"))
    # Bare: everything is predicted, and nothing fails.
    bare = found.controls(ENGINE)
    assert "no vLLM is proven on this node" in bare["vllm/options"]["reason"]
    assert {name for name, c in bare.items() if c["state"] == "drifted"} >= {
        *("vllm/credentials", "vllm/template", "vllm/engines")
    }
    found.run(roles=("prereqs", "vllm_runtime", "launchers")).assert_ok()
    machine.write("/etc/nusy/ptxas.env", "")
    return found


def serves(machine: Any) -> str:
    """What is asked for by whoever starts it by hand: a token of the model, with the key of the unit."""
    script = f"CREDENTIALS_DIRECTORY=/etc/nusy/credentials/{UNIT} {FOLDER}/engine-ready --port 8003 --model main"
    machine.shell(f"{script} --seconds 5")
    return machine.shell(f"tr '\\0' ' ' < /proc/$(systemctl show -P MainPID {UNIT})/cmdline")


def test_an_engine_is_started_when_it_has_answered(site):
    predicted = {name for name, c in site.controls(ENGINE).items() if c["state"] == "drifted"}
    applied = site.controls(ENGINE, check=False)
    assert predicted == {name for name, c in applied.items() if c["state"] == "drifted"}
    command = serves(site.machine)
    assert f"vllm serve {MODEL}/first --served-model-name main" in command and KEY not in command
    assert "--max-num-batched-tokens 8192" in command
    assert KEY in site.machine.shell(f"tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID {UNIT})/environ")
    assert site.drifted(ENGINE) == set()


def test_the_installed_release_is_asked_once_and_what_it_does_not_take_stops_nothing(site):
    machine = site.machine
    asked = len(machine.read("/srv/asked"))
    assert site.controls(ENGINE)["vllm/options"]["state"] == "in_sync"
    assert len(machine.read("/srv/asked")) == asked
    # The same name, and another thing: a build of somebody's own.
    machine.shell(f"sed -i '/--max-num-seqs/d' {VENV}/help && echo x,, >> {INFO % '0.27.1'}/RECORD")
    before = machine.run("systemctl", "show", "-P", "InvocationID", UNIT)
    predicted = site.controls(ENGINE)["vllm/options"]
    done = site.run({**ENGINE, "context": 128})
    said = "an option of vLLM 0.27.1 is wanted, found --max-num-seqs"
    assert said in predicted["reason"] and done.rc and said in done.stdout
    assert machine.run("systemctl", "show", "-P", "InvocationID", UNIT) == before and "--max-model-len 256" in serves(
        machine
    )
    # Another release, which takes it: told, and engines are as declared nevertheless.
    install(machine, "0.28.0")
    found = site.controls(ENGINE)["vllm/options"]
    assert "vLLM 0.28.0 is installed, and 0.27.1 is declared" in found["reason"]
    done = site.run(ENGINE)
    assert done.rc and "set vllm_release to 0.28.0" in done.stdout
    install(machine, "0.27.1")
    site.run(ENGINE).assert_ok()
    assert site.drifted(ENGINE) == set()


def test_its_units_are_accepted_and_as_closed_as_an_engine_can_be(site):
    assert site.machine.run("systemd-analyze", "verify", UNIT, timeout=60) == ""
    security = site.machine.run("systemd-analyze", "security", "--no-pager", UNIT, check=False)
    exposure = float(security.rpartition("Overall exposure level")[2].split(":")[1].split()[0])
    # With the GPU, code that is compiled while it runs, and the network: roles/vllm/README.md.
    assert exposure <= 2.0, security


def test_another_model_is_swapped_in_and_a_broken_one_brings_the_old_one_back(site):
    site.run({**ENGINE, "model": f"{MODEL}/second"}).assert_ok()
    assert f"serve {MODEL}/second" in serves(site.machine)
    # Known beforehand: nothing is stopped for it.
    before = site.machine.run("systemctl", "show", "-P", "InvocationID", UNIT)
    done = site.run({**ENGINE, "model": f"{MODEL}/absent"})
    assert done.rc and "absent/config.json" in done.stdout
    assert site.machine.run("systemctl", "show", "-P", "InvocationID", UNIT) == before
    # Known only by its start: the old one is back.
    done = site.run({**ENGINE, "model": f"{MODEL}/broken"})
    assert done.rc and "no tensors in" in done.stdout
    assert f"serve {MODEL}/second" in serves(site.machine)
    site.run(ENGINE).assert_ok()
    assert site.drifted(ENGINE) == set()


@pytest.mark.breaks(*DAMAGE, "vllm/answers")
def test_what_is_broken_by_hand_is_named_and_repaired(site):
    for damage in DAMAGE.values():
        site.machine.shell(damage)
    site.machine.run("systemctl", "daemon-reload")
    # An engine that runs and answers nobody, for as long as it is not started anew.
    site.machine.shell("touch /var/lib/nusy/cache/mute")
    found = site.controls(ENGINE)
    assert {name for name, control in found.items() if control["state"] == "drifted"} == {*DAMAGE, "vllm/answers"}
    assert "no_model" in found["vllm/answers"]["reason"]
    site.machine.shell("rm /var/lib/nusy/cache/mute")
    site.run(ENGINE).assert_ok()
    assert serves(site.machine)
    before = calls.as_root(site.machine.name)
    clean = site.run(ENGINE, check=True)
    calls.keep_the_promise(clean, site.machine, ROLES, calls.as_root(site.machine.name) - before)
    (entry,) = clean.of(action="vllm")
    assert {one["state"] for one in entry["result"]["controls"]} == {"in_sync"}


def test_all_of_a_killed_engine_goes_and_it_comes_back_by_itself(site):
    site.machine.shell(f"kill -9 $(systemctl show -P MainPID {UNIT})")
    site.machine.shell(f"for n in $(seq 30); do sleep 1; systemctl is-active -q {UNIT} && exit; done; exit 1")
    assert serves(site.machine)
    assert site.machine.run("systemctl", "show", "-P", "NRestarts", UNIT).strip() == "1"


def test_what_its_launcher_refuses_is_not_tried_again_and_told_so(site):
    spare = {**ENGINE, "name": "spare", "port": 8004, "model": f"{MODEL}/absent"}
    done = site.run(ENGINE, spare)
    assert done.rc and "absent/config.json" in done.stdout
    names = ("ActiveState", "ExecMainStatus", "NRestarts")
    shown = [site.machine.run("systemctl", "show", "-P", name, "vllm@spare.service").strip() for name in names]
    assert shown == ["failed", "78", "0"]
    found = site.controls(ENGINE, spare)["vllm/answers"]
    assert found["state"] == "drifted"
    assert "vllm@spare.service refused to start (exit code 78) and is not tried again" in found["reason"]
    site.run(ENGINE).assert_ok()
    assert site.drifted(ENGINE) == set()


def test_an_engine_that_is_declared_no_more_is_removed(site):
    assert site.drifted() == {"vllm/others"}
    site.run().assert_ok()
    assert site.machine.run("systemctl", "is-active", UNIT, check=False).strip() != "active"
    assert site.drifted() == set()
