# SPDX-License-Identifier: GPL-3.0-or-later
"""Role llama_cpp on a node: a real llama.cpp under its real unit, from a bare check to a broken model.

Tests share the node and run in order.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import calls
import engines
import outside
import pytest
import test_launched_engines as launched
import test_runtime_roles as stand_ins
import testing
import tiny_gguf

ROLES = ("llama_cpp", "probe")
UNIT = "llama@swarm.service"
DROPIN = f"/etc/systemd/system/{UNIT}.d/engine.conf"
# What somebody tries by hand, until the next boot.
OVERRIDE = f"/run/systemd/system/{UNIT}.d/zz-by-hand.conf"
KEY_FILE = f"/etc/nusy/credentials/{UNIT}/api-key"
KEY = "open-sesame-12"
PORT, TAKEN = 8085, 8090
SWARM = {
    "name": "swarm",
    "model": "/srv/tiny/1/model.gguf",
    "port": PORT,
    "context": 256,
    "sequences": 4,
    "threads": 2,
    "api_key": KEY,
    "start_seconds": 60,
    "drain_seconds": 5,
}
SPARE = {"name": "spare", "model": "/srv/tiny/1/model.gguf", "port": 8086, "start_seconds": 60, "drain_seconds": 0}
# Each is broken by itself, and all are broken at once: control → what is done to it.
DAMAGE = {
    "llama_cpp/credentials": f"echo another > {KEY_FILE}",
    "llama_cpp/template": "sed -i s/OOMPolicy=kill/OOMPolicy=stop/ /etc/systemd/system/llama@.service",
    "llama_cpp/engines": f"systemctl disable -q {UNIT}",
    "llama_cpp/answers": f"systemctl kill -s STOP {UNIT}",
    "llama_cpp/others": f"mkdir /etc/systemd/system/llama@old.service.d; sed s/{PORT}/8087/ {DROPIN} > "
    "/etc/systemd/system/llama@old.service.d/engine.conf",
    "llama_cpp/file_extra": f"echo Nice=-5 >> {DROPIN}",
}
# Twelve at once, each with a question of its own; what each got, and how long the slowest took.
SESSIONS = """
import json, sys, threading, time, urllib.request
url, key = sys.argv[1:]
found = []
def ask(number):
    body = json.dumps({"prompt": f"question {number}", "max_tokens": 4}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    begun = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        found.append((json.load(answer)["usage"]["completion_tokens"], time.monotonic() - begun))
threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
[t.start() for t in threads]; [t.join() for t in threads]
print(json.dumps([len(found), min(n for n, _t in found), max(t for _n, t in found)]))
"""


# What a client gets who believes every certificate, with one of its own or without.
STATUS = """
import http.client, ssl, sys, urllib.request
url, key, *pair = sys.argv[1:]
tls = ssl._create_unverified_context()
if pair:
    tls.load_cert_chain(*pair)
try:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    print(urllib.request.urlopen(asked, timeout=10, context=tls).status, end="")
except (OSError, http.client.HTTPException):
    print("nothing", end="")
"""


class Llama:
    def __init__(self, machine: Any, directory: Any) -> None:
        self.machine, self.directory = machine, directory

    def run(
        self, *declared: dict[str, Any], check: bool = False, roles: tuple[str, ...] = ("llama_cpp",), **more: Any
    ) -> Any:
        play = {"hosts": "all", "gather_facts": False, "roles": [f"nusy.dgx_spark.{role}" for role in roles]}
        # Weights of chance cannot add.
        extra = {"llama_cpp_engines": list(declared), "probe_expected": "", **more}
        return testing.ansible_playbook([play], [self.machine], self.directory, check=check, become=True, extra=extra)

    def result(self, *declared: dict[str, Any], check: bool = False) -> dict[str, Any]:
        done = self.run(*declared, check=check)
        (entry,) = done.of(host=self.machine.name, action="llama_cpp")
        return entry["result"]

    def drifted(self, *declared: dict[str, Any]) -> set[str]:
        found = self.result(*declared, check=True)["controls"]
        assert not [one for one in found if one["state"] == "unknown"]
        return {one["id"] for one in found if one["state"] == "drifted"}

    def completes(self, port: int = PORT, key: str = KEY) -> Any:
        body = {"prompt": "hello", "max_tokens": 2}
        return launched.ask(self.machine, f"http://127.0.0.1:{port}/v1/completions", body, key=key)

    def answers(self) -> bool:
        return ((self.completes() or {}).get("usage") or {}).get("completion_tokens", 0) >= 1


@pytest.fixture(scope="module")
def llama(make_node, tmp_path_factory) -> Iterator[Llama]:
    models = tmp_path_factory.mktemp("models")
    for revision in ("1", "2", "3"):
        (models / revision).mkdir()
        tiny_gguf.write(models / revision / "model.gguf")
    (models / "3" / "model.gguf").write_bytes(b"no model")
    models.chmod(0o755)
    venv = stand_ins.VENV
    machine = make_node(
        mounts=(f"{engines.site_packages()}:{venv}/lib/python3.13/site-packages", f"{models}:/srv/tiny")
    )
    machine.shell(f"mkdir -p {venv}/bin && ln -s /usr/bin/python3 {venv}/bin/python")
    machine.write(f"{venv}/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    extra = {**launched.EXTRA, "launchers_launchers": ["llama-serve"], "vllm_runtime_imports": ["xllamacpp"]}
    stand_ins.Site([machine], tmp_path_factory.mktemp("runtime")).run(check=False, extra=extra).assert_ok()
    yield Llama(machine, tmp_path_factory.mktemp("llama"))


def test_a_check_predicts_an_apply_which_is_done_when_it_answers(llama):
    before = llama.machine.shell(outside.LOOKED_AT)
    nothing = llama.result(check=True)
    assert nothing["changed"] is False
    assert {one["state"] for one in nothing["controls"]} == {"in_sync", "not_selected"}
    checked = llama.result(SWARM, SPARE, check=True)
    assert llama.machine.shell(outside.LOOKED_AT) == before
    assert KEY not in json.dumps(checked)
    done = llama.run(SWARM, SPARE).assert_ok()
    assert KEY not in done.stdout
    (entry,) = done.of(host=llama.machine.name, action="llama_cpp")
    assert entry["result"]["plan"] == checked["plan"]
    # Nothing was waited for: it answers because its start had succeeded.
    assert llama.answers()
    assert llama.completes(key="wrong") == {"status": 401}
    assert llama.completes(SPARE["port"], key="none")["usage"]["completion_tokens"] >= 1
    again = llama.result(SWARM, SPARE)
    assert (again["changed"], again["plan"]) == (False, [])
    assert {one["state"] for one in again["controls"]} == {"in_sync"}


def test_the_key_is_root_s_and_in_no_list_of_processes_and_the_unit_is_the_whole_truth(llama):
    machine = llama.machine
    assert machine.run("stat", "-c", "%a %U", KEY_FILE).split() == ["600", "root"]
    pid = launched.main_pid(machine, UNIT)
    assert KEY not in machine.read(f"/proc/{pid}/cmdline")
    shown = machine.run("systemctl", "cat", UNIT)
    assert KEY not in shown and "llama-serve /srv/tiny/1/model.gguf" in shown
    assert machine.run("systemctl", "show", "-P", "Slice", UNIT).strip() == "nusy-engines.slice"
    assert "500" in machine.read(f"/proc/{pid}/oom_score_adj")
    machine.run("systemd-analyze", "verify", UNIT)
    tool = machine.run(stand_ins.TOOL, "--json", "llama_cpp", check=False)
    states = {one["id"]: one["state"] for spec in json.loads(tool)["specs"] for one in spec["controls"]}
    assert states["llama_cpp/answers"] == states["llama_cpp/engines"] == "in_sync"


def test_twelve_at_once_get_their_tokens(llama):
    url = f"http://127.0.0.1:{PORT}/v1/completions"
    count, least, slowest = json.loads(llama.machine.run("python3", "-c", SESSIONS, url, KEY))
    assert (count, least >= 1) == (12, True)
    assert slowest < 6


def asked(done: Any) -> dict[str, dict[str, Any]]:
    (entry,) = done.of(action="endpoints_probe")
    return {one["id"]: one for one in entry["result"]["controls"]}


@pytest.mark.breaks("probe/endpoint", "probe/access", "probe/answers", "probe/speed")
def test_a_report_asks_every_engine_and_a_real_run_stops_where_one_is_not_right(llama):
    probe = ("probe",)
    done = llama.run(SWARM, SPARE, roles=probe).assert_ok()
    fine = asked(done)
    assert {one["state"] for one in fine.values()} == {"in_sync", "not_selected"} and not done.changed
    assert fine["probe/speed"]["reason"] == "no sessions are asked for"
    twelve = llama.run(SWARM, SPARE, roles=probe, probe_sessions=12, probe_tokens=4).assert_ok()
    assert asked(twelve)["probe/speed"]["state"] == "in_sync" and KEY not in twelve.stdout
    # Another name, an engine without a lock, an answer that nobody gives, and a promise that nobody keeps.
    unlocked = {**SPARE, "api_key": KEY}
    for declared, more, name, said in (
        ([{**SWARM, "served_name": "another"}], {}, "probe/endpoint", "no_model"),
        ([SWARM, unlocked], {}, "probe/access", "open"),
        ([SWARM], {"probe_expected": "certainly not this"}, "probe/answers", "wrong_answer"),
        ([SWARM], {"probe_sessions": 2, "probe_slo": {"p95": 0.0001}}, "probe/speed", "slow"),
    ):
        checked = llama.run(*declared, check=True, roles=probe, **more).assert_ok()
        assert asked(checked)[name]["state"] == "drifted" and said in json.dumps(asked(checked)[name]["before"])
        real = llama.run(*declared, roles=probe, **more)
        assert real.rc and "What to do" in real.stdout and KEY not in real.stdout
    assert llama.run({**SWARM, "port": 8099, "enabled": False}, roles=probe).assert_ok()


@pytest.mark.breaks(*DAMAGE)
def test_everything_that_is_broken_by_hand_is_named_and_mended(llama):
    assert llama.result(SWARM)["changed"]  # the spare one is declared no more
    assert llama.completes(SPARE["port"]) is None
    # Nor is it kept how it ran: with an old key in it, nobody would look for one there.
    kept = json.loads(llama.machine.read("/var/lib/nusy/former/llama_cpp.json"))["units"]
    assert set(kept) == {f"llama@{SWARM['name']}.service"}
    llama.machine.shell("\n".join(["set -e", *DAMAGE.values()]))
    assert llama.drifted(SWARM) == set(DAMAGE)
    llama.run(SWARM).assert_ok()
    assert llama.answers()
    before = calls.as_root(llama.machine.name)
    clean = llama.run(SWARM, check=True, roles=ROLES)
    calls.keep_the_promise(clean, llama.machine, ROLES, calls.as_root(llama.machine.name) - before)
    (entry,) = clean.of(host=llama.machine.name, action="llama_cpp")
    assert {one["state"] for one in entry["result"]["controls"]} == {"in_sync"}


def test_killed_it_comes_back_by_itself(llama):
    machine = llama.machine
    before = launched.main_pid(machine, UNIT)
    machine.run("kill", "-KILL", before)
    launched.wait_until(lambda: launched.main_pid(machine, UNIT) not in (before, "0") and llama.answers(), "it is back")
    assert shown(machine, "NRestarts") == "1"


def shown(machine: Any, name: str) -> str:
    return machine.run("systemctl", "show", "-P", name, UNIT).strip()


def instead(machine: Any, *lines: str) -> None:
    """Starts something else under the unit; nothing: what is declared again."""
    machine.shell(f"mkdir -p {OVERRIDE.rpartition('/')[0]}")
    machine.write(OVERRIDE, "".join(f"{line}\n" for line in ("[Service]", *lines)))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", UNIT, check=False)


def told(llama: Llama) -> tuple[str, str, str]:
    """What a check says of the engine: whether it answers, why not, and what has to be named for that."""
    (found,) = [one for one in llama.result(SWARM, check=True)["controls"] if one["id"] == "llama_cpp/answers"]
    return found["state"], found["reason"], found["blocked_by"]


def test_a_stop_does_not_wait_for_a_model_that_loads_and_what_is_stopped_is_told(llama):
    """A real load that never ends: of a file that somebody has yet to write."""
    machine = llama.machine
    command = machine.read(f"/proc/{launched.main_pid(machine, UNIT)}/cmdline").rstrip("\0").split("\0")
    machine.shell("mkfifo -m 0644 /srv/endless.gguf")
    command[command.index("--model") + 1] = "/srv/endless.gguf"
    instead(machine, "ExecStart=", f"ExecStart={' '.join(command)}")
    machine.run("systemctl", "restart", "--no-block", UNIT)
    launched.wait_until(lambda: "/srv/endless.gguf" in machine.run("journalctl", "-u", UNIT, "-n", "3"), "it loads")
    assert told(llama)[:2] == ("unknown", f"{UNIT} is starting: it loads its model")
    begun = time.monotonic()
    machine.run("systemctl", "stop", UNIT, timeout=100)
    # A second for SSH, and one for what else this machine does: TimeoutStopSec is 65.
    assert time.monotonic() - begun < 10
    assert (shown(machine, "ActiveState"), shown(machine, "Result")) == ("inactive", "success")
    instead(machine)
    state, why, _named = told(llama)
    assert state == "drifted" and "it was stopped, or never started" in why


def test_who_masked_it_is_asked_for_its_name_and_nothing_fails_until_then(llama):
    machine = llama.machine
    machine.run("systemctl", "mask", UNIT)
    waits = f"llama_cpp_confirm: [{UNIT}]"
    assert told(llama) == ("drifted", f"{UNIT} is masked: nobody can start it", waits)
    assert not llama.run(SWARM).assert_ok().changed and llama.completes() is None
    assert llama.run(SWARM, llama_cpp_confirm=[UNIT]).assert_ok().changed and llama.answers()
    assert llama.drifted(SWARM) == set()


def test_one_that_ends_again_and_again_is_told_by_what_it_ended_with(llama):
    machine = llama.machine
    # Between two starts.
    instead(machine, "ExecStart=", "ExecStart=/usr/bin/false", "RestartSec=1h", "RestartSteps=0")
    machine.run("systemctl", "restart", UNIT, check=False)
    state, why, _named = told(llama)
    assert state == "drifted" and "ended (exit code 1), and waits to be started again" in why
    # Six starts in an hour are enough.
    instead(machine, "ExecStart=", "ExecStart=/usr/bin/false", "RestartSec=10ms", "RestartSteps=0")
    machine.run("systemctl", "restart", UNIT, check=False)
    launched.wait_until(lambda: shown(machine, "ActiveState") == "failed", "systemd gives up")
    state, why, _named = told(llama)
    assert state == "drifted" and "failed (exit code 1); systemd gave up after it was started again" in why
    # A run starts it all the same, with what is declared.
    machine.run("rm", OVERRIDE)
    machine.run("systemctl", "daemon-reload")
    assert llama.run(SWARM).assert_ok().changed and llama.answers()
    # What does not mend itself is not tried again: the launcher says so by its exit code.
    instead(machine, "ExecStart=", f"ExecStart={launched.FOLDER}/llama-serve /srv/tiny/4/model.gguf --port {PORT}")
    machine.run("systemctl", "restart", UNIT, check=False)
    assert (shown(machine, "ExecMainStatus"), shown(machine, "NRestarts")) == ("78", "0")
    state, why, _named = told(llama)
    assert state == "drifted" and "refused to start (exit code 78) and is not tried again" in why
    machine.run("rm", OVERRIDE)
    machine.run("systemctl", "daemon-reload")
    assert llama.run(SWARM).assert_ok().changed and llama.drifted(SWARM) == set()


@pytest.mark.parametrize(
    ("change", "said", "stopped"),
    [
        ({"model": "/srv/tiny/4/model.gguf"}, "cannot be read as a file", False),
        ({"model": "/srv/tiny/3/model.gguf"}, "the former files are back, and it runs with them again", True),
        ({"port": TAKEN}, "Address already in use", True),
    ],
)
def test_a_change_that_does_not_answer_leaves_the_old_one_serving(llama, change, said, stopped):
    machine = llama.machine
    machine.run("systemd-run", "--unit=taken", "--collect", "python3", "-m", "http.server", str(TAKEN))
    before = launched.main_pid(machine, UNIT)
    text = machine.read(DROPIN)
    found = llama.result({**SWARM, **change})
    machine.run("systemctl", "stop", "taken.service")
    assert found["error"]["key"] == "units.rolled_back"
    assert said in found["msg"] and KEY not in json.dumps(found)
    assert machine.read(DROPIN) == text
    assert llama.answers()
    assert (launched.main_pid(machine, UNIT) != before) is stopped
    # What was undone is what is left to do; and where it should be by now, nobody answers.
    unanswered = {"llama_cpp/answers"} if "port" in change else set()
    assert {one["id"] for one in found["left"] if one["state"] == "drifted"} == {"llama_cpp/engines"} | unanswered


def sign(folder: Path) -> dict[str, str]:
    """An authority, and of it a certificate of a server and one of a client, made by openssl as an operator would."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    for name in ("ca", "server", "client"):
        signed = [] if name == "ca" else ["-CA", "ca.pem", "-CAkey", "ca.key"]
        made = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *signed]
        subprocess.run([*new, *made], cwd=folder, check=True, capture_output=True)
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_with_tls_nobody_comes_in_the_clear_nor_without_a_certificate(llama, tmp_path):
    machine, place = llama.machine, "/etc/nusy/tls"
    # Of root alone: the account of the engine gets them from its unit.
    machine.shell(f"mkdir -m 0700 {place}")
    for name, text in sign(tmp_path).items():
        machine.write(f"{place}/{name}", text, "0600")
    files = {"certificate": f"{place}/server.pem", "key": f"{place}/server.key"}
    assert llama.run({**SWARM, "tls": files}).assert_ok().changed
    url, pair = f"://127.0.0.1:{PORT}/v1/models", (f"{place}/client.pem", f"{place}/client.key")
    assert machine.run("python3", "-c", STATUS, f"https{url}", KEY) == "200"
    assert machine.run("python3", "-c", STATUS, f"http{url}", KEY) == "nothing"
    done = llama.run({**SWARM, "tls": files}, roles=("probe",), probe_sessions=12, probe_tokens=4).assert_ok()
    assert {one["state"] for one in asked(done).values()} == {"in_sync"}
    # Another certificate than the declared one is somebody else.
    wrong = llama.run({**SWARM, "tls": {**files, "certificate": f"{place}/client.pem"}}, check=True, roles=("probe",))
    assert "pin" in json.dumps(asked(wrong)["probe/endpoint"]["before"])
    mutual = {**files, "client_ca": f"{place}/ca.pem"}
    mutual |= {"client_certificate": f"{place}/client.pem", "client_key": f"{place}/client.key"}
    assert llama.run({**SWARM, "tls": mutual}).assert_ok().changed
    assert machine.run("python3", "-c", STATUS, f"https{url}", KEY) == "nothing"
    assert machine.run("python3", "-c", STATUS, f"https{url}", KEY, *pair) == "200"
    done = llama.run({**SWARM, "tls": mutual}, roles=("probe",)).assert_ok()
    assert asked(done)["probe/access"]["state"] == "in_sync"
    assert llama.drifted({**SWARM, "tls": mutual}) == set()
    assert llama.run(SWARM).assert_ok().changed and llama.answers()


def test_a_new_model_takes_its_place(llama):
    begun = time.monotonic()
    assert llama.result({**SWARM, "model": "/srv/tiny/2/model.gguf"})["changed"]
    assert llama.answers() and "/srv/tiny/2/" in llama.machine.read(DROPIN)
    assert time.monotonic() - begun < 60
