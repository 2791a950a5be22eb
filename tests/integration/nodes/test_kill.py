# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is cut off anywhere is finished by the next one, on a real node.

Eight places by default; KILL_POINTS=50 (``make test-kill``) takes that many of all. The
judge is an unharmed node, compared by plain tools.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import apt_repo
import pytest
import testing
from host import REPO

POINTS = int(os.environ.get("KILL_POINTS", "8"))
REPOSITORY = apt_repo.AptRepo("kill")
# Configures for as long as somebody wants it to, so that it can be killed meanwhile.
SLOW = "#!/bin/sh\n[ -e /run/kill-slow ] || exit 0\ntouch /run/kill-configuring\nsleep 6\nrm -f /run/kill-configuring\n"
PACKAGES = [
    apt_repo.Package("k-plain", files={"/usr/share/k-plain/x": "x\n"}),
    apt_repo.Package("k-slow", depends="k-plain", postinst=SLOW, files={"/etc/k-slow.conf": "x\n"}),
]
SERVICE = "[Service]\nUser=k-svc\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


def document(generation: int) -> dict[str, object]:
    """Every kind of resource. The generations differ in what a running service reads."""
    return {
        "role": "kill",
        "secrets": {"token": "correct horse"},
        "controls": [
            {"id": "kill/packages", "packages": ["k-slow"], "holds": ["k-slow"]},
            {
                "id": "kill/account",
                "groups": [{"name": "k-svc", "system": True}],
                "users": [
                    {"name": "k-svc", "group": "k-svc", "groups": ["games"], "home": "/opt/kill", "system": True}
                ],
            },
            {
                "id": "kill/places",
                "directories": [
                    {"path": "/opt/kill", "owner": "k-svc", "group": "k-svc", "mode": "0750"},
                    {"path": "/srv/kill/deep", "mode": "0700"},
                ],
                "links": [{"path": "/opt/kill/current", "target": "releases/1"}],
            },
            {
                "id": "kill/settings",
                "files": [
                    {"path": "/etc/kill/app.conf", "content": f"generation = {generation}", "fragment": True},
                    {
                        "path": "/etc/kill/token",
                        "content": "${secret:token}",
                        "mode": "0600",
                        "owner": "k-svc",
                        "validate": ["/usr/bin/grep", "horse", "%s"],
                    },
                ],
                "sysctls": [{"name": "net.ipv4.conf.lo.log_martians", "value": "1"}],
                "mounts": [{"path": "/mnt/kill", "source": "tmpfs", "fstype": "tmpfs", "options": ["noatime"]}],
            },
            {
                "id": "kill/service",
                "units": [
                    {
                        "name": "k-svc.service",
                        "content": SERVICE,
                        "dropins": {"nusy": f"[Service]\nNice={generation}\n"},
                        "enabled": True,
                        "active": True,
                        "restart_on": ["/etc/kill/app.conf"],
                    }
                ],
            },
        ],
    }


# What a clean node needs for the next round; faster than a new one.
CLEAN = """
exec >/dev/null 2>&1
systemctl disable --now k-svc.service; systemctl reset-failed k-svc.service
umount /mnt/kill; sed -i /kill/d /etc/fstab; sysctl -qw net.ipv4.conf.lo.log_martians=0
rm -rf /mnt/kill /run/nusy /run/kill-* /opt/kill /srv/kill /etc/kill /var/lib/nusy /etc/sysctl.d/90-nusy-kill.conf
rm -rf /etc/systemd/system/k-svc.service* /etc/systemd/system/.k-svc.service*; systemctl daemon-reload
dpkg --configure -a; apt-get purge -qy --allow-change-held-packages k-slow k-plain
echo k-slow install | dpkg --set-selections
userdel k-svc; groupdel k-svc; rm -f /etc/.pwd.lock /etc/*.lock /etc/*-
"""
SNAPSHOT = r"""
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'; ls /var/lib/dpkg/updates
getent passwd; getent group; cat /etc/fstab /etc/sysctl.d/90-nusy-kill.conf; ls /etc/*.lock
find /etc /opt /srv /mnt /var/lib/nusy /run/nusy -path /srv/tree -prune -o -path /srv/apt -prune \
  -o ! -name '*-' -printf '%p %y %U:%G %m %l\n' | sort
cat /etc/kill/* /opt/kill/* /etc/systemd/system/k-svc.service /etc/systemd/system/k-svc.service.d/*
findmnt -no FSTYPE,OPTIONS /mnt/kill; sysctl -n net.ipv4.conf.lo.log_martians
systemctl show -p LoadState,ActiveState,UnitFileState,NeedDaemonReload,Nice k-svc.service
ps -o ni=,user= -C sleep | sort
"""


@pytest.fixture(scope="module")
def node(make_node):
    REPOSITORY.publish(PACKAGES)
    tree = "/srv/tree/ansible_collections/nusy/dgx_spark/plugins/module_utils"
    machine = make_node(mounts=(f"{REPO}/plugins/module_utils:{tree}",))
    machine.use(REPOSITORY)
    machine.write("/root/harness.py", Path(__file__).with_name("kill_harness.py").read_text())
    for generation in (1, 2):
        machine.write(f"/root/{generation}.json", json.dumps(document(generation)))
    yield machine
    REPOSITORY.remove()


def run(node: testing.Machine, generation: int, moment: str = "never", number: int = -1) -> list[str]:
    """A run on the node itself; the effects it had, if it lived."""
    command = ("env", "PYTHONDONTWRITEBYTECODE=1", "python3", "/root/harness.py", f"/root/{generation}.json", moment)
    text = node.run(*command, str(number), check=moment == "never")
    assert moment == "never" or not text.strip(), f"it should have died {moment} {number}: {text}"
    return text.splitlines()


def snapshot(node: testing.Machine) -> list[str]:
    return node.shell(f"( {SNAPSHOT} ) 2>&1", check=False).splitlines()


def clean(node: testing.Machine) -> None:
    node.shell(CLEAN, check=False)


@pytest.fixture(scope="module")
def unharmed(node):
    """How the node looks when nothing goes wrong, and what that takes: of a bare node, and of a change."""
    clean(node)
    bare = snapshot(node)
    effects = {1: run(node, 1)}
    first = snapshot(node)
    effects[2] = run(node, 2)
    second = snapshot(node)
    assert first != second and len({*bare} ^ {*first}) > 20
    return {"bare": bare, 1: first, 2: second, "effects": effects}


def points(effects: dict[int, list[str]]) -> list[tuple[int, str, int]]:
    """(generation, moment, number of the effect): evenly spread over all there are, apt-get first."""
    everything = [
        (generation, moment, number)
        for generation in (1, 2)
        for number, effect in enumerate(effects[generation])
        for moment in ("before", "after", *(["inside"] if effect.startswith(("write", "symlink")) else []))
    ]
    (install,) = [number for number, effect in enumerate(effects[1]) if " install " in effect]
    assert len(everything) >= POINTS - 1, f"KILL_POINTS is too many: there are {len(everything) + 1} places to die"
    chosen = [everything[round(i * (len(everything) - 1) / (POINTS - 2))] for i in range(POINTS - 1)]
    return [(1, "inside", install), *chosen]


def finish(node: testing.Machine, generation: int, ansible_playbook) -> None:
    """A normal run of Ansible, and a check after it that finds nothing."""
    module = {"nusy.dgx_spark.ensure_state": document(generation)}
    tasks = [{"name": "Run", **module}, {"name": "Check", **module, "check_mode": True}]
    play = [{"hosts": "all", "become": True, "gather_facts": False, "tasks": tasks}]
    result = ansible_playbook(play, [node], env={"ANSIBLE_PIPELINING": "1"}).assert_ok()
    (check,) = result.of(task="Check")
    assert check["result"]["plan"] == [] and {c["state"] for c in check["result"]["controls"]} == {"in_sync"}


@pytest.mark.parametrize("index", range(POINTS))
def test_killed_anywhere_the_next_run_converges_to_the_same_node(index, node, unharmed, ansible_playbook):
    generation, moment, number = points(unharmed["effects"])[index]
    where = f"{moment} effect {number}: {unharmed['effects'][generation][number]}"
    clean(node)
    assert snapshot(node) == unharmed["bare"], "the node was not cleaned up"
    if generation == 2:
        run(node, 1)
    if " install " in where:
        node.run("touch", "/run/kill-slow")
    run(node, generation, moment, number)
    node.shell("rm -f /run/kill-slow /run/kill-configuring")
    finish(node, generation, ansible_playbook)
    assert snapshot(node) == unharmed[generation], where


def test_a_controller_that_dies_leaves_apt_at_work_and_the_next_run_waits_for_it(
    node, unharmed, ansible_playbook, tmp_path
):
    clean(node)
    node.run("touch", "/run/kill-slow")
    book = tmp_path / "play.yml"
    module = {"nusy.dgx_spark.ensure_state": document(1)}
    book.write_text(json.dumps([{"hosts": "all", "become": True, "gather_facts": False, "tasks": [module]}]))
    command = [testing.VENV_BIN / "ansible-playbook", "-i", testing.node_control.INVENTORY, "-l", node.name, book]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg")}
    controller = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not node.ok("test", "-e", "/run/kill-configuring"):
        assert time.monotonic() < deadline and controller.poll() is None, "the package was never configured"
        time.sleep(0.2)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    node.run("pgrep", "-x", "apt-get")
    finish(node, 1, ansible_playbook)
    node.shell("rm -f /run/kill-slow")
    assert snapshot(node) == unharmed[1]
