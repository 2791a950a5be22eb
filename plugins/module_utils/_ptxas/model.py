# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about ptxas and Triton, as values.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Arch, Fault, Version, arch_of

Kind = Literal["vendored", "vendored_blackwell", "candidate"]

# used: Triton runs this binary. ignored: as if the variable were not set. breaks: builds fail.
# unpredictable: depends on the working directory and PATH of the process.
Effect = Literal["used", "ignored", "breaks", "unpredictable"]

Verdict = Literal["ok", "forced_ok", "unrepairable", "no_triton", "no_ptxas"]

# Each probe may take `timeout` twice; a list longer than this is a mistake, not a search.
MAX_CANDIDATES = 32


@dataclass(frozen=True)
class Ptxas:
    """One binary, run for real.

    version: None unless ``--version`` named a CUDA release.
    assembles: every target that was asked for came out as a CUDA object.
    """

    path: str
    kind: Kind
    version: Version | None = None
    assembles: bool = False
    exit_code: int | None = None
    stderr: str = ""
    fault: Fault = ""

    def as_dict(self) -> dict[str, object]:
        return {
            "path": self.path,
            "kind": self.kind,
            "version": "" if self.version is None else str(self.version),
            "assembles": self.assembles,
            "exit_code": self.exit_code,
            "stderr": self.stderr,
        }


@dataclass(frozen=True)
class Setting:
    """A variable as the services of the node get it."""

    name: str
    path: str
    source: str


@dataclass(frozen=True)
class Triton:
    folder: str
    version: Version
    text: str  # the version as Triton writes it, local parts included


@dataclass(frozen=True)
class Compiled:
    ok: bool
    seconds: float
    stderr: str

    def as_dict(self) -> dict[str, object]:
        return {"ok": self.ok, "seconds": self.seconds, "stderr": self.stderr}


@dataclass(frozen=True)
class Request:
    venv: str
    triton_dir: str
    candidates: tuple[str, ...] | None  # None: the known places
    arch: Arch
    environment: tuple[Setting, ...]
    environment_files: tuple[str, ...]
    compile: bool
    timeout: float


@dataclass(frozen=True)
class Observation:
    """All that judging needs."""

    triton: Triton | None
    why_no_triton: str
    python: str
    ptxas: tuple[Ptxas, ...]
    settings: tuple[Setting, ...]
    user: int = 0  # with whose rights Triton was looked at


def is_ptxas_variable(name: str) -> bool:
    return re.fullmatch(r"TRITON_.*PTXAS.*", name) is not None


def request_of(params: Mapping[str, Any], process_environment: Mapping[str, str]) -> Request:
    """The checked request; raises InputError."""
    venv, triton_dir = params["venv"] or "", params["triton_dir"] or ""
    if bool(venv) == bool(triton_dir):
        raise InputError(
            "ptxas.venv_or_triton_dir",
            wanted="Exactly one of venv and triton_dir",
            found="both" if venv else "neither",
            why="the verdict belongs to one Triton",
            fix="give venv for a virtual environment, or triton_dir for a folder named triton",
        )
    candidates = params["candidates"]
    files = tuple(params["environment_files"] or ())
    for option, paths in (
        ("venv", [venv] if venv else []),
        ("triton_dir", [triton_dir] if triton_dir else []),
        ("candidates", candidates or []),
        ("environment_files", files),
    ):
        for number, path in enumerate(paths):
            _absolute(option if isinstance(params[option], str) else f"{option}[{number}]", path)
    if len(candidates or ()) > MAX_CANDIDATES:
        raise InputError(
            "ptxas.too_many_candidates",
            wanted=f"At most {MAX_CANDIDATES} candidates",
            found=f"{len(candidates)}",
            why="every one of them is run",
            fix="name the CUDA installations that this node is meant to use",
        )
    if not params["timeout"] > 0:
        raise InputError(
            "ptxas.timeout",
            wanted="timeout: seconds, more than 0",
            found=f"{params['timeout']}",
            why="it is what ends a ptxas that hangs",
            fix="leave timeout at its default",
        )
    given = params["environment"]
    source = "the process environment" if given is None else "the option environment"
    variables = process_environment if given is None else given
    return Request(
        venv=posixpath.normpath(venv) if venv else "",
        triton_dir=posixpath.normpath(triton_dir) if triton_dir else "",
        candidates=None if candidates is None else tuple(dict.fromkeys(candidates)),
        arch=arch_of(params["arch"], "ptxas"),
        environment=tuple(
            Setting(name, str(value), source) for name, value in sorted(variables.items()) if is_ptxas_variable(name)
        ),
        environment_files=files,
        compile=params["compile"],
        timeout=float(params["timeout"]),
    )


def _absolute(option: str, path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise InputError(
            "ptxas.absolute_path",
            wanted=f"{option}: an absolute path",
            found=repr(path[:200]),
            why="services run with another working directory and PATH than the one who declares",
            fix="write the whole path, such as /usr/local/cuda-13.0/bin/ptxas",
        )
