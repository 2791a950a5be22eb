# SPDX-License-Identifier: GPL-3.0-or-later
"""Role os_hardening on a machine with a kernel of its own, in one story.

Bare check → apply → empty check → what only such a machine has broken by hand, named and repaired → what people and
engines do as ordinary users still works. The tests run in the order of this file and share the machine. What
needs no kernel is broken where a run takes seconds: tests/integration/nodes/test_hardening.py.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

import calls
import pytest
import testing
import yaml
from apt_repo import AptRepo, Package

ROLE = Path(__file__).parents[3] / "roles" / "os_hardening"
CONTROLS = {control["id"] for control in yaml.safe_load((ROLE / "meta" / "controls.yml").read_text())["controls"]}
PLAY: list[dict[str, Any]] = [
    {"hosts": "all", "gather_facts": False, "roles": [{"role": "nusy.dgx_spark.os_hardening"}]}
]
# What is off unless a variable asks for it.
ASKED = {"os_hardening_fail2ban": True}
OFF = {"os_hardening/su_group", "os_hardening/shell_timeout"}
# How a Debian as its installer leaves it is already.
THERE = {
    "os_hardening/accounts",
    "os_hardening/account_files",
    "os_hardening/apparmor",
    "os_hardening/legacy_packages",
    "os_hardening/mount_shm",
    "os_hardening/password_hash",
}


class Story:
    def __init__(self, machine: testing.Machine, directory: Path) -> None:
        self.machine, self.directory = machine, directory
        self.last: testing.PlayResult

    def run(self, *, check: bool, extra: dict[str, object] = ASKED) -> dict[str, dict[str, Any]]:
        """What the module found, by control."""
        self.last = testing.ansible_playbook(PLAY, [self.machine], self.directory, check=check, extra=extra)
        self.last.assert_ok()
        (entry,) = self.last.of(action="ensure_state")
        return {control["id"]: control for control in entry["result"]["controls"]}


@pytest.fixture(scope="module")
def story(machine, tmp_path_factory) -> Story:
    return Story(machine, tmp_path_factory.mktemp("hardening"))


def drifted(found: dict[str, dict[str, Any]]) -> set[str]:
    assert {name for name, control in found.items() if control["state"] == "unknown"} == set()
    return {name for name, control in found.items() if control["state"] == "drifted"}


def test_a_check_of_a_bare_machine_predicts_what_an_apply_does(story):
    predicted = story.run(check=True)
    assert set(predicted) == CONTROLS
    assert drifted(predicted) == CONTROLS - THERE - OFF
    assert story.run(check=False) == predicted


def test_after_it_a_check_is_empty(story):
    found = story.run(check=True)
    assert (drifted(found), story.last.changed) == (set(), [])
    assert calls.by_role(story.last.tasks, story.machine.name) == {"os_hardening": 1}


SYSCTL = "/etc/sysctl.d/90-nusy-os_hardening.conf"
RULES = "/etc/audit/rules.d/90-nusy.rules"
MODPROBE = "/etc/modprobe.d/90-nusy-os_hardening.conf"
# Live or in the file, and where it is done once in each way. The other controls stand still meanwhile.
DAMAGE = {
    "fail2ban": "systemctl disable --now -q fail2ban",
    "password_quality": "sed -i 's/minlen = 14/minlen = 6/' /etc/security/pwquality.conf",
    "core_dumps": "sysctl -qw fs.suid_dumpable=2",
    "kernel_pointers": "sysctl -qw kernel.kptr_restrict=0",
    "kernel_ptrace": f"sed -i /ptrace_scope/d {SYSCTL}",
    "kernel_sysrq": "sysctl -qw kernel.sysrq=1",
    "kernel_links": "sysctl -qw fs.protected_symlinks=0",
    "modules_network": f"sed -i /dccp/d {MODPROBE}",
    "mount_shm": "mount -o remount,suid /dev/shm",
    "audit_daemon": "sed -i 's/^num_logs.*/num_logs = 99/' /etc/audit/auditd.conf; auditctl -e 0",
    "audit_identity": "auditctl -W /etc/shadow -p wa -k nusy-identity",
    "audit_time": f"sed -i /settimeofday/d {RULES}",
    "updates_security": "systemctl disable --now apt-daily-upgrade.timer",
    "cron_files": "chmod 0755 /etc/cron.d",
    "kernel_log": "sysctl -qw kernel.dmesg_restrict=0",
    "kernel_bpf": "sysctl -qw net.core.bpf_jit_harden=0",
    "kernel_aslr": "sysctl -qw kernel.randomize_va_space=0",
    "kernel_tty": "sysctl -qw dev.tty.ldisc_autoload=1",
    "modules_filesystems": f"sed -i /hfsplus/d {MODPROBE}",
    "apparmor": "systemctl disable -q apparmor",
    "audit_privilege": f"sed -i /sudoers/d {RULES}",
    "audit_modules": "auditctl -d always,exit -F arch=b64 -S init_module -F key=nusy-modules",
}


@pytest.mark.breaks(*DAMAGE, role="os_hardening")
def test_what_is_broken_by_hand_is_named_alone_and_repaired(story):
    story.machine.shell("; ".join(DAMAGE.values()))
    found = story.run(check=True)
    assert drifted(found) == {f"os_hardening/{name}" for name in DAMAGE}
    assert {found[f"os_hardening/{name}"]["cause"] for name in DAMAGE} == {"corrective"}
    assert story.run(check=False) == found


# As a user with a shell: a compiler writes machine code and maps it writable and executable; sandboxes start;
# programs run from /tmp, from a cache in the home, and from shared memory.
WORK = r"""
set -e
mkdir -p ~/.triton/cache
for place in /tmp /var/tmp /dev/shm ~/.triton/cache; do
    cp /bin/true "$place/built-$$"; "$place/built-$$"; rm "$place/built-$$"
done
python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)'
unshare -Ur id -u | grep -qx 0
bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all true
sudo -n id -u
"""


def test_people_and_engines_work_as_before(story, machine):
    """A new login by key, sudo, sandboxes, and what is compiled and run."""
    machine.shell("apt-get install -qq -y --no-install-recommends bubblewrap")
    done = subprocess.run([*machine.ssh, "bash", "-s"], input=WORK, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("0\n")
    assert "COMMAND=/usr/bin/id" in machine.read("/var/log/sudo.log")


def test_a_short_password_is_refused_and_a_long_one_is_not(story, machine):
    assert not machine.ok("sh", "-c", "useradd guest; echo guest:Short-7 | chpasswd")
    machine.run("sh", "-c", "echo guest:Right-Horse-7-Battery | chpasswd")


def test_what_is_recorded_is_what_is_watched(story, machine):
    machine.shell("touch /etc/sudoers.d/90-nusy; date -s @$(date +%s)")
    assert machine.ok("ausearch", "--input-logs", "-k", "nusy-privilege", "-i")
    assert machine.ok("ausearch", "--input-logs", "-k", "nusy-time", "-i")


def test_updates_leave_drivers_and_kernels_alone(story, machine):
    """Each offered in a newer version: what no listed origin has, what a listed one has, and what is barred by name."""
    offers = {"NVIDIA": ["theirs-alone"], "Site": ["site-tool", "nvidia-tool"]}
    with contextlib.ExitStack() as published:
        for origin, names in offers.items():
            repository = AptRepo(f"{origin.lower()}-{os.getpid()}", origin=origin)
            published.callback(repository.remove)
            repository.publish([Package(name, version) for name in names for version in ("1", "2")])
            machine.use(repository)
        machine.shell("apt-get install -qq -y theirs-alone=1 site-tool=1 nvidia-tool=1")
        machine.write("/etc/apt/apt.conf.d/60-site", 'Unattended-Upgrade::Origins-Pattern:: "origin=Site";\n')
        said = machine.shell("unattended-upgrade --dry-run --debug 2>&1")
    (line,) = [line for line in said.splitlines() if line.startswith("Packages that will be upgraded:")]
    assert {*line.partition(":")[2].split()} & {"theirs-alone", "site-tool", "nvidia-tool"} == {"site-tool"}
