# SPDX-License-Identifier: GPL-3.0-or-later
"""/proc/cpuinfo: on Arm it holds no model name, only the numbers of the implementer and the part.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import integer

# (implementer, part) → name. The two of the GB10, and what test machines run on.
# Source: MIDR_EL1 part numbers in Arm's technical reference manuals of each core.
ARM_PARTS = {
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
}


def models(text: str) -> dict[str, list[int]]:
    """Model name → its processors, in the order of the first of each."""
    found: dict[str, list[int]] = {}
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            key, colon, value = line.partition(":")
            if colon:
                fields[key.strip()] = value.strip()
        if "processor" not in fields or not fields["processor"].isdigit():
            continue  # the machine's own lines, which some kernels add at the end
        found.setdefault(_name(fields), []).append(integer("/proc/cpuinfo", fields["processor"]))
    if not found:
        raise ParseError("/proc/cpuinfo", text, "a block for each processor")
    return found


def _name(fields: dict[str, str]) -> str:
    if fields.get("model name"):
        return fields["model name"]
    numbers = [fields.get("CPU implementer", ""), fields.get("CPU part", "")]
    if not all(re.fullmatch(r"0x[0-9a-fA-F]{1,4}", word) for word in numbers):
        raise ParseError("/proc/cpuinfo", str(fields)[:200], "a model name, or a CPU implementer and part")
    implementer, part = (int(word, 16) for word in numbers)
    return ARM_PARTS.get((implementer, part), f"Arm implementer {implementer:#04x} part {part:#05x}")
