# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways into two real nodes: what a check predicts is done, proven by a new login, or taken back.

sshd, nftables, systemd and the network are real; who is out is out. Tests run in the order of this file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import calls
import identity
import pytest
import testing
import yaml
from host import REPO, SUBNET, run

ROLES = ("access",)
ROLE = REPO / "roles" / "access"
CONTROLS = {one["id"] for one in yaml.safe_load((ROLE / "meta" / "controls.yml").read_text())["controls"]}
DROPIN = "/etc/ssh/sshd_config.d/00-nusy.conf"
ARMED = "/var/lib/nusy/access/armed"
PLAY = [{"hosts": "all", "gather_facts": False, "roles": [{"role": "nusy.dgx_spark.access"}]}]
# The bridge's own address: neither a peer nor a node. 198.51.100.0/24 is for documentation, nobody is there.
OUTSIDER = f"{SUBNET}.1"
OPEN, CLOSED, CONTAINER, HIDDEN = 8443, 8444, 8445, 8446
SECONDS = 8
# What is there before a change and has to be there after its end, if nobody could log in.
STATE = (
    f"cat {DROPIN} /etc/nusy/firewall.nft /etc/systemd/system/nusy-firewall.service 2>&1; nft list ruleset 2>&1; "
    "systemctl is-enabled nusy-firewall.service 2>&1; sshd -T; ls -A /var/lib/nusy/access /etc/systemd/system; true"
)


class Site:
    def __init__(self, machines: list[testing.Machine], directory: Path) -> None:
        self.machines, self.directory = machines, directory
        first, second = machines
        peers = [first.address, second.address, "fd00:5a::2", "fd00:5a::1"]
        self.extra: dict[str, Any] = {
            "access_ssh_banner": "/etc/issue.net",
            "access_firewall_fabric_interfaces": ["eth0"],
            "access_firewall_fabric_peers": peers,
            "access_proof_seconds": SECONDS,
            "access_confirm": ["firewall"],
            "spark_ports": {
                "gateway": {"ports": [OPEN], "bind": "any", "peers": ["any"], "reason": "a test"},
                "container": {"ports": [CONTAINER], "bind": "any", "peers": ["any"], "reason": "a test"},
                "inside": {"ports": [CLOSED], "bind": "loopback", "reason": "a test"},
            },
        }

    def run(
        self, *, check: bool = False, on: testing.Machine | None = None, env: dict[str, str] | None = None, **extra: Any
    ) -> testing.PlayResult:
        machines = [on] if on else self.machines
        options = {"check": check, "report": True, "extra": {**self.extra, **extra}, "env": env}
        return testing.ansible_playbook(PLAY, machines, self.directory, **options)


def controls(done: testing.PlayResult, machine: testing.Machine, key: str = "controls") -> dict[str, dict[str, Any]]:
    (entry,) = done.of(host=machine.name, action="access")
    return {control["id"]: control for control in entry["result"][key]}


def drifted(done: testing.PlayResult, machine: testing.Machine, key: str = "controls") -> set[str]:
    return {name for name, control in controls(done, machine, key).items() if control["state"] != "in_sync"}


def error(done: testing.PlayResult, machine: testing.Machine) -> dict[str, str]:
    assert done.rc != 0
    (entry,) = done.of(host=machine.name, action="access")
    return entry["result"]["error"]


@pytest.fixture(scope="module")
def site(make_node: Callable[..., testing.Machine], tmp_path_factory: pytest.TempPathFactory) -> Site:
    first, second = make_node(), make_node()
    for machine, address in ((first, "fd00:5a::1"), (second, "fd00:5a::2")):
        machine.shell(f"ip -6 address add {address}/64 dev eth0 nodad; echo Authorised use only > /etc/issue.net")
        # Both are other people's, and have to stay as they are.
        machine.run("apt-get", "install", "-q", "-y", "--no-install-recommends", "nftables")
        machine.shell("nft 'add table ip theirs; add chain ip theirs any'")
    return Site([first, second], tmp_path_factory.mktemp("access"))


@contextlib.contextmanager
def session(machine: testing.Machine) -> Iterator[Any]:
    """An SSH login of its own that repeats what it is told."""
    argv = [*identity.ssh(machine.name)[:-1], "-o", "ControlPath=none", machine.name, "cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write("in\n")
        process.stdin.flush()
        assert process.stdout.readline() == "in\n"
        yield process
        process.stdin.close()


# --- check, apply, check ----------------------------------------------------------------------


def test_the_firewall_waits_for_its_name_and_the_rest_does_not(site: Site) -> None:
    second = site.machines[1]
    done = site.run(on=second, access_confirm=[]).assert_ok()
    blocked = {name for name, control in controls(done, second).items() if control["blocked_by"]}
    assert blocked == {name for name in CONTROLS if "firewall" in name} - {"access/firewall_extra"}
    assert controls(done, second)["access/firewall_default"]["blocked_by"] == "access_confirm: [firewall]"
    assert "inet nusy" not in second.run("nft", "list", "ruleset") and "sshd_config.d" in second.run("ls", DROPIN)


def test_a_check_predicts_what_the_run_does(site: Site) -> None:
    first, second = site.machines
    before = [machine.shell(STATE) for machine in site.machines]
    with session(first) as held:
        predicted = site.run(check=True).assert_ok()
        assert [machine.shell(STATE) for machine in site.machines] == before
        done = site.run().assert_ok()
        # Whoever was in is still in.
        held.stdin.write("still here\n")
        held.stdin.flush()
        assert held.stdout.readline() == "still here\n"
    for machine in site.machines:
        assert controls(done, machine) == controls(predicted, machine)
        assert drifted(done, machine) == CONTROLS - {
            "access/ssh_keys_only",
            "access/ssh_extra",
            "access/ssh_running",
            "access/firewall_extra",
        } - ({name for name in CONTROLS if "ssh_" in name and "firewall" not in name} if machine is second else set())
        assert not machine.ok("test", "-e", ARMED)
        assert "table ip theirs" in machine.run("nft", "list", "ruleset")


def test_a_second_run_changes_nothing_and_a_check_is_empty(site: Site) -> None:
    assert site.run().assert_ok().changed == []
    before = {machine.name: calls.as_root(machine.name) for machine in site.machines}
    clean = site.run(check=True).assert_ok()
    assert clean.changed == []
    for machine in site.machines:
        assert drifted(clean, machine) == set() and set(controls(clean, machine)) == CONTROLS
        calls.keep_the_promise(clean, machine, ROLES, calls.as_root(machine.name) - before[machine.name])


def test_ssh_audit_finds_nothing_to_fail_or_warn_about(site: Site) -> None:
    argv = [sys.executable, "-m", "ssh_audit", "--json", "--skip-rate-test", site.machines[0].address]
    audit = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout)
    notes = [entry["notes"] for kind in ("kex", "key", "enc", "mac") for entry in audit[kind]]
    assert len(notes) > 10
    assert [note for note in notes if note.get("fail") or note.get("warn")] == [] and audit["cves"] == []


def test_systemd_finds_the_unit_well_confined(site: Site) -> None:
    told = site.machines[0].shell("systemd-analyze security nusy-firewall.service | grep 'Overall exposure'")
    assert float(told.split(": ")[1].split()[0]) <= 2.0


# --- who gets in ------------------------------------------------------------------------------


ECHO = """\
import socket, sys
listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print(listener.getsockname()[1], flush=True)
while True:
    connection = listener.accept()[0]
    import threading
    threading.Thread(target=lambda c: [c.sendall(d) for d in iter(lambda: c.recv(99), b"")], args=(connection,)).start()
"""
# Says something to each address and port, and prints who answers.
ASK = """\
import socket, sys
for word in sys.argv[1:]:
    try:
        with socket.create_connection(tuple(word.rsplit("/", 1)), timeout=1) as connection:
            connection.sendall(b"x")
            print(word if connection.recv(1) == b"x" else "")
    except OSError:
        pass
"""


@contextlib.contextmanager
def listening(machine: testing.Machine, port: int, *inside: str) -> Iterator[int]:
    """A server on the node that echoes; port 0: one that the kernel chooses. Yields its port."""
    name = f"echo-{time.monotonic_ns()}"
    machine.write(f"/run/{name}.py", ECHO)
    words = [*inside, "python3", f"/run/{name}.py", str(port)]
    machine.run("systemd-run", "--quiet", f"--unit={name}", f"--property=StandardOutput=file:/run/{name}.out", *words)
    try:
        for _try in range(100):
            chosen = machine.shell(f"cat /run/{name}.out", check=False).strip()
            if chosen:
                break
            time.sleep(0.05)
        yield int(chosen)
    finally:
        machine.run("systemctl", "stop", name, check=False)


def answers(machine: testing.Machine | None, *places: str) -> set[str]:
    """Of the places address/port those that answer, to a node or (None) to the outsider."""
    if machine is None:
        return set(run([sys.executable, "-c", ASK, *places]).split())
    return set(machine.run("python3", "-c", ASK, *places).split())


def test_an_engine_over_two_nodes_talks_by_ports_of_its_own_choice(site: Site) -> None:
    """As NCCL and Ray do: each side listens on what the kernel gives it, and tells the other one."""
    first, second = site.machines
    with listening(first, 0) as one, listening(second, 0) as other:
        mine, theirs = f"{first.address}/{one}", f"{second.address}/{other}"
        assert answers(second, mine, f"fd00:5a::1/{one}") == {mine, f"fd00:5a::1/{one}"}
        assert answers(first, theirs, f"fd00:5a::2/{other}") == {theirs, f"fd00:5a::2/{other}"}
        assert answers(None, mine, theirs) == set()


def test_what_is_published_is_open_and_what_is_not_is_not(site: Site) -> None:
    first = site.machines[0]
    with listening(first, OPEN), listening(first, CLOSED):
        places = [f"{first.address}/{port}" for port in (OPEN, CLOSED)]
        assert answers(None, *places) == {places[0]}
        loopback = [f"{address}/{port}" for address in ("127.0.0.1", "::1") for port in (OPEN, CLOSED)]
        assert answers(first, *loopback) == {*loopback}


CONTAINER_NETWORK = f"""
ip netns add box && ip link add docker7 type veth peer name eth0 netns box && ip link set docker7 up
ip address add 198.51.100.1/24 dev docker7 && ip -n box address add 198.51.100.2/24 dev eth0
ip -n box link set eth0 up && ip -n box link set lo up && ip -n box route add default via 198.51.100.1
echo 1 > /proc/sys/net/ipv4/ip_forward
nft 'table ip box {{ chain in {{ type nat hook prerouting priority dstnat;
  tcp dport {{ {CONTAINER}, {HIDDEN} }} dnat to 198.51.100.2; }}; }}'
"""


def test_ports_of_containers_are_open_as_far_as_they_are_published(site: Site) -> None:
    """As Docker does it: redirected before the chain that drops, and forwarded."""
    first, second = site.machines
    first.shell(CONTAINER_NETWORK)
    box = ("/usr/bin/env", "ip", "netns", "exec", "box")
    places = [f"{first.address}/{port}" for port in (CONTAINER, HIDDEN)]
    with listening(first, CONTAINER, *box), listening(first, HIDDEN, *box):
        assert answers(None, *places) == {places[0]}
        assert answers(second, *places) == {*places}
    first.shell("nft delete table ip box; ip netns delete box")


# --- damage -----------------------------------------------------------------------------------


def without(mark: str, chain: str = "input") -> str:
    listed = f"nft -a list chain inet nusy {chain} | grep '{mark}' | sed 's/.*handle //' | tail -n1"
    return f"nft delete rule inet nusy {chain} handle $({listed})"


DAMAGE = {
    "access/ssh_keys_only": f"sed -i 's/^PasswordAuth.*/PasswordAuthentication yes/' {DROPIN}",
    "access/ssh_root": f"sed -i 's/^PermitRootLogin.*/PermitRootLogin yes/' {DROPIN}",
    "access/ssh_algorithms": f"sed -i 's/^Ciphers.*/Ciphers aes128-ctr/' {DROPIN}",
    "access/ssh_limits": f"sed -i '/^MaxAuthTries/d' {DROPIN}",
    "access/ssh_log": f"sed -i 's/^LogLevel.*/LogLevel INFO/' {DROPIN}",
    "access/ssh_forwarding": f"sed -i 's/^X11Forwarding.*/X11Forwarding yes/' {DROPIN}",
    "access/ssh_banner": f"sed -i '/^Banner/d' {DROPIN}",
    "access/ssh_extra": f"echo PrintMotd yes >> {DROPIN}",
    "access/ssh_running": "touch /etc/ssh/sshd_config",
    "access/firewall_default": "nft 'chain inet nusy input { policy accept; }'",
    "access/firewall_ssh": without("firewall_ssh"),
    "access/firewall_fabric": without("firewall_fabric"),
    "access/firewall_published": without("firewall_published"),
    "access/firewall_forwarded": without("the rest", "forward"),
    "access/firewall_boot": "systemctl --quiet disable nusy-firewall.service",
    "access/firewall_extra": "nft insert rule inet nusy input tcp dport 9999 accept",
}
NAMES = sorted(DAMAGE)
# Every control in two rounds and with other company in each; without the rule for SSH only what is kept open goes on.
ROUNDS = [(NAMES[::2], NAMES[1::2]), (NAMES[7:], NAMES[:7])]


@pytest.mark.breaks(*DAMAGE)
@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_what_is_broken_by_hand_is_named_alone_and_repaired(site: Site, number: int) -> None:
    for machine, names in zip(site.machines, ROUNDS[number], strict=True):
        for name in names:
            machine.shell(DAMAGE[name])
    damaged = site.run(check=True).assert_ok()
    for machine, names in zip(site.machines, ROUNDS[number], strict=True):
        assert drifted(damaged, machine) == set(names)
        assert {controls(damaged, machine)[name]["cause"] for name in names} == {"corrective"}
    site.run().assert_ok()
    again = site.run(check=True).assert_ok()
    assert [drifted(again, machine) for machine in site.machines] == [set(), set()]


# --- refusals ---------------------------------------------------------------------------------


def test_whoever_would_be_locked_out_is_named_and_nothing_is_changed(site: Site) -> None:
    first, second = site.machines
    first.shell("useradd --create-home carol; echo 'AllowUsers carol' > /etc/ssh/sshd_config.d/50-allow.conf")
    second.shell("useradd --create-home carol")
    before = [machine.shell(STATE) for machine in site.machines]
    # For the first the one who is logged in could not come back; for the second an administrator has no key.
    wanted = {"access_ssh_max_auth_tries": 3, "access_ssh_admins": ["carol"]}
    done = site.run(**wanted).assert_ok()
    assert [machine.shell(STATE) for machine in site.machines] == before
    for machine, user, why in ((first, "ops", "allowusers carol"), (second, "carol", "does not exist")):
        control = controls(done, machine)["access/ssh_limits"]
        assert (
            control["blocked_by"] == f"access_confirm: [{user}]" and f"{user} would be locked out" in control["reason"]
        )
        assert why in control["reason"]
    first.shell("rm /etc/ssh/sshd_config.d/50-allow.conf")


def test_what_overrides_the_drop_in_is_named_with_its_place(site: Site) -> None:
    first, second = site.machines
    first.shell(f"printf 'Match Address {OUTSIDER}\\nX11Forwarding yes\\n' > /etc/ssh/sshd_config.d/90-match.conf")
    second.shell("echo MaxSessions 20 > /etc/ssh/sshd_config.d/00-before.conf")
    done = site.run(check=True).assert_ok()
    one, other = (controls(done, machine) for machine in site.machines)
    assert "90-match.conf:2 (Match Address" in one["access/ssh_forwarding"]["reason"]
    assert "00-before.conf:1" in other["access/ssh_limits"]["reason"]
    # Neither was read by the server that runs.
    unread = "access/ssh_running"
    assert drifted(done, first) == {"access/ssh_forwarding", unread}
    assert drifted(done, second) == {"access/ssh_limits", unread}
    failed = site.run()
    assert error(failed, first)["key"] == error(failed, second)["key"] == "state.not_ensured"
    assert "take X11Forwarding out of" in error(failed, first)["fix"]
    first.shell("rm /etc/ssh/sshd_config.d/90-match.conf; systemctl reload ssh")
    second.shell("rm /etc/ssh/sshd_config.d/00-before.conf; systemctl reload ssh")


def test_a_connection_that_is_kept_open_proves_nothing(site: Site) -> None:
    """Mitogen keeps its own, whatever it is told: what is changed over it is taken back, and the error says why."""
    second = site.machines[1]
    before = second.shell(STATE)
    mitogen = {**testing.MITOGEN, "ANSIBLE_STRATEGY": "mitogen_linear"}
    done = site.run(on=second, env=mitogen, access_proof_seconds=5, access_ssh_max_auth_tries=3)
    assert error(done, second)["key"] == "access.no_new_login" and "kept open" in error(done, second)["found"]
    assert second.shell(STATE) == before and drifted(done, second, "left") == {"access/ssh_limits"}


# --- the way back -----------------------------------------------------------------------------

# Both are changed, so both have to come back.
CHANGE = {"access_ssh_max_auth_tries": 3, "access_firewall_mdns": False}
KEYS = "/home/ops/.ssh/authorized_keys"
AWAY = f"until test -e {ARMED}/login.json; do sleep 0.02; done; mv {KEYS} /root/keys"
BACK = f"while test -e {ARMED}; do sleep 0.1; done; mv /root/keys {KEYS}"


def test_a_change_after_which_nobody_gets_in_is_taken_back(site: Site) -> None:
    first = site.machines[0]
    before = first.shell(STATE)
    # The key goes at the last moment, when all that was asked before was true.
    watcher = first.start("sh", "-c", f"{AWAY}; {BACK}")
    done = site.run(on=first, **CHANGE)
    watcher.wait(timeout=30)
    told = error(done, first)
    assert told["key"] == "access.no_new_login" and "Permission denied" in told["found"]
    assert first.shell(STATE) == before
    # The report says what is true now: nothing was repaired.
    assert drifted(done, first, "left") == {"access/ssh_limits", "access/firewall_default", "access/firewall_boot"}
    (host,) = done.report["hosts"]
    assert {c["id"] for c in host["controls"] if c["state"] == "drifted"} == drifted(done, first, "left")


def kill_in_the_middle(site: Site, machine: testing.Machine, **extra: Any) -> None:
    """A controller that has made the change, and dies while it tries to log in."""
    inventory, book = site.directory / "killed.json", site.directory / "killed.yml"
    inventory.write_text(json.dumps(identity.inventory([machine.name])))
    book.write_text(json.dumps(PLAY))
    argv = [testing.VENV_BIN / "ansible-playbook", "-i", inventory, "--become"]
    argv += ["-e", json.dumps({**site.extra, **CHANGE, **extra}), book]
    env = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "ANSIBLE_HOME": str(REPO / "build" / "ansible")}
    controller = subprocess.Popen(
        [str(word) for word in argv], cwd=REPO, env=env, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        for _try in range(300):
            # The firewall is the last that is changed.
            if machine.ok("test", "-e", "/root/keys") and "5353" not in machine.run(
                "nft", "list", "table", "inet", "nusy"
            ):
                return
            time.sleep(0.1)
        pytest.fail("the change was never made")
    finally:
        # A worker of Ansible has a session of its own, and would go on alone.
        workers = run(["pgrep", "-P", str(controller.pid)], check=False).split()
        for process in (controller.pid, *map(int, workers)):
            os.kill(process, signal.SIGKILL)
        controller.wait()


def test_a_controller_that_is_killed_half_way_leaves_no_change(site: Site) -> None:
    first = site.machines[0]
    before = first.shell(STATE)
    watcher = first.start("sh", "-c", f"{AWAY}; {BACK}")
    kill_in_the_middle(site, first)
    assert first.shell(STATE) != before
    watcher.wait(timeout=SECONDS + 20)
    first.shell("until ! systemctl is-active --quiet nusy-access-rollback.service; do sleep 0.1; done", timeout=20)
    assert first.shell(STATE) == before


def test_a_node_that_loses_its_power_half_way_comes_back_as_it_was(site: Site) -> None:
    """The timer is gone with the power; what was saved is not."""
    second = site.machines[1]
    before = second.shell(STATE)
    second.start("sh", "-c", AWAY)
    kill_in_the_middle(site, second, access_proof_seconds=300)
    second.run("mv", "/root/keys", KEYS)
    second.restart()
    second.shell("nft 'add table ip theirs; add chain ip theirs any'")
    assert "policy drop" in second.run("nft", "list", "chain", "inet", "nusy", "input")
    assert sorted(second.shell(STATE).splitlines()) == sorted(before.splitlines())


def test_a_server_that_systemd_starts_for_each_login_is_changed_and_proven(site: Site) -> None:
    """By ssh.socket nothing runs that could be reloaded; the port is the socket's."""
    second = site.machines[1]
    second.shell("systemctl -q disable --now ssh.service; systemctl -q enable --now ssh.socket")
    done = site.run(on=second, access_ssh_max_auth_tries=3).assert_ok()
    assert drifted(done, second) == {"access/ssh_limits"} and not second.ok("test", "-e", ARMED)
    assert "maxauthtries 3" in second.run("sshd", "-T")
