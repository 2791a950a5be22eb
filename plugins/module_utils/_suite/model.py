# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools on the node and the paths that they start: what is declared.

The suite is one archive that Python runs. Its entries are links to it: the name says what it is.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import plain_path
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.engines import LAUNCHERS

ROLE = "launchers"
CONTROLS = (
    "launchers/driver_binaries",
    "launchers/cuda_binaries",
    "launchers/engine_binaries",
    "launchers/paths",
    "launchers/suite",
    "launchers/entries",
    "launchers/file_extra",
)
DRIVER, CUDA, ENGINE, PATHS, SUITE, ENTRIES, _EXTRA = CONTROLS

NAME = re.compile(r"[A-Z][A-Z0-9_]*_BIN")
# Of which control a binary is; all others are the engine's.
CONTROL_OF = {
    "NVIDIA_SMI_BIN": DRIVER,
    "NVCC_BIN": CUDA,
    "PTXAS_BIN": CUDA,
    "CUOBJDUMP_BIN": CUDA,
    "NVDISASM_BIN": CUDA,
}

# Options that the role leaves at their defaults, or computes.
OF_THE_MODULE = ("suite", "state_tool", "timeout")
ARGUMENT_SPEC: dict[str, Any] = {
    "suite": {"type": "str", "required": True, "no_log": True},
    "python": {"type": "str", "default": "/usr/bin/python3"},
    "folder": {"type": "str", "default": "/usr/local/libexec/nusy"},
    "launchers": {"type": "list", "elements": "str", "choices": sorted(LAUNCHERS), "default": []},
    "state_tool": {"type": "str", "default": "/usr/local/sbin/spark-ensure-state"},
    "paths_file": {"type": "str", "default": "/etc/nusy/paths.env"},
    "binaries": {"type": "dict", "default": {}},
    "arch": {"type": "str", "default": "sm_121a"},
    "timeout": {"type": "float", "default": 120},
    **OPTIONS,
}


@dataclass(frozen=True)
class Tools:
    """The declaration. ``content`` empty: only its digest is known, on a node without Ansible."""

    digest: str
    folder: str
    launchers: tuple[str, ...]
    state_tool: str
    paths_file: str
    binaries: Mapping[str, str]
    arch: str
    timeout: float
    python: str = "/usr/bin/python3"
    content: str = field(default="", repr=False)

    @property
    def suite(self) -> str:
        return f"{self.folder}/spark.pyz"

    @property
    def models_tool(self) -> str:
        """Beside the other tool for people."""
        return f"{os.path.dirname(self.state_tool)}/spark-models"


def tools(params: Mapping[str, Any]) -> Tools:
    """Raises InputError."""
    for name in ("python", "folder", "state_tool", "paths_file"):
        _absolute(name, params[name])
    for name, path in params["binaries"].items():
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            raise _wrong(f"binaries.{name}", "a name such as VLLM_BIN", name, "launchers know binaries by such names")
        _absolute(f"binaries.{name}", path)
    arch_of(params["arch"], "launchers")
    if not params["timeout"] > 0:
        raise _wrong("timeout", "more than 0", params["timeout"], "it is what ends a program that hangs")
    digest, content = _suite(str(params["suite"]), params["python"])
    return Tools(
        digest=digest,
        folder=params["folder"],
        launchers=tuple(params["launchers"]),
        state_tool=params["state_tool"],
        paths_file=params["paths_file"],
        binaries=dict(params["binaries"]),
        arch=params["arch"],
        timeout=float(params["timeout"]),
        python=params["python"],
        content=content,
    )


def digest_of(content: str) -> str:
    return "sha256:" + hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def _suite(given: str, python: str) -> tuple[str, str]:
    """(digest, content). Text stands for bytes, as in everything that reads and writes files here."""
    if given.startswith("sha256:"):
        return given, ""
    try:
        archive = zlib.decompress(base64.b64decode(given, validate=True))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise _wrong("suite", "what the lookup nusy.dgx_spark.suite returns", str(error), "it could not run") from error
    # Isolated, and without what is installed beside the standard library: the caller's environment decides nothing.
    content = f"#!{python} -IS\n" + archive.decode("utf-8", "surrogateescape")
    return digest_of(content), content


def _absolute(at: str, path: object) -> None:
    if not plain_path(path):
        raise _wrong(at, "an absolute path without .., // or a / at the end", path, "no program is looked up by name")


def _wrong(at: str, wanted: str, found: object, why: str) -> InputError:
    variable = at if at in OF_THE_MODULE else f"launchers_{at}"
    return InputError(
        "launchers.bad_input", wanted=f"{at}: {wanted}", found=repr(found), why=why, fix=f"correct {variable}"
    )
