# SPDX-License-Identifier: GPL-3.0-or-later
"""Role models on a real node: fetched by the service account with the real client from a hub on the node's loopback,
copied over ssh by a second place, and what somebody breaks is named exactly and repaired."""

from __future__ import annotations

import json
import random

import calls
import engines
import pytest
import testing
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.suite import archive
from hub import Repository

ROOT = engines.ROOT
ROLES = ("models",)
VENV = "/opt/nusy/venvs/vllm/current"
PLAY = [{"hosts": "all", "gather_facts": False, "roles": ["nusy.dgx_spark.models"]}]
PORT = 8410
SIZE = 2 << 20
PASSWORD = "pr0xy-w0rd"
GATED = "--gated acme/tiny --token hf_tok"
# As an operator would do it: a key for the account, and its own node among those it knows.
KEYS = """set -e
mkdir -p -m 0700 ~/.ssh
ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/id_ed25519
cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys
for key in /etc/ssh/ssh_host_*_key.pub; do echo "127.0.0.1 $(cut -d" " -f1,2 "$key")"; done > ~/.ssh/known_hosts
"""
# No model names it.
OLD = "f" * 40


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    (folder / "acme/tiny/nested").mkdir(parents=True)
    (folder / "acme/tiny/config.json").write_text("{}")
    (folder / "acme/tiny/nested/model.safetensors").write_bytes(random.Random(7).randbytes(SIZE))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    return Repository.of(folder, folder / "acme/tiny")


@pytest.fixture(scope="module")
def machine(make_node, repository, tmp_path_factory):
    suite = tmp_path_factory.mktemp("suite")
    suite.chmod(0o755)
    (suite / "spark.pyz").write_bytes(archive())
    packages = f"{engines.site_packages()}:{VENV}/lib/python3.13/site-packages"
    hub = repository.files["config.json"].parents[2]
    machine = make_node(
        mounts=(packages, f"{hub}:/srv/hub", f"{ROOT}/tests/tools:/srv/tools", f"{suite}:/srv/suite"),
    )
    machine.shell(f"mkdir -p {VENV}/bin && ln -s /usr/bin/python3 {VENV}/bin/python")
    machine.write(f"{VENV}/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    machine.run("useradd", "--system", "--create-home", "--shell", "/bin/bash", "nusy")
    # Not as words of a unit, which the journal keeps: the token is looked for in there.
    machine.write("/root/hub", f"#!/bin/sh\nexec python3 /srv/tools/hub.py /srv/hub --port {PORT} {GATED}\n", "0755")
    machine.run("systemd-run", "--unit=hub", "/root/hub")
    return machine


@pytest.fixture(scope="module")
def declared(repository):
    entry = {**repository.manifest("tiny"), "gated": True}
    return {
        "models_manifest": [entry],
        "models_endpoint": f"http://127.0.0.1:{PORT}",
        "models_token": "hf_tok",
        # Nobody is there: the hub is on the node itself, which is never asked by way of a proxy.
        "models_proxy": f"http://site:{PASSWORD}@127.0.0.1:9",
        "models_reserve_gib": 0,
        "models_tiers": [{"name": "checkpoints", "free_gib": 1}],
    }


def verdicts(done: testing.PlayResult) -> dict[str, dict]:
    (task,) = done.of(action="model_snapshot")
    return {c["id"]: c for c in task["result"]["controls"] if c["state"] not in ("in_sync", "not_selected")}


@pytest.fixture(scope="module")
def published(machine, declared, tmp_path_factory):
    """The node after its first run, which was what the check before had said."""

    def run(check: bool = False, **extra):
        folder = tmp_path_factory.mktemp("run")
        return testing.ansible_playbook(PLAY, [machine], folder, check=check, extra={**declared, **extra})

    foretold = run(check=True).assert_ok()
    done = run().assert_ok()
    assert (
        foretold.of(action="model_snapshot")[0]["result"]["plan"]
        == done.of(action="model_snapshot")[0]["result"]["plan"]
    )
    before = calls.as_root(machine.name)
    clean = run(check=True).assert_ok()
    assert verdicts(clean) == {}
    calls.keep_the_promise(clean, machine, ROLES, calls.as_root(machine.name) - before)
    results = json.dumps([entry["result"] for entry in done.tasks])
    assert "hf_tok" not in results and PASSWORD not in results
    return run


def test_the_account_owns_what_it_fetched_and_nobody_wrote_down_a_secret(machine, published, declared) -> None:
    model = declared["models_manifest"][0]
    folder = f"/srv/models/tiny/{model['revision']}"
    for file in model["files"]:
        assert machine.run("sha256sum", f"{folder}/{file['path']}").split()[0] == file["sha256"]
    found = machine.run("find", folder, "-printf", "%u %m %y\n").split("\n")
    assert set(filter(None, found)) == {"nusy 555 d", "nusy 444 f"}
    places = ("/var/lib/nusy", "/srv/models", "/etc", "/home/nusy", "/tmp", "/var/tmp")
    for secret in ("hf_tok", PASSWORD):
        assert machine.run("grep", "-rlsa", secret, *places, check=False) == ""
        assert secret not in machine.run("journalctl", "--no-pager", "--output=cat")


def test_the_tool_tells_root_everything_and_others_what_they_may_not_see(machine, published) -> None:
    tool = ("python3", "-IS", "/srv/suite/spark.pyz", "spark-models", "--json")
    found = json.loads(machine.run(*tool))
    assert [(model["name"], model["state"]) for model in found["models"]] == [("tiny", "PASS")] and not found["unseen"]
    code = machine.shell(f"runuser -u nobody -- {' '.join(tool)} > /tmp/told; echo $?").strip()
    told = json.loads(machine.read("/tmp/told"))
    assert code == "3" and "sudo" in told["unseen"] and told["models"][0]["state"] == "UNKNOWN"


# Together: none of them hides another.
DAMAGE = {
    "models/tiers": "chmod 0777 /srv/checkpoints",
    "models/place": "chmod 0777 /srv/models /srv/models/tiny",
    "models/snapshots": "truncate --size=100 /srv/models/tiny/current/nested/model.safetensors",
    "models/current": "ln -sfn /tmp /srv/models/tiny/current",
    "models/unused": f"cp -a /srv/models/tiny/REVISION /srv/models/tiny/{OLD}",
}


@pytest.mark.breaks(*DAMAGE)
def test_what_is_broken_is_named_and_repaired(machine, published, declared) -> None:
    revision = declared["models_manifest"][0]["revision"]
    for command in DAMAGE.values():
        machine.shell(command.replace("REVISION", revision))
    found = verdicts(published(check=True).assert_ok())
    assert set(found) == set(DAMAGE)
    assert list(found["models/snapshots"]["before"]) == [f"snapshot tiny/{revision}: nested/model.safetensors"]
    old = f"/srv/models/tiny/{OLD}"
    assert found["models/unused"]["blocked_by"] == f"models_confirm: [{old}]"
    done = published().assert_ok()
    assert set(verdicts(done)) == set(DAMAGE), "what a run found"
    assert done.of(action="model_snapshot")[0]["result"]["unused"] and machine.ok("test", "-e", old)
    again = published(models_confirm=[old]).assert_ok()
    assert set(verdicts(again)) == {"models/unused"}
    assert verdicts(published(check=True).assert_ok()) == {} and not machine.ok("test", "-e", old)
    assert machine.ok("test", "-e", f"/srv/models/tiny/{revision}/config.json")


@pytest.mark.names("models/space")
def test_a_disk_that_is_too_small_gets_not_one_byte(machine, published) -> None:
    machine.shell("mount -t tmpfs -o size=1m,mode=0755,uid=$(id -u nusy),gid=$(id -g nusy) none /srv/models")
    try:
        found = verdicts(published(check=True).assert_ok())
        assert found["models/space"]["state"] == "drifted" and "no room" in found["models/snapshots"]["reason"]
        done = published()
        assert done.rc and "models/space is drifted" in done.stdout
        assert machine.run("find", "/srv/models", "-type", "f") == ""
    finally:
        machine.run("umount", "/srv/models")


SIX = ("hot_models", "checkpoints", "knowledge_graphs", "vector_indexes", "artifacts", "cold_archive")
# Of each place something else is broken: what is done, and what the report then says was wrong.
BROKEN = {
    "chmod 0777 /srv/models": ("directory /srv/models: mode", "0777"),
    "chown root /srv/checkpoints": ("directory /srv/checkpoints: owner", "root"),
    "rmdir /srv/knowledge-graphs": ("directory /srv/knowledge-graphs", "absent"),
    "chgrp root /srv/vector-indexes": ("directory /srv/vector-indexes: group", "root"),
    "mount -t tmpfs -o size=1m,mode=0750,uid=nusy,gid=nusy none /srv/artifacts": ("room of tier artifacts", "less"),
    "umount /srv/archive": ("tier cold_archive", "not mounted"),
}


@pytest.mark.breaks("models/tiers")
def test_the_six_places_of_a_storage_plan_are_told_by_name(machine, published) -> None:
    tiers = [{"name": name, "free_gib": 1} for name in SIX]
    tiers[-1] |= {"free_gib": 0, "file_systems": ["tmpfs"]}
    archive = "mkdir -p /srv/archive && mount -t tmpfs -o size=1m none /srv/archive"
    machine.shell(archive)
    try:
        published(models_tiers=tiers).assert_ok()
        places = ("models", "checkpoints", "knowledge-graphs", "vector-indexes", "artifacts", "archive")
        stat = ("stat", "-c", "%U:%G %a", *(f"/srv/{place}" for place in places))
        closed = ["nusy:nusy 755", *["nusy:nusy 750"] * 5]
        assert machine.run(*stat).splitlines() == closed
        assert verdicts(published(check=True, models_tiers=tiers).assert_ok()) == {}
        machine.shell("\n".join(["set -e", *BROKEN]))
        found = verdicts(published(check=True, models_tiers=tiers).assert_ok())
        assert set(found) == {"models/tiers"} and found["models/tiers"]["before"] == dict(BROKEN.values())
        # What a run can mend it mends, and fails for what only an operator can.
        done = published(models_tiers=tiers)
        assert done.rc and "mount its disk at /srv/archive" in done.stdout
        assert machine.run(*stat).splitlines()[:5] == closed[:5]
        machine.shell(f"umount /srv/artifacts; {archive}")
        published(models_tiers=tiers).assert_ok()
    finally:
        machine.shell("umount /srv/artifacts; umount /srv/archive; true")


def test_a_second_place_is_filled_over_ssh_without_the_hub(machine, published) -> None:
    machine.run("runuser", "-l", "nusy", "-c", KEYS)
    machine.run("systemctl", "stop", "hub")
    place = {"models_root": "/srv/second", "models_token": "", "models_offline": True}
    done = published(models_peers=["nusy@127.0.0.1:/srv/models"], **place).assert_ok()
    (snapshot,) = done.of(action="model_snapshot")[0]["result"]["snapshots"]
    assert snapshot["whole"] and snapshot["came"] == {"nusy@127.0.0.1:/srv/models": 2}
