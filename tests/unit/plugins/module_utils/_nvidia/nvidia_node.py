# SPDX-License-Identifier: GPL-3.0-or-later
"""A node in memory with an NVIDIA stack, and the facts of it."""

from __future__ import annotations

import copy
import os
import re
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import kernels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    CDI_PATH,
    CDI_SERVICE,
    DGX_SOURCE,
    PERSISTENCED,
    TOOLKIT_PACKAGES,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.parse import ARGUMENT_SPEC
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.subject import ensure_stack
from fake_node import FakeNode

KERNEL = "6.17.0-1014-nvidia"
DRIVER = "580.142-0ubuntu0.24.04.1"
FACTS: dict[str, Any] = {
    "is_spark": True,
    "machine": {"model": "DGX Spark Founders Edition"},
    "kernel": {"release": KERNEL, "parameters": {}},
    "gpu": {
        "pci_addresses": ["000f:01:00.0"],
        "module_version": "580.142",
        "driver_version": "580.142",
        "devices": [{"index": 0, "name": "NVIDIA GB10"}],
    },
    "network": {"rdma_devices": {"rocep1s0f0": {"firmware": "28.45.4028"}}},
    "firmware": {"components": [{"name": "UEFI", "version": "R:1.110.13"}]},
    "unknown": {},
}
NO_GPU: dict[str, Any] = {"is_spark": False, "gpu": {"pci_addresses": [], "devices": []}, "unknown": {}}


class Node(FakeNode):
    """With the tools that this role asks. modules: kernels that have their nvidia.ko."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.modules_of = {KERNEL, os.uname().release}
        self.audit = ""
        self.docker: dict[str, str] = {}

    def tool_find(self, args: list[str]) -> tuple[int, str, str]:
        release = args[0].rstrip("/").rpartition("/")[2]
        return 0, f"{args[0]}kernel/nvidia.ko\n" if release in self.modules_of else "", ""

    def tool_dpkg(self, args: list[str]) -> tuple[int, str, str]:
        return (0, self.audit, "") if args == ["--audit"] else super().tool_dpkg(args)

    def tool_docker(self, args: list[str]) -> tuple[int, str, str]:
        return 0, self.docker[args[0]], ""

    def tool_systemctl(self, args: list[str]) -> tuple[int, str, str]:
        if args[0] == "is-active":
            active = self.units.get(args[-1], {}).get("ActiveState") == "active"
            return (0 if active else 3), "", ""
        done = super().tool_systemctl(args)
        if args[0] == "restart" and args[-1] == CDI_SERVICE:
            self.put("/run/cdi/nvidia.yaml", "cdiVersion: 0.7.0\n")
            self.units[CDI_SERVICE]["ActiveState"] = "inactive"
        return done


def menu(*releases: str, default: str = "0") -> str:
    """As grub-mkconfig writes it, with one entry for each kernel."""
    head = f"""\
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
   set next_entry=
else
   set default="{default}"
fi
"""
    entry = "menuentry 'Ubuntu' {{\n\tlinux\t/boot/vmlinuz-{0} root=UUID=0 ro\n\tinitrd\t/boot/initrd.img-{0}\n}}\n"
    return head + "".join(entry.format(release) for release in releases)


def kernel(node: Node, release: str, *, modules: bool = True) -> None:
    """The newest one, which comes first in the menu."""
    before = re.findall(r"vmlinuz-(\S+)", node.files[kernels.MENU].text) if kernels.MENU in node.files else []
    node.put(kernels.MENU, menu(release, *before))
    node.put(f"/lib/modules/{release}", kind="directory", mode=0o755)
    node.put(f"/boot/vmlinuz-{release}", "image")
    node.put(f"/boot/initrd.img-{release}", "initrd")
    if modules:
        node.modules_of.add(release)


def installed(node: Node, **versions: str) -> None:
    node.packages.update({name.replace("_", "-"): ("installed", version) for name, version in versions.items()})


def spark() -> Node:
    """As DGX OS brings it; everything runs."""
    node = Node(groups={"docker": [999, ["ops"]]}, users={"ops": [1000, 1000, "", "/home/ops", "/bin/sh"]})
    node.put("/etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\n')
    node.put("/etc/dgx-release", "DGX_NAME=x\n")
    node.put(
        DGX_SOURCE, "Types: deb\nURIs: https://repo.download.nvidia.com/baseos/ubuntu/noble/arm64/\nSuites: noble\n"
    )
    node.put(f"/lib/modules/{os.uname().release}", kind="directory", mode=0o755)
    kernel(node, KERNEL)
    for name in ("linux-nvidia-hwe-24.04", "linux-modules-nvidia-580-open-nvidia-hwe-24.04"):
        node.packages[name] = ("installed", "6.17.0-1014.14")
    for name in ("nvidia-driver-580-open", "libnvidia-compute-580", "nvidia-utils-580"):
        node.packages[name] = ("installed", DRIVER)
    # Mixed versions that are normal on DGX OS.
    installed(node, nvidia_settings="610.43.02-1", nvidia_modprobe="610.43.02-1", libxnvctrl0="610.43.02-1")
    node.packages["nvidia-firmware-580-580.95.05"] = ("installed", "580.95.05-0ubuntu0.24.04.1")
    for name in TOOLKIT_PACKAGES:
        node.packages[name] = ("installed", "1.19.0-1")
    node.units[PERSISTENCED] = node.unit(active="active", state="static")
    node.units[CDI_PATH] = node.unit(active="active", state="enabled")
    node.units[CDI_SERVICE] = node.unit(state="enabled")
    node.put("/run/cdi/nvidia.yaml", "cdiVersion: 0.7.0\n")
    return node


def plain() -> Node:
    """Ubuntu 24.04 as it was installed, with the driver's GPU in it."""
    node = Node(available=dict.fromkeys(TOOLKIT_PACKAGES, "1.19.1-1"))
    node.put("/etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\n')
    node.put("/etc/apt", kind="directory", mode=0o755)
    node.put("/etc/apt/sources.list.d", kind="directory", mode=0o755)
    node.put(f"/lib/modules/{os.uname().release}", kind="directory", mode=0o755)
    kernel(node, "6.8.0-51-generic", modules=False)
    installed(node, linux_generic="6.8.0-51.52")
    return node


def stack(facts: dict[str, Any] | None = None, **given: Any) -> Any:
    params = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    found = copy.deepcopy(FACTS if facts is None else facts)
    return ensure_stack({**params, **given}, lambda _reader, _wanted: found)


def verdicts(plan: Any) -> dict[str, Any]:
    return {control.id.partition("/")[2]: control for control in plan.controls}


def states(plan: Any) -> dict[str, str]:
    return {name: control.state for name, control in verdicts(plan).items()}


def bad(node: Node, facts: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """The controls that are neither in sync nor left out."""
    found = verdicts(stack(facts, **given).plan(node))
    return {name: one for name, one in found.items() if one.state not in ("in_sync", "not_selected")}


def apply(node: Node, facts: dict[str, Any] | None = None, **given: Any) -> Any:
    subject = stack(facts, **given)
    converge(subject, subject.plan(node), node, node)
    return stack(facts, **given).plan(node)
