# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/update.yml on a machine that has a kernel to boot: for real, and never into one that lacks something."""

from __future__ import annotations

import os

import pytest
from apt_repo import AptRepo, Package

PLAY = "playbooks/update.yml"
# As the packages of kernels and libc do.
NEW = Package("demo", "2.0", postinst="#!/bin/sh\ntouch /run/reboot-required; echo demo > /run/reboot-required.pkgs\n")
# A kernel that is newer than any, of which only the image came.
TORN = "/boot/vmlinuz-99.0.0-1-nvidia"


@pytest.fixture
def behind(fresh_machine):
    repository = AptRepo(f"reboots-{os.getpid()}")
    repository.publish([Package("demo", "1.0")])
    fresh_machine.use(repository)
    fresh_machine.run("apt-get", "install", "-q", "-y", "demo")
    repository.publish([NEW])
    fresh_machine.use(repository)
    yield fresh_machine
    repository.remove()


def booted(done):
    found = [result for result in done.of(action="updates") if "controls" in result["result"]][-1]
    (control,) = [one for one in found["result"]["controls"] if one["id"] == "updates/booted"]
    return control


@pytest.mark.breaks("updates/booted")
def test_an_update_ends_in_the_kernel_of_the_next_boot(behind, ansible_playbook):
    machine, before = behind, behind.boot_id
    extra = {"updates_confirm": [machine.name], "spark_reboot_confirm": [machine.name]}
    machine.write(TORN, "x")
    machine.run("update-grub")
    done = ansible_playbook(PLAY, [machine], extra=extra)
    assert done.rc != 0 and "initrd of 99.0.0-1-nvidia" in done.stdout
    assert machine.boot_id == before
    machine.shell(f"rm {TORN}; update-grub")
    # What the first run upgraded asks for a reboot. A run that may not do it says so, and does the rest.
    waiting = ansible_playbook(PLAY, [machine], extra={"updates_confirm": [machine.name]}).assert_ok()
    assert booted(waiting)["blocked_by"] == f"spark_reboot_confirm: [{machine.name}]"
    assert "for demo" in booted(waiting)["reason"] and machine.boot_id == before
    done = ansible_playbook(PLAY, [machine], extra=extra).assert_ok()
    assert machine.boot_id != before
    assert booted(done)["state"] == "in_sync"
