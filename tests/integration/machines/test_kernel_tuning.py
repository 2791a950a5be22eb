# SPDX-License-Identifier: GPL-3.0-or-later
"""Role kernel_tuning on a machine with a kernel of its own, through a real reboot.

One story, in the order of this file: bare check → apply → what waits for the reboot → the host is named → empty
check → every control broken by hand → repaired.
"""

from __future__ import annotations

import pytest
import testing

THP = "/sys/kernel/mm/transparent_hugepage"
WATCHDOG = "/sys/class/watchdog/watchdog0"
DROPIN = "/etc/default/grub.d/90-nusy-kernel_tuning.cfg"
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "roles": [{"role": "nusy.dgx_spark.kernel_tuning"}],
    }
]
# The row that this machine's kernel is in: the shipped ones are of NVIDIA's kernels.
ROW = {
    "id": "kernel_of_the_test",
    "subject": "kernel",
    "range": ">=6.12,<6.13",
    "verdict": "known_bad",
    "why": "a test says so",
    "source": "this test",
    "remedy": "boot it with nusy.matrix=1",
    "unless": "nusy.matrix=1",
}
DECLARED = {
    "kernel_tuning_parameters": ["nusy.test=1"],
    "kernel_tuning_killed_modules": ["pcspkr"],
    "spark_version_matrix": [ROW],
}
PARAMETERS = ("nusy.matrix=1", "nusy.test=1", "module_blacklist=pcspkr")
WAITING = {"kernel_tuning/matrix", "kernel_tuning/parameters"}
# This machine has no processor that chooses by itself.
LEFT_OUT = {"kernel_tuning/cppc"}


@pytest.fixture(scope="module")
def story(machine, tmp_path_factory):
    def run(**options):
        extra = {**DECLARED, **options.pop("extra", {})}
        return testing.ansible_playbook(PLAY, [machine], tmp_path_factory.mktemp("run"), extra=extra, **options)

    return run


def looks(done):
    return [one["result"] for one in done.of(action="kernel_tuning") if one["status"] != "skipped"]


def controls(done):
    """By id, from the last look of the run."""
    return {one["id"]: one for one in looks(done)[-1]["controls"]}


def with_state(done, state):
    return {name for name, one in controls(done).items() if one["state"] == state}


def test_a_check_of_a_bare_machine_predicts_and_touches_nothing(story, machine):
    before = machine.shell(f"cat {THP}/enabled /proc/sys/vm/max_map_count; ls /etc/default/grub.d /etc/tmpfiles.d")
    done = story(check=True).assert_ok()
    after = machine.shell(f"cat {THP}/enabled /proc/sys/vm/max_map_count; ls /etc/default/grub.d /etc/tmpfiles.d")
    assert after == before
    assert with_state(done, "in_sync") == {
        "kernel_tuning/cgroup_v2",
        "kernel_tuning/headless",
        "kernel_tuning/file_extra",
    }
    assert with_state(done, "not_selected") == LEFT_OUT
    assert with_state(done, "unknown") == set()
    story.predicted = {name: one["after"] for name, one in controls(done).items()}


def test_an_apply_does_that_and_says_what_waits_for_a_reboot(story, machine):
    boot = machine.boot_id
    done = story().assert_ok()
    assert {one["id"]: one["after"] for one in looks(done)[0]["controls"]} == story.predicted
    assert done.of(action="reboot")[0]["status"] == "skipped"
    assert machine.boot_id == boot
    for word in PARAMETERS:
        assert machine.run("grep", "-c", f"linux.* {word}", "/boot/grub/grub.cfg") != "0\n"
    clean = story(check=True).assert_ok()
    assert clean.changed == []
    assert with_state(clean, "drifted") == WAITING
    assert {controls(clean)[name]["blocked_by"] for name in WAITING} == {f"spark_reboot_confirm: [{machine.name}]"}


def test_what_does_not_wait_is_in_force_at_once(machine):
    assert "[madvise]" in machine.read(f"{THP}/enabled") and "[madvise]" in machine.read(f"{THP}/defrag")
    assert machine.read("/proc/sys/vm/max_map_count") == "1048576\n"
    assert machine.run("systemctl", "show", "-P", "DefaultLimitMEMLOCK") == "infinity\n"
    assert machine.run("systemctl", "show", "-P", "RuntimeWatchdogUSec") == "1min\n"
    assert (machine.read(f"{WATCHDOG}/state"), machine.read(f"{WATCHDOG}/timeout")) == ("active\n", "60\n")
    assert not machine.ok("modprobe", "nouveau")


def test_a_named_host_is_rebooted_once_and_looked_at_again(story, machine):
    boot = machine.boot_id
    done = story(extra={"spark_reboot_confirm": [machine.name]}).assert_ok()
    assert machine.boot_id != boot
    assert len(looks(done)) == 2
    assert with_state(done, "drifted") == set()
    running = machine.read("/proc/cmdline").split()
    assert set(PARAMETERS) <= set(running)
    # All that must hold after a boot without anybody's help. The last run of this file says that nothing is left to do.
    test_what_does_not_wait_is_in_force_at_once(machine)


MANAGER = "/etc/systemd/system.conf.d"
DAMAGE = {
    "kernel_tuning/matrix": f"sed -i s/nusy.matrix=1/nusy.matrix=0/ {DROPIN}",
    "kernel_tuning/parameters": f"sed -i s/nusy.test=1/nusy.test=0/ {DROPIN}",
    "kernel_tuning/thp": f"echo never > {THP}/enabled",
    "kernel_tuning/sysctl": "sysctl -q vm.max_map_count=65530",
    "kernel_tuning/memlock": f"sed -i s/infinity/8M/ {MANAGER}/90-nusy-memlock.conf",
    # By a file that comes later: only what systemd goes by shows it.
    "kernel_tuning/watchdog": f"printf '[Manager]\\nRuntimeWatchdogSec=0\\n' > {MANAGER}/99-admin.conf"
    "; systemctl daemon-reexec",
    "kernel_tuning/headless": "systemctl -q set-default graphical.target",
    "kernel_tuning/modules": "rm /etc/modprobe.d/90-nusy-kernel_tuning.conf",
    "kernel_tuning/file_extra": "echo stray >> /etc/sysctl.d/90-nusy-kernel_tuning.conf",
}


# What a processor that can choose by itself shows: that of this machine cannot.
CPPC = (
    "mkdir -p /run/cppc/cppc_cpufreq/parameters; echo 0 > /run/cppc/cppc_cpufreq/parameters/auto_sel_mode;"
    " mount -t overlay none -o lowerdir=/run/cppc:/sys/module /sys/module"
)


@pytest.mark.names("kernel_tuning/cppc")
@pytest.mark.breaks(*DAMAGE)
def test_what_somebody_breaks_is_named_alone_and_repaired(story, machine):
    """All at once, since a look is dear here."""
    machine.shell("; ".join([*DAMAGE.values(), CPPC]))
    found = story(check=True).assert_ok()
    assert with_state(found, "drifted") == {*DAMAGE, *LEFT_OUT}
    assert "99-admin.conf" in controls(found)["kernel_tuning/watchdog"]["reason"]
    assert with_state(found, "in_sync") == {"kernel_tuning/cgroup_v2"}
    machine.shell(f"rm {MANAGER}/99-admin.conf; umount /sys/module")
    story().assert_ok()
    # Also of a host that is still named: it is not rebooted for nothing.
    clean = story(check=True, extra={"spark_reboot_confirm": [machine.name]}).assert_ok()
    assert clean.changed == [] and with_state(clean, "drifted") == set()
