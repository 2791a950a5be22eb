# SPDX-License-Identifier: GPL-3.0-or-later
"""What role os_hardening plans for systems that no test machine is: Ubuntu 24.04, and what a vendor made of it."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Document
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.subject import EnsureState
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.parse import HARDENED
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import documents, variables

sys.path.append(str(Path(__file__).parents[1] / "plugins" / "module_utils" / "_state"))

from fake_node import FakeNode

ROLE = variables.ROOT / "roles" / "os_hardening"


def document(**given: Any) -> Document:
    """As the role's call would be given it."""
    return _document(json.dumps({f"os_hardening_{name}": value for name, value in given.items()}))


@functools.cache
def _document(text: str) -> Document:
    loader, written = DataLoader(), json.loads(text)
    host = variables.Variables("spark-1", written, Templar(loader=loader, variables=written).template)
    there = documents.environment(ROLE, host, loader, Templar(loader=loader, variables=written))
    (task,) = loader.load_from_file(str(ROLE / "tasks" / "main.yml"), trusted_as_template=True)
    judged = ArgumentSpecValidator(parse.ARGUMENT_SPEC).validate(there.template(task["nusy.dgx_spark.ensure_state"]))
    assert judged.error_messages == []
    return parse.document(judged.validated_parameters)


class Ubuntu(FakeNode):
    """24.04 as DGX OS brings it: what tools say, from its own configuration."""

    def __init__(self) -> None:
        names = ("libpam-pwquality", "cracklib-runtime", "apparmor", "auditd", "unattended-upgrades", "fail2ban")
        super().__init__(available=dict.fromkeys(names, "1"))
        self.put("/etc/os-release", 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n')
        self.put("/etc/login.defs", "UMASK\t\t022\nENCRYPT_METHOD SHA512\nPASS_MAX_DAYS\t99999\n")
        self.put("/etc/security/faillock.conf", "# deny = 3\n")
        for value in (v for control in document().controls for v in control.sysctls):
            for interface in ("all", "default", "enp1s0f0np0") if "*" in value.name else ("",):
                self.put("/proc/sys/" + value.name.replace("*", interface).replace(".", "/"), "7\n")
        for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "systemd-journald.service"):
            self.units[unit] = self.unit(active="active", state="enabled")
        self.apt = 'APT::Periodic::Unattended-Upgrade "1";\n'
        self.pam = "auth required pam_permit.so\nsession optional\t\t\tpam_umask.so\n"

    def run(self, argv, *, timeout=10.0, env=None, stdin=""):
        said = {
            "sudo": "Matching Defaults entries for root on spark-1:\n    env_reset, use_pty\n",
            "findmnt": "rw,nosuid,nodev,inode64\n",
            "find": "",
            "sh": "",
            "awk": "",
            "stat": "root root 4755\n",
            "cat": "Y\n" if "apparmor" in argv[-1] else self.pam,
            "apt-config": self.apt,
        }
        tool = argv[0].rpartition("/")[2]
        if tool == "auditctl":
            return Completed(tuple(argv), None, "", "", "No such file or directory")
        if tool in said or argv[1:2] == ["cat-config"]:
            return Completed(tuple(argv), 0, said.get(tool, ""), "")
        return super().run(argv, timeout=timeout, env=env, stdin=stdin)


class Says(Ubuntu):
    """One command answers otherwise."""

    def __init__(self, part: str, answer: str) -> None:
        super().__init__()
        self.part, self.answer = part, answer

    def run(self, argv, **more):
        said = any(self.part in word for word in argv)
        return Completed(tuple(argv), 0, self.answer, "") if said else super().run(argv, **more)


def verdicts(node: FakeNode, **given: Any) -> dict[str, Any]:
    plan = EnsureState(document(**given)).plan(node)
    return {control.id.removeprefix("os_hardening/"): control for control in plan.controls}


def test_ubuntu_is_hardened_without_a_question():
    found = verdicts(Ubuntu())
    assert {name for name, one in found.items() if one.state == "unknown" or one.blocked_by} == set()
    assert {name for name, one in found.items() if one.state == "in_sync"} == {
        *("accounts", "account_files", "cron_files", "file_extra", "legacy_packages", "mount_shm")
    }
    assert found["password_hash"].as_dict()["before"] == {"setting /etc/login.defs: ENCRYPT_METHOD": "SHA512"}


def test_an_umask_that_pam_sets_by_itself_is_named_and_left_to_its_owner():
    node = Ubuntu()
    node.put("/etc/login.defs", "UMASK 027\nENCRYPT_METHOD YESCRYPT\n")
    (profile,) = next(control for control in document().controls if control.id == "os_hardening/umask").files
    node.put(profile.path, profile.content)
    assert verdicts(node)["umask"].state == "in_sync"
    node.pam = node.pam.replace("pam_umask.so", "pam_umask.so umask=022")
    found = verdicts(node)["umask"]
    assert (found.state, "counts instead" in found.reason) == ("drifted", True)


def test_sessions_get_the_umask_where_the_system_brings_nobody_who_reads_it():
    """As Debian 12 is. The profile is switched on by a command, since it is off by itself."""
    found = verdicts(Says("pam_umask[.]so", "nobody\n"))["umask"]
    assert (found.state, found.blocked_by) == ("drifted", "")
    assert found.as_dict()["before"]["probe pam_umask: nobody"] == "present"
    assert "probe pam_umask: nobody" not in verdicts(Ubuntu())["umask"].as_dict()["before"]


@pytest.mark.parametrize("line", ["auth sufficient pam_permit.so", "auth\t[success=done default=ignore] pam_permit.so"])
def test_a_line_that_lets_in_whoever_comes_is_named(line):
    found = verdicts(Says("pam_permit", line + "\n"))["accounts"]
    assert (found.state, "lets in whoever comes" in found.reason) == ("drifted", True)
    assert verdicts(Says("pam_permit", "auth required pam_permit.so\n"))["accounts"].state == "in_sync"


def test_a_later_file_that_keeps_cores_is_named():
    ours, later = "[Coredump]\nStorage=none\nProcessSizeMax=0\n", "[Coredump]\nStorage=external\n"
    assert (
        "probe coredump.conf: Storage=none"
        not in verdicts(Says("systemd/coredump.conf", ours))["core_dumps"].as_dict()["before"]
    )
    found = verdicts(Says("systemd/coredump.conf", ours + later))["core_dumps"].as_dict()
    assert found["before"]["probe coredump.conf: Storage=none"] == "Storage=external"


ALLOWED = "Unattended-Upgrade::Allowed-Origins::"
PATTERN = "Unattended-Upgrade::Origins-Pattern::"


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        (f'{ALLOWED} "${{distro_id}}:${{distro_codename}}-security";', True),
        (f'{ALLOWED} "UbuntuESM:${{distro_codename}}-infra-security";', True),
        (f'{PATTERN} "origin=Debian,codename=${{distro_codename}},label=Debian-Security";', True),
        (f'{PATTERN} "origin=NVIDIA,label=NVIDIA CUDA";', False),
        (f'{PATTERN} "site=developer.download.nvidia.com";', False),
        (f'{PATTERN} "origin=Docker,label=Docker CE";', False),
        (f'{PATTERN} "origin=*";', False),
        (f'{PATTERN} "o=*,a=stable";', False),
        (f'{ALLOWED} "*:*";', False),
    ],
)
def test_an_origin_that_would_bring_drivers_is_named(line, allowed):
    node = Ubuntu()
    node.apt += line + "\n"
    assert _origins(node) == (set() if allowed else {f"probe apt_origins: {line}"})


def _origins(node: Ubuntu) -> set[str]:
    return {key for key in verdicts(node)["updates_never"].as_dict()["before"] if "apt_origins" in key}


def test_the_interface_that_sends_redirects_is_named():
    node = Ubuntu()
    for path in [path for path in node.files if path.startswith("/proc/sys/net") and "redirects" in path]:
        node.put(path, "0\n")
    node.put("/proc/sys/net/ipv4/conf/enp1s0f0np0/send_redirects", "1\n")
    found = verdicts(node)["net_redirects"].as_dict()["before"]
    assert [key for key in found if key.endswith("live")] == ["sysctl net.ipv4.conf.enp1s0f0np0.send_redirects: live"]


def test_the_crash_reporter_that_would_open_core_dumps_again_is_stopped():
    node = Ubuntu()
    node.units["apport.service"] = node.unit(active="active", state="enabled")
    steps = [
        (step.action, step.target)
        for step in EnsureState(document()).plan(node).steps
        if step.control.endswith("core_dumps") and "apport" in step.target
    ]
    assert steps == [("disable_unit", "apport.service"), ("stop_unit", "apport.service")]


@pytest.mark.parametrize(
    ("path", "text", "control"),
    [
        ("/usr/lib/sysctl.d/99-vendor.conf", "kernel.sysrq = 1\n", "kernel_sysrq"),
        ("/etc/issue", "NVIDIA DGX OS\n", "banner"),
        ("/etc/cron.allow", "somebody\n", "cron_users"),
    ],
)
def test_what_the_vendor_or_an_owner_set_is_asked_about(path, text, control):
    node = Ubuntu()
    node.put(path, text)
    found = verdicts(node)
    assert found[control].blocked_by == f"os_hardening_confirm: [{path}]"
    assert {name for name, one in found.items() if one.blocked_by} == {control}
    steps = EnsureState(document()).plan(node).steps
    assert not [step for step in steps if step.target == path]
    assert not verdicts(node, confirm=[path])[control].blocked_by


@pytest.mark.parametrize(
    ("given", "control", "state"),
    [
        ({"core_dumps": True}, "core_dumps", "not_selected"),
        ({"core_dumps": False}, "core_dumps", "drifted"),
        ({"su_group": "wheel"}, "su_group", "drifted"),
        ({"su_group": ""}, "su_group", "not_selected"),
        ({"shell_timeout": 600}, "shell_timeout", "drifted"),
        ({"fail2ban": True}, "fail2ban", "drifted"),
        ({"modules_network": []}, "modules_network", "not_selected"),
        ({"legacy_packages": []}, "legacy_packages", "not_selected"),
        ({"skip_controls": ["os_hardening/journal"]}, "journal", "not_selected"),
    ],
)
def test_one_variable_asks_for_one_thing(given, control, state):
    before, after = verdicts(Ubuntu()), verdicts(Ubuntu(), **given)
    assert after[control].state == state
    assert {name for name in before if before[name].state != after[name].state} <= {control}


def test_what_engines_and_containers_live_on_is_not_touched():
    """Neither by a kernel value, nor by a module, nor by a mount option."""
    controls = document().controls
    values = {value.name for control in controls for value in control.sysctls}
    assert not [name for name in values if "userns" in name or "forward" in name or "accept_ra" in name]
    barred = {module.name for control in controls for module in control.kernel_modules}
    assert barred.isdisjoint({"squashfs", "overlay", "vfat", "udf", "usb-storage", "br_netfilter", "nvme", "fuse"})
    words = [word for control in controls for probe in control.probes for word in (*probe.has, *probe.mend)]
    assert not [word for word in words if "noexec" in word] and not [c for c in controls if c.mounts]
    assert not [c for c in controls if any("nvidia" in p.name or "docker" in p.name for p in c.packages)]
    filters = next(control for control in controls if control.id == "os_hardening/net_reverse_path")
    assert {value.value for value in filters.sysctls} == {"2"}


@pytest.mark.parametrize(
    "given",
    [
        {"updates_never": ["linux-", 'a"b {']},
        {"updates_never": ["["]},
        {"sudo_log": "/var/log/x\nDefaults !authenticate"},
        {"sudo_timeout": -1},
        {"lock_after": 0},
        {"journal_size": "lots"},
        {"password_max_days": -5},
        {"modules_filesystems": ["ext4"]},
        {"umask": "777x"},
        {"cron_users": ["root\nevil"]},
    ],
)
def test_a_value_that_would_do_something_else_is_refused_by_its_name(given):
    (name,) = given
    with pytest.raises(InputError) as error:
        document(**given)
    assert error.value.problem.key == "state.unexpected" and f"os_hardening_{name}:" in error.value.problem.wanted


def test_no_other_role_may_declare_the_kernel_values_of_this_one():
    names = {value.name for control in document().controls for value in control.sysctls}
    assert {name for name in names if name.startswith(("kernel.", "fs.", "vm."))} == HARDENED
