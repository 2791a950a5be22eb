# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel boots next, and what it would lack: the gate of a reboot."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import kernels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import Kernel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from nvidia_node import Node, kernel


def node(*releases: str) -> Node:
    made = Node()
    for release in releases:
        kernel(made, release)
    return made


@pytest.mark.parametrize(
    ("releases", "highest"),
    [
        (("6.11.0-1016-nvidia", "6.17.0-1014-nvidia"), "6.17.0-1014-nvidia"),
        # By number and not by letter: 999 is before 1008.
        (("6.17.0-999-nvidia", "6.17.0-1008-nvidia"), "6.17.0-1008-nvidia"),
        (("7.0.0-1019-nvidia", "6.17.0-1032-nvidia"), "7.0.0-1019-nvidia"),
    ],
)
def test_the_highest_kernel_boots_next(releases: tuple[str, ...], highest: str) -> None:
    assert kernels.next_kernel(node(*releases)) == Kernel(highest, modules=True, image=True, initrd=True)


@pytest.mark.parametrize("value", ["saved", "1>2", '"Ubuntu, with Linux 6.11"'])
def test_a_choice_of_the_administrator_is_not_guessed(value: str) -> None:
    made = node("6.17.0-1014-nvidia")
    made.put("/etc/default/grub", f"GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DEFAULT={value}\n# GRUB_DEFAULT=0\n")
    assert isinstance(kernels.next_kernel(made), Unknown)
    made.put("/etc/default/grub", "#GRUB_DEFAULT=saved\nGRUB_DEFAULT='0'\n")
    assert not isinstance(kernels.next_kernel(made), Unknown)


def test_what_is_missing_is_said_by_name() -> None:
    made = node("6.17.0-1014-nvidia")
    made.modules_of.clear()
    made.put("/boot/initrd.img-6.17.0-1014-nvidia", "")
    made.files.pop("/boot/vmlinuz-6.17.0-1014-nvidia")
    made.put("/boot/vmlinuz-6.17.0-1014-nvidia", "")
    found = kernels.next_kernel(made)
    assert isinstance(found, Kernel) and found.gaps == ("nvidia.ko", "vmlinuz", "initrd")


def test_a_kernel_without_modules_at_all_lacks_them() -> None:
    made = Node()
    made.put("/boot/vmlinuz-6.17.0-1014-nvidia", "image")
    found = kernels.next_kernel(made)
    assert isinstance(found, Kernel) and found.gaps == ("nvidia.ko", "initrd")


GOOD = Kernel("6.17.0-1014-nvidia", True, True, True)


@pytest.mark.parametrize(
    ("running", "following", "gaps"),
    [
        (GOOD, GOOD, 0),
        (GOOD, Kernel("6.17.0-1008-nvidia", True, True, True), 1),
        # It runs already: a reboot makes nothing worse, and may be what ends it.
        (Kernel("6.17.0-1008-nvidia", True, True, True), Kernel("6.17.0-1008-nvidia", True, True, True), 0),
        # kernel_tuning gives it the parameter that it needs.
        (GOOD, Kernel("7.0.0-1019-nvidia", True, True, True), 0),
    ],
)
def test_no_reboot_into_a_kernel_that_is_known_to_be_bad(running: Kernel, following: Kernel, gaps: int) -> None:
    found = kernels.gate(running, following, ROWS)
    assert not isinstance(found, Unknown) and len(found) == gaps
    assert all("boot 6.17.0-1014-nvidia or newer" in gap for gap in found)


def test_where_nothing_can_be_seen_nothing_is_said() -> None:
    assert kernels.next_kernel(Node()) == Unknown("there is no kernel in /boot")
    made = node("6.17.0-1014-nvidia")
    made.unreadable.add("/boot")
    assert kernels.next_kernel(made) == Unknown("/boot: Permission denied")
    strange = node("6.17.0-1014-nvidia", "6.17 strange")
    assert isinstance(kernels.next_kernel(strange), Unknown)
