# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel boots next, and what it would lack: the gate of a reboot."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import kernels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import Kernel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from nvidia_node import Node, kernel, menu


def node(*releases: str) -> Node:
    made = Node()
    for release in releases:
        kernel(made, release)
    return made


def test_the_first_entry_of_the_menu_boots_next_whatever_else_is_installed() -> None:
    made = node("7.0.0-1019-nvidia", "6.17.0-1014-nvidia")
    assert kernels.next_kernel(made) == Kernel("6.17.0-1014-nvidia", modules=True, image=True, initrd=True)
    made.put(kernels.MENU, menu("7.0.0-1019-nvidia", "6.17.0-1014-nvidia").replace("/boot/vmlinuz", "/vmlinuz"))
    found = kernels.next_kernel(made)
    assert isinstance(found, Kernel) and found.release == "7.0.0-1019-nvidia"


@pytest.mark.parametrize(
    ("default", "saved", "chosen"),
    [
        ("0", "", ""),
        ("0", "saved_entry=gnulinux-old\n", ""),  # kept, and not asked for
        ("${saved_entry}", "", ""),
        ("${saved_entry}", "saved_entry=0\n", ""),
        ("${saved_entry}", "saved_entry=gnulinux-old\n", "saved_entry=gnulinux-old in /boot/grub/grubenv"),
        ("1>2", "", 'default="1>2" in /boot/grub/grub.cfg'),
        ("Ubuntu, with Linux 6.11", "", 'default="Ubuntu, with Linux 6.11" in'),
        ("0", "# GRUB Environment Block\nnext_entry=gnulinux-old\n####", "next_entry=gnulinux-old in"),
    ],
)
def test_a_choice_of_the_administrator_is_not_guessed(default: str, saved: str, chosen: str) -> None:
    made = node("6.17.0-1014-nvidia")
    made.put(kernels.MENU, menu("6.17.0-1014-nvidia", default=default))
    made.put(kernels.ENVIRONMENT, saved)
    found = kernels.next_kernel(made)
    assert found.reason.startswith(chosen) if isinstance(found, Unknown) and chosen else isinstance(found, Kernel)
    assert isinstance(found, Unknown) == bool(chosen)


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
    made.put(kernels.MENU, menu("6.17.0-1014-nvidia"))
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
    assert kernels.next_kernel(Node()) == Unknown(f"there is no {kernels.MENU}: what boots next is not known here")
    made = node("6.17.0-1014-nvidia")
    made.put(kernels.MENU, "set timeout=0\n")
    assert kernels.next_kernel(made) == Unknown(f"{kernels.MENU} boots no kernel")
    made.unreadable.add(kernels.MENU)
    assert kernels.next_kernel(made) == Unknown(f"{kernels.MENU}: Permission denied")
