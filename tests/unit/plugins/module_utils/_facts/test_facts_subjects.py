# SPDX-License-Identifier: GPL-3.0-or-later
"""What the subjects make of whole nodes: a Spark, a bare machine, and Sparks with something wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import fact_shapes as shapes
import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.gather import Answers, answer_to, record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.look import Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import NotKnown, Tree, settle
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.observe import SUBJECTS, observe
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.subjects import system
from fact_node import FactNode, spark


def ask_here(questions: dict[str, Callable[[], Tree]], seconds: float) -> Answers:
    """As gather.ask, but in this process: an error of ours fails the test."""
    answers = Answers()
    for name, question in questions.items():
        record(answers, name, answer_to(question))
    return answers


def facts_of(node: FactNode, *subsets: str, **options: Any) -> dict[str, Any]:
    facts, bugs = observe(node, subsets=subsets or ("all",), seconds=20, ask=ask_here, **options)
    assert bugs == {}
    json.dumps(facts, ensure_ascii=False).encode("utf-8")
    return facts


def test_a_spark_is_known_in_every_subject() -> None:
    facts = facts_of(spark())
    assert facts["is_spark"] is True
    assert (facts["machine"]["brand"], facts["machine"]["model"]) == ("NVIDIA", "DGX Spark Founders Edition")
    assert facts["gpu"]["devices"][0]["compute_capability"] == "12.1"
    assert facts["cuda"] == {
        "toolkits": [{"path": "/usr/local/cuda-13.0", "version": "13.0.2", "nvcc_version": "13.0.88"}],
        "default_path": "/usr/local/cuda-13.0",
    }
    assert [(m["name"], m["count"]) for m in facts["cpu"]["models"]] == [("Cortex-A725", 10), ("Cortex-X925", 10)]
    assert facts["cpu"]["clusters"] == ["0-9", "10-19"]
    assert facts["cpu"]["frequency_policies"][1] == {
        "cpus": "10-19",
        "driver": "cppc_cpufreq",
        "governor": "performance",
        "max_mhz": 3900,
    }
    assert facts["memory"]["page_size_bytes"] == 4096
    assert facts["memory"]["buddy"]["largest_free_block_bytes"] == 4096 << 10
    assert facts["dgx"]["ota"]["available_name"] == "July 2026"
    assert facts["firmware"]["esrt"]["00000000-0000-0000-0000-000000000001"]["version_decoded"] == "2.155.11"
    assert facts["containers"]["docker"]["nvidia_runtime"] is True
    assert facts["security"]["secure_boot"] is True
    assert facts["reboot"] == {"required": True, "packages": ["linux-image-nvidia-hwe-24.04", "libc6"]}


def test_what_stays_unknown_on_a_spark_without_root() -> None:
    assert facts_of(spark())["unknown"] == {
        "containers.podman.version": "dpkg knows no installed podman",
        "firmware.components": "needs root",
        "firmware.fwupd_devices": "not asked: fwupdmgr would start the fwupd daemon (option fwupd)",
        "network.interfaces.enP2p1s0f1np1.speed_mbps": "there is no link",
        "network.interfaces.enp1s0f1np1.speed_mbps": "there is no link",
        "storage.disks.nvme0n1.partitions.nvme0n1p2.filesystem": "udev has no record of this device",
        "storage.disks.nvme0n1.partitions.nvme0n1p2.label": "udev has no record of this device",
        "versions.uefi": "needs root",
    }


def test_no_serial_and_no_uuid_leaves_the_node() -> None:
    node = spark()
    node.root = True
    everything = json.dumps(facts_of(node, fwupd=True))
    assert "SECRET-SERIAL" not in everything
    assert "GPU-0000" not in everything


def test_network_of_a_spark_with_one_cable() -> None:
    network = facts_of(spark(), "network")["network"]
    assert network["connectx"] == {
        "ports": {"0": ["enP2p1s0f0np0", "enp1s0f0np0"], "1": ["enP2p1s0f1np1", "enp1s0f1np1"]},
        "hotplug_configured": True,
        "hotplug_enabled": True,
        "cable_present": True,
    }
    function = network["interfaces"]["enp1s0f0np0"]
    assert (function["carrier"], function["speed_mbps"], function["mtu"]) == (True, 200000, 9000)
    assert (function["driver"], function["pci_id"], function["rdma_device"]) == ("mlx5_core", "15b3:1021", "rocep1s0f0")
    assert network["interfaces"]["enP7s7"]["driver_version"] == "11.014.00-NAPI"
    assert network["interfaces"]["tailscale0"]["mac"] is None
    assert "lo" not in network["interfaces"] and "bonding_masters" not in network["interfaces"]
    port = network["rdma_devices"]["rocep1s0f0"]["ports"]["1"]
    assert (port["state"], port["roce_v2_ipv4_gid_index"]) == ("ACTIVE", 3)
    assert [gid["index"] for gid in port["gids"]] == [0, 3, 10]
    down = network["rdma_devices"]["rocep1s0f1"]["ports"]["1"]
    assert (down["state"], down["rate_gbps"], down["roce_v2_ipv4_gid_index"]) == ("DOWN", 40.0, None)


def test_connectx_removed_by_hotplug_is_no_error() -> None:
    node = spark()
    for path in [*node.links, *node.files]:
        if "infiniband" in path or re.search(r"enP?2?p1s0f", path):
            node.links.pop(path, None)
            node.files.pop(path, None)
    network = facts_of(node, "network")["network"]
    assert network["connectx"]["ports"] == {}
    assert network["rdma_devices"] == {}


def test_interface_that_is_down_has_no_carrier_to_tell() -> None:
    node = spark()
    node.files["/sys/devices/pci0007:01/0007:01:00.0/net/enP7s7/flags"] = "0x1002\n"
    unknown = facts_of(node, "network")["unknown"]
    assert unknown["network.interfaces.enP7s7.carrier"] == "the interface is down"
    assert unknown["network.interfaces.enP7s7.speed_mbps"] == "the interface is down"


def test_hundreds_of_virtual_interfaces_are_counted_and_physical_ones_listed() -> None:
    node = spark()
    for number in range(300):
        node.links[f"/sys/class/net/veth{number:04}"] = f"../../devices/virtual/net/veth{number:04}"
    network = facts_of(node, "network")["network"]
    assert len(network["interfaces"]) == 5 + 64
    assert network["virtual_interfaces_left_out"] == 302 - 64
    assert "enP7s7" in network["interfaces"]


def test_usb_disk_that_fell_back_and_its_signatures() -> None:
    disks = facts_of(spark(), "storage")["storage"]["disks"]
    assert sorted(disks) == ["nvme0n1", "sda"]
    assert (disks["sda"]["bus"], disks["sda"]["usb_speed_mbps"]) == ("usb", 480.0)
    assert disks["sda"]["by_id"] == ["usb-Enclosure_1234-0:0"]
    assert (disks["sda"]["partition_table"], disks["sda"]["filesystem"]) == ("gpt", None)
    part = disks["sda"]["partitions"]["sda1"]
    assert (part["filesystem"], part["label"], part["mounted_on"]) == ("ext4", "data", ["/mnt/a b"])
    assert "partition_table" not in part  # udev repeats the disk's in it
    assert (disks["nvme0n1"]["bus"], disks["nvme0n1"]["usb_speed_mbps"]) == ("nvme", None)
    assert disks["nvme0n1"]["size_bytes"] == 7814037168 * 512


# GPU -----------------------------------------------------------------------------------------

SMI = "/usr/bin/nvidia-smi"


def gpu_of(node: FactNode) -> tuple[dict[str, Any], dict[str, str]]:
    facts = facts_of(node, "gpu")
    return facts, facts["unknown"]


def test_gpu_exact_memory_comes_from_the_csv_and_graphics_from_the_table() -> None:
    facts, _unknown = gpu_of(spark())
    assert [(p["type"], p["memory_bytes"] >> 20) for p in facts["gpu"]["processes"]] == [("G", 18), ("C", 107074)]


def test_gpu_driver_not_loaded_starts_nothing() -> None:
    node = spark()
    del node.files["/proc/driver/nvidia/version"]
    del node.files["/proc/driver/nvidia/gpus/000f:01:00.0/information"]
    facts, unknown = gpu_of(node)
    assert node.ran == []
    assert unknown["gpu.devices"] == "the NVIDIA kernel driver is not loaded"
    assert unknown["is_spark"] == "the NVIDIA kernel driver is not loaded"
    assert "is_spark" not in facts


def test_gpu_without_device_nodes_starts_nothing_but_still_names_the_gpu() -> None:
    node = spark()
    del node.files["/dev/nvidia0"]
    facts, unknown = gpu_of(node)
    assert node.ran == []
    assert facts["is_spark"] is True
    assert facts["gpu"]["devices"] == [
        {"pci_address": "000f:01:00.0", "name": "NVIDIA GB10", "vbios_version": "9A.0B.1C.00.00"}
    ]
    assert facts["gpu"]["driver_version"] == "580.142"
    assert unknown["gpu.devices.0.compute_capability"].startswith("there are no NVIDIA device nodes")


@pytest.mark.parametrize("rc", [0, 6])
def test_gpu_no_devices_were_found_with_either_exit_code(rc: int) -> None:
    node = spark()
    del node.files["/proc/driver/nvidia/gpus/000f:01:00.0/information"]
    for words in list(node.commands):
        if words[0] == SMI:
            node.answer(*words, out="No devices were found\n", rc=rc)
    facts, unknown = gpu_of(node)
    assert unknown["gpu.devices"] == f"nvidia-smi (exit {rc}): No devices were found"
    assert facts["gpu"]["driver_version"] == "580.142"  # of the loaded module


def test_gpu_library_that_does_not_fit_the_module_says_so() -> None:
    node = spark()
    for words in list(node.commands):
        if words[0] == SMI:
            node.answer(*words, out="Failed to initialize NVML: Driver/library version mismatch\n", rc=18)
    facts, unknown = gpu_of(node)
    assert "Driver/library version mismatch" in unknown["gpu.devices.0.compute_capability"]
    assert facts["is_spark"] is True


def test_gpu_query_that_a_driver_refuses_falls_back_to_the_table() -> None:
    node = spark()
    refused = 'Field "compute_cap" is not a valid field to query.\n'
    node.answer(SMI, next(w[1] for w in node.commands if len(w) > 1 and "query-gpu" in w[1]), out=refused, rc=2)
    facts, unknown = gpu_of(node)
    (device,) = facts["gpu"]["devices"]
    assert (device["name"], device["power_watts"]) == ("NVIDIA GB10", 4)
    assert "not a valid field" in unknown["gpu.devices.0.compute_capability"]
    assert facts["gpu"]["driver_version"] == "580.142"


def test_gpu_that_hangs_is_unknown() -> None:
    node = spark()
    for words in list(node.commands):
        if words[0] == SMI:
            node.answer(*words, rc=None, problem="still running after 10 s, stopped")
    _facts, unknown = gpu_of(node)
    assert unknown["gpu.processes"] == "/usr/bin/nvidia-smi: still running after 10 s, stopped"


def test_gpu_of_another_maker_or_none_is_known_to_be_no_spark() -> None:
    node = spark()
    node.files["/sys/bus/pci/devices/000f:01:00.0/vendor"] = "0x1002\n"
    facts, _unknown = gpu_of(node)
    assert facts["is_spark"] is False
    assert facts["gpu"]["devices"] == []
    assert node.ran == []


def test_dmi_that_calls_itself_a_spark_does_not_make_one() -> None:
    node = spark()
    query = next(words for words in node.commands if len(words) > 1 and "query-gpu" in words[1])
    node.answer(*query, out=shapes.QUERY_GPU.replace("NVIDIA GB10", "NVIDIA RTX A6000"))
    facts = facts_of(node)
    assert facts["machine"]["model"] == "DGX Spark Founders Edition"
    assert facts["is_spark"] is False


# commands ------------------------------------------------------------------------------------


def test_the_commands_are_these_and_no_others() -> None:
    """Each was looked at for effects. A new one has to be, too."""
    node = spark()
    node.root = True
    facts_of(node)
    assert sorted({words[0] for words in node.ran}) == [
        "/usr/bin/busctl",
        "/usr/bin/containerd",
        "/usr/bin/docker",
        "/usr/bin/dpkg-query",
        "/usr/bin/nvidia-ctk",
        "/usr/bin/nvidia-smi",
        "/usr/local/cuda-13.0/bin/nvcc",
        "/usr/sbin/dmidecode",
    ]
    (bus,) = [words for words in node.ran if words[0] == "/usr/bin/busctl"]
    assert "--auto-start=no" in bus and "--allow-interactive-authorization=no" in bus


def test_root_runs_nothing_that_belongs_to_somebody_else() -> None:
    node = spark()
    node.foreign.add("/usr/local/cuda-13.0/bin/nvcc")
    assert facts_of(node, "cuda")["cuda"]["toolkits"][0]["nvcc_version"] == "13.0.88"
    node.root = True
    node.ran.clear()
    unknown = facts_of(node, "cuda")["unknown"]
    assert node.ran == []
    assert "so root does not run it" in unknown["cuda.toolkits.0.nvcc_version"]


def test_dmidecode_runs_only_as_root_and_only_with_the_kernels_table() -> None:
    node = spark()
    node.root = True
    assert facts_of(node, "firmware")["firmware"]["components"][0] == {"name": "UEFI", "version": "R:1.110.13"}
    del node.files["/sys/firmware/dmi/tables/DMI"]
    node.ran.clear()
    assert "components" not in facts_of(node, "firmware")["firmware"]
    assert node.ran == []


def test_fwupd_only_on_request() -> None:
    node = spark()
    facts_of(node, "firmware")
    assert node.ran == []
    devices = facts_of(node, "firmware", fwupd=True)["firmware"]["fwupd_devices"]
    assert devices[0]["upgrade_version"] == "0x02009b0c"


def test_ota_is_unknown_when_the_dashboard_does_not_run() -> None:
    node = spark()
    node.answer(
        "/usr/bin/busctl", "--system", "--no-pager", "--auto-start=no", rc=1, err="Call failed: Could not activate\n"
    )
    facts = facts_of(node, "dgx")
    assert facts["unknown"]["dgx.ota"] == "/usr/bin/busctl --system ended with 1: Call failed: Could not activate"
    assert facts["dgx"]["release"]["ota_version"] == "7.5.0"


# the rest ------------------------------------------------------------------------------------


def uname(release: str) -> Callable[[], os.uname_result]:
    return lambda: os.uname_result(("Linux", "host", release, "#14-Ubuntu SMP", "aarch64"))


def test_kernel_of_a_spark() -> None:
    values, reasons = settle(system.kernel(Look(spark(), 20, uname=uname("6.17.0-1014-nvidia"))))
    assert reasons == {}
    assert values["release"] == "6.17.0-1014-nvidia"
    assert values["architecture"] == "aarch64"
    parameters: Any = values["parameters"]
    assert parameters["console"] == ["tty0", "ttyS0,921600"]


def test_forbidden_places_say_so() -> None:
    node = spark()
    node.forbidden |= {"/etc/docker", "/sys/firmware/efi/esrt", "/sys/kernel/security"}
    unknown = facts_of(node)["unknown"]
    assert unknown["containers.docker.nvidia_runtime"] == "/etc/docker/daemon.json: Permission denied"
    assert unknown["firmware.esrt"] == "/sys/firmware/efi/esrt/entries: Permission denied"
    assert unknown["security.lockdown"] == "/sys/kernel/security/lockdown: Permission denied"


def test_reboot_is_unknown_where_nothing_marks_it() -> None:
    node = spark()
    del node.files["/run/reboot-required"]
    assert facts_of(node, "reboot")["reboot"] == {"required": False, "packages": []}
    del node.files["/etc/debian_version"]
    assert "reboot.required" in facts_of(node, "reboot")["unknown"]


@pytest.mark.parametrize(
    ("vendor", "product", "brand", "model"),
    [
        ("ASUSTeK COMPUTER INC.", "GX10", "ASUS", "Ascent GX10"),
        ("HP", "HP ZGX Nano G1n AI Station", "HP", "ZGX Nano G1n"),
        ("LENOVO", "30KLS02X00", "Lenovo", "ThinkStation PGX"),
        ("Dell Inc.", "Dell Pro Max with GB10 FCM1253", "Dell", "Pro Max with GB10"),
        ("Micro-Star International Co., Ltd.", "MS-X", "MSI", None),
        ("Somebody Else", "Box", None, None),
    ],
)
def test_twins(vendor: str, product: str, brand: str | None, model: str | None) -> None:
    node = spark()
    node.files["/sys/class/dmi/id/sys_vendor"] = vendor + "\n"
    node.files["/sys/class/dmi/id/product_name"] = product + "\n"
    machine = facts_of(node, "machine")["machine"]
    assert (machine.get("brand"), machine.get("model")) == (brand, model)


def known(node: FactNode, release: str) -> dict[str, str]:
    from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.data import known_issues
    from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.versions import judged_versions
    from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS

    facts = facts_of(node)
    facts["kernel"] = settle(system.kernel(Look(node, 20, uname=uname(release))))[0]
    return {**judged_versions(ROWS, facts, facts["unknown"])[1], **known_issues(facts)[0]}


def test_known_issues_of_a_healthy_spark_are_none() -> None:
    assert known(spark(), "6.17.0-1014-nvidia") == {}


def test_known_issues_of_kernels() -> None:
    assert list(known(spark(), "6.17.0-1008-nvidia")) == ["kernel_6_17_0_1008_panics"]
    node = spark()
    assert list(known(node, "7.0.0-1019-nvidia")) == ["kernel_7_0_0_1019_kho"]
    node.files["/proc/cmdline"] = "quiet kho=off\n"
    assert known(node, "7.0.0-1019-nvidia") == {}


def test_known_issue_of_impossible_cma() -> None:
    node = spark()
    node.files["/proc/meminfo"] = re.sub(r"CmaTotal: +\d+", "CmaTotal: 0", shapes.MEMINFO)
    assert list(known(node, "7.0.0-1019-nvidia")) == ["kernel_7_0_0_1019_kho", "cma_free_exceeds_total"]


def test_known_issue_of_unequal_mtu() -> None:
    node = spark()
    node.files["/sys/devices/pci0002:01/0002:01:00.0/net/enP2p1s0f0np0/mtu"] = "1500\n"
    assert list(known(node, "6.17.0-1014-nvidia")) == ["connectx_mtu_differs"]


def test_known_issue_of_a_missing_function() -> None:
    node = spark()
    del node.links["/sys/class/net/enP2p1s0f0np0"]
    assert list(known(node, "6.17.0-1014-nvidia")) == ["connectx_function_missing"]


def test_issues_that_cannot_be_judged_are_unknown_and_not_absent() -> None:
    node = spark()
    node.forbidden.add("/proc/meminfo")
    unknown = facts_of(node)["unknown"]
    assert unknown["known_issues.cma_free_exceeds_total"] == "a fact it is judged by is unknown: memory.cma_free_bytes"
    few = facts_of(spark(), "machine")
    assert few["unknown"]["known_issues.connectx_mtu_differs"] == "needs the facts of network, which were not gathered"


def test_a_bare_node_has_reasons_and_no_invented_values() -> None:
    facts = facts_of(FactNode())
    assert {*facts, *facts["unknown"]} > set(SUBJECTS)
    assert facts["unknown"]["packages"].startswith("dpkg-query is in none of")
    assert "is_spark" not in facts
    assert len(facts["unknown"]) > 40
    assert facts["known_issues"] == {}
    assert facts["memory"] == {}


def test_only_what_was_asked_for_is_looked_at() -> None:
    facts = facts_of(spark(), "memory", "reboot")
    assert set(facts) == {"memory", "reboot", "known_issues", "versions", "unknown"}


def test_the_deadline_ends_looking() -> None:
    now = [0.0]
    look = Look(spark(), 5, clock=lambda: now[0])
    assert look.line("/sys/class/dmi/id/board_name") == "P4242"
    now[0] = 6.0
    with pytest.raises(NotKnown, match="not looked at within 5 s"):
        look.line("/sys/class/dmi/id/board_name")
