# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever bytes come in, a parser answers or raises ParseError: never anything else, never for long."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import fact_shapes as shapes
import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import settle
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
from ansible_collections.nusy.dgx_spark.tests.tools.examples import examples
from fact_node import auxv
from hypothesis import given, settings
from hypothesis import strategies as st

CASES: dict[str, tuple[Callable[[str], object], str]] = {
    "query_gpu": (nvidia.query_gpu, shapes.QUERY_GPU_TWO),
    "compute_apps": (nvidia.compute_apps, shapes.COMPUTE_APPS),
    "table": (nvidia.table, shapes.TABLE),
    "pci_address": (nvidia.pci_address, "0000000F:01:00.0"),
    "module_version": (nvidia.module_version, shapes.MODULE_VERSION),
    "gpu_information": (nvidia.gpu_information, shapes.GPU_INFORMATION),
    "cuda_version_json": (nvidia.cuda_version_json, shapes.CUDA_JSON),
    "nvcc_version": (nvidia.nvcc_version, shapes.NVCC),
    "complaint": (nvidia.complaint, shapes.TABLE),
    "meminfo": (memory.meminfo, shapes.MEMINFO),
    "pressure": (memory.pressure, shapes.PRESSURE),
    "buddyinfo": (memory.buddyinfo, shapes.BUDDYINFO),
    "swaps": (memory.swaps, shapes.SWAPS),
    "page_size": (memory.page_size, auxv(4096)),
    "unescape": (memory.unescape, "/mnt/a\\040b"),
    "cpu models": (cpu.models, "\n\n".join(shapes.CPUINFO.split("\n\n")[:3])),
    "gid": (network.gid, "0000:0000:0000:0000:0000:ffff:c000:0201\n"),
    "gid_type": (network.gid_type, "IB/RoCE v1\n"),
    "state": (network.state, "4: ACTIVE\n"),
    "rate_gbps": (network.rate_gbps, "200 Gb/sec (4X HDR)\n"),
    "pcie_speed_gts": (network.pcie_speed_gts, "32.0 GT/s PCIe\n"),
    "listeners": (network.listeners, shapes.TCP6),
    "udev_properties": (disks.udev_properties, shapes.UDEV_PART),
    "mounts": (disks.mounts, shapes.MOUNTINFO),
    "device_number": (disks.device_number, "259:0\n"),
    "release": (system.release, "6.17.0-1014-nvidia\n"),
    "parameters": (system.parameters, shapes.CMDLINE),
    "os_release": (system.os_release, shapes.OS_RELEASE),
    "lockdown": (system.lockdown, "none [integrity] confidentiality\n"),
    "security_modules": (system.security_modules, "lockdown,capability\n"),
    "ufw_enabled": (system.ufw_enabled, "ENABLED=no\n"),
    "package_names": (system.package_names, "libc6\n"),
    "dpkg_query": (system.dpkg_query, shapes.DPKG),
    "dgx release": (dgx.release, shapes.DGX_RELEASE),
    "ota_snapshot": (dgx.ota_snapshot, shapes.OTA_SNAPSHOT),
    "recipe": (dgx.recipe, shapes.RECIPE),
    "inventory": (firmware.inventory, shapes.DMIDECODE_45),
    "meant": (firmware.meant, "Default string"),
    "fwupd_devices": (firmware.fwupd_devices, shapes.FWUPD),
    "efi_switch": (firmware.efi_switch, shapes.SECURE_BOOT_ON),
    "tool_version": (containers.tool_version, "Docker version 29.2.1, build a5c7197\n"),
    "docker_daemon": (containers.docker_daemon, shapes.DAEMON_JSON),
    "cdi_spec": (containers.cdi_spec, shapes.CDI_YAML),
    "integer": (lambda given: text.integer("x", given), "-12\n"),
    "hexadecimal": (lambda given: text.hexadecimal("x", given), "0x1003\n"),
    "number": (lambda given: text.number("x", given), "1.5\n"),
    "switch": (lambda given: text.switch("x", given), "Y\n"),
    "cpu_list": (lambda given: text.cpu_list("x", given), "0-4,10-14\n"),
    "json_object": (lambda given: text.json_object("x", given), "{}"),
}
# Everything Reader.read can return (surrogateescape), and everything else a str can be.
from_bytes = st.binary(max_size=400).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
anything = from_bytes | st.text(st.characters(), max_size=400)
SCRAPS = (*'\0\n\r\t\x1c\x85\u2028٣²é\udcff\ud800-,:|"{', "[N/A]")


def wild(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.randbytes(chance.randrange(100)).decode("utf-8", "surrogateescape")
    return "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randrange(100)))


def damaged(shape: str, chance: random.Random) -> str:
    """A shape cut off, with lines doubled, dropped or swapped, and with bytes put in.

    By a seed alone: drawing each choice takes ten times as long as the parsers that are tried.
    """
    for _step in range(chance.randint(1, 4)):
        kind = chance.choice(["cut", "double", "drop", "swap", "insert", "replace"])
        at = chance.randint(0, len(shape))
        lines = shape.split("\n")
        line, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        if kind == "cut":
            shape = shape[:at]
        elif kind == "insert":
            shape = shape[:at] + (chance.choice(SCRAPS) if chance.random() < 0.5 else wild(chance)) + shape[at:]
        elif kind == "replace":
            shape = shape[:at] + chance.choice(SCRAPS) + shape[at + 1 :]
        else:
            if kind == "double":
                lines.insert(other, lines[line])
            elif kind == "drop":
                del lines[line]
            else:
                lines[line], lines[other] = lines[other], lines[line]
            shape = "\n".join(lines)
    return shape


def answers(parse: Callable[[str], object], given_text: str) -> None:
    try:
        found = parse(given_text)
    except ParseError as error:
        error.problem.text().encode("utf-8", "backslashreplace")
        return
    values, reasons = settle({"fact": found})  # type: ignore[dict-item]
    json.dumps([values, reasons], ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("name", CASES)
def test_the_shape_itself_is_understood(name: str) -> None:
    parse, shape = CASES[name]
    parse(shape)


@pytest.mark.parametrize("name", CASES)
@given(given_text=anything)
@settings(max_examples=examples(120), deadline=2000)
def test_any_text_gives_a_fact_or_a_parse_error(name: str, given_text: str) -> None:
    answers(CASES[name][0], given_text)


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=examples(150), deadline=2000)
def test_any_damaged_output_gives_a_fact_or_a_parse_error(name: str, seed: int) -> None:
    parse, shape = CASES[name]
    answers(parse, damaged(shape, random.Random(seed)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("filler", [" ", "0", "a", "\n", ",", "|", ".", "-", '"', "[", "{", "| "])
def test_very_much_of_one_character_does_not_take_long(name: str, filler: str) -> None:
    """A pattern that backtracks would need hours here."""
    parse, shape = CASES[name]
    start = time.process_time()
    answers(parse, filler * (1 << 17))
    answers(parse, shape + filler * (1 << 17))
    assert time.process_time() - start < 5


def test_every_parser_is_in_the_list() -> None:
    """A new parser without a property would make the promise of this file untrue."""
    listed = {parse for parse, _shape in CASES.values()}
    shared = {text.integer, text.hexadecimal, text.number, text.switch, text.cpu_list, text.json_object}
    inside = {
        nvidia.cell,  # by query_gpu, with every kind of column
        firmware.packed_version,  # takes a number
        text.assignments,  # by os_release
        text.cpu_ranges,  # takes numbers
        text.short_lines,  # by meminfo
    }
    missing = [
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in (containers, cpu, dgx, disks, firmware, memory, network, nvidia, system, text)
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", "") == module.__name__
        and not isinstance(value, type)
        and not name.startswith("_")
        and value not in listed | shared | inside
    ]
    assert missing == []
