# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia-smi, the NVIDIA kernel driver and the CUDA toolkit say about themselves.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node, Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import (
    json_object,
    number,
    short_lines,
)

MIB = 1 << 20
# The tool's ways to say that a property does not exist on this GPU. On a GB10 that is a
# value (there is no GPU memory apart from the system's), not a failure.
NOT_APPLICABLE = ("N/A", "NOT SUPPORTED", "DEPRECATED")
# Two or three parts: 580.142, 580.126.09.
VERSION = r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,2}"


@dataclass(frozen=True)
class Column:
    """One property to ask nvidia-smi for, under our name, and what its value is."""

    query: str
    fact: str
    kind: str  # text | version | number | mib | switch | pci


COLUMNS = (
    Column("index", "index", "number"),
    Column("name", "name", "text"),
    Column("pci.bus_id", "pci_address", "pci"),
    Column("driver_version", "driver_version", "version"),
    Column("compute_cap", "compute_capability", "text"),
    Column("persistence_mode", "persistence_mode", "switch"),
    Column("pstate", "performance_state", "text"),
    Column("temperature.gpu", "temperature_celsius", "number"),
    Column("power.draw", "power_watts", "number"),
    Column("clocks.current.graphics", "graphics_clock_mhz", "number"),
    Column("clocks.max.graphics", "graphics_clock_max_mhz", "number"),
    Column("utilization.gpu", "utilization_percent", "number"),
    Column("memory.total", "memory_total_bytes", "mib"),
    Column("vbios_version", "vbios_version", "text"),
)


def cell(column: Column, text: str) -> Node:
    """One value: with or without unit, ``[N/A]`` → None, ``[Unknown Error]`` → Unknown."""
    word = text.strip()
    if word.strip("[] ").upper().startswith(NOT_APPLICABLE):
        return None
    if word.startswith("["):
        return Unknown(f"nvidia-smi answers {word[:80]} for {column.query}")
    source = f"nvidia-smi {column.query}"
    if column.kind in {"number", "mib"}:
        match = re.fullmatch(r"(-?[0-9.]{1,20})(?: ?(?:MiB|MHz|W|%|C))?", word, re.ASCII)
        value = number(source, match[1] if match else word)
        if column.kind == "mib":
            return int(value * MIB)
        return int(value) if value.is_integer() else value
    if column.kind == "switch":
        if word not in {"Enabled", "Disabled", "On", "Off"}:
            raise ParseError(source, word, "Enabled or Disabled")
        return word in {"Enabled", "On"}
    if column.kind == "pci":
        return pci_address(word)
    if column.kind == "version" and not re.fullmatch(VERSION, word, re.ASCII):
        raise ParseError(source, word, "a version such as 580.142 or 580.126.09")
    if not word:
        raise ParseError(source, word, "a value")
    return word


def query_gpu(text: str, columns: Sequence[Column] = COLUMNS) -> list[dict[str, Node]]:
    """Rows of ``--query-gpu=… --format=csv,noheader``, one a GPU."""
    rows: list[dict[str, Node]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) != len(columns):
            raise ParseError("nvidia-smi --query-gpu", line, f"{len(columns)} values separated by commas")
        rows.append({column.fact: cell(column, value) for column, value in zip(columns, cells, strict=True)})
    if not rows:
        raise ParseError("nvidia-smi --query-gpu", text, "one line for each GPU")
    return rows


def compute_apps(text: str) -> list[dict[str, Node]]:
    """Rows of ``--query-compute-apps=pid,process_name,used_memory --format=csv,noheader``.

    The name is cut at the outer commas only: a command may hold any of them itself.
    """
    memory = Column("used_memory", "memory_bytes", "mib")
    found: list[dict[str, Node]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*([0-9]{1,10}), ?(.*),([^,]*)", line, re.ASCII)
        if match is None:
            raise ParseError("nvidia-smi --query-compute-apps", line, "pid, name, memory")
        found.append({"pid": int(match[1]), "name": match[2].strip(), "memory_bytes": cell(memory, match[3])})
    return found


def table(text: str) -> dict[str, Node]:
    """The picture that plain ``nvidia-smi`` draws: what CSV does not say, and the way out when CSV fails.

    Only here stand the CUDA version of the driver and the graphics processes. Columns are
    found by their form and not by position: notebooks, logs and snaps move them.
    """
    banner = re.search(
        rf"NVIDIA-SMI +({VERSION}) {{1,40}}(?:Driver|KMD) Version: +({VERSION}) {{1,40}}"
        r"CUDA (?:UMD )?Version: +(\S{1,20})",
        text,
        re.ASCII,
    )
    if banner is None:
        raise ParseError("nvidia-smi", text, "a table that starts with the driver and CUDA version")
    gpus: list[dict[str, Node]] = []
    processes: list[Node] = []
    # Without its closing remark or a row the process part may be cut off: then it is unknown.
    complete = "No running processes found" in text
    for line in short_lines(text):
        if head := re.match(
            r"\|\s{1,8}([0-9]{1,3})\s{1,4}(\S.{0,40}?)\s{2,30}(On|Off|N/A)\s{1,4}\|\s{1,4}([0-9A-Fa-f:.]{12,16})\s",
            line,
        ):
            gpus.append(
                {
                    "index": int(head[1]),
                    "name": head[2],
                    "persistence_mode": cell(_PERSISTENCE, head[3]),
                    "pci_address": pci_address(head[4]),
                }
            )
        elif gpus and (body := re.match(_READINGS, line)):
            for column, value in zip(_READING_COLUMNS, body.groups(), strict=True):
                gpus[-1][column.fact] = cell(column, re.split(r"\s/\s", value)[-1])
        elif row := re.match(
            r"\|\s{1,8}[0-9]{1,3}\s{1,8}\S{1,6}\s{1,8}\S{1,6}\s{1,20}([0-9]{1,10})\s{1,8}(\S{1,6})\s{1,8}(\S.{0,80}?)\s{1,60}"
            r"([0-9]{1,6}MiB|[0-9]{1,6}\.\.\.|N/A)\s{0,4}\|",
            line,
        ):
            complete = True
            cut = row[4].endswith("...")
            processes.append(
                {
                    "pid": int(row[1]),
                    "type": row[2],
                    "name": row[3],
                    "memory_bytes": Unknown("nvidia-smi cuts off figures of 100000 MiB and more")
                    if cut
                    else cell(_MEMORY, row[4]),
                }
            )
    return {
        "driver_version": banner[2],
        "cuda_driver_version": cell(Column("CUDA Version", "", "text"), banner[3]),
        "devices": gpus,
        "processes": processes if complete else Unknown("nvidia-smi printed no process table"),
    }


_PERSISTENCE = Column("Persistence-M", "persistence_mode", "switch")
_MEMORY = Column("GPU Memory", "memory_bytes", "mib")
_READINGS = (
    r"\|\s{1,4}\S{1,6}\s{1,8}([0-9]{1,3}C|N/A)\s{1,8}(P[0-9]{1,2}|N/A)\s{1,20}([0-9]{1,5}W|N/A)\s{1,4}/\s{1,6}\S{1,8}\s{1,4}\|"
    r"\s{0,20}(Not Supported|N/A|[0-9]{1,8}MiB\s{1,3}/\s{1,8}[0-9]{1,8}MiB)\s{1,20}\|\s{1,10}([0-9]{1,3}%|N/A)\s"
)
_READING_COLUMNS = (
    Column("Temp", "temperature_celsius", "number"),
    Column("Perf", "performance_state", "text"),
    Column("Pwr", "power_watts", "number"),
    Column("Memory-Usage", "memory_total_bytes", "mib"),
    Column("GPU-Util", "utilization_percent", "number"),
)


def pci_address(text: str) -> str:
    """``0000000F:01:00.0`` as the kernel writes it: ``000f:01:00.0``."""
    match = re.fullmatch(r"([0-9A-Fa-f]{4,8}):([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})\.([0-7])", text.strip(), re.ASCII)
    if match is None:
        raise ParseError("PCI address", text, "domain:bus:device.function")
    return f"{int(match[1], 16):04x}:{match[2]}:{match[3]}.{match[4]}".lower()


def module_version(text: str) -> dict[str, Node]:
    """/proc/driver/nvidia/version: the version of the loaded kernel module, and which of the two it is."""
    match = re.search(
        rf"^NVRM version:.{{0,120}}?Kernel Module.{{0,40}}?\s({VERSION})\b", text, re.ASCII | re.MULTILINE
    )
    if match is None:
        raise ParseError("/proc/driver/nvidia/version", text, "a line NVRM version: … Kernel Module … 580.142")
    return {"version": match[1], "open": "Open Kernel Module" in match[0]}


def gpu_information(text: str) -> dict[str, str]:
    """/proc/driver/nvidia/gpus/*/information. The GPU's UUID is left out: nothing of ours needs it."""
    wanted = {"Model": "name", "Video BIOS": "vbios_version"}
    found: dict[str, str] = {}
    for line in short_lines(text):
        key, _colon, value = line.partition(":")
        if key.strip() in wanted and value.strip():
            found[wanted[key.strip()]] = value.strip()
    if "name" not in found:
        raise ParseError("NVIDIA GPU information", text, "a line Model: …")
    return found


def cuda_version_json(text: str) -> str:
    entry = json_object("CUDA version.json", text).get("cuda")
    version = entry.get("version") if isinstance(entry, dict) else None
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,10}){1,3}", version, re.ASCII):
        raise ParseError("CUDA version.json", text, "a version of component cuda")
    return version


def nvcc_version(text: str) -> str:
    match = re.search(
        r"^Cuda compilation tools, release [0-9.]{1,20}, V([0-9]{1,3}(?:\.[0-9]{1,6}){2})\b", text, re.ASCII | re.M
    )
    if match is None:
        raise ParseError("nvcc --version", text, "Cuda compilation tools, release 13.0, V13.0.88")
    return match[1]


def complaint(text: str) -> str:
    """Why nvidia-smi has nothing to tell, in its own words; empty when it complains of nothing.

    ``No devices were found`` comes with exit 6 or with exit 0, so the code alone does not tell.
    """
    for known in ("No devices were found", "Failed to initialize NVML", "couldn't communicate with the NVIDIA driver"):
        for line in short_lines(text):
            if known in line:
                return line.strip()
    return ""
