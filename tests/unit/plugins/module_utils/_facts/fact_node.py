# SPDX-License-Identifier: GPL-3.0-or-later
"""A node made of a dictionary, and a whole DGX Spark in that form."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import fact_shapes as shapes
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Stat


@dataclass
class FactNode:
    """A Reader. ``files`` and ``links`` by path; folders are what they imply; ``commands`` by their first words."""

    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    commands: dict[tuple[str, ...], Completed] = field(default_factory=dict)
    # Paths that answer as without root, also to everything below them.
    forbidden: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    root: bool = False
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def _resolve(self, path: str) -> str:
        """Follow links in the folders of ``path``, as the kernel does."""
        for link, target in self.links.items():
            if path.startswith(link + "/"):
                base = target if target.startswith("/") else f"{link.rpartition('/')[0]}/{target}"
                parts: list[str] = []
                for part in base.split("/"):
                    if part == "..":
                        parts.pop()
                    elif part:
                        parts.append(part)
                return self._resolve("/" + "/".join(parts) + path[len(link) :])
        return path

    def _check(self, path: str) -> None:
        if any(path == p or path.startswith(p + "/") for p in self.forbidden):
            raise Unreadable(f"{path}: Permission denied")

    def run(
        self, argv: Sequence[str], *, timeout: float = 10.0, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Completed:
        self.ran.append(tuple(argv))
        found = [done for words, done in self.commands.items() if tuple(argv[: len(words)]) == words]
        return found[-1] if found else Completed(tuple(argv), None, "", "", "No such file or directory")

    def answer(self, *words: str, out: str = "", err: str = "", rc: int | None = 0, problem: str = "") -> None:
        self.files.setdefault(words[0], "")
        self.commands[words] = Completed(words, rc, out, err, problem)

    def read(self, path: str) -> str | None:
        path = self._resolve(path)
        self._check(path)
        return self.files.get(path)

    def stat(self, path: str) -> Stat | None:
        path = self._resolve(path)
        uid = 1000 if path in self.foreign else 0
        if path in self.links:
            return Stat("link", 0o777, uid, 0)
        if path in self.files:
            return Stat("file", 0o755, uid, 0)
        return Stat("directory", 0o755, 0, 0) if self._children(path) else None

    def _children(self, path: str) -> set[str]:
        base = path.rstrip("/") + "/"
        return {known[len(base) :].split("/")[0] for known in (*self.files, *self.links) if known.startswith(base)}

    def listdir(self, path: str) -> tuple[str, ...] | None:
        path = self._resolve(path if path not in self.links else path + "/.")
        path = path.removesuffix("/.")
        self._check(path)
        return tuple(sorted(self._children(path))) or None

    def readlink(self, path: str) -> str | None:
        return self.links.get(self._resolve(path))

    def user(self, name: str) -> None:
        return None

    def group(self, name: str) -> None:
        return None

    def user_name(self, uid: int) -> str:
        return str(uid)

    def group_name(self, gid: int) -> str:
        return str(gid)

    def is_root(self) -> bool:
        return self.root


def auxv(page: int) -> str:
    raw = struct.pack("@LLLLLL", 16, 0x123, 6, page, 0, 0)
    return raw.decode("utf-8", "surrogateescape")


def spark() -> FactNode:
    """A Spark with one cable in port 0, a USB enclosure that fell back to USB 2, and a serving engine."""
    node = FactNode()
    node.files.update(
        {
            "/sys/class/dmi/id/sys_vendor": "NVIDIA\n",
            "/sys/class/dmi/id/product_name": "NVIDIA_DGX_Spark\n",
            "/sys/class/dmi/id/product_version": "A.7\n",
            "/sys/class/dmi/id/product_family": "DGX Spark\n",
            "/sys/class/dmi/id/board_vendor": "NVIDIA\n",
            "/sys/class/dmi/id/board_name": "P4242\n",
            "/sys/class/dmi/id/bios_vendor": "AMI\n",
            "/sys/class/dmi/id/bios_version": "5.36_0ACUM027\n",
            "/sys/class/dmi/id/bios_date": "06/12/2026\n",
            "/sys/class/dmi/id/product_serial": "SECRET-SERIAL\n",
            "/proc/cmdline": shapes.CMDLINE,
            "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory dmem\n",
            "/etc/os-release": shapes.OS_RELEASE,
            "/etc/debian_version": "trixie/sid\n",
            "/etc/dgx-release": shapes.DGX_RELEASE.replace("Not Specified", "SECRET-SERIAL"),
            "/opt/nvidia/spark-ota-check/metadata/spark-ota-2604.json": shapes.RECIPE,
            "/run/dbus/system_bus_socket": "",
            "/sys/bus/pci/devices/000f:01:00.0/vendor": "0x10de\n",
            "/sys/bus/pci/devices/000f:01:00.0/class": "0x030000\n",
            "/sys/bus/pci/devices/0000:01:00.0/vendor": "0x15b3\n",
            "/proc/driver/nvidia/version": shapes.MODULE_VERSION,
            "/proc/driver/nvidia/gpus/000f:01:00.0/information": shapes.GPU_INFORMATION,
            "/dev/nvidiactl": "",
            "/dev/nvidia0": "",
            "/usr/local/cuda-13.0/version.json": shapes.CUDA_JSON,
            "/usr/local/cuda-13.0/bin/nvcc": "",
            "/proc/cpuinfo": shapes.CPUINFO,
            "/sys/devices/system/cpu/online": "0-19\n",
            "/sys/devices/system/node/online": "0\n",
            "/proc/meminfo": shapes.MEMINFO,
            "/proc/self/auxv": auxv(4096),
            "/proc/pressure/memory": shapes.PRESSURE,
            "/proc/buddyinfo": shapes.BUDDYINFO,
            "/proc/swaps": shapes.SWAPS,
            "/proc/net/tcp": shapes.TCP,
            "/proc/net/tcp6": shapes.TCP6,
            "/proc/self/mountinfo": shapes.MOUNTINFO,
            "/etc/nvidia/cx7-hotplug-enabled": "",
            "/sys/devices/platform/MTKP0001:00/pcie_hotplug/hotplug_enabled": "1\n",
            "/sys/devices/platform/MTKP0001:00/pcie_hotplug/debug_state": "1\n",
            "/sys/firmware/efi/esrt/entries/entry0/fw_class": "00000000-0000-0000-0000-000000000001\n",
            "/sys/firmware/efi/esrt/entries/entry0/fw_version": f"{0x02009B0B}\n",
            "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": shapes.SECURE_BOOT_ON,
            "/sys/firmware/dmi/tables/DMI": "",
            "/sys/class/nvme/nvme0/model": "MODEL 4TB       \n",
            "/sys/class/nvme/nvme0/firmware_rev": "FW1234  \n",
            "/etc/docker/daemon.json": shapes.DAEMON_JSON,
            "/run/cdi/nvidia.yaml": shapes.CDI_YAML,
            "/sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
            "/sys/kernel/security/lsm": "lockdown,capability,landlock,yama,apparmor\n",
            "/sys/module/apparmor/parameters/enabled": "Y\n",
            "/etc/ufw/ufw.conf": "# comment\nENABLED=no\nLOGLEVEL=low\n",
            "/run/reboot-required": "*** System restart required ***\n",
            "/run/reboot-required.pkgs": "linux-image-nvidia-hwe-24.04\nlibc6\nlibc6\n",
        }
    )
    node.links["/usr/local/cuda"] = "/etc/alternatives/cuda"
    node.links["/etc/alternatives/cuda"] = "/usr/local/cuda-13.0"
    for number in range(20):
        base = f"/sys/devices/system/cpu/cpu{number}/topology"
        first = number // 10 * 10
        node.files[f"{base}/package_cpus_list"] = "0-19\n"
        node.files[f"{base}/cluster_cpus_list"] = f"{first}-{first + 9}\n"
        node.files[f"{base}/core_cpus_list"] = f"{number}\n"
    for first, mhz in ((0, 2860000), (10, 3900000)):
        base = f"/sys/devices/system/cpu/cpufreq/policy{first}"
        node.files[f"{base}/related_cpus"] = " ".join(str(first + i) for i in range(10)) + "\n"
        node.files[f"{base}/scaling_driver"] = "cppc_cpufreq\n"
        node.files[f"{base}/scaling_governor"] = "performance\n"
        node.files[f"{base}/cpuinfo_max_freq"] = f"{mhz}\n"
    for index, (name, pci, rdma, up) in enumerate(
        (
            ("enp1s0f0np0", "0000:01:00.0", "rocep1s0f0", True),
            ("enp1s0f1np1", "0000:01:00.1", "rocep1s0f1", False),
            ("enP2p1s0f0np0", "0002:01:00.0", "roceP2p1s0f0", True),
            ("enP2p1s0f1np1", "0002:01:00.1", "roceP2p1s0f1", False),
        )
    ):
        device = f"/sys/devices/pci{pci[:7]}/{pci}"
        _nic(node, name, device, index, up=up, speed=200000 if up else -1, mtu=9000 if up else 1500, driver="mlx5_core")
        _rdma(node, rdma, name, device, index, up=up)
    _nic(node, "enP7s7", "/sys/devices/pci0007:01/0007:01:00.0", 7, up=True, speed=10000, mtu=1500, driver="r8127")
    node.files["/sys/module/r8127/version"] = "11.014.00-NAPI\n"
    for name in ("lo", "docker0", "tailscale0"):
        base = f"/sys/devices/virtual/net/{name}"
        node.links[f"/sys/class/net/{name}"] = f"../../devices/virtual/net/{name}"
        node.files[f"{base}/mtu"] = "1500\n"
        node.files[f"{base}/operstate"] = "unknown\n"
        node.files[f"{base}/address"] = "\n" if name == "tailscale0" else "02:00:00:00:00:aa\n"
    node.files["/sys/class/net/bonding_masters"] = "\n"
    _disks(node)
    smi = "/usr/bin/nvidia-smi"
    node.answer(smi, out=shapes.TABLE)
    node.answer(smi, "--query-compute-apps=pid,process_name,used_memory", out=shapes.COMPUTE_APPS)
    query = (
        "--query-gpu=index,name,pci.bus_id,driver_version,compute_cap,persistence_mode,pstate,temperature.gpu,power.draw,"
        "clocks.current.graphics,clocks.max.graphics,utilization.gpu,memory.total,vbios_version"
    )
    node.answer(smi, query, out=shapes.QUERY_GPU)
    node.answer("/usr/local/cuda-13.0/bin/nvcc", "--version", out=shapes.NVCC)
    node.answer("/usr/bin/busctl", "--system", "--no-pager", "--auto-start=no", out=shapes.OTA_SNAPSHOT)
    node.answer("/usr/bin/docker", "--version", out="Docker version 29.2.1, build a5c7197\n")
    node.answer("/usr/bin/containerd", "--version", out="containerd containerd.io v2.2.1 dea7da592f5d\n")
    node.answer("/usr/bin/nvidia-ctk", "--version", out="NVIDIA Container Toolkit CLI version 1.20.1\ncommit: 0\n")
    node.answer("/usr/bin/dpkg-query", "--show", out=shapes.DPKG, err="no packages found matching runc", rc=1)
    node.answer("/usr/sbin/dmidecode", "-t", "45", out=shapes.DMIDECODE_45)
    node.answer("/usr/bin/fwupdmgr", "get-devices", out=shapes.FWUPD)
    return node


def _nic(node: FactNode, name: str, device: str, index: int, *, up: bool, speed: int, mtu: int, driver: str) -> None:
    base = f"{device}/net/{name}"
    node.links[f"/sys/class/net/{name}"] = base
    node.links[f"{base}/device"] = f"../../../{device.rpartition('/')[2]}"
    node.links[f"{device}/driver"] = f"/sys/bus/pci/drivers/{driver}"
    node.links[f"/sys/bus/pci/drivers/{driver}/module"] = f"/sys/module/{driver}"
    node.files.update(
        {
            f"{base}/mtu": f"{mtu}\n",
            f"{base}/operstate": "up\n" if up else "down\n",
            f"{base}/address": f"02:00:00:00:00:{index:02x}\n",
            f"{base}/flags": "0x1003\n",
            f"{base}/carrier": "1\n" if up else "0\n",
            f"{base}/speed": f"{speed}\n",
            f"{device}/vendor": "0x15b3\n" if driver == "mlx5_core" else "0x10ec\n",
            f"{device}/device": "0x1021\n" if driver == "mlx5_core" else "0x8127\n",
            f"{device}/current_link_speed": "32.0 GT/s PCIe\n",
            f"{device}/current_link_width": "4\n",
            f"{device}/max_link_speed": "32.0 GT/s PCIe\n",
            f"{device}/max_link_width": "4\n",
        }
    )


def _rdma(node: FactNode, rdma: str, netdev: str, device: str, index: int, *, up: bool) -> None:
    base = f"/sys/class/infiniband/{rdma}"
    node.links[f"{base}/device"] = device
    port = f"{base}/ports/1"
    node.files.update(
        {
            f"{base}/fw_ver": "28.45.4028\n",
            f"{base}/board_id": "NVD0000000087\n",
            f"{port}/state": "4: ACTIVE\n" if up else "1: DOWN\n",
            f"{port}/phys_state": "5: LinkUp\n" if up else "3: Disabled\n",
            f"{port}/rate": "200 Gb/sec (4X HDR)\n" if up else "40 Gb/sec (4X QDR)\n",
            f"{port}/link_layer": "Ethernet\n",
            f"{port}/gids/0": f"fe80:0000:0000:0000:0000:00ff:fe00:000{index}\n",
            f"{port}/gid_attrs/types/0": "IB/RoCE v1\n",
            f"{port}/gids/2": "0000:0000:0000:0000:0000:0000:0000:0000\n",
        }
    )
    if up:
        node.files[f"{port}/gids/3"] = f"0000:0000:0000:0000:0000:ffff:c000:02{index:02x}\n"
        node.files[f"{port}/gid_attrs/types/3"] = "RoCE v2\n"
        node.files[f"{port}/gids/10"] = "fd00:0000:0000:0000:0000:0000:0000:0001\n"
        node.files[f"{port}/gid_attrs/types/10"] = "RoCE v2\n"


def _disks(node: FactNode) -> None:
    nvme = "/sys/devices/pci0004:00/0004:01:00.0/nvme/nvme0/nvme0n1"
    usb = "/sys/devices/pci0005:00/usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0/block/sda"
    node.links["/sys/block/nvme0n1"] = "../devices/pci0004:00/0004:01:00.0/nvme/nvme0/nvme0n1"
    node.links["/sys/block/sda"] = "../devices/pci0005:00/usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0/block/sda"
    node.links["/sys/block/loop0"] = "../devices/virtual/block/loop0"
    for base, number, size in ((nvme, "259:0", 7814037168), (usb, "8:0", 3907029168)):
        part, minor = (f"{base}/nvme0n1p2", "259:2") if base == nvme else (f"{base}/sda1", "8:1")
        for path, dev, sectors in ((base, number, size), (part, minor, 2048)):
            node.files[f"{path}/dev"] = f"{dev}\n"
            node.files[f"{path}/size"] = f"{sectors}\n"
            node.files[f"{path}/ro"] = "0\n"
        node.files[f"{part}/partition"] = "1\n"
        node.files[f"{base}/queue/rotational"] = "0\n"
        node.files[f"{base}/removable"] = "0\n"
        node.files[f"{base}/device/model"] = "MODEL 4TB       \n"
    node.files["/sys/devices/pci0005:00/usb2/2-1/speed"] = "480\n"
    node.files["/run/udev/data/b8:0"] = shapes.UDEV_DISK
    node.files["/run/udev/data/b8:1"] = shapes.UDEV_PART
    node.files["/run/udev/data/b259:0"] = "E:ID_PART_TABLE_TYPE=gpt\n"
    node.links["/dev/disk/by-id/usb-Enclosure_1234-0:0"] = "../../sda"
    node.links["/dev/disk/by-id/usb-Enclosure_1234-0:0-part1"] = "../../sda1"
    node.links["/dev/disk/by-id/nvme-MODEL_5678"] = "../../nvme0n1"
