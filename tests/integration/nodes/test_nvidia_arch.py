# SPDX-License-Identifier: GPL-3.0-or-later
"""Role nvidia_toolkit with the real pacman, out of a repository with the names of Arch's packages.

A Debian node that carries the os-release of Arch Linux: systemd, pacman and its hooks are real, packages, kernel
and GPU are not. Tests run in the order of this file.
"""

from __future__ import annotations

import os
import platform
import shutil
from typing import Any

import pacman_repo
import pytest
import testing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.arch import HOOK
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import CDI_BY_HAND
from nvidia_packages import PERSISTENCED
from pacman_repo import Package

PLAY = [{"hosts": "all", "gather_facts": False, "roles": ["nusy.dgx_spark.nvidia_toolkit"]}]
VERSION, RELEASE = "595.58.03-1", platform.release()
TOOLKIT = "nvidia-container-toolkit"
# What needs the driver in the kernel.
UNSEEN = {"driver_match", "smi"}
# With prebuilt modules on a PC; Arch Linux ARM has those of DKMS only.
X86 = platform.machine() == "x86_64"
MODULES = ["nvidia-open"] if X86 else ["linux-headers", "nvidia-open-dkms"]
DRIVER = [*MODULES, "nvidia-utils"]


def offered(version: str = VERSION) -> list[Package]:
    modules = f"/usr/lib/modules/{RELEASE}"
    unit = PERSISTENCED + "[Install]\nWantedBy=multi-user.target\n"
    ctk = '#!/bin/sh\necho "cdiVersion: 0.7.0" > "${3#--output=}"\n'
    return [
        Package("linux", "6.17.1-1", {f"{modules}/pkgbase": "linux\n", f"{modules}/vmlinuz": "image"}),
        Package("linux-headers", "6.17.1-1"),
        Package(MODULES[-1], version, {f"{modules}/extramodules/nvidia.ko.zst": "module"}),
        Package("nvidia-utils", version, {"/usr/lib/systemd/system/nvidia-persistenced.service": unit}),
        Package(TOOLKIT, "1.20.1-1", {"/usr/bin/nvidia-ctk": ctk}),
    ]


@pytest.fixture(scope="module")
def repository(_able: None, tmp_path_factory):
    if shutil.which("pacman") is None:
        text = "no pacman on this machine: package pacman-package-manager"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    made = pacman_repo.PacmanRepo(tmp_path_factory.mktemp("pacman"))
    made.publish(offered())
    return made


@pytest.fixture(scope="module")
def arch(make_node, repository):
    machine = make_node(mounts=(repository.mount,))
    for name in pacman_repo.PROGRAMS:
        machine.write(f"/usr/bin/{name}", repository.wrapper(name), "0755")
    machine.write("/etc/pacman.conf", pacman_repo.CONF)
    machine.shell("rm /etc/os-release; mkdir -p /var/lib/pacman /var/cache/pacman/pkg")
    machine.write("/etc/os-release", 'ID=arch\nPRETTY_NAME="Arch Linux"\n')
    machine.shell("pacman --sync --refresh --noconfirm linux")
    return machine


def run(machine, folder, *, check: bool, confirm: list[str] | None = None) -> dict[str, Any]:
    extra = {"nvidia_toolkit_gpu": "expected", "nvidia_toolkit_confirm": confirm or []}
    done = testing.ansible_playbook(PLAY, [machine], folder, check=check, extra=extra).assert_ok()
    (entry,) = done.of(action="nvidia_toolkit")
    return {one["id"].partition("/")[2]: one for one in entry["result"]["controls"]}


def drifted(found: dict[str, Any]) -> set[str]:
    assert {name for name, one in found.items() if one["state"] == "unknown"} <= UNSEEN | {"persistence"}, found
    return {name for name, one in found.items() if one["state"] == "drifted"}


def test_a_check_predicts_and_a_run_without_names_brings_all_but_the_driver(arch, tmp_path) -> None:
    predicted = run(arch, tmp_path, check=True)
    assert drifted(predicted) == {"driver", "kernels", "cdi", "container_toolkit"}
    assert predicted["driver"]["blocked_by"] == f"nvidia_toolkit_confirm: [{', '.join(DRIVER)}]"
    assert not arch.ok("test", "-e", HOOK)
    assert run(arch, tmp_path, check=False) == predicted
    # The real pacman ran the hook that came before the toolkit.
    assert arch.read(CDI_BY_HAND) == "cdiVersion: 0.7.0\n"
    assert drifted(run(arch, tmp_path, check=True)) == {"driver", "kernels"}


def test_the_driver_comes_by_its_names_and_nothing_is_left(arch, tmp_path) -> None:
    predicted = run(arch, tmp_path, check=True, confirm=DRIVER)
    assert drifted(predicted) == {"driver", "kernels", "persistence"}
    assert run(arch, tmp_path, check=False, confirm=DRIVER) == predicted
    left = run(arch, tmp_path, check=True)
    assert drifted(left) == set() and left["persistence"]["state"] == "in_sync"
    assert arch.run("systemctl", "is-enabled", "nvidia-persistenced.service").strip() == "enabled"
    assert arch.run("pacman", "--query", "nvidia-utils").split() == ["nvidia-utils", VERSION]


def test_what_is_broken_by_hand_is_named_and_repaired(arch, tmp_path) -> None:
    arch.shell(f"systemctl disable -q --now nvidia-persistenced.service; rm {HOOK} {CDI_BY_HAND}")
    arch.shell(f"pacman --remove --noconfirm {TOOLKIT}")
    found = run(arch, tmp_path, check=True)
    assert drifted(found) == {"persistence", "cdi", "container_toolkit"}
    assert {found[name]["cause"] for name in drifted(found)} == {"corrective"}
    assert run(arch, tmp_path, check=False) == found
    assert drifted(run(arch, tmp_path, check=True)) == set()


def test_nothing_is_installed_beside_pending_upgrades(arch, repository, tmp_path) -> None:
    repository.publish(offered("595.60.00-1"))
    arch.shell(f"pacman --remove --noconfirm {TOOLKIT}; pacman --sync --refresh --refresh")
    found = run(arch, tmp_path, check=False)
    assert drifted(found) == {"container_toolkit"} and "upgrades are pending" in found["container_toolkit"]["reason"]
    assert not arch.ok("pacman", "--query", TOOLKIT)
    arch.shell("pacman --sync --sysupgrade --noconfirm")
    run(arch, tmp_path, check=False)
    assert drifted(run(arch, tmp_path, check=True)) == set()
