# SPDX-License-Identifier: GPL-3.0-or-later
"""Role os_hardening on a node, in one story, but for what belongs to the kernel or is in no package of the nodes.

Check → apply → empty check → every control broken by hand, named and repaired → what people and engines do as
ordinary users still works. The tests run in the order of this file and share the node.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import calls
import identity
import pytest
import testing
import yaml

ROLE = Path(__file__).parents[3] / "roles" / "os_hardening"
CONTROLS = {control["id"] for control in yaml.safe_load((ROLE / "meta" / "controls.yml").read_text())["controls"]}
PLAY: list[dict[str, Any]] = [
    {"hosts": "all", "gather_facts": False, "roles": [{"role": "nusy.dgx_spark.os_hardening"}]}
]
# The kernel is that of the host, and cron is not installed here.
ELSEWHERE = {
    *(name for name in CONTROLS if name.partition("/")[2].startswith(("kernel_", "modules_", "audit_"))),
    *(f"os_hardening/{name}" for name in ("apparmor", "core_dumps", "cron_files", "fail2ban", "mount_shm")),
    *("os_hardening/password_quality", "os_hardening/updates_security"),
}
SKIPPED = {"os_hardening_skip_controls": sorted(ELSEWHERE)}
# What is off unless a variable asks for it.
ASKED = {**SKIPPED, "os_hardening_su_group": "wheel", "os_hardening_shell_timeout": 600}


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
def story(make_node, tmp_path_factory) -> Story:
    return Story(make_node(), tmp_path_factory.mktemp("hardening"))


def drifted(found: dict[str, dict[str, Any]]) -> set[str]:
    assert {name for name, control in found.items() if control["state"] == "unknown"} == set()
    return {name for name, control in found.items() if control["state"] == "drifted"}


def test_a_check_of_a_bare_node_predicts_what_an_apply_does(story):
    predicted = story.run(check=True)
    assert set(predicted) == CONTROLS
    assert {name for name, control in predicted.items() if control["state"] == "not_selected"} == ELSEWHERE
    assert drifted(predicted) > {"os_hardening/sudo_log", "os_hardening/password_lock", "os_hardening/net_redirects"}
    assert story.run(check=False) == predicted


def test_after_it_a_check_is_empty_and_one_call(story):
    # Copies that somebody kept: sudo reads neither.
    story.machine.shell(
        "cd /etc/sudoers.d; printf 'Defaults:ops !use_pty, !logfile\n' > 99-old.bak; cp 99-old.bak 99-old~"
    )
    found = story.run(check=True)
    assert (drifted(found), story.last.changed) == (set(), [])
    assert calls.by_role(story.last.tasks, story.machine.name) == {"os_hardening": 1}


SYSCTL = "/etc/sysctl.d/90-nusy-os_hardening.conf"
SITE = "/etc/sysctl.d/10-site.conf"
PACKAGE = (
    "mkdir -p /tmp/talk/DEBIAN; cd /tmp;"
    " printf 'Package: talk\\nVersion: 1\\nArchitecture: all\\nMaintainer: x\\nDescription: x\\n'"
    " > talk/DEBIAN/control; dpkg-deb -b talk talk.deb && dpkg -i talk.deb; rm -r talk talk.deb"
)
# Live or in the file, and where it is done once in each way.
DAMAGE = (
    {
        "su_group": "chmod 4755 /usr/bin/su",
        "sudo_pty": "sed -i /use_pty/d /etc/sudoers.d/90-nusy",
        "password_lock": "sed -i '/pam_faillock.so preauth/d' /etc/pam.d/common-auth",
        "password_hash": "sed -i 's/^ENCRYPT_METHOD.*/ENCRYPT_METHOD SHA512/' /etc/login.defs",
        "umask": "sed -i 's/^UMASK.*/UMASK 022/' /etc/login.defs",
        "account_files": "chmod 0666 /etc/shadow- /etc/group",
        "cron_users": "echo mallory > /etc/cron.allow",
        "banner": "rm /etc/issue.net",
        "net_redirects": "sysctl -qw net.ipv6.conf.eth0.accept_redirects=1",
        "net_reverse_path": "sysctl -qw net.ipv4.conf.all.rp_filter=0",
        "net_syncookies": "sysctl -qw net.ipv4.tcp_syncookies=0",
        "file_extra": "echo 'Defaults !authenticate' >> /etc/sudoers.d/90-nusy",
    },
    {
        "shell_timeout": "rm /etc/profile.d/90-nusy-timeout.sh",
        # As Debian 12 is.
        "umask": "sed -i /pam_umask/d /etc/pam.d/common-session",
        # Like all that is taken away it has to be named.
        "legacy_packages": PACKAGE,
        "sudo_log": "sed -i s,/var/log/sudo.log,/tmp/sudo.log, /etc/sudoers.d/90-nusy",
        "sudo_timeout": "sed -i s/timestamp_timeout=.*/timestamp_timeout=-1/ /etc/sudoers.d/90-nusy",
        "password_age": "sed -i /^PASS_MAX_DAYS/d /etc/login.defs",
        # A name counts more than our pattern, in whatever file it stands; the file is somebody's and has to be named.
        "net_redirects": f"echo net.ipv4.conf.eth0.send_redirects=1 > {SITE}",
        "net_source_route": "sysctl -qw net.ipv4.conf.all.accept_source_route=1",
        "net_martians": f"sed -i /all.log_martians/d {SYSCTL}",
        "net_icmp": "sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0",
        "journal": "sed -i s/persistent/volatile/ /etc/systemd/journald.conf.d/90-nusy.conf",
        "updates_never": "sed -i /nvidia/d /etc/apt/apt.conf.d/90nusy-updates",
    },
)


@pytest.mark.breaks(*(name for damage in DAMAGE for name in damage), role="os_hardening")
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_broken_by_hand_is_named_alone_and_repaired(story, damage):
    story.machine.shell("; ".join(damage.values()))
    named = {**ASKED, "os_hardening_confirm": ["talk", SITE]}
    found = story.run(check=True, extra=named)
    assert drifted(found) == {f"os_hardening/{name}" for name in damage}
    assert {found[f"os_hardening/{name}"]["cause"] for name in damage} == {"corrective"}
    (redirects,) = found["os_hardening/net_redirects"]["before"]
    assert ".eth0." in redirects
    assert story.run(check=False, extra=named) == found


@pytest.mark.names("os_hardening/accounts")
def test_what_no_run_mends_and_what_counts_instead_is_named(story):
    """A second root, a package to take away, and later files that win: none of them is overwritten in silence."""
    story.machine.shell(
        f"useradd --non-unique --uid 0 toor; {PACKAGE};"
        " printf 'Defaults !use_pty\\nDefaults:ops !logfile\\n' > /etc/sudoers.d/99-later;"
        " chmod 0440 /etc/sudoers.d/99-later;"
        " printf '[Journal]\\nStorage=none\\n' > /etc/systemd/journald.conf.d/99-later.conf;"
        " sed -i 's/pam_umask.so/& umask=022/' /etc/pam.d/common-session;"
        " echo 'auth sufficient pam_permit.so' > /etc/pam.d/door;"
        """ echo 'Unattended-Upgrade::Origins-Pattern:: "origin=NVIDIA";' > /etc/apt/apt.conf.d/99-later"""
    )
    found = story.run(check=True, extra=SKIPPED)
    off = {"os_hardening/su_group", "os_hardening/shell_timeout"}
    assert {name for name, control in found.items() if control["state"] == "not_selected"} == ELSEWHERE | off
    assert found["os_hardening/legacy_packages"]["blocked_by"] == "os_hardening_confirm: [talk]"
    others = {
        f"os_hardening/{name}" for name in ("accounts", "sudo_pty", "sudo_log", "journal", "umask", "updates_never")
    }
    assert drifted(found) == others | {"os_hardening/legacy_packages"}
    assert all(found[name]["reason"] for name in others)
    assert "probe open_doors: auth sufficient pam_permit.so" in found["os_hardening/accounts"]["before"]
    story.machine.shell(
        "sed -i /^toor:/d /etc/passwd /etc/shadow; sed -i s/umask=022// /etc/pam.d/common-session;"
        " rm /etc/sudoers.d/99-later /etc/apt/apt.conf.d/99-later /etc/systemd/journald.conf.d/99-later.conf;"
        " rm /etc/pam.d/door"
    )


# As a user with a shell: a compiler writes machine code and maps it writable and executable; a sandbox starts;
# programs run from /tmp and from a cache in the home. Of /dev/shm and /proc a container has what its host gives.
WORK = r"""
set -e
mkdir -p ~/.triton/cache
for place in /tmp /var/tmp ~/.triton/cache; do
    cp /bin/true "$place/built-$$"; "$place/built-$$"; rm "$place/built-$$"
done
python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)'
unshare -Ur id -u | grep -qx 0
bwrap --ro-bind / / --dev /dev --unshare-all true
umask
touch ~/mine /srv/caches/kernel
stat -c '%a %G' ~/mine /srv/caches/kernel
sudo -n sh -c umask
"""


def test_people_and_engines_work_as_before(story):
    """A new login by key, sudo, sandboxes, and what is compiled and run. Who may run su, does."""
    machine = story.machine
    assert not machine.ok("runuser", "-u", "ops", "--", "/usr/bin/su", "--version")
    machine.shell(
        "apt-get install -qq -y --no-install-recommends bubblewrap;"
        # What several people share belongs to a group, as the umask of who writes there has it.
        " groupadd caches; usermod -aG caches ops; install -d -m 2770 -g caches /srv/caches"
    )
    done = subprocess.run(
        # A login of its own: a connection that is kept has the umask of the login that opened it.
        ["ssh", "-F", str(identity.SSH_CONFIG), "-o", "ControlPath=none", machine.name, "bash", "-s"],
        input=WORK,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0007", "660 ops", "660 caches", "0027"]
    machine.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=caches", "cat", "/srv/caches/kernel")
    assert "COMMAND=/usr/bin/sh -c umask" in machine.read("/var/log/sudo.log")


def test_failed_passwords_make_wait_and_lock_nobody_out(story):
    machine = story.machine
    machine.shell("useradd -m -s /bin/bash guest; echo 'guest:Right-Horse-7-Battery' | chpasswd")
    assert "guest:$y$" in machine.read("/etc/shadow")
    # su asks PAM as a login does; root would not be asked.
    machine.shell("usermod -aG wheel ops")
    machine.write("/tmp/try", '#!/bin/sh\necho "$1" | su guest -c id\n', "0755")
    right = ("runuser", "-u", "ops", "--", "/tmp/try", "Right-Horse-7-Battery")
    assert machine.ok(*right)
    machine.shell("for i in 1 2 3 4 5; do runuser -u ops -- /tmp/try wrong; done; true")
    assert not machine.ok(*right)
    machine.shell("faillock --user guest --reset")
    assert machine.ok(*right)
