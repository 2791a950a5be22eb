# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared about a CUDA toolkit, and what is found of it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Arch, Fault
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Package
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Pin

ROLE = "cuda_toolchain"
CONTROLS = (
    "cuda_toolchain/key",
    "cuda_toolchain/repository",
    "cuda_toolchain/toolkit",
    "cuda_toolchain/components",
    "cuda_toolchain/link",
    "cuda_toolchain/builds",
    "cuda_toolchain/file_extra",
)
KEY, REPOSITORY, TOOLKIT, COMPONENTS, LINK, BUILDS, EXTRA = CONTROLS

Source = Literal["existing", "apt", "wheel"]
# What found code for the target in an object that nvcc made.
ReadBack = Literal["cuobjdump", "elf", ""]

# Debian package and wheel of each tool. Those that only read what was built may be of a later
# release: NVIDIA has wheels of them from 13.2 on.
PACKAGE_OF = {
    "nvcc": "cuda-nvcc",
    "ptxas": "cuda-nvcc",
    "nvlink": "cuda-nvcc",
    "fatbinary": "cuda-nvcc",
    "cuobjdump": "cuda-cuobjdump",
    "nvdisasm": "cuda-nvdisasm",
}
TOOLS = tuple(PACKAGE_OF)
READERS = ("cuobjdump", "nvdisasm")
# What engines need to build their kernels at run time, beside a host compiler. No driver, and no
# metapackage that brings one.
ENGINE_PACKAGES = (
    "cuda-nvcc",
    "cuda-cuobjdump",
    "cuda-nvdisasm",
    "cuda-cudart-dev",
    "cuda-cccl",
    "cuda-nvrtc-dev",
    "libcurand-dev",
)
# What has to be whole for the proof.
COMPILER_PACKAGES = (
    "cuda-nvcc",
    "cuda-crt",
    "libnvvm",
    "cuda-cudart-dev",
    "cuda-cccl",
    "cuda-cuobjdump",
    "cuda-nvdisasm",
)


@dataclass(frozen=True)
class Release:
    """major.minor of CUDA: what a toolkit is one of, whatever the patch levels of its parts."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def suffix(self) -> str:
        return f"-{self.major}-{self.minor}"


@dataclass(frozen=True)
class Repository:
    """url: empty for NVIDIA's own of this system. key: armoured text, empty to fetch it from key_url."""

    url: str
    fingerprint: str
    key_url: str = ""
    key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Wheels:
    """index_url: may hold a password."""

    pins: tuple[Pin, ...]
    interpreter: str
    index_url: str = field(default="", repr=False)
    find_links: str = ""


@dataclass(frozen=True)
class Toolchain:
    """The declaration. ``link``: empty when no link is wanted. ``proven``: by building something with it.

    confirmed: victims that the operator has named.
    """

    release: Release
    source: Source
    prefix: str
    link: str
    components: tuple[str, ...]
    arch: Arch
    compile: bool
    timeout: float
    packages: tuple[Package, ...] = ()
    repository: Repository | None = None
    wheels: Wheels | None = None
    proven: bool = True
    confirmed: frozenset[str] = frozenset()

    def binary(self, tool: str) -> str:
        return f"{self.prefix}/bin/{tool}"


@dataclass(frozen=True)
class Tool:
    """One binary as found. ``release``: major.minor, empty unless it named one."""

    path: str
    version: str = ""
    release: str = ""
    fault: Fault = ""
    said: str = ""
    size_mib: float = 0.0

    def as_dict(self) -> dict[str, object]:
        return {
            "path": self.path,
            "version": self.version,
            "fault": self.fault,
            "stderr": self.said,
            "size_mib": self.size_mib,
        }


@dataclass(frozen=True)
class Proof:
    """What building for the target came to.

    assembled: ptxas alone made a CUDA object; None if it was not asked.
    built: nvcc made one out of a .cu; None if it could not be asked, and ``why`` says what it lacks.
    read_back: what found code for the target in it.
    """

    assembled: bool | None = None
    built: bool | None = None
    read_back: ReadBack = ""
    why: str = ""

    def as_dict(self) -> dict[str, object]:
        return {"assembled": self.assembled, "built": self.built, "read_back": self.read_back, "reason": self.why}


@dataclass(frozen=True)
class Look:
    """What the tools under the prefix are and do."""

    tools: Mapping[str, Tool]
    proof: Proof
    size_mib: int

    def as_json(self) -> dict[str, object]:
        tools = {name: vars(tool) for name, tool in self.tools.items()}
        return {"tools": tools, "proof": vars(self.proof), "size_mib": self.size_mib}

    @staticmethod
    def of_json(found: Mapping[str, Any]) -> Look:
        tools = {name: Tool(**tool) for name, tool in found["tools"].items()}
        return Look(tools, Proof(**found["proof"]), found["size_mib"])
