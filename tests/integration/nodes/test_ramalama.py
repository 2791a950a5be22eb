# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ramalama on a real node: real Podman makes services of the quadlets, and containers run in it.

The image is made on the node (tests/nodes/ramalama_image.sh) and has the name of the real one, which cannot be fetched;
the program in it says over HTTP what it was started with and how large the model is that it sees. Neither RamaLama's
llama.cpp nor a GPU is part of it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import calls
import pytest
import testing

IMAGE = "quay.io/ramalama/ramalama:0.25"
ROLES = ("ramalama",)
PORTS = {"architect": 8080, "swarm": 8081, "vision": 8082}
PLAY = [{"hosts": "spark", "gather_facts": False, "roles": [{"role": "nusy.dgx_spark.ramalama"}]}]
SCRIPT = Path(testing.__file__).with_name("ramalama_image.sh")
OPENED = "PublishPort=0.0.0.0:9999:8082"
DAMAGE = {
    "podman": "dpkg --remove --force-depends catatonit",
    "workers": "systemctl stop ramalama-swarm",
    "file_extra": f"sed -i '/^PublishPort/a {OPENED}' /etc/containers/systemd/ramalama-vision.container",
}


class Story:
    def __init__(self, machine: Any, directory: Any) -> None:
        self.machine, self.directory = machine, directory
        self.workers = [
            {"name": name, "model": f"/srv/models/{name}.gguf", "port": port, "context": 512}
            for name, port in PORTS.items()
        ]

    def run(self, *, check: bool, image: str = IMAGE) -> dict[str, Any]:
        extra = {"ramalama_workers": self.workers, "ramalama_image": image}
        done = testing.ansible_playbook(PLAY, [self.machine], self.directory, check=check, extra=extra)
        assert done.rc == 0, done.stdout[-4000:]
        self.done = done
        (entry,) = done.of(action="ensure_state")
        return entry["result"]

    def drifted(self, **how: Any) -> set[str]:
        controls = self.run(**how)["controls"]
        left_out = set() if self.workers else {"not_selected"}
        assert {one["state"] for one in controls} <= {"in_sync", "drifted", *left_out}, controls
        return {one["id"].partition("/")[2] for one in controls if one["state"] == "drifted"}

    def ask(self, name: str) -> dict[str, Any]:
        for _ in range(20):
            said = self.machine.run("curl", "--silent", f"http://127.0.0.1:{PORTS[name]}/", check=False)
            if said:
                return json.loads(said)
            time.sleep(0.5)
        raise AssertionError(self.machine.shell(f"journalctl -u ramalama-{name} | tail -20"))


@pytest.fixture(scope="module")
def story(make_node, tmp_path_factory):
    machine = make_node()
    return Story(machine, tmp_path_factory.mktemp("ramalama"))


def test_a_check_of_a_bare_node_predicts_what_an_apply_does_and_three_workers_answer(story):
    predicted = story.run(check=True)
    machine = story.machine
    assert story.drifted(check=True) == {"podman", "workers"}
    # In place of the registry: the image is there before the first start.
    machine.shell(SCRIPT.read_text())
    applied = story.run(check=False)
    assert own(predicted["plan"]) == own(applied["plan"])
    before = calls.as_root(machine.name)
    assert story.drifted(check=True) == set()
    calls.keep_the_promise(story.done, machine, ROLES, calls.as_root(machine.name) - before)
    for name in PORTS:
        said = story.ask(name)
        assert (said["bytes"], said["writable"]) == (len("weights\n"), False)
        assert int(said["capabilities"], 16) == 0
        assert said["argv"][said["argv"].index("--alias") + 1] == name
    listening = machine.shell("ss -Hltn")
    assert all(f"127.0.0.1:{port} " in listening and f"0.0.0.0:{port} " not in listening for port in PORTS.values())


def test_its_services_are_accepted(story):
    for name in PORTS:
        unit = f"/run/systemd/generator/ramalama-{name}.service"
        assert story.machine.run("systemd-analyze", "verify", unit, timeout=60) == ""


@pytest.mark.breaks(*DAMAGE, role="ramalama")
def test_what_is_broken_by_hand_is_named_and_repaired(story):
    story.machine.shell("; ".join(DAMAGE.values()))
    assert story.drifted(check=True) == {*DAMAGE}
    story.run(check=False)
    assert story.drifted(check=True) == set()
    assert story.ask("swarm")["bytes"] and "9999" not in story.machine.shell("ss -Hltn")


def test_another_definition_restarts_its_worker_alone(story):
    before = {name: started(story.machine, name) for name in PORTS}
    story.workers[0]["context"] = 1024
    story.run(check=False)
    after = {name: started(story.machine, name) for name in PORTS}
    assert {name for name in PORTS if before[name] != after[name]} == {"architect"}
    assert "1024" in story.ask("architect")["argv"]


@pytest.mark.breaks("ramalama/others")
def test_a_worker_that_is_declared_no_more_is_stopped_and_those_of_others_stay(story):
    machine, gone = story.machine, story.workers.pop()
    theirs = "/etc/containers/systemd/ramalama-theirs.container"
    machine.write(theirs, f"[Container]\nImage={IMAGE}\n")
    assert story.drifted(check=True) == {"others"}
    assert story.drifted(check=False) == {"others"}
    assert machine.run("systemctl", "is-active", f"ramalama-{gone['name']}", check=False).strip() != "active"
    assert f":{gone['port']} " not in machine.shell("ss -Hltn") and machine.ok("test", "-e", theirs)
    assert story.drifted(check=True) == set()
    assert story.ask("swarm")["bytes"]


def test_without_workers_nothing_is_asked_and_nothing_is_unknown(story):
    story.workers.clear()
    found = {one["id"].partition("/")[2]: one["state"] for one in story.run(check=True)["controls"]}
    assert {name for name, state in found.items() if state != "not_selected"} == {"others"}
    story.run(check=False)
    assert story.drifted(check=True) == set()
    assert "ramalama-swarm" not in story.machine.shell("podman ps --all --format '{{.Names}}'")


def own(plan: list[str]) -> set[str]:
    """Without what the package brings, which was installed in between."""
    return {step for step in plan if not step.startswith(("install_packages", "make_parent"))}


def started(machine: Any, name: str) -> str:
    return machine.shell(f"systemctl show --value -p InvocationID ramalama-{name}")
