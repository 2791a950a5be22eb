# SPDX-License-Identifier: GPL-3.0-or-later
"""Network cards, RDMA devices, listening sockets, disks.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.look import Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node, NotKnown, Unknown, learn
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import disks as parse_disks
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import network as parse_network
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.nvidia import pci_address
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import (
    hexadecimal,
    integer,
    number,
    switch,
)

NET = "/sys/class/net"
RDMA = "/sys/class/infiniband"
HOTPLUG = "/sys/devices/platform/MTKP0001:00/pcie_hotplug"
HOTPLUG_FLAG = "/etc/nvidia/cx7-hotplug-enabled"
BLOCK = "/sys/block"
BY_ID = "/dev/disk/by-id"
# A host of many containers has hundreds of virtual interfaces; they are counted, not listed.
MAX_VIRTUAL = 64
NOT_DISKS = re.compile(r"(loop|ram|zram|sr|fd)[0-9]+")


Interface = Mapping[str, Node]


def network(look: Look) -> dict[str, Node]:
    rdma = learn(_rdma, look)
    interfaces = learn(_interfaces, look, {} if isinstance(rdma, Unknown) else _owners(rdma))
    return {
        "interfaces": interfaces if isinstance(interfaces, Unknown) else _listed(interfaces),
        "virtual_interfaces_left_out": interfaces if isinstance(interfaces, Unknown) else _left_out(interfaces),
        "rdma_devices": rdma,
        "connectx": {
            "ports": interfaces if isinstance(interfaces, Unknown) else _ports(interfaces),
            "hotplug_configured": learn(look.exists, HOTPLUG_FLAG),
            "hotplug_enabled": learn(_switch, look, f"{HOTPLUG}/hotplug_enabled"),
            "cable_present": learn(_switch, look, f"{HOTPLUG}/debug_state"),
        },
        "tcp_listeners": learn(_listeners, look),
    }


def _switch(look: Look, path: str) -> bool:
    return switch(path, look.text(path))


def _integer(look: Look, path: str) -> int:
    return integer(path, look.text(path))


def _gts(look: Look, path: str) -> float:
    return parse_network.pcie_speed_gts(look.text(path))


def _owners(rdma: Mapping[str, Mapping[str, Node]]) -> dict[str, str]:
    """Network interface → its RDMA device."""
    owners: dict[str, str] = {}
    for device, facts in rdma.items():
        names = facts["netdevs"]
        if isinstance(names, list):
            owners.update(dict.fromkeys(names, device))
    return owners


def _listed(interfaces: Mapping[str, Interface]) -> dict[str, Interface]:
    virtual = [name for name, facts in interfaces.items() if not facts["physical"]]
    hidden = set(virtual[MAX_VIRTUAL:])
    return {name: facts for name, facts in interfaces.items() if name not in hidden}


def _left_out(interfaces: Mapping[str, Interface]) -> int:
    return len(interfaces) - len(_listed(interfaces))


def _interfaces(look: Look, owners: Mapping[str, str]) -> dict[str, Interface]:
    found: dict[str, Interface] = {}
    for name in look.names(NET):
        link = look.stat(f"{NET}/{name}")
        # bonding_masters is a file among the links.
        if name != "lo" and link is not None and link.kind == "link":
            found[name] = _interface(look, name, owners.get(name))
    return found


def _interface(look: Look, name: str, rdma: Node) -> dict[str, Node]:
    base = f"{NET}/{name}"
    device = look.exists(f"{base}/device")
    facts: dict[str, Node] = {
        "physical": device,
        "mtu": learn(_integer, look, f"{base}/mtu"),
        "state": learn(look.line, f"{base}/operstate"),
        # Empty on tunnels.
        "mac": learn(lambda: look.line(f"{base}/address") or None),
        "master": learn(lambda: look.target_name(f"{base}/master") if look.exists(f"{base}/master") else None),
    }
    if not device:
        return facts
    address = learn(_pci_address, look, f"{base}/device")
    facts["carrier"] = learn(_carrier, look, base)
    facts["speed_mbps"] = learn(_speed, look, base)
    facts["wireless"] = look.exists(f"{base}/phy80211")
    facts["driver"] = learn(look.target_name, f"{base}/device/driver")
    facts["driver_version"] = learn(lambda: (look.maybe(f"{base}/device/driver/module/version") or "").strip() or None)
    facts["pci_address"] = address
    facts["rdma_device"] = rdma
    if not isinstance(address, Unknown):
        facts["pci_id"] = learn(
            lambda: ":".join(look.line(f"{base}/device/{n}").removeprefix("0x") for n in ("vendor", "device"))
        )
        facts["pcie_link"] = {
            "speed_gts": learn(_gts, look, f"{base}/device/current_link_speed"),
            "width": learn(_integer, look, f"{base}/device/current_link_width"),
            "speed_max_gts": learn(_gts, look, f"{base}/device/max_link_speed"),
            "width_max": learn(_integer, look, f"{base}/device/max_link_width"),
        }
    return facts


def _pci_address(look: Look, path: str) -> str:
    name = look.target_name(path)
    if ":" not in name:
        raise NotKnown(f"{name} is not a PCI device")
    return pci_address(name)


def _up(look: Look, base: str) -> bool:
    return bool(hexadecimal("interface flags", look.text(f"{base}/flags")) & 1)


def _carrier(look: Look, base: str) -> bool:
    # An interface that is down answers this file with an error.
    if not _up(look, base):
        raise NotKnown("the interface is down")
    return switch("carrier", look.text(f"{base}/carrier"))


def _speed(look: Look, base: str) -> int:
    """What the link negotiated. A ConnectX-7 that is capped to 13 Gb/s still says 200000 here."""
    if not _carrier(look, base):
        raise NotKnown("there is no link")
    speed = integer("speed", look.text(f"{base}/speed"))
    if speed <= 0:
        raise NotKnown("the driver does not tell the speed")
    return speed


def _ports(interfaces: Mapping[str, Interface]) -> dict[str, list[str]]:
    """Physical port → its PCIe functions. On a GB10 each port has two, in different PCI domains.

    The function number of the PCI address is the port: …:01:00.0 of both domains is port 0.
    """
    ports: dict[str, list[str]] = {}
    for name, facts in interfaces.items():
        address = facts.get("pci_address")
        if facts.get("driver") == "mlx5_core" and isinstance(address, str):
            ports.setdefault(address[-1], []).append(name)
    return dict(sorted(ports.items()))


def _rdma(look: Look) -> dict[str, dict[str, Node]]:
    found: dict[str, dict[str, Node]] = {}
    for name in look.names_if_any(RDMA) or ():
        base = f"{RDMA}/{name}"
        found[name] = {
            "netdevs": learn(_names, look, f"{base}/device/net"),
            "firmware": learn(look.line, f"{base}/fw_ver"),
            "board_id": learn(look.line, f"{base}/board_id"),
            "ports": learn(_rdma_ports, look, f"{base}/ports"),
        }
    return found


def _names(look: Look, path: str) -> list[str]:
    return list(look.names(path))


def _rdma_ports(look: Look, base: str) -> dict[str, Interface]:
    return {name: _rdma_port(look, f"{base}/{name}") for name in look.names(base)}


def _rdma_port(look: Look, base: str) -> dict[str, Node]:
    gids = learn(_gids, look, base)
    return {
        "state": learn(lambda: parse_network.state(look.text(f"{base}/state"))),
        "physical_state": learn(lambda: parse_network.state(look.text(f"{base}/phys_state"))),
        "link_layer": learn(lambda: look.line(f"{base}/link_layer")),
        "rate_gbps": learn(lambda: parse_network.rate_gbps(look.text(f"{base}/rate"))),
        "gids": gids,
        "roce_v2_ipv4_gid_index": gids if isinstance(gids, Unknown) else roce_v2_ipv4_index(gids),
    }


def _gids(look: Look, base: str) -> list[dict[str, Node]]:
    indexes = sorted(int(name) for name in look.names(f"{base}/gids") if re.fullmatch(r"[0-9]{1,4}", name, re.ASCII))
    found: list[dict[str, Node]] = []
    for index in indexes:
        slot = parse_network.gid(look.text(f"{base}/gids/{index}"))
        if slot is not None:
            gid, ipv4 = slot
            kind = learn(_gid_type, look, f"{base}/gid_attrs/types/{index}")
            found.append({"index": index, "gid": gid, "ipv4": ipv4, "type": kind})
    return found


def _gid_type(look: Look, path: str) -> str:
    return parse_network.gid_type(look.text(path))


def roce_v2_ipv4_index(gids: list[dict[str, Node]]) -> Node:
    """The index NCCL is to use: usually 3, but 4 or 5 on some kits. None without an IPv4 address."""
    return next((gid["index"] for gid in gids if gid["type"] == "RoCE v2" and gid["ipv4"]), None)


def _listeners(look: Look) -> list[dict[str, Node]]:
    found = parse_network.listeners(look.text("/proc/net/tcp"))
    v6 = look.maybe("/proc/net/tcp6")
    return found + (parse_network.listeners(v6) if v6 is not None else [])


def storage(look: Look) -> dict[str, Node]:
    by_id = learn(_by_id, look)
    mounted = learn(lambda: parse_disks.mounts(look.text("/proc/self/mountinfo")))
    return {
        "disks": learn(
            lambda: {
                name: _disk(look, name, by_id, mounted) for name in look.names(BLOCK) if not NOT_DISKS.fullmatch(name)
            }
        )
    }


Names: TypeAlias = "Mapping[str, list[str]] | Unknown"


def _by_id(look: Look) -> dict[str, list[str]]:
    """Kernel name → its stable names. They hold serial numbers: arrays are declared by them."""
    found: dict[str, list[str]] = {}
    for name in look.names(BY_ID):
        target = learn(look.target_name, f"{BY_ID}/{name}")
        if isinstance(target, str):
            found.setdefault(target, []).append(name)
    return found


def _disk(look: Look, name: str, by_id: Names, mounted: Names) -> dict[str, Node]:
    base = f"{BLOCK}/{name}"
    path = learn(lambda: look.target(base))
    facts = {
        **_volume(look, base, name, by_id, mounted, whole=True),
        "model": learn(lambda: look.line(f"{base}/device/model")) if look.exists(f"{base}/device/model") else None,
        "rotational": learn(_switch, look, f"{base}/queue/rotational"),
        "removable": learn(_switch, look, f"{base}/removable"),
        "bus": path if isinstance(path, Unknown) else _bus(path),
        "usb_speed_mbps": path if isinstance(path, Unknown) else learn(_usb_speed, look, path),
        "members": learn(lambda: list(look.names_if_any(f"{base}/slaves") or ())),
    }
    parts = [n for n in look.names_if_any(base) or () if n.startswith(name) and look.exists(f"{base}/{n}/partition")]
    facts["partitions"] = {n: _volume(look, f"{base}/{n}", n, by_id, mounted, whole=False) for n in parts}
    return facts


def _volume(look: Look, base: str, name: str, by_id: Names, mounted: Names, *, whole: bool) -> dict[str, Node]:
    number_ = learn(lambda: parse_disks.device_number(look.text(f"{base}/dev")))
    udev = number_ if isinstance(number_, Unknown) else learn(_udev, look, number_)
    facts: dict[str, Node] = {
        # The kernel counts in units of 512 bytes whatever the disk's own sectors are.
        "size_bytes": learn(lambda: _integer(look, f"{base}/size") * 512),
        "read_only": learn(_switch, look, f"{base}/ro"),
        "by_id": by_id if isinstance(by_id, Unknown) else sorted(by_id.get(name, [])),
        "filesystem": udev if isinstance(udev, Unknown) else udev.get("ID_FS_TYPE") or None,
        "label": udev if isinstance(udev, Unknown) else udev.get("ID_FS_LABEL") or None,
        "mounted_on": _mounted(mounted, number_),
        "used_by": learn(lambda: list(look.names_if_any(f"{base}/holders") or ())),
    }
    if whole:
        # udev repeats the disk's own partition table in the record of each partition.
        facts["partition_table"] = udev if isinstance(udev, Unknown) else udev.get("ID_PART_TABLE_TYPE") or None
    return facts


def _udev(look: Look, number_: str) -> dict[str, str]:
    text = look.maybe(f"/run/udev/data/b{number_}")
    if text is None:
        raise NotKnown("udev has no record of this device")
    return parse_disks.udev_properties(text)


def _mounted(mounted: Names, number_: str | Unknown) -> Node:
    if isinstance(mounted, Unknown):
        return mounted
    return number_ if isinstance(number_, Unknown) else mounted.get(number_, [])


def _bus(path: str) -> str:
    for word, bus in (
        ("/usb", "usb"),
        ("/nvme", "nvme"),
        ("/ata", "sata"),
        ("/virtio", "virtio"),
        ("/virtual/", "virtual"),
    ):
        if word in path:
            return bus
    return "other"


def _usb_speed(look: Look, path: str) -> float | None:
    """The speed of the USB device above the disk; None for a disk that hangs on no USB.

    480 for an enclosure that can do 10000 means it fell back to USB 2 at this boot.
    """
    parts = path.replace("../", "/sys/", 1).replace("//", "/").split("/")
    # The nearest folder that is a USB device (2-1, 2-1.4), not one of its interfaces (2-1:1.0).
    for depth in range(len(parts), 0, -1):
        if re.fullmatch(r"[0-9]{1,3}-[0-9.]{1,20}", parts[depth - 1], re.ASCII):
            return number("USB speed", look.text("/".join([*parts[:depth], "speed"])))
    return None
