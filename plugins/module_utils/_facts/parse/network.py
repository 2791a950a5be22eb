# SPDX-License-Identifier: GPL-3.0-or-later
"""sysfs words of network cards and RDMA devices, and the kernel's table of listening sockets.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import number

TCP_LISTEN = "0A"


def gid(text: str) -> tuple[str, str | None] | None:
    """A GID and the IPv4 address it stands for; None for an empty slot of the table."""
    word = text.strip()
    if not re.fullmatch(r"([0-9a-fA-F]{4}:){7}[0-9a-fA-F]{4}", word, re.ASCII):
        raise ParseError("RDMA GID", text, "eight groups of four hexadecimal digits")
    address = ipaddress.IPv6Address(word)
    if int(address) == 0:
        return None
    mapped = address.ipv4_mapped
    return word.lower(), str(mapped) if mapped else None


def gid_type(text: str) -> str:
    word = text.strip()
    if word not in {"RoCE v2", "IB/RoCE v1", "RoCE v1"}:
        raise ParseError("RDMA GID type", text, "RoCE v2 or IB/RoCE v1")
    return word


def state(text: str) -> str:
    """``4: ACTIVE`` and ``5: LinkUp`` → the word."""
    match = re.fullmatch(r"[0-9]{1,2}: ([A-Za-z_]{1,30})", text.strip(), re.ASCII)
    if match is None:
        raise ParseError("RDMA port state", text, "a number and a word, such as 4: ACTIVE")
    return match[1]


def rate_gbps(text: str) -> float:
    """``200 Gb/sec (2X NDR)`` → 200.0. A port that is down prints 40: the rate alone proves nothing."""
    match = re.match(r"([0-9.]{1,8}) Gb/sec\b", text, re.ASCII)
    return number("RDMA port rate", match[1] if match else text)


def pcie_speed_gts(text: str) -> float:
    """``32.0 GT/s PCIe`` → 32.0."""
    match = re.match(r"\s*([0-9.]{1,8}) GT/s\b", text, re.ASCII)
    return number("PCIe link speed", match[1] if match else text)


def listeners(text: str) -> list[dict[str, Node]]:
    """/proc/net/tcp or tcp6: what listens, as address and port."""
    lines = text.splitlines()
    if not lines or "local_address" not in lines[0]:
        raise ParseError("/proc/net/tcp", text, "a header with local_address")
    found: set[tuple[str, int]] = set()
    for line in lines[1:]:
        match = re.match(
            r"\s*[0-9]+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) [0-9A-F]{8,32}:[0-9A-F]{4} ([0-9A-F]{2})\s",
            line,
            re.ASCII,
        )
        if match is None:
            raise ParseError("/proc/net/tcp", line, "number: local_address rem_address state …")
        if match[3] == TCP_LISTEN:
            found.add((_address(match[1]), int(match[2], 16)))
    return [{"address": address, "port": port} for address, port in sorted(found, key=lambda item: (item[1], item[0]))]


def _address(digits: str) -> str:
    """The kernel prints each 32-bit word of the address in the byte order of the machine."""
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    raw = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
