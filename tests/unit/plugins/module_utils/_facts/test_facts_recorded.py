# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs recorded on real GB10 machines give the truth that their index states.

They stand beside the repository (../shared/fixtures/recorded) and not in it. Each recorded
file is either read here by the parser that serves the same fact on a node, or belongs to a
folder or file that is named below with the reason why spark_facts takes nothing from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.data import SPARK_GPU, twin
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import (
    containers,
    cpu,
    dgx,
    firmware,
    memory,
    network,
    nvidia,
    system,
    text,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.subjects.connected import roce_v2_ipv4_index
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.versions import judged_versions
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS

RECORDED = Path(__file__).resolve().parents[6] / "shared" / "fixtures" / "recorded"
MIB, KIB = 1 << 20, 1 << 10
GIB = 1 << 30

SYSFS_NET = "the same facts come from /sys/class/net"
SYSFS_RDMA = "the same facts come from /sys/class/infiniband"
SYSFS_BLOCK = "the same facts come from /sys/block and udev's database"
MEMINFO = "the same facts come from /proc/meminfo and /proc/swaps"
TORCH = "says what a Python environment sees; no fact of the node"
MEASURED = "a measurement that loads the machine; facts measure nothing"
NOT_READ = "no fact is taken from it"
# Folders from which spark_facts takes nothing, and why.
LEFT_OUT = {
    "apt": "pending updates and holds belong to the updates role; only /run/reboot-required is a fact",
    "buddyinfo": "a table of sums, not the format of /proc/buddyinfo",
    "collect-env": TORCH,
    "cuda-probe": "a CUDA program: it would allocate GPU memory",
    "df": NOT_READ,
    "dmesg": "the kernel log is not read: it needs root and its lines are no state",
    "docker-info": "asks the daemon, which a socket unit would start",
    "dpkg-l": "dpkg-query prints the same without cutting names",
    "ethtool": SYSFS_NET,
    "ethtool-i": SYSFS_NET,
    "fastfetch": NOT_READ,
    "fdisk": SYSFS_BLOCK,
    "free": MEMINFO,
    "gpud": NOT_READ,
    "ib_write_bw": MEASURED,
    "ibdev2netdev": SYSFS_RDMA,
    "ibstat": SYSFS_RDMA,
    "ibv_devices": SYSFS_RDMA,
    "ibv_devinfo": SYSFS_RDMA,
    "id": NOT_READ,
    "ip-addr": SYSFS_NET,
    "ip-br-addr": SYSFS_NET,
    "ip-br-link": SYSFS_NET,
    "ip-link": SYSFS_NET,
    "iptables": "reading live rules loads kernel modules",
    "k8s": NOT_READ,
    "llama-cpp": MEASURED,
    "lsb-release": "/etc/os-release says the same",
    "lsblk": SYSFS_BLOCK,
    "lscpu": "the same facts come from /proc/cpuinfo and /sys/devices/system/cpu",
    "lspci": "the same facts come from /sys/bus/pci",
    "mlxfwmanager": "never run: it queries the firmware of a network card",
    "mstflint": "never run: it can crash the kernel after a hot-plug",
    "nccl-log": MEASURED,
    "nccl-tests": MEASURED,
    "netplan": NOT_READ,
    "netstat-i": SYSFS_NET,
    "nmcli": NOT_READ,
    "nvidia-smi-L": "holds nothing but the name, which the query gives, and the UUID, which is not returned",
    "nvidia-smi-lgc": "changes clocks; never run",
    "nvidia-smi-q": "the query and the table give the same facts",
    "nvidia-smi-topo": NOT_READ,
    "nvidia-smi-version": "the table gives the same versions",
    "nvidia-smi-xml": "the query and the table give the same facts",
    "nvme": "identify commands need root; model and firmware come from /sys/class/nvme",
    "nvml": "nvidia-smi is the way to NVML",
    "ollama": NOT_READ,
    "ptxas": "belongs to the module that tests ptxas",
    "ray": NOT_READ,
    "rdma-link": SYSFS_RDMA,
    "soak": MEASURED,
    "sparkrun": NOT_READ,
    "ss": "the same facts come from /proc/net/tcp",
    "swapon": MEMINFO,
    "systemd": NOT_READ,
    "temps": "a probe's own format",
    "top": MEMINFO,
    "torch": TORCH,
    "ufw": "ufw status needs root and loads kernel modules; /etc/ufw/ufw.conf says what is configured",
    "vllm-log": NOT_READ,
    "vmstat": MEMINFO,
}
# Single files of folders that are read otherwise.
FILES_LEFT_OUT = {
    "docker/server-version-only.txt": "asks the daemon, which a socket unit would start",
    "docker/version-29.6.2-community.txt": "asks the daemon, which a socket unit would start",
    "fwupd/version.txt": NOT_READ,
    "nvidia-smi-query-gpu/telemetry-series.txt": "columns of a benchmark, not of nvidia-smi",
    "ota-check/installed-name-2604.txt": "output of NVIDIA's checker, which may install packages; never run",
    "ota-check/is-ota-available-false.txt": "output of NVIDIA's checker, which may install packages; never run",
    "ota-check/is-ota-available-true.txt": "output of NVIDIA's checker, which may install packages; never run",
    "ota-check/summary-two-entries.txt": "output of NVIDIA's checker, which may install packages; never run",
    "ota-check/torn-score-1.txt": "output of NVIDIA's checker, which may install packages; never run",
    "ota-check/torn-score-json.txt": "output of NVIDIA's checker, which may install packages; never run",
}

Read = Callable[[str], Any]


# nvidia-smi ----------------------------------------------------------------------------------


def smi(driver: str, celsius: int, state: str, watts: int, processes: object, persistence: bool = True) -> Read:
    def check(recorded: str) -> None:
        table: Any = nvidia.table(recorded)
        assert (table["driver_version"], table["cuda_driver_version"]) == (driver, "13.0")
        (gpu,) = table["devices"]
        assert gpu == {
            "index": 0,
            "name": SPARK_GPU,
            "persistence_mode": persistence,
            "pci_address": "000f:01:00.0",
            "temperature_celsius": celsius,
            "performance_state": state,
            "power_watts": watts,
            "memory_total_bytes": None,
            "utilization_percent": 0,
        }
        if isinstance(processes, type):
            assert isinstance(table["processes"], processes)
        else:
            assert [
                (row["pid"], row["type"], row["name"], row["memory_bytes"] // MIB) for row in table["processes"]
            ] == processes

    return check


def smi_rows(recorded: str) -> None:
    banner = "| NVIDIA-SMI 580.142                Driver Version: 580.142        CUDA Version: 13.0     |\n"
    processes: Any = nvidia.table(banner + recorded)["processes"]
    assert [(row["pid"], row["memory_bytes"] // MIB) for row in processes] == [
        (3821, 166),
        (3963, 179),
        (4862, 587),
        (12599, 32),
    ]
    assert processes[2]["name"] == ".../7965/usr/lib/firefox/firefox"


def smi_no_devices(recorded: str) -> None:
    assert nvidia.complaint(recorded) == "No devices were found"
    with pytest.raises(ParseError):
        nvidia.table(recorded)


KINDS = {
    "name": "text",
    "gpu_name": "text",
    "compute_cap": "text",
    "pstate": "text",
    "driver_version": "version",
    "pci.bus_id": "pci",
    "memory.total": "mib",
    "memory.used": "mib",
    "memory.free": "mib",
}


def query(expected: dict[str, object], columns: str = "") -> Read:
    """By the columns named in the index, or by the header of the file."""

    def check(recorded: str) -> None:
        head, _newline, body = recorded.partition("\n")
        names = (columns or re.sub(r" \[[^]]*\]", "", head)).replace(" ", "").split(",")
        asked = [nvidia.Column(name, name, KINDS.get(name, "number")) for name in names]
        assert nvidia.query_gpu(recorded if columns else body, asked) == [expected]

    return check


def apps(expected: list[tuple[int, str, int]], *, header: bool = False, uuid: bool = False) -> Read:
    def check(recorded: str) -> None:
        body = recorded.partition("\n")[2] if header else recorded
        body = body.partition(", ")[2] if uuid else body
        assert nvidia.compute_apps(body) == [
            {"pid": pid, "name": name, "memory_bytes": mib * MIB} for pid, name, mib in expected
        ]

    return check


# the rest ------------------------------------------------------------------------------------


def equals(parse: Read, expected: object) -> Read:
    def check(recorded: str) -> None:
        assert parse(recorded) == expected

    return check


def has(parse: Read, expected: dict[str, object]) -> Read:
    def check(recorded: str) -> None:
        found = parse(recorded)
        assert {key: found[key] for key in expected} == expected

    return check


def refused(parse: Read) -> Read:
    def check(recorded: str) -> None:
        with pytest.raises(ParseError):
            parse(recorded)

    return check


def memory_kept_by_the_driver(recorded: str) -> None:
    found = memory.meminfo(recorded)
    named = ("MemFree", "Buffers", "Cached", "AnonPages", "KReclaimable", "SUnreclaim", "VmallocUsed", "Percpu")
    assert round((found["MemTotal"] - sum(found[key] for key in named)) / GIB) == 80
    assert found["MemAvailable"] == 40174336 * KIB


def stock_command_line(recorded: str) -> None:
    found = system.parameters(recorded)
    assert found["crashkernel"] == ["1G-:0M"]
    assert found["console"] == ["tty0", "tty0", "ttyS0,921600"]
    assert "kho" not in found


def dgx_release(ota: str, platform: str, image: str = "7.2.3") -> Read:
    def check(recorded: str) -> None:
        found = dgx.release(recorded)
        assert (found["ota_version"], found["platform"], found["image_version"]) == (ota, platform, image)
        assert not {"REDACTED", "XXXXXXXXXXXX"} & set(found.values())

    return check


def kernel(release: str, *issues: str) -> Read:
    """``uname -a``: the release is its third word; os.uname() gives it alone."""

    def check(recorded: str) -> None:
        words = recorded.split()
        assert system.release(words[2]) == release
        assert words[-2] == "aarch64"
        _verdicts, bad, _doubts = judged_versions(ROWS, {"kernel": {"release": release, "parameters": {}}}, {})
        assert sorted(bad) == sorted(issues)

    return check


def dmi_asus(recorded: str) -> None:
    values = dict(line.split("=", 1) for line in recorded.splitlines())
    found = twin(values["sys_vendor"], values["product_name"])
    assert found is not None
    assert (found.brand, found.model) == ("ASUS", "Ascent GX10")


def dmi_hp(recorded: str) -> None:
    values = dict(line.split("=", 1) for line in recorded.splitlines())
    assert values["product_family"] == "DGX Spark"  # so the family does not tell a twin from an original
    found = twin(values["sys_vendor"], values["product_name"])
    assert found is not None
    assert (found.brand, found.model) == ("HP", "ZGX Nano G1n")


def dmi_dell(recorded: str) -> None:
    found = twin(recorded.partition(" Product")[0], "X")
    assert found is not None
    assert (found.brand, found.model) == ("Dell", "")
    versions = dict(re.findall(r"(EC|SoC|PD) (0x[0-9a-f]+)", recorded))
    decoded = {k: firmware.packed_version(text.hexadecimal("x", v)) for k, v in versions.items()}
    assert decoded == {"EC": "3.5.8", "SoC": "2.155.11", "PD": "0.5.22"}


def dmi_list(recorded: str) -> None:
    found = []
    for line in recorded.splitlines():
        name = line.partition("|")[0]
        vendor, _blank, product = name.partition(" ")
        known = twin(vendor, product)
        assert known is not None
        found.append((known.brand, known.model))
    assert found == [
        ("Lenovo", "ThinkStation PGX"),
        ("Gigabyte", ""),
        ("Gigabyte", ""),
        ("Dell", "Pro Max with GB10"),
        ("Gigabyte", ""),
    ]


def type45(recorded: str) -> None:
    found = firmware.inventory(recorded)
    assert len(found) == 64
    named = [(item["name"], item["version"]) for item in found]
    assert ("UEFI", "R:1.110.13") in named
    assert ("FLASH", "SBP:R:2.155.11") in named
    assert ("EC Firmware", "3.5.8") in named
    assert [v for n, v in named if n == "PD Firmware"] == ["PD0 FW1: 5.22, FW2: 4.10", "PD1 FW1: 5.22, FW2: 4.10"]


def fwupd_ec_upgrade(recorded: str) -> None:
    found = {str(d["version"]): d for d in firmware.fwupd_devices(recorded) if d["name"] == "UEFI Device Firmware"}
    assert sorted(found) == ["0x00000507", "0x03000006"]
    (ec,) = [d for d in firmware.fwupd_devices(recorded) if d["name"] == "Embedded Controller"]
    assert (ec["version"], ec["upgrade_version"]) == ("0x02000005", "0x02000006")
    assert [d["name"] for d in firmware.fwupd_devices(recorded) if d["version"] is None] == [
        "UEFI Key Exchange Key",
        "UEFI Signature Database",
    ]
    assert "REDACTED" not in str(firmware.fwupd_devices(recorded))


def fwupd_inventory(recorded: str) -> None:
    rows = [line.split("|") for line in recorded.splitlines()]
    decoded = [firmware.packed_version(text.hexadecimal("x", v)) for _name, v in rows if v.startswith("0x")]
    assert decoded == ["3.3.2", "2.152.15", "0.5.22"]  # EC, SoC, USB-PD of the April 2026 update
    assert [name for name, _version in rows].count("UEFI Device Firmware") == 2


def dpkg(recorded: str) -> None:
    found = system.dpkg_query(recorded)
    assert len(found) == 109
    assert found["nvidia-driver-580-open"].startswith("580.173.02-")
    assert found["nvidia-modprobe"].startswith("610.57.04-")
    assert found["nvidia-settings"].startswith("610.57.04-")
    images = [name for name in found if re.fullmatch(r"linux-image-\d.*", name)]
    assert images == ["linux-image-6.11.0-1014-nvidia", "linux-image-6.17.0-1029-nvidia"]


def gid_rows(rows: list[tuple[str, str, str, str]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of device, index, type, GID as _gids reads them from sysfs, one file each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for device, index, kind, value in rows:
        slot = network.gid(value)
        if slot:
            found.setdefault(device, []).append(
                {"index": int(index), "gid": slot[0], "ipv4": slot[1], "type": network.gid_type(kind)}
            )
    return found


def gids_sysfs(recorded: str) -> None:
    rows = [(words[1], words[3], " ".join(words[4:-1]), words[-1]) for words in map(str.split, recorded.splitlines())]
    found = gid_rows(rows)
    assert roce_v2_ipv4_index(found["rocep1s0f0"]) == 3
    assert [gid["index"] for gid in found["rocep1s0f0"]] == [0, 1, 2, 3]  # the empty slot 4 is none
    assert found["roceP2p1s0f0"][0]["ipv4"] == "192.168.101.10"
    assert "roceP2p1s0f1" not in found


def gids_one_subnet(recorded: str) -> None:
    lines = [line.split() for line in recorded.splitlines() if line.startswith("roce")]
    rows = [(w[0], w[2], {"v1": "IB/RoCE v1", "v2": "RoCE v2"}[w[-2]], w[3].replace("xxxx", "0001")) for w in lines]
    found = gid_rows(rows)
    assert sum(len(gids) for gids in found.values()) == 12
    first, second = (found[name][3]["ipv4"] for name in ("rocep1s0f0", "roceP2p1s0f0"))
    assert (first, second) == ("192.168.100.10", "192.168.100.14")  # the fault: one subnet for both rails
    assert roce_v2_ipv4_index(found["rocep1s0f1"]) is None


def gpu_link(recorded: str) -> None:
    values = dict(line.split(": ", 1) for line in recorded.splitlines())
    assert network.pcie_speed_gts(values["current_link_speed"]) == 2.5
    assert text.integer("x", values["current_link_width"]) == 1


def functions_of_one_port(recorded: str) -> None:
    found = [nvidia.pci_address(value) for value in re.findall(r"pci=(\S+)", recorded)]
    assert found == ["0000:01:00.0", "0002:01:00.0"]
    assert {address[-1] for address in found} == {"0"}  # one port, two domains


DESKTOP = [(2747, "G", "/usr/lib/xorg/Xorg", 18), (2911, "G", "/usr/bin/gnome-shell", 6)]
XORG, SHELL = "/usr/lib/xorg/Xorg", "/usr/bin/gnome-shell"
ENGINE = "VLLM::EngineCore"

TRUTH: dict[str, Read] = {
    "nvidia-smi/580.126.09-head-only.txt": smi("580.126.09", 36, "P8", 3, Unknown),
    "nvidia-smi/580.142-idle-desktop.txt": smi("580.142", 36, "P8", 4, DESKTOP),
    "nvidia-smi/580.159.03-desktop-only.txt": smi(
        "580.159.03", 38, "P8", 2, [(329657, "G", XORG, 43), (329691, "G", SHELL, 17)]
    ),
    "nvidia-smi/580.159.03-kept-alignment-off.txt": smi("580.159.03", 34, "P8", 4, Unknown),
    "nvidia-smi/580.159.03-vllm-96gib.txt": smi(
        "580.159.03",
        43,
        "P0",
        10,
        [(329657, "G", XORG, 43), (329691, "G", SHELL, 16), (400721, "C", ENGINE, 96581)],
    ),
    "nvidia-smi/580.159.03-vllm-and-desktop.txt": smi(
        "580.159.03",
        46,
        "P0",
        10,
        [(329657, "G", XORG, 43), (329691, "G", SHELL, 17), (577729, "C", ENGINE, 89093)],
    ),
    "nvidia-smi/580.173.02-grep-no-header.txt": smi("580.173.02", 45, "P0", 10, Unknown),
    "nvidia-smi/580.82.09-notebook-factory-persistence-off.txt": smi(
        "580.82.09",
        44,
        "P0",
        10,
        [(3405, "G", XORG, 242), (3562, "G", SHELL, 53), (214921, "C", ".../envs/rapids-25.10/bin/python", 196)],
        persistence=False,
    ),
    "nvidia-smi/580.95.05-notebook-no-processes.txt": smi("580.95.05", 40, "P0", 11, []),
    "nvidia-smi/580.95.05-persistence-off-in-snap.txt": smi("580.95.05", 41, "P0", 11, Unknown, persistence=False),
    "nvidia-smi/no-devices-were-found.txt": smi_no_devices,
    "nvidia-smi/processes-desktop-rows.txt": smi_rows,
    "nvidia-smi-query-gpu/all-na-row.txt": query({"memory.free": None, "memory.total": None, "memory.used": None}),
    "nvidia-smi-query-gpu/cc-temp-pstate-na.txt": query(
        {
            "index": 0,
            "gpu_name": SPARK_GPU,
            "pci.bus_id": "000f:01:00.0",
            "driver_version": "580.142",
            "compute_cap": "12.1",
            "temperature.gpu": 48,
            "pstate": "P0",
            "memory.total": None,
        },
        "index,gpu_name,pci.bus_id,driver_version,compute_cap,temperature.gpu,pstate,memory.total",
    ),
    "nvidia-smi-query-gpu/clocks-after-lgc.txt": query(
        {
            "name": SPARK_GPU,
            "clocks.current.graphics": 2522,
            "clocks.max.graphics": 3003,
            "temperature.gpu": 50,
            "power.draw": 15.57,
        }
    ),
    "nvidia-smi-query-gpu/index-name-memory-na.txt": query(
        {"index": 0, "name": SPARK_GPU, "memory.total": None, "memory.free": None}
    ),
    "nvidia-smi-query-gpu/memory-power-header-na.txt": query(
        {
            "memory.total": None,
            "memory.used": None,
            "memory.free": None,
            "utilization.gpu": 0,
            "power.draw": 11.17,
            "temperature.gpu": 35,
        }
    ),
    "nvidia-smi-query-gpu/name-cc-driver-header.txt": query(
        {"name": SPARK_GPU, "compute_cap": "12.1", "driver_version": "580.159.03"}
    ),
    "nvidia-smi-query-gpu/name-cc-driver-memory-na.txt": query(
        {"name": SPARK_GPU, "compute_cap": "12.1", "driver_version": "580.159.03", "memory.total": None},
        "name,compute_cap,driver_version,memory.total",
    ),
    "nvidia-smi-query-gpu/name-memory-driver-580.126.txt": query(
        {"name": SPARK_GPU, "memory.total": None, "driver_version": "580.126.09"}, "name,memory.total,driver_version"
    ),
    "nvidia-smi-query-gpu/nounits-na-na-0.txt": query(
        {"memory.used": None, "memory.total": None, "utilization.memory": 0},
        "memory.used,memory.total,utilization.memory",
    ),
    "nvidia-smi-compute-apps/gpu-uuid-docker-python.txt": apps([(114687, "/usr/local/bin/python", 19135)], uuid=True),
    "nvidia-smi-compute-apps/llama-server-three-csv-header.txt": apps(
        [
            (168864, "/usr/local/bin/llama-server", 24420),
            (169094, "/usr/local/bin/llama-server", 19871),
            (169489, "/usr/local/bin/llama-server", 9279),
        ],
        header=True,
    ),
    "nvidia-smi-compute-apps/sglang-and-python.txt": apps([(3150, "python3", 218), (6330, "sglang::scheduler", 96073)]),
    "nvcc/13.0.88-aug2025.txt": equals(nvidia.nvcc_version, "13.0.88"),
    "nvcc/not-in-path.txt": refused(nvidia.nvcc_version),
    "nvidia-ctk/1.20.1.txt": equals(containers.tool_version, "1.20.1"),
    "docker/permission-denied.txt": refused(containers.tool_version),
    "docker/version-29.1.3.txt": equals(containers.tool_version, "29.1.3"),
    "docker/version-29.2.1.txt": equals(containers.tool_version, "29.2.1"),
    "dgx-release/asus-gx10-7.2.3-ota-7.5.0.txt": dgx_release("7.5.0", "GX10"),
    "dgx-release/oem-7.2.3-ota-7.5.0-kvm-platform.txt": dgx_release("7.5.0", "DGX Server for KVM"),
    "dgx-release/spark-fe-7.2.3-ota-7.3.1.txt": dgx_release("7.3.1", "DGX Server for KVM"),
    "ota-check/dbus-snapshot-behind.txt": has(
        dgx.ota_snapshot,
        {"state": "ready", "updates_enabled": True, "update_available": True, "available_name": "July 2026"},
    ),
    "ota-check/dbus-snapshot-current.txt": has(
        dgx.ota_snapshot, {"updates_enabled": True, "update_available": False, "available_name": None}
    ),
    "os-release/24.04.4.txt": has(
        system.os_release, {"ID": "ubuntu", "PRETTY_NAME": "Ubuntu 24.04.4 LTS", "VERSION_CODENAME": "noble"}
    ),
    "os-release/24.04.5-three-lines.txt": has(
        system.os_release, {"ID": "ubuntu", "VERSION_ID": "24.04", "PRETTY_NAME": "Ubuntu 24.04.5 LTS"}
    ),
    "meminfo/after-engine-stop-80gib-unaccounted.txt": memory_kept_by_the_driver,
    "meminfo/free-vs-cuda-series.txt": refused(memory.meminfo),  # a tool's own print
    "meminfo/gx10-6.17-cma-131072.txt": has(
        memory.meminfo, {"CmaTotal": 128 * MIB, "SwapTotal": 33554428 * KIB, "MemAvailable": 14386092 * KIB}
    ),
    "meminfo/nvitop-two-lines.txt": equals(
        memory.meminfo, {"MemTotal": 127600748 * KIB, "MemAvailable": 118566368 * KIB}
    ),
    "meminfo/omlx-three-lines.txt": has(memory.meminfo, {"MemTotal": 127600524 * KIB, "MemFree": 99159460 * KIB}),
    "cmdline/stock-6.17.0-1014-crashkernel-0.txt": stock_command_line,
    "cpuinfo/dell-gb10-first-two-cores.txt": equals(cpu.models, {"Cortex-A725": [0, 1]}),
    "cgroup/controllers-with-dmem.txt": equals(
        str.split, ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc", "dmem"]
    ),
    "dmi/asus-gx10-sysfs.txt": dmi_asus,
    "dmi/dell-p4242-identity-line.txt": dmi_dell,
    "dmi/hp-zgx-family.txt": dmi_hp,
    "dmi/lenovo-30kl-gigabyte-dell-list.txt": dmi_list,
    "dmidecode/type45-oem-firmware-inventory.txt": type45,
    "fwupd/asus-get-devices-json.txt": equals(
        lambda recorded: [(d["name"], d["version_decoded"]) for d in firmware.fwupd_devices(recorded)],
        [("Embedded Controller", "2.0.5"), ("UEFI Device Firmware", "3.0.7"), ("UEFI dbx", None)],
    ),
    "fwupd/asus-ota2.2-json-ec-upgrade.txt": fwupd_ec_upgrade,
    "fwupd/inventory-july-before.txt": fwupd_inventory,
    "dpkg-query/oem-ota2607-kernel-and-nvidia.txt": dpkg,
    "gids/sysfs-dump-mixed-columns.txt": gids_sysfs,
    "gids/show_gids-port0-12-entries.txt": gids_one_subnet,
    "sysfs/cx7-hotplug-enabled-1.txt": equals(lambda recorded: text.switch("x", recorded), True),
    "sysfs/gpu-link-2.5gts-x1.txt": gpu_link,
    "sysfs/pci-functions-one-port.txt": functions_of_one_port,
    "uname/dell-6.14.0-1013.txt": kernel("6.14.0-1013-nvidia"),
    "uname/gigabyte-6.17.0-1014.txt": kernel("6.17.0-1014-nvidia"),
    "uname/pgx-6.17.0-1021.txt": kernel("6.17.0-1021-nvidia"),
    "uname/spark-6.17.0-1014.txt": kernel("6.17.0-1014-nvidia"),
    "uname/spark-6.17.0-1021.txt": kernel("6.17.0-1021-nvidia"),
}

needs_recordings = pytest.mark.skipif(
    not (RECORDED / "INDEX.md").exists(), reason="../shared/fixtures/recorded is not here: recorded outputs not tried"
)


@needs_recordings
@pytest.mark.parametrize("name", TRUTH)
def test_recorded_output_gives_the_truth_of_the_index(name: str) -> None:
    TRUTH[name]((RECORDED / name).read_bytes().decode("utf-8", "surrogateescape"))


@needs_recordings
def test_every_recorded_file_is_read_or_left_out_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (RECORDED / "INDEX.md").read_text(encoding="utf-8").splitlines()
    indexed = {match[1] for row in rows if (match := re.match(r"\| ([^ |]+/[^ |]+) \|", row))}
    assert len(indexed) > 200
    left_out = {name for name in indexed if name.partition("/")[0] in LEFT_OUT} | set(FILES_LEFT_OUT)
    assert sorted(indexed - left_out - set(TRUTH)) == [], "neither read nor left out with a reason"
    assert sorted(left_out & set(TRUTH)) == [], "read and left out"
    assert sorted((left_out | set(TRUTH)) - indexed) == [], "not in the index"
    with capsys.disabled():
        print(f"\nrecorded outputs: {len(TRUTH)} read, {len(left_out)} left out by spark_facts:")
        for name, reason in sorted({**LEFT_OUT, **FILES_LEFT_OUT}.items()):
            print(f"  {name}: {reason}")
