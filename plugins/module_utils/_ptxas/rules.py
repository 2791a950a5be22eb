# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Triton does with ptxas, as data.

Each row was read in the source of that release (``triton/knobs.py`` and
``triton/backends/nvidia/compiler.py`` of the wheel on PyPI) and is held against the real
releases by ``tests/integration/ptxas``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Arch, Fault, Version
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import Kind

PLAIN = "TRITON_PTXAS_PATH"
BLACKWELL = "TRITON_PTXAS_BLACKWELL_PATH"
# Triton 3.3 makes the name of the variable from the name of the binary, hyphen included.
HYPHENED = "TRITON_PTXAS-BLACKWELL_PATH"


@dataclass(frozen=True)
class Rules:
    """One span of Triton releases that treat ptxas alike.

    since: first (major, minor) of the span; it ends where the next row begins.
    blackwell_from: from which capability on ptxas-blackwell is run; None: there is none.
    blackwell_variable: the variable that replaces ptxas-blackwell.
    cuda_below: the CUDA release from which on Triton refuses a ptxas, or writes a PTX
        version which that ptxas refuses, for every GPU; None: no such limit.
    suffix_from, suffix_to: capabilities that Triton compiles for as sm_<capability>a.
    ignores: faults of a forced binary after which Triton takes its own without a word.
        Every other fault ends each compile in an error.
    source: where this was read.
    """

    since: tuple[int, int]
    blackwell_from: int | None
    blackwell_variable: str
    cuda_below: tuple[int, int] | None
    suffix_from: int
    suffix_to: int | None
    ignores: frozenset[Fault]
    source: str

    def kind(self, arch: Arch) -> Kind:
        blackwell = self.blackwell_from is not None and arch.capability >= self.blackwell_from
        return "vendored_blackwell" if blackwell else "vendored"

    def variable(self, arch: Arch) -> str:
        return self.blackwell_variable if self.kind(arch) == "vendored_blackwell" else PLAIN

    def target(self, arch: Arch) -> Arch:
        """What Triton calls this GPU: it knows the capability only and adds the suffix itself."""
        chip = self.suffix_from <= arch.capability <= (self.suffix_to or arch.capability)
        return Arch(arch.capability, "a" if chip else "")

    def accepts(self, cuda: Version) -> bool:
        return self.cuda_below is None or (cuda.major, cuda.minor) < self.cuda_below


_OS_PATH: frozenset[Fault] = frozenset({"missing", "unreachable", "directory", "garbage"})
_OS_ACCESS: frozenset[Fault] = frozenset({"missing", "unreachable", "denied", "failing", "garbage"})
_RUN: frozenset[Fault] = frozenset({"missing", "uninterpreted", "failing", "garbage"})

RULES: tuple[Rules, ...] = (
    Rules(
        (3, 1), None, "", (12, 6), 90, 90, _OS_PATH,
        "3.1.0 compiler.py: _path_to_binary tests os.path.isfile and then runs it; ptx_get_version gives CUDA 12.x "
        "the PTX version 8.x, which is one too high from 12.6 on, and raises from 13 on",
    ),
    Rules(
        (3, 2), None, "", (12, 7), 90, 90, _OS_PATH,
        "3.2.0 compiler.py: as 3.1; ptx_get_version ends at CUDA 12.6 and raises above",
    ),
    Rules(
        (3, 3), 100, HYPHENED, (13, 0), 90, None, _OS_PATH,
        "3.3.1 compiler.py: get_ptxas takes ptxas-blackwell from capability 100 on and reads "
        "TRITON_PTXAS-BLACKWELL_PATH; ptx_get_version raises from CUDA 13 on",
    ),
    Rules(
        (3, 4), None, "", (13, 0), 90, None, _OS_ACCESS,
        "3.4.0 knobs.py: env_nvidia_tool tests os.access(X_OK), from_path swallows a failed run; compiler.py: "
        "get_ptxas knows one binary, ptx_get_version raises from CUDA 13 on",
    ),
    Rules(
        (3, 5), None, "", None, 90, None, _RUN,
        "3.5.1 knobs.py: from_path runs it and swallows FileNotFoundError and a failed run; compiler.py: "
        "ptx_get_version knows CUDA 13 and counts on from there",
    ),
    Rules(
        (3, 6), 100, BLACKWELL, None, 90, None, _RUN,
        "3.6.0, 3.7.0, 3.8.0 knobs.py: ptxas_blackwell with TRITON_PTXAS_BLACKWELL_PATH; compiler.py: get_ptxas "
        "takes it from capability 100 on",
    ),
    Rules(
        (3, 9), 90, BLACKWELL, None, 90, None, _RUN,
        "3.9.0 compiler.py: get_ptxas takes ptxas-blackwell from capability 90 on",
    ),
)  # fmt: skip
NEWEST_READ = (3, 9)


def rules_for(triton: Version) -> tuple[Rules, str]:
    """The row for this release and the assumption made, if any."""
    release = (triton.major, triton.minor)
    if release < RULES[0].since:
        return RULES[0], f"Triton {triton.short} is older than any release read: taken to behave like 3.1"
    row = [rules for rules in RULES if rules.since <= release][-1]
    newer = release > NEWEST_READ
    return row, f"Triton {triton.short} is newer than any release read: taken to behave like 3.9" if newer else ""


def settable(variable: str) -> bool:
    """Whether systemd (EnvironmentFile, Environment=) and shells can set a variable of this name."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable, re.ASCII) is not None


# The lowest PTX version that knows a target. The probe uses it, so that an old ptxas which
# knows the target is not refused for the language: a higher version than a ptxas has is an
# error of its own. Measured with the ptxas of CUDA 13.0.88.
_ISA: dict[str, str] = {
    "sm_75": "6.3", "sm_80": "7.0", "sm_86": "7.1", "sm_87": "7.4", "sm_88": "7.3", "sm_89": "7.8",
    "sm_90": "7.8", "sm_90a": "8.0", "sm_100": "8.6", "sm_100a": "8.6", "sm_100f": "8.8",
    "sm_103": "8.8", "sm_103a": "8.8", "sm_103f": "8.8", "sm_110": "9.0", "sm_110a": "9.0", "sm_110f": "9.0",
    "sm_120": "8.7", "sm_120a": "8.7", "sm_120f": "8.8", "sm_121": "8.8", "sm_121a": "8.8", "sm_121f": "8.8",
}  # fmt: skip


def cuda_for(arch: Arch) -> str:
    """The CUDA release that brought a target, for the reader of an explanation; may be empty."""
    major, _dot, minor = _ISA.get(arch.name, "").partition(".")
    if major == "8":
        return f"12.{int(minor) + (minor > '5')}"
    return f"13.{minor}" if major == "9" else ""


def isa_for(arch: Arch, cuda: Version) -> str:
    """The PTX version to write: the lowest for a known target, else the highest this ptxas has.

    CUDA 12.0-12.5 has PTX 8.0-8.5, 12.6 still 8.5, 12.7 to 12.9 one less than its minor, and
    13.x has 9.x: the same count that Triton keeps.
    """
    if arch.name in _ISA:
        return _ISA[arch.name]
    if cuda.major <= 12:
        return f"{cuda.major - 4}.{cuda.minor if cuda.minor < 6 else cuda.minor - 1}"
    return f"{cuda.major - 4}.{cuda.minor}"
