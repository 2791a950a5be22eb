# SPDX-License-Identifier: GPL-3.0-or-later
"""The test nodes behave as machines do, and do nothing to the machine that carries them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

import host
import identity
import image
import nodes as node_control
import pytest
from apt_repo import Package
from testing import start


def test_systemd_runs_without_a_failed_unit(nodes):
    for node in nodes:
        assert node.run("systemctl", "is-system-running").strip() == "running"
        assert node.run("systemctl", "list-units", "--failed", "--no-legend") == ""
        assert node.read("/proc/1/comm").strip() == "systemd"


def test_a_unit_starts_logs_and_comes_back_after_a_restart(node):
    unit = (
        "[Service]\nExecStart=/bin/sh -c 'echo here I am; exec sleep infinity'\n[Install]\nWantedBy=multi-user.target\n"
    )
    node.write("/etc/systemd/system/example.service", unit)
    node.run("systemctl", "enable", "--now", "--quiet", "example.service")
    assert "here I am" in node.run("journalctl", "-u", "example.service", "-o", "cat")
    before = node.read("/etc/machine-id")
    node.restart()
    assert node.outside.service("example.service").is_running
    assert node.read("/etc/machine-id") == before
    node.shell("systemctl disable --now --quiet example.service; rm /etc/systemd/system/example.service")


def test_a_unit_gets_its_credential_also_after_a_restart(node):
    for again in (False, True):
        if again:
            node.restart()
        unit = ("systemd-run", "--quiet", "--pipe", "--wait", "-p", "LoadCredential=x:/etc/hostname")
        assert node.run(*unit, "sh", "-c", 'cat "$CREDENTIALS_DIRECTORY/x"').strip() == node.name


def test_reset_gives_a_clean_disk_and_the_same_identity(node):
    identity = node.read("/etc/machine-id")
    node.write("/etc/left-behind", "x")
    node.run("userdel", "--force", "--remove", "ops")
    node.reset()
    assert not node.ok("test", "-e", "/etc/left-behind")
    assert node.run("id", "--user", "ops").strip() == "1000"
    assert node.read("/etc/machine-id") == identity


def test_ssh_accepts_the_pinned_host_key_and_no_other(nodes, tmp_path):
    first, second = nodes
    assert first.outside.check_output("hostname") == first.name
    pins = identity.KNOWN_HOSTS.read_text().splitlines()
    (right,) = [line for line in pins if line.startswith(f"{first.name},")]
    (other,) = [line for line in pins if line.startswith(f"{second.name},")]
    forged = tmp_path / "known_hosts"
    forged.write_text(f"{right.split()[0]} {' '.join(other.split()[1:])}\n")
    # Not through the shared connection, which has been let in already.
    options = ["-o", f"UserKnownHostsFile={forged}", "-o", "ControlPath=none"]
    command = identity.ssh(first.name)
    refused = subprocess.run([*command[:-1], *options, first.name, "true"], capture_output=True, text=True)
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
    options[1] = f"UserKnownHostsFile={identity.KNOWN_HOSTS}"
    assert subprocess.run([*command[:-1], *options, first.name, "true"]).returncode == 0


def test_ansible_reaches_both_nodes_as_a_user_who_may_sudo(nodes, ansible_playbook):
    tasks = [
        {"name": "Answer", "ansible.builtin.ping": {}},
        {"name": "Root", "ansible.builtin.command": "id --user"},
        {"name": "Plain", "ansible.builtin.command": "id --user --name", "become": False},
    ]
    result = ansible_playbook([{"hosts": "all", "gather_facts": False, "tasks": tasks}], nodes).assert_ok()
    for node in nodes:
        assert [entry["result"].get("stdout") for entry in result.of(host=node.name)] == [None, "0", "ops"]
    assert {entry["status"] for entry in result.of(action="ping")} == {"ok"}


def test_a_play_that_fails_says_so(nodes, ansible_playbook):
    tasks = [{"name": "Fail", "ansible.builtin.command": "false"}]
    result = ansible_playbook([{"hosts": "all", "gather_facts": False, "tasks": tasks}], nodes[:1])
    assert result.rc == 2
    assert result.failed == [(nodes[0].name, "Fail")]


def test_nodes_know_each_other_by_name(nodes):
    first, second = nodes
    for here, there in ((first, second), (second, first)):
        banner = here.run("bash", "-c", f"exec 3<>/dev/tcp/{there.name}/22; head -c 7 <&3")
        assert banner == "SSH-2.0"
        assert here.run("getent", "ahostsv4", there.name).split()[0] == there.address


def test_there_is_no_way_out(node):
    gateway = f"{host.SUBNET}.254"
    # Roles find a default interface, as on any machine, but nobody answers behind it.
    assert f"via {gateway}" in node.run("ip", "route", "get", "192.0.2.1")
    assert not node.ok("timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/53")
    assert node.run("ip", "neighbour", "show", "to", gateway).split()[-1] in ("FAILED", "INCOMPLETE")
    assert not node.ok("getent", "hosts", "example.org")


def test_a_dgx_flavour_is_taken_for_dgx_os(make_node, ansible_playbook):
    node = make_node("dgx")
    tasks = [{"name": "Facts", "ansible.builtin.setup": {"gather_subset": ["!all", "!min", "distribution"]}}]
    result = ansible_playbook([{"hosts": "all", "gather_facts": False, "tasks": tasks}], [node]).assert_ok()
    facts = result.of(task="Facts")[0]["result"]["ansible_facts"]
    assert (facts["ansible_distribution"], facts["ansible_distribution_version"]) == ("Ubuntu", "24.04")
    assert 'DGX_NAME="DGX Spark"' in node.read("/etc/dgx-release")


# --- packages ------------------------------------------------------------------------------


@pytest.fixture
def offered(node, apt_repo):
    """A repository of stand-in packages; all that came from it is gone afterwards."""
    yield apt_repo
    node.shell(
        f"rm /etc/apt/sources.list.d/{apt_repo.name}.list; apt-get update -q; "
        "dpkg --purge --force-all $(dpkg-query -W -f '${Package}\\n' 'standin*')",
        check=False,
    )


def test_debian_packages_install_without_a_network(node):
    node.run("apt-get", "install", "-q", "-y", "jq")
    assert node.run("jq", "-n", "1+1").strip() == "2"


def test_a_removed_package_of_the_image_can_be_put_back(node):
    # One that no other of the image needs.
    assert " 1 to remove" in node.run("apt-get", "remove", "-q", "-y", "iproute2")
    node.run("apt-get", "install", "-q", "-y", "iproute2")
    assert node.outside.package("iproute2").is_installed


def test_every_offered_package_can_be_installed(node):
    # One by one, since some of them exclude each other.
    simulate = "apt-get install --simulate -q -o APT::Install-Recommends=true"
    packages = image.wanted()
    plans = node.shell(f"set -e; for name in {' '.join(packages)}; do {simulate} $name; printf '\\036'; done")
    for package, plan in zip(packages, plans.split("\x1e"), strict=False):
        assert package in plan
    assert plans.count("\x1e") == len(packages)


def test_stand_in_packages_have_everything_a_package_has(node, offered):
    unit = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
    offered.publish([
        Package(
            "standin", "2.0", depends="standin-virtual, standin-data (>= 1.5)", files={"/etc/standin.conf": "a=1\n"},
            conffiles=("/etc/standin.conf",), units={"standin.service": unit},
            postinst="#!/bin/sh\nset -e\ntouch /run/standin-configured\n",
        ),
        Package("standin", "1.0"),
        Package("standin-data", "1.5", files={"/usr/bin/standin-tool": "#!/bin/sh\necho tool\n"}),
        Package("standin-provider", provides="standin-virtual", conflicts="standin-rival"),
        Package("standin-rival"),
        Package("standin-broken", postinst="#!/bin/sh\necho it broke >&2\nexit 3\n"),
    ])  # fmt: skip
    node.use(offered)
    node.run("apt-get", "install", "-q", "-y", "standin-rival")
    node.run("apt-get", "install", "-q", "-y", "standin", "standin-rival-")
    outside = node.outside
    assert outside.package("standin").version == "2.0"
    assert not outside.package("standin-rival").is_installed
    assert outside.package("standin-provider").is_installed
    assert outside.file("/run/standin-configured").exists
    assert node.run("standin-tool") == "tool\n"
    node.run("systemctl", "start", "standin.service")
    # A conffile is the administrator's: dpkg keeps a changed one.
    node.write("/etc/standin.conf", "a=2\n")
    node.run("apt-get", "install", "-q", "-y", "--reinstall", "-o", "Dpkg::Options::=--force-confold", "standin")
    assert node.read("/etc/standin.conf") == "a=2\n"
    node.run("apt-mark", "hold", "standin")
    assert not node.ok("apt-get", "install", "-q", "-y", "standin=1.0")
    with pytest.raises(host.NodesError, match="it broke"):
        node.run("apt-get", "install", "-q", "-y", "standin-broken")
    assert "half-configured" in node.shell("dpkg --status standin-broken")


def test_apt_refuses_a_repository_that_was_changed_after_signing(node, offered):
    offered.publish([Package("standin")])
    with (offered.directory / "Packages").open("a") as stream:
        stream.write("\n")
    with pytest.raises(host.NodesError, match="Hashes of expected file"):
        node.use(offered)


def test_a_slow_package_script_can_be_cut_off(node, offered):
    offered.publish([Package("standin-slow", postinst="#!/bin/sh\ntouch /run/slow\nexec sleep 300\n")])
    node.use(offered)
    installing = node.start("apt-get", "install", "-q", "-y", "standin-slow")
    deadline = time.monotonic() + 30
    while not node.ok("test", "-e", "/run/slow"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    node.restart()
    installing.wait(timeout=30)
    assert "half-configured" in node.shell("dpkg --status standin-slow")


def test_ansibles_own_apt_module_works_where_it_has_its_library(full_node, apt_repo, ansible_playbook):
    apt_repo.publish([Package("standin", "3.1")])
    full_node.use(apt_repo)
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [{"name": "Install", "ansible.builtin.apt": {"name": "standin"}}],
        }
    ]
    predicted = ansible_playbook(play, [full_node], check=True).assert_ok()
    assert not full_node.outside.package("standin").is_installed
    done = ansible_playbook(play, [full_node]).assert_ok()
    assert predicted.changed == done.changed == [(full_node.name, "Install")]
    assert full_node.outside.package("standin").version == "3.1"


# --- the machine that carries the nodes ----------------------------------------------------


def host_timezone() -> tuple[int, int]:
    """The kernel's own time zone, which the first settimeofday of a boot uses to move the clock."""
    libc = ctypes.CDLL(None, use_errno=True)
    seconds, zone = (ctypes.c_long * 2)(), (ctypes.c_int * 2)()
    assert libc.gettimeofday(ctypes.byref(seconds), ctypes.byref(zone)) == 0
    return zone[0], zone[1]


def test_a_node_cannot_move_the_clock_of_its_host(node):
    zone, offset = host_timezone(), time.time() - time.monotonic()
    assert not node.ok("date", "--set", "2001-01-01")
    assert not node.ok("hwclock", "--systohc")
    node.run("timedatectl", "set-timezone", "America/New_York")
    assert node.run("date", "+%Z").strip() in ("EST", "EDT")
    assert host_timezone() == zone
    assert abs(time.time() - time.monotonic() - offset) < 0.5


# Bit numbers of linux/capability.h.
FORBIDDEN = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_BOOT": 22, "SYS_RESOURCE": 24, "SYS_TIME": 25, "SYSLOG": 34}


def test_what_could_hurt_the_host_is_not_within_reach(node):
    status = dict(line.split(":\t", 1) for line in node.read("/proc/1/status").splitlines())
    bounding = int(status["CapBnd"], 16)
    assert [name for name, bit in FORBIDDEN.items() if bounding >> bit & 1] == []
    assert bounding >> 21 & 1, "SYS_ADMIN is expected: without it systemd could not boot"
    for key in ("vm/swappiness", "kernel/panic", "fs/file-max"):
        assert not node.ok("sh", "-c", f"cat /proc/sys/{key} > /proc/sys/{key}"), key


def test_the_hosts_disk_cannot_be_read(node):
    names = [line.split()[-1] for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    disks = {Path("/dev", name).stat().st_rdev for name in names if Path("/dev", name).exists()}
    assert disks, "the host has no disk to protect"
    for number, device in enumerate(sorted(disks)):
        node.run("mknod", f"/root/disk{number}", "b", str(os.major(device)), str(os.minor(device)))
        with pytest.raises(host.NodesError, match=r"Operation not permitted|Permission denied"):
            node.run("head", "-c", "1", f"/root/disk{number}")


def test_the_nodes_own_network_values_can_be_set_and_stay_there(node):
    path = Path("/proc/sys/net/ipv4/ip_default_ttl")
    before = path.read_text()
    node.run("sysctl", "-q", "-w", "net.ipv4.ip_default_ttl=42")
    assert node.read(str(path)).strip() == "42"
    assert path.read_text() == before


def processes() -> dict[str, tuple[str, str]]:
    """Process id → (command line, network namespace) of everything on the host."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[entry.name] = (text, str((entry / "ns/net").readlink()))
        except OSError:
            continue  # ended meanwhile
    return found


def traces(container: str, plug: str, namespace: str) -> list[str]:
    """What of one node is on the host: other test runs have theirs there at the same time."""
    left = [
        f"process {pid} {text}" for pid, (text, net) in processes().items() if container in text or net == namespace
    ]
    left += [f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if container in line]
    left += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/*{container}*")]
    left += [f"link {path.name}" for path in Path("/sys/class/net").iterdir() if path.name == plug]
    ids = host.run(host.podman(["ps", "--all", "--quiet", "--no-trunc"])).split()
    return left + [f"container {name}" for name in ids if container in name]


def test_a_removed_node_leaves_nothing_behind(nodes, ansible_playbook):
    name = f"{nodes[0].name}-x"
    machines = start([name])
    play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Answer", "ansible.builtin.ping": {}}]}]
    ansible_playbook(play, machines).assert_ok()  # leaves a shared SSH connection open
    node = identity.get(name)
    ask = ["inspect", "--format", "{{.Id}} {{.State.Pid}}", identity.container(node)]
    container, pid = host.run(host.podman(ask)).split()
    plug, (_text, namespace) = f"n{host.CHECKOUT}{node.number}", processes()[pid]
    assert {line.split()[0] for line in traces(container, plug, namespace)} >= {
        "process",
        "link",
        "container",
        "cgroup",
    }
    assert list(host.RUN.glob(f"ssh-{name}-*"))

    node_control.down([name])

    deadline = time.monotonic() + 10
    while (left := traces(container, plug, namespace)) and time.monotonic() < deadline:
        time.sleep(0.2)  # the last processes are reaped a moment later
    assert left == []
    assert not node.directory.exists()
    assert not list(host.RUN.glob(f"ssh-{name}-*"))
    assert not [text for text, _net in processes().values() if f"ssh-{name}-" in text]
    assert name not in identity.KNOWN_HOSTS.read_text()


def test_nodes_of_a_killed_run_are_removed_by_the_next(nodes):
    name = f"{nodes[0].name}-orphan"
    ended = subprocess.Popen(["true"])
    ended.wait()
    node_control.up([name], owner=ended.pid)
    node_control.up([nodes[1].name])
    assert name not in identity.known()
