# SPDX-License-Identifier: GPL-3.0-or-later
"""Each parser: what it makes of the shapes of real output, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fact_shapes as shapes
import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse import (
    containers,
    cpu,
    dgx,
    disks,
    firmware,
    memory,
    network,
    nvidia,
    system,
    text,
)
from fact_node import auxv

MIB = 1 << 20


def test_query_gpu_gb10_has_no_memory_of_its_own() -> None:
    (gpu,) = nvidia.query_gpu(shapes.QUERY_GPU)
    assert gpu["name"] == "NVIDIA GB10"
    assert gpu["compute_capability"] == "12.1"
    assert gpu["driver_version"] == "580.142"
    assert gpu["pci_address"] == "000f:01:00.0"
    assert gpu["persistence_mode"] is True
    assert gpu["memory_total_bytes"] is None
    assert gpu["power_watts"] == 4.56


def test_query_gpu_with_units_gives_the_same_kinds() -> None:
    (gpu,) = nvidia.query_gpu(shapes.QUERY_GPU_UNITS)
    assert (gpu["power_watts"], gpu["graphics_clock_mhz"], gpu["utilization_percent"]) == (38.05, 2528, 96)


def test_query_gpu_two_gpus_keep_their_own_values() -> None:
    first, second = nvidia.query_gpu(shapes.QUERY_GPU_TWO)
    assert (first["name"], second["name"]) == ("NVIDIA GB10", "NVIDIA RTX A6000")
    assert second["memory_total_bytes"] == 49140 * MIB
    assert second["persistence_mode"] is False


def test_query_gpu_error_in_one_field_is_unknown_in_that_field_only() -> None:
    (gpu,) = nvidia.query_gpu(shapes.QUERY_GPU.replace(" 4.56,", " [Unknown Error],"))
    assert gpu["power_watts"] == Unknown("nvidia-smi answers [Unknown Error] for power.draw")
    assert gpu["temperature_celsius"] == 41


@pytest.mark.parametrize("word", ["[N/A]", "N/A", "Not Supported", "[Not Supported]", "[Deprecated; use x]"])
def test_cell_not_applicable_is_a_value(word: str) -> None:
    assert nvidia.cell(nvidia.Column("memory.total", "memory_total_bytes", "mib"), word) is None


def test_compute_apps_names_may_hold_commas() -> None:
    assert nvidia.compute_apps(shapes.COMPUTE_APPS) == [
        {"pid": 1234, "name": "VLLM::EngineCore", "memory_bytes": 107074 * MIB},
        {"pid": 5678, "name": "/opt/a,b/python", "memory_bytes": None},
    ]
    assert nvidia.compute_apps("\n") == []


def test_table_cut_memory_is_unknown_and_not_a_small_number() -> None:
    table: dict[str, Any] = nvidia.table(shapes.TABLE)
    assert (table["driver_version"], table["cuda_driver_version"]) == ("580.142", "13.0")
    assert table["devices"] == [
        {
            "index": 0,
            "name": "NVIDIA GB10",
            "persistence_mode": True,
            "pci_address": "000f:01:00.0",
            "temperature_celsius": 41,
            "performance_state": "P8",
            "power_watts": 4,
            "memory_total_bytes": None,
            "utilization_percent": 0,
        }
    ]
    desktop, engine = table["processes"]
    assert desktop == {"pid": 1111, "type": "G", "name": "/usr/lib/xorg/Xorg", "memory_bytes": 18 * MIB}
    assert engine["memory_bytes"] == Unknown("nvidia-smi cuts off figures of 100000 MiB and more")


def test_table_idle_has_no_processes_and_cut_table_unknown_ones() -> None:
    assert nvidia.table(shapes.TABLE_IDLE)["processes"] == []
    head = shapes.TABLE.split("| Processes:")[0]
    assert isinstance(nvidia.table(head)["processes"], Unknown)


def test_table_total_memory_is_behind_the_slash() -> None:
    devices = nvidia.table(shapes.TABLE_WITH_MEMORY)["devices"]
    assert isinstance(devices, list)
    assert devices[0]["memory_total_bytes"] == 24576 * MIB


def test_module_version_tells_the_open_module() -> None:
    assert nvidia.module_version(shapes.MODULE_VERSION) == {"version": "580.142", "open": True}
    assert nvidia.module_version(shapes.MODULE_VERSION_CLOSED) == {"version": "550.135", "open": False}


def test_gpu_information_leaves_the_uuid_out() -> None:
    assert nvidia.gpu_information(shapes.GPU_INFORMATION) == {"name": "NVIDIA GB10", "vbios_version": "9A.0B.1C.00.00"}


def test_cuda_versions() -> None:
    assert nvidia.cuda_version_json(shapes.CUDA_JSON) == "13.0.2"
    assert nvidia.nvcc_version(shapes.NVCC) == "13.0.88"


def test_complaint_is_the_line_itself() -> None:
    assert nvidia.complaint("No devices were found\n") == "No devices were found"
    mismatch = "Failed to initialize NVML: Driver/library version mismatch"
    assert nvidia.complaint(f"{mismatch}\nNVML library version: 580.159\n") == mismatch
    assert nvidia.complaint(shapes.TABLE) == ""


def test_meminfo_is_in_bytes_and_counts_stay_counts() -> None:
    found = memory.meminfo(shapes.MEMINFO + "HugePages_Rsvd:    7\n")
    assert found["MemTotal"] == 127600816 * 1024
    assert found["HugePages_Rsvd"] == 7


def test_pressure_and_swaps() -> None:
    pressure = memory.pressure(shapes.PRESSURE)
    assert pressure["some"] == {
        "avg10_percent": 1.25,
        "avg60_percent": 0.5,
        "avg300_percent": 0.0,
        "total_microseconds": 123456,
    }
    first, second = memory.swaps(shapes.SWAPS)
    assert (first["path"], first["size_bytes"], first["priority"]) == ("/swap.img", 16777212 * 1024, -2)
    assert second["path"] == "/mnt/a b"


def test_buddyinfo_adds_the_zones_up() -> None:
    assert memory.buddyinfo(shapes.BUDDYINFO) == [11, 22, 33, 44, 55, 66, 77, 88, 99, 110, 11]


@pytest.mark.parametrize("page", [4096, 65536])
def test_page_size_of_both_kernels(page: int) -> None:
    assert memory.page_size(auxv(page)) == page


def test_cpu_models_without_model_name() -> None:
    models = cpu.models(shapes.CPUINFO)
    assert {name: len(cpus) for name, cpus in models.items()} == {"Cortex-A725": 10, "Cortex-X925": 10}
    assert cpu.models(shapes.CPUINFO_X86) == {"AMD EPYC": [0, 1]}
    unseen = "processor : 0\nCPU implementer : 0x42\nCPU part : 0xabc\n"
    assert cpu.models(unseen) == {"Arm implementer 0x42 part 0xabc": [0]}


def test_cpu_lists_there_and_back() -> None:
    assert text.cpu_list("x", "0-4,10-14\n") == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert text.cpu_ranges([14, 10, 11, 12, 13, 0, 1, 2, 3, 4]) == "0-4,10-14"
    assert text.cpu_ranges([7]) == "7"
    assert text.cpu_list("x", "\n") == []


def test_gids() -> None:
    assert network.gid("0000:0000:0000:0000:0000:ffff:c000:0201\n") == (
        "0000:0000:0000:0000:0000:ffff:c000:0201",
        "192.0.2.1",
    )
    assert network.gid("fe80:0000:0000:0000:0000:00ff:fe00:0001") == ("fe80:0000:0000:0000:0000:00ff:fe00:0001", None)
    assert network.gid("0000:" * 7 + "0000\n") is None
    assert network.gid_type("RoCE v2\n") == "RoCE v2"


def test_port_words() -> None:
    assert network.state("4: ACTIVE\n") == "ACTIVE"
    assert network.rate_gbps("40 Gb/sec (4X QDR)\n") == 40.0
    assert network.rate_gbps("2.5 Gb/sec (1X SDR)") == 2.5
    assert network.pcie_speed_gts("32.0 GT/s PCIe\n") == 32.0


def test_listeners_only_what_listens_and_in_the_byte_order_of_the_machine() -> None:
    assert network.listeners(shapes.TCP) == [
        {"address": "0.0.0.0", "port": 22},
        {"address": "127.0.0.1", "port": 11000},
    ]
    assert network.listeners(shapes.TCP6) == [{"address": "::1", "port": 631}]


def test_udev_and_mounts() -> None:
    assert disks.udev_properties(shapes.UDEV_PART)["ID_FS_TYPE"] == "ext4"
    assert disks.mounts(shapes.MOUNTINFO) == {"259:2": ["/"], "8:1": ["/mnt/a b"]}


def test_kernel_command_line_repeats_quotes_and_the_end_of_the_kernels_part() -> None:
    found = system.parameters('a=1 console=tty0 note="two words" "other=x y" kho=off quiet a=2 -- init=x')
    assert found == {
        "a": ["1", "2"],
        "console": ["tty0"],
        "note": ["two words"],
        "other": ["x y"],
        "kho": ["off"],
        "quiet": [""],
    }


def test_system_words() -> None:
    assert system.os_release(shapes.OS_RELEASE)["PRETTY_NAME"] == "Ubuntu 24.04.4 LTS"
    assert system.lockdown("none [integrity] confidentiality\n") == "integrity"
    assert system.security_modules("lockdown,capability,apparmor\n") == ["lockdown", "capability", "apparmor"]
    assert system.ufw_enabled("# c\nENABLED=yes\n") is True
    assert system.package_names("b\na\nb\n") == ["b", "a"]
    assert system.dpkg_query(shapes.DPKG) == {
        "linux-image-6.17.0-1014-nvidia": "6.17.0-1014.14",
        "nvidia-modprobe": "610.57.04-1ubuntu1",
    }


def test_dgx_release_last_key_wins_and_the_serial_stays_out() -> None:
    found = dgx.release(shapes.DGX_RELEASE)
    assert found["ota_version"] == "7.5.0"
    assert found["platform"] == "DGX Server for KVM"
    assert found["image_version"] == "7.2.3"
    assert "Not Specified" not in found.values()
    assert not any("serial" in key for key in found)


def test_dgx_release_fresh_image_has_no_ota_level() -> None:
    found = dgx.release('DGX_NAME="DGX Spark"\nDGX_SWBUILD_VERSION="7.2.3"\n')
    assert found["ota_version"] is None
    assert found["platform"] == Unknown("/etc/dgx-release holds no DGX_PLATFORM")


def test_ota_snapshot_name_may_be_empty() -> None:
    assert dgx.ota_snapshot(shapes.OTA_SNAPSHOT)["available_name"] == "July 2026"
    current = dgx.ota_snapshot('ssbbs "no-ota-available" "2026" true false ""\n')
    assert (current["update_available"], current["available_name"]) == (False, None)


def test_ota_recipe() -> None:
    assert dgx.recipe(shapes.RECIPE) == {
        "name": "OTA2604",
        "external_name": "April 2026",
        "release_date": "2026-04-21",
    }


def test_firmware_inventory_keeps_repeated_names_and_colons() -> None:
    assert firmware.inventory(shapes.DMIDECODE_45) == [
        {"name": "UEFI", "version": "R:1.110.13"},
        {"name": "PD Firmware", "version": "PD0 FW1: 5.22, FW2: 4.10"},
        {"name": "PD Firmware", "version": None},
    ]


@pytest.mark.parametrize(
    ("value", "version"), [(0x02009B0B, "2.155.11"), (0x03000508, "3.5.8"), (0x516, "0.5.22"), (0, "0.0.0")]
)
def test_packed_version_as_nvidia_packs_it(value: int, version: str) -> None:
    assert firmware.packed_version(value) == version


def test_fwupd_devices_without_version_and_never_a_serial() -> None:
    found = firmware.fwupd_devices(shapes.FWUPD)
    assert [device["name"] for device in found] == ["UEFI Device Firmware"] * 2 + ["UEFI Signature Database"]
    assert (found[0]["version_decoded"], found[0]["upgrade_version"]) == ("2.155.11", "0x02009b0c")
    assert (found[1]["vendor"], found[1]["guids"]) == (None, [])
    assert found[2]["version"] is None
    assert "SECRET" not in str(found)


def test_secure_boot_variable() -> None:
    assert firmware.efi_switch("\x06\x00\x00\x00\x01") is True
    assert firmware.efi_switch("\x06\x00\x00\x00\x00") is False


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("Docker version 29.2.1, build a5c7197", "29.2.1"),
        ("podman version 4.9.3", "4.9.3"),
        ("containerd containerd.io v2.2.1 dea7da592f5d", "2.2.1"),
        ("containerd github.com/containerd/containerd 1.7.12 ", "1.7.12"),
        ("NVIDIA Container Toolkit CLI version 1.20.1\ncommit: dffc40b4", "1.20.1"),
        ("podman version 5.0.0-rc1", "5.0.0-rc1"),
    ],
)
def test_container_tool_versions(line: str, version: str) -> None:
    assert containers.tool_version(line) == version


def test_docker_daemon() -> None:
    assert containers.docker_daemon(shapes.DAEMON_JSON) == {
        "nvidia_runtime": True,
        "default_runtime": None,
        "cdi_enabled": True,
    }
    assert containers.docker_daemon("") == {"nvidia_runtime": False, "default_runtime": None, "cdi_enabled": None}


@pytest.mark.parametrize(("spec", "version"), [(shapes.CDI_YAML, "0.5.0"), (shapes.CDI_JSON, "0.7.0")])
def test_cdi_spec_in_both_notations(spec: str, version: str) -> None:
    assert containers.cdi_spec(spec) == {"cdi_version": version, "kind": "nvidia.com/gpu"}


@pytest.mark.parametrize(
    ("parse", "bad"),
    [
        (nvidia.query_gpu, ""),
        (nvidia.query_gpu, "NVIDIA GB10, 12.1\n"),
        (nvidia.query_gpu, shapes.QUERY_GPU.replace("580.142", "unknown")),
        (nvidia.query_gpu, shapes.QUERY_GPU.replace("Enabled", "Perhaps")),
        (nvidia.compute_apps, "python, 3, 4"),
        (nvidia.table, "No devices were found"),
        (nvidia.module_version, "NVRM version: something else"),
        (nvidia.gpu_information, "Model:\n"),
        (nvidia.cuda_version_json, '{"cuda": {"version": 13}}'),
        (nvidia.cuda_version_json, "[" * 100000),
        (nvidia.nvcc_version, "(nvcc not in PATH)"),
        (nvidia.pci_address, "01:00.0"),
        (memory.meminfo, "MemFree: 1 kB\n"),
        (memory.pressure, "some avg10=nan avg60=0 avg300=0 total=0\n"),
        (memory.pressure, ""),
        (memory.buddyinfo, "Node 0, zone Normal\n"),
        (memory.swaps, "/swap.img file 1 2 3\n"),
        (memory.swaps, "Filename\n/swap.img file x 2 3\n"),
        (memory.page_size, "short"),
        (cpu.models, "model name : nothing\n"),
        (cpu.models, "processor : 0\n"),
        (network.gid, "::1"),
        (network.gid_type, "RoCE v3"),
        (network.state, "ACTIVE"),
        (network.listeners, "nonsense"),
        (network.listeners, shapes.TCP.replace("0100007F", "0100007G")),
        (network.rate_gbps, "fast"),
        (disks.mounts, "nothing"),
        (disks.device_number, "8"),
        (disks.udev_properties, "ID_FS_TYPE=ext4\n"),
        (system.release, "latest"),
        (system.parameters, " \n"),
        (system.os_release, "NAME=x\n"),
        (system.lockdown, "none integrity\n"),
        (system.ufw_enabled, "ENABLED=maybe\n"),
        (system.dpkg_query, "E: broken\n"),
        (system.package_names, "two words\n"),
        (system.security_modules, "\n"),
        (dgx.release, "NAME=x\n"),
        (dgx.release, "hello\n"),
        (dgx.ota_snapshot, 'ssbbs "ready"\n'),
        (dgx.recipe, "{}"),
        (firmware.inventory, "# dmidecode 3.5\n"),
        (firmware.fwupd_devices, '{"Devices": {}}'),
        (firmware.fwupd_devices, '{"Devices": [1]}'),
        (firmware.fwupd_devices, '{"Devices": [{"Name": "x", "Version": "0xzz"}]}'),
        (firmware.efi_switch, "\x06\x00\x00\x00\x02"),
        (containers.tool_version, "permission denied while trying to connect to the docker API"),
        (containers.docker_daemon, "[]"),
        (containers.cdi_spec, "kind: nvidia.com/gpu\n"),
    ],
)
def test_what_is_not_understood_is_refused(parse: Callable[[str], object], bad: str) -> None:
    with pytest.raises(ParseError):
        parse(bad)
