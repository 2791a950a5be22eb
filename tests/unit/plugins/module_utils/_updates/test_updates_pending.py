# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt says of an upgrade, in the words of apt 2.7 (Ubuntu 24.04) and 3.0 (Debian 13)."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates.pending import Upgrade, parse

# Shapes of apt-get --simulate dist-upgrade; names and versions of the jump that took GPUs away in September 2026.
JUMP = """\
NOTE: This is only a simulation!
Reading package lists...
The following NEW packages will be installed:
  linux-image-7.0.0-1019-nvidia linux-modules-nvidia-580-open-7.0.0-1019-nvidia
The following packages have been kept back:
  docker-ce libnccl2
The following packages will be REMOVED:
  linux-modules-nvidia-fs-6.17.0-1032-nvidia
The following packages will be upgraded:
  linux-image-nvidia-hwe-24.04 python3-pyasn1
2 upgraded, 2 newly installed, 1 to remove and 2 not upgraded.
Remv linux-modules-nvidia-fs-6.17.0-1032-nvidia [6.17.0-1032.32]
Inst linux-image-7.0.0-1019-nvidia (7.0.0-1019.19~24.04.2 Ubuntu:24.04/noble-updates [arm64])
Inst linux-image-nvidia-hwe-24.04 [6.17.0-1032.32] (7.0.0-1019.19~24.04.2 Ubuntu:24.04/noble-updates [arm64]) []
Inst python3-pyasn1 [0.4.8-4ubuntu0.2] (0.4.8-4ubuntu0.3 Ubuntu:24.04/noble-updates, Ubuntu:24.04/noble-security [all])
Inst libssl3t64 [3.5.1-1] (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])
Conf linux-image-7.0.0-1019-nvidia (7.0.0-1019.19~24.04.2 Ubuntu:24.04/noble-updates [arm64])
"""


def said(out, rc=0, err=""):
    return Completed(("/usr/bin/apt-get",), rc, out, err)


def test_every_package_with_both_versions_and_what_it_is_for():
    found = parse(said(JUMP))
    assert found.upgrades == (
        Upgrade("linux-image-7.0.0-1019-nvidia", "", "7.0.0-1019.19~24.04.2", security=False),
        Upgrade("linux-image-nvidia-hwe-24.04", "6.17.0-1032.32", "7.0.0-1019.19~24.04.2", security=False),
        Upgrade("python3-pyasn1", "0.4.8-4ubuntu0.2", "0.4.8-4ubuntu0.3", security=True),
        Upgrade("libssl3t64", "3.5.1-1", "3.5.1-1+deb13u1", security=True),
    )
    assert found.kept == ("docker-ce", "libnccl2")
    assert found.removes == found.victims == ("linux-modules-nvidia-fs-6.17.0-1032-nvidia",)


def test_a_package_that_flashes_firmware_is_a_victim():
    line = "Inst mlnx-fw-updater [24.04-0] (24.10-0 NVIDIA:1/noble [arm64])\n"
    assert parse(said(line)).victims == ("mlnx-fw-updater",)


@pytest.mark.parametrize(
    "done", [said("", 100, "E: Unmet dependencies. Try 'apt --fix-broken install'"), said("", None)]
)
def test_an_answer_that_failed_is_not_nothing_pending(done):
    assert parse(done).problem


def test_nothing():
    found = parse(said("0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n"))
    assert (found.upgrades, found.removes, found.kept, found.problem) == ((), (), (), "")
