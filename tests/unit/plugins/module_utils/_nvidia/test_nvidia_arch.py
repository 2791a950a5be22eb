# SPDX-License-Identifier: GPL-3.0-or-later
"""Arch Linux: packages of its own repository, all of one version, none while upgrades are pending.

What pacman prints here is what pacman 6.0 printed. tests/integration/nodes/test_nvidia_arch.py runs it.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import arch, parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    CDI_BY_HAND,
    CDI_PATH,
    CDI_SERVICE,
    PERSISTENCED,
)
from nvidia_node import NO_GPU, Node, apply, bad, stack, states

RUNNING = os.uname().release
VERSION = "595.58.03-1"
DRIVER = ["nvidia-open", "nvidia-utils"]


class Arch(Node):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.modules_of = set()
        self.arch: dict[str, str] = {}
        self.offered = {"nvidia-open": VERSION, "nvidia-utils": VERSION, "nvidia-open-dkms": VERSION,
                        "linux-lts-headers": "6.12-1", "linux-headers": "6.17-1", "nvidia-open-lts": VERSION,
                        "nvidia-container-toolkit": "1.20.1-1"}  # fmt: skip
        self.pending = ""
        self.broken = ""
        self.put("/etc/os-release", 'ID=arch\nPRETTY_NAME="Arch Linux"\n')
        self.put("/usr/bin/pacman", mode=0o755)
        self.put("/var/lib/pacman/sync/extra.db", "x")
        self.put("/etc/pacman.d/hooks", kind="directory", mode=0o755)
        self.kernel("linux", RUNNING)

    def kernel(self, base: str, release: str) -> None:
        self.put(f"/lib/modules/{release}", kind="directory")
        self.put(f"/usr/lib/modules/{release}/pkgbase", f"{base}\n")
        self.put(f"/usr/lib/modules/{release}/vmlinuz", "image")
        self.arch[base] = "1"

    def tool_dpkg_query(self, _args: list[str]) -> tuple[int, str, str]:
        return 127, "", "not found"

    def tool_pacman_conf(self, _args: list[str]) -> tuple[int, str, str]:
        return 0, "core\nextra\n", ""

    def tool_nvidia_ctk(self, args: list[str]) -> tuple[int, str, str]:
        self.put(args[-1].partition("=")[2], "cdiVersion: 0.7.0\n")
        return 0, "", ""

    def tool_pacman(self, args: list[str]) -> tuple[int, str, str]:
        if args == ["--query"]:
            return 0, "".join(f"{name} {version}\n" for name, version in sorted(self.arch.items())), ""
        if args == ["--query", "--upgrades"]:
            return (0 if self.pending else 1), self.pending, ""
        if args == ["--database", "--check"]:
            return (1 if self.broken else 0), "", self.broken
        names = args[args.index("--") + 1 :]
        assert "--needed" in args and "--noconfirm" in args
        absent = [name for name in names if name not in self.offered]
        if absent:
            return 1, "", f"error: target not found: {absent[0]}\n"
        self.effect(f"pacman installs {' '.join(names)}")
        self.arch |= {name: self.offered[name] for name in names}
        if "nvidia-utils" in names:
            self.units[PERSISTENCED] = self.unit(state="disabled", active="inactive")
        if "nvidia-open" in names:
            self.modules_of.add(RUNNING)
        if "nvidia-container-toolkit" in names and arch.HOOK in self.files:
            self.put(CDI_BY_HAND, "cdiVersion: 0.7.0\n")
        return 0, "", ""

    def tool_systemctl(self, args: list[str]) -> tuple[int, str, str]:
        return super().tool_systemctl(args)


@pytest.fixture(autouse=True)
def _x86(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.uname()
    uname = os.uname_result((whole.sysname, whole.nodename, whole.release, whole.version, "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: uname)


GIVEN: dict[str, Any] = {"gpu": "expected"}


def test_toolkit_and_cdi_are_ensured_and_the_driver_waits_for_its_names() -> None:
    node = Arch()
    found = bad(node, NO_GPU, **GIVEN)
    assert {name for name, one in found.items() if one.state == "drifted"} == {
        "driver", "kernels", "cdi", "container_toolkit",
    }  # fmt: skip
    assert found["driver"].blocked_by == f"nvidia_toolkit_confirm: [{', '.join(DRIVER)}]"
    assert states(stack(NO_GPU, **GIVEN).plan(node)).items() >= {"sources": "in_sync", "key": "not_selected"}.items()
    left = states(apply(node, NO_GPU, **GIVEN))  # does not fail: the kernels wait for the driver
    assert {name for name, state in left.items() if state == "drifted"} == {"driver", "kernels"}
    assert CDI_BY_HAND in node.files and not {*DRIVER} & {*node.arch}
    # One name of the two brings nothing.
    apply(node, NO_GPU, confirm=DRIVER[:1], **GIVEN)
    assert not {*DRIVER} & {*node.arch}
    left = states(apply(node, NO_GPU, confirm=DRIVER, **GIVEN))
    assert "drifted" not in left.values() and left["persistence"] == "in_sync" and left["kernels"] == "in_sync"
    assert "pacman installs nvidia-open nvidia-utils" in node.effects
    assert not stack(NO_GPU, **GIVEN).plan(node).steps
    judged = {"sources", "driver", "kernels", "versions", "persistence", "container_toolkit", "cdi", "file_extra"}
    assert {name for name, state in left.items() if state == "in_sync"} == judged


def converged() -> Arch:
    node = Arch()
    apply(node, NO_GPU, confirm=DRIVER, **GIVEN)
    return node


def drifted(node: Arch) -> dict[str, Any]:
    return {name: one for name, one in bad(node, NO_GPU, **GIVEN).items() if one.state == "drifted"}


def test_nothing_is_installed_while_upgrades_are_pending() -> None:
    node = converged()
    del node.arch["nvidia-container-toolkit"]
    node.pending = "glibc 2.42-1 -> 2.43-1\nlinux 6.17-1 -> 6.18-1\nkept 1-1 -> 2-1 [ignored]\n"
    found = drifted(node)
    assert {*found} == {"container_toolkit"} and "2 upgrades are pending (glibc linux)" in found[
        "container_toolkit"
    ].reason
    assert states(apply(node, NO_GPU, **GIVEN))["container_toolkit"] == "drifted"
    assert node.effects[-1] != "pacman installs nvidia-container-toolkit"
    # What is kept back by the administrator is none.
    node.pending = "kept 1-1 -> 2-1 [ignored]\n"
    assert "drifted" not in states(apply(node, NO_GPU, **GIVEN)).values()


def test_without_lists_nothing_can_be_installed() -> None:
    node = Arch()
    del node.files["/var/lib/pacman/sync/extra.db"]
    node.put("/var/lib/pacman/sync", kind="directory")
    assert "no package lists" in drifted(node)["container_toolkit"].reason


@pytest.mark.parametrize(
    ("bases", "machine", "names"),
    [
        (["linux"], "x86_64", ["nvidia-open", "nvidia-utils"]),
        (["linux-lts"], "x86_64", ["nvidia-open-lts", "nvidia-utils"]),
        (["linux", "linux-lts"], "x86_64", ["nvidia-open", "nvidia-open-lts", "nvidia-utils"]),
        (["linux-zen"], "x86_64", ["linux-zen-headers", "nvidia-open-dkms", "nvidia-utils"]),
        # Arch Linux ARM has no prebuilt ones.
        (["linux"], "aarch64", ["linux-headers", "nvidia-open-dkms", "nvidia-utils"]),
    ],
)
def test_the_modules_follow_the_kernels(bases: list[str], machine: str, names: list[str]) -> None:
    wanted = parse.wanted({name: option.get("default") for name, option in parse.ARGUMENT_SPEC.items()})
    assert [*arch.driver_packages(wanted, bases, machine)] == names


def mixed(node: Arch) -> None:
    node.arch["nvidia-utils"] = "595.60.00-1"


def second_kernel(node: Arch) -> None:
    node.kernel("linux-lts", "6.12.1-1-lts")
    node.arch["nvidia-open-lts"] = VERSION


def empty_initrd(node: Arch) -> None:
    node.put("/boot/initramfs-linux.img", "")


@pytest.mark.parametrize(
    ("damage", "name", "told"),
    [
        (mixed, "driver", "two versions refuse each other"),
        (lambda n: n.arch.update({"nvidia": "580.1-1"}), "driver", "closed modules"),
        (second_kernel, "kernels", "6.12.1-1-lts, has no nvidia.ko"),
        (empty_initrd, "kernels", "initrd"),
        (lambda n: setattr(n, "broken", "error: 'nvidia-open': missing dependency"), "kernels", "at odds"),
    ],
)
def test_what_cannot_be_made_true_is_named_and_fails_a_run(damage: Any, name: str, told: str) -> None:
    node = converged()
    damage(node)
    found = drifted(node)
    assert {*found} == {name} and told in found[name].reason
    with pytest.raises(NodeError):
        apply(node, NO_GPU, **GIVEN)


def test_a_kernel_that_was_upgraded_under_the_running_one_waits_for_a_reboot() -> None:
    node = converged()
    del node.files[f"/usr/lib/modules/{RUNNING}/pkgbase"]
    node.modules_of = {"6.99.1-arch1-1"}
    node.kernel("linux", "6.99.1-arch1-1")
    found = drifted(node)
    assert {*found} == {"kernels"} and [change.key for change in found["kernels"].changes] == [
        f"the kernel that runs, {RUNNING}"
    ]
    assert states(apply(node, NO_GPU, **GIVEN))["kernels"] == "drifted"


LOADED: dict[str, Any] = {
    "is_spark": False,
    "gpu": {"pci_addresses": ["0000:01:00.0"], "module_version": "595.58.03", "devices": []},
    "unknown": {},
}


def test_units_of_the_toolkit_are_used_where_it_brings_them() -> None:
    node = converged()
    node.units[PERSISTENCED]["ActiveState"] = "active"
    node.units[CDI_PATH] = node.unit(active="active", state="enabled")
    node.units[CDI_SERVICE] = node.unit(state="enabled")
    found = bad(node, LOADED)
    assert found["cdi"].blocked_by == f"nvidia_toolkit_confirm: [{CDI_BY_HAND}]"
    left = states(apply(node, LOADED, confirm=[CDI_BY_HAND]))
    assert CDI_BY_HAND not in node.files and "/run/cdi/nvidia.yaml" in node.files
    assert "drifted" not in left.values()


def test_with_the_driver_in_the_kernel_its_daemon_runs_and_the_specification_is_there() -> None:
    node = converged()
    del node.files[CDI_BY_HAND]
    assert {name for name, one in bad(node, LOADED).items() if one.state == "drifted"} == {"cdi", "persistence"}
    assert "drifted" not in states(apply(node, LOADED)).values()
    assert CDI_BY_HAND in node.files and node.units[PERSISTENCED]["ActiveState"] == "active"


def test_what_is_declared_and_arch_cannot_have_fails_with_why() -> None:
    node = converged()
    for given in ({"holds": ["nvidia-utils"]}, {"version": "1.18.2-1"}):
        with pytest.raises(NodeError, match="on Arch"):
            apply(node, NO_GPU, **GIVEN, **given)


def test_an_installation_that_fails_says_what_pacman_said() -> None:
    node = Arch()
    node.offered.clear()
    with pytest.raises(NodeError, match="target not found: nvidia-container-toolkit"):
        apply(node, NO_GPU, **GIVEN)
