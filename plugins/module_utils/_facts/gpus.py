# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NVIDIA GPUs the kernel shows, whether their driver is there or not.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader

BUSES = "/sys/bus"
PCI = f"{BUSES}/pci/devices"


def is_gpu(device: str, read: Callable[[str], str | None]) -> bool:
    """Of NVIDIA, and a display controller: their network cards and audio functions are on the bus as well.

    A device may vanish between listing and reading: ConnectX-7 hot-plug does that.
    """
    of_nvidia = (read(f"{device}/vendor") or "").strip() == "0x10de"
    return of_nvidia and (read(f"{device}/class") or "").startswith("0x03")


def shown(reader: Reader) -> tuple[str, ...]:
    """What shows of GPUs, in words. Raises Unreadable where nobody can tell."""
    places = reader.listdir(PCI)
    # A kernel without PCI has no GPU on it; one whose /sys is not there shows nothing at all.
    if places is None and reader.stat(BUSES) is None:
        raise Unreadable(f"{BUSES} does not exist, so nobody can tell what this machine has")
    on_bus = [f"{place} on the PCI bus" for place in places or () if is_gpu(f"{PCI}/{place}", reader.read)]
    nodes = [f"/dev/{name}" for name in reader.listdir("/dev") or () if re.fullmatch(r"nvidia[0-9]+", name)]
    return (*sorted(on_bus), *sorted(nodes))
