# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers lack is there: an own kernel with its values, memory and arrays.

That a reboot goes through the boot loader is shown by test_kernel_tuning.py, which needs one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import emulator
import machines as machine_control

MACHINES = Path(machine_control.__file__).parent
# Starts a machine as a test does, tells its process id, and waits to be killed.
OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import emulator, machine_testing, machines
machine = machine_testing.start(sys.argv[2])
print(emulator.running(machines.get(machine.name).files), flush=True)
time.sleep(600)
"""


def test_the_kernel_is_its_own(machine):
    host = Path("/proc/sys/vm/swappiness").read_text()
    machine.shell("sysctl -q vm.swappiness=13")
    assert machine.read("/proc/sys/vm/swappiness") == "13\n"
    assert Path("/proc/sys/vm/swappiness").read_text() == host


def test_what_roles_touch_is_there(machine):
    assert machine.read("/proc/pressure/memory").startswith("some avg10=")
    assert {"cpu", "io", "memory", "pids"} <= set(machine.read("/sys/fs/cgroup/cgroup.controllers").split())
    assert "apparmor" in machine.read("/sys/kernel/security/lsm").split(",")
    assert "[" in machine.read("/sys/kernel/mm/transparent_hugepage/enabled")
    assert machine.read("/sys/class/watchdog/watchdog0/identity") == "i6300ESB timer\n"
    machine.shell(
        "modprobe raid1 && dd if=/dev/zero of=/var/swap bs=1M count=32 status=none && chmod 0600 /var/swap"
        " && mkswap -q /var/swap && swapon /var/swap && swapoff /var/swap && rm /var/swap"
    )
    assert "raid1" in machine.read("/proc/mdstat")


def test_a_service_that_takes_too_much_is_killed_alone(machine):
    fill = "x = bytearray(400 << 20)"
    limits = ("-p", "MemoryMax=64M", "-p", "MemorySwapMax=0")
    machine.run("systemd-run", "--quiet", "--unit=greedy", *limits, "python3", "-c", fill)
    machine.shell("while systemctl -q is-active greedy; do sleep 0.5; done", timeout=60)
    assert "Result=oom-kill" in machine.run("systemctl", "show", "greedy")


def test_it_is_reached_as_any_managed_machine(machine, ansible_playbook):
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {
                    "nusy.dgx_spark.ensure_state": {
                        "role": "prereqs",
                        "controls": [
                            {"id": "prereqs/time_sync", "sysctls": [{"name": "kernel.panic", "value": "17"}]},
                        ],
                    }
                }
            ],
        }
    ]
    assert ansible_playbook(play, [machine]).assert_ok().changed
    assert machine.read("/proc/sys/kernel/panic") == "17\n"
    assert ansible_playbook(play, [machine], check=True).assert_ok().changed == []


def test_a_reset_forgets_all_and_takes_seconds(machine):
    machine.shell("echo x > /etc/mark; sysctl -q kernel.panic=23; ln -sf /dev/null /etc/systemd/system/ssh.service")
    started = time.monotonic()
    machine.reset()
    assert not machine.ok("test", "-e", "/etc/mark")
    assert machine.read("/proc/sys/kernel/panic") == "0\n"
    assert time.monotonic() - started < 30
    assert abs(float(machine.run("date", "+%s")) - time.time()) < 5


def test_a_machine_ends_with_the_test_run_that_started_it(machine):
    name = f"{machine.name}-second"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(MACHINES), name], stdout=subprocess.PIPE)
    number = int(owner.stdout.readline())
    files = machine_control.get(name).files
    assert emulator.running(files) == number
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 20
    while emulator.running(files) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not emulator.running(files)
    machine_control.down([name])
