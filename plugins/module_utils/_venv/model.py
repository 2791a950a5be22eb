# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared about a virtual environment, and what is found of it.

Words: a *generation* is one immutable virtual environment at ``<root>/<name>/<digest>[-<n>]``,
``current`` the relative link to the one in use. A generation is complete when its manifest,
written last, is there. Nothing is ever repaired in place: a generation that differs from its
manifest is replaced by a new one beside it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

ROOT = "/opt/nusy/venvs"
LINK = "current"
# Where ``current`` led before: what ``generation: previous`` goes back to, and is not pruned.
PREVIOUS = "previous"
# The digest of what was installed, and a number when that name was taken.
GENERATION = re.compile(r"(?P<digest>[0-9a-f]{16})(?:-(?P<number>[1-9][0-9]*))?\Z")
# Where a generation is worked on: package tools put their temporary files there.
WORK = re.compile(r"\.(?P<generation>[0-9a-f]{16}(?:-[1-9][0-9]*)?)\.work\Z")
CONTROLS = (
    "vllm_venv/interpreter",
    "vllm_venv/place",
    "vllm_venv/packages",
    "vllm_venv/files",
    "vllm_venv/current",
    "vllm_venv/use",
    "vllm_venv/generations",
)


@dataclass(frozen=True)
class Pin:
    """One line of a lock. ``name`` is normalised, ``hashes`` are hexadecimal SHA-256."""

    name: str
    version: str
    hashes: tuple[str, ...]
    line: int = 0

    def text(self) -> str:
        return " \\\n    ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{h}" for h in self.hashes)])


@dataclass(frozen=True)
class Assertion:
    """A truth about an installed distribution, read from its files without importing it.

    version: what its metadata says. file and attribute: a text assigned in a source file, of
    which ``suffix`` must be the end: the torch of the main index calls itself 2.13.0 in its
    metadata and 2.13.0+cu130 in torch/version.py.
    """

    distribution: str
    version: str = ""
    file: str = ""
    attribute: str = ""
    suffix: str = ""


@dataclass(frozen=True)
class Stage:
    name: str
    pins: tuple[Pin, ...]
    assertions: tuple[Assertion, ...] = ()
    index_url: str = field(default="", repr=False)

    def requirements(self) -> str:
        return "".join(f"{pin.text()}\n" for pin in self.pins)


@dataclass(frozen=True)
class Declaration:
    """interpreter: absolute path; python: the major.minor that the locks were made for."""

    root: str
    name: str
    interpreter: str
    python: str
    stages: tuple[Stage, ...]
    machine: str = ""
    find_links: str = ""
    imports: tuple[str, ...] = ()
    entry_points: tuple[str, ...] = ()
    cuda: bool = False
    owner: str = "root"
    generation: str = "declared"  # or previous
    size_mib: int = 0
    uv: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()

    @property
    def home(self) -> str:
        return f"{self.root}/{self.name}"

    @property
    def record(self) -> str:
        """Of this one environment, on the node: another of its name may be below another root."""
        if self.root == ROOT:
            return self.record_by_name
        return f"{self.record_by_name}@{hashlib.sha256(self.root.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"

    @property
    def record_by_name(self) -> str:
        return f"vllm_venv-{self.name}"

    @property
    def link(self) -> str:
        return f"{self.home}/{LINK}"

    @property
    def previous(self) -> str:
        return f"{self.home}/{PREVIOUS}"

    @property
    def pins(self) -> dict[str, Pin]:
        return {pin.name: pin for stage in self.stages for pin in stage.pins}

    @property
    def packages(self) -> dict[str, str]:
        return {name: pin.version for name, pin in sorted(self.pins.items())}

    def digest(self, machine: str) -> str:
        """Of all that decides what is installed. Where it comes from does not: the hashes do."""
        stages = [[(pin.name, pin.version, sorted(pin.hashes)) for pin in stage.pins] for stage in self.stages]
        whole = ["venv/1", "cpython", self.python, machine, stages]
        return hashlib.sha256(json.dumps(whole, separators=(",", ":")).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Interpreter:
    """What the declared interpreter says of itself. ``pip``: version that its ensurepip brings."""

    implementation: str
    python: str
    machine: str
    pip: str = ""


@dataclass(frozen=True)
class Entry:
    """One file or link of a generation; ``content`` is a SHA-256 or ``-> target``."""

    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    content: str = ""

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        """While this stays, so do content and mode: the kernel moves ctime with every change."""
        return self.size, self.mtime_ns, self.ctime_ns, self.inode


@dataclass(frozen=True)
class Manifest:
    """What a complete generation holds.

    misrecorded: files that the RECORD of their own wheel describes wrongly. The wheel as a whole
    has the locked hash; its maker changed the file after writing the RECORD (seen: PyNvVideoCodec).
    """

    digest: str
    packages: Mapping[str, str]
    files: Mapping[str, Entry]
    misrecorded: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files.values())


@dataclass(frozen=True)
class Difference:
    """A generation against its manifest."""

    altered: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.altered or self.missing or self.extra)


@dataclass(frozen=True)
class Generation:
    """A directory with the name of a generation. ``manifest`` None: it was never completed.

    ``unreadable``: or it cannot be told, and why.
    """

    name: str
    manifest: Manifest | None = None
    unreadable: str = ""

    @property
    def digest(self) -> str:
        return self.name.partition("-")[0]

    @property
    def incomplete(self) -> bool:
        return self.manifest is None and not self.unreadable


def is_a(kind: str) -> str:
    return "is neither a file, a directory nor a link" if kind == "other" else f"is a {kind}"
