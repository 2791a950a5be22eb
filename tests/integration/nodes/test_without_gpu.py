# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that is declared to have no GPU, by one word of the inventory; and one that has it all the same.

Bare check → apply → nothing is left and nothing unknown → a GPU is put in, and named. What can be seen of one is laid
over the bus of the machine that carries the node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import testing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.absent import WITHOUT

ROLES = ("cuda_toolchain", "launchers", "nvidia_toolkit", "ptxas")
ENVIRONMENT, PATHS = "/etc/nusy/ptxas.env", "/etc/nusy/paths.env"
EXTRA = {"spark_gpu": "none", "launchers_launchers": [], "launchers_binaries": {"PY_BIN": "/usr/bin/python3"}}
BUS = "mount -t tmpfs none /sys/bus/pci/devices"
PLACE = "/sys/bus/pci/devices/000f:01:00.0"
GPU = f"mkdir {PLACE} && echo 0x10de > {PLACE}/vendor && echo 0x030200 > {PLACE}/class"
# What shows of it, how that comes and how it goes.
SHOWS = ("000f:01:00.0 on the PCI bus", "/dev/nvidia0")
COMES, GOES = f"{GPU} && touch /dev/nvidia0", f"rm -r {PLACE} /dev/nvidia0"
# These are about the GPU and nothing else; the launchers only leave out what is of driver and toolkit.
OF_A_GPU = ("cuda_toolchain/", "nvidia_toolkit/", "ptxas/")


class Site:
    def __init__(self, machine: Any, directory: Path) -> None:
        self.machine, self.directory = machine, directory

    def run(self, *, check: bool, fails: bool = False) -> dict[str, dict[str, Any]]:
        """What the report says of these roles."""
        tags = ("--tags", ",".join(ROLES))
        self.done = testing.ansible_playbook(
            "site.yml", [self.machine], self.directory, *tags, check=check, report=True, extra=EXTRA
        )
        assert (self.done.rc != 0) is fails, self.done.stdout[-4000:]
        (host,) = self.done.report["hosts"]
        return {one["id"]: one for one in host["controls"] if one["id"].partition("/")[0] in ROLES}


@pytest.fixture(scope="module")
def site(make_node, tmp_path_factory) -> Site:
    machine = make_node()
    machine.shell(BUS)
    return Site(machine, tmp_path_factory.mktemp("site"))


def of_state(found: dict[str, dict[str, Any]], state: str) -> set[str]:
    return {name for name, control in found.items() if control["state"] == state}


def test_one_word_is_enough_and_the_report_says_what_it_left_out(site: Site) -> None:
    predicted = site.run(check=True)
    left_out = {name for name in of_state(predicted, "not_selected") if predicted[name]["reason"] == WITHOUT}
    drifted = of_state(predicted, "drifted")
    assert {"nvidia_toolkit/driver", "nvidia_toolkit/smi", "cuda_toolchain/builds", "ptxas/assembles"} <= left_out
    assert {name for name in predicted if name.startswith(OF_A_GPU)} - left_out == {
        "nvidia_toolkit/gpu", "ptxas/environment", "ptxas/file_extra",
    }  # fmt: skip
    assert predicted["nvidia_toolkit/gpu"]["state"] == "in_sync" and of_state(predicted, "unknown") == set()
    site.run(check=False)
    left = site.run(check=True)
    assert of_state(left, "drifted") == of_state(left, "unknown") == set() and drifted <= of_state(left, "in_sync")
    assert site.done.changed == []
    # The one says that no variable is set, the other has nothing of driver and toolkit.
    assert "=" not in site.machine.read(ENVIRONMENT).partition("\n")[2]
    assert "PY_BIN" in site.machine.read(PATHS) and "NVIDIA" not in site.machine.read(PATHS)


@pytest.mark.names("gpu", role="nvidia_toolkit")
def test_a_gpu_that_is_there_all_the_same_is_named(site: Site) -> None:
    site.machine.shell(COMES)
    found = site.run(check=True)
    assert of_state(found, "drifted") == {"nvidia_toolkit/gpu"}
    for name in ("nvidia_toolkit/driver", "cuda_toolchain/builds", "ptxas/assembles", "ptxas/environment"):
        assert found[name]["state"] == "unknown"
    of_a_gpu = (control for name, control in found.items() if name.startswith(OF_A_GPU))
    assert all(what in control["reason"] for control in of_a_gpu for what in SHOWS)
    site.run(check=False, fails=True)
    assert "take spark_gpu: none from this host" in site.done.stdout and site.done.changed == []
    site.machine.shell(GOES)
    left = site.run(check=True)
    assert of_state(left, "drifted") == of_state(left, "unknown") == set()
