# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA's command line tools, run for real: what every look at one of them shares.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader

# How a binary fails before it is asked to do any work.
# unreachable: a loop of links, or a file where a folder should be. uninterpreted: a script
# whose interpreter is missing. unrunnable: another machine's program, or not a program.
# unjudged: it was not run, so nothing is known.
Fault = Literal[
    "",
    "missing",
    "unreachable",
    "directory",
    "denied",
    "uninterpreted",
    "unrunnable",
    "failing",
    "garbage",
    "hangs",
    "unjudged",
]
FAULTS: dict[Fault, str] = {
    "missing": "it does not exist",
    "unreachable": "its path leads nowhere",
    "directory": "it is a directory",
    "denied": "it may not be executed",
    "uninterpreted": "the interpreter of this script does not exist",
    "unrunnable": "this machine cannot execute it",
    "failing": "its --version ends in an error",
    "garbage": "its --version names no CUDA release",
    "hangs": "it does not end",
    "unjudged": "it was not run",
}

# Toolkits of wheels. Root runs what is in there, so only root may decide about it and about the way to it.
OWN_PLACE = "/usr/local/lib/nusy/cuda"
MAX_STDERR = 2000
EM_CUDA = 190
_HEADER = 52  # e_ident, e_type … e_flags of ELF64

# "Cuda compilation tools, release 13.0, V13.0.88": Triton reads `release X.Y`, so it is what
# makes a text a version; V is the full one.
_RELEASE = re.compile(r"release (\d{1,4})\.(\d{1,4})", re.ASCII)
_FULL = re.compile(r"V(\d{1,4})\.(\d{1,4})\.(\d{1,9})", re.ASCII)


@dataclass(frozen=True, order=True)
class Version:
    """major.minor[.patch]."""

    major: int
    minor: int
    patch: int = 0

    @property
    def short(self) -> str:
        return f"{self.major}.{self.minor}"

    def __str__(self) -> str:
        return f"{self.short}.{self.patch}"


@dataclass(frozen=True)
class Arch:
    """A GPU target such as sm_121a: capability 121, suffix a (this chip) or f (its family)."""

    capability: int
    suffix: str = ""

    @property
    def name(self) -> str:
        return f"sm_{self.capability}{self.suffix}"


@dataclass(frozen=True)
class Answer:
    """What a tool said to ``--version``. ``version``: None unless it named a CUDA release."""

    version: Version | None
    fault: Fault
    exit_code: int | None
    said: str


def arch_of(text: str, subject: str) -> Arch:
    match = re.fullmatch(r"sm_([1-9][0-9]{1,2})([af]?)", text, re.ASCII)
    if match is None:
        raise InputError(
            f"{subject}.arch",
            wanted="arch: a GPU target such as sm_121a, sm_121, sm_121f, sm_90a or sm_80",
            found=repr(text[:40]),
            why="it is given to the compiler as it is",
            fix="use sm_121a for DGX Spark, or sm_ and the compute capability without its dot",
        )
    return Arch(int(match[1]), match[2])


def release_of(text: str) -> Version | None:
    """The CUDA version out of what ``--version`` of any CUDA tool prints, None when it names none."""
    release = _RELEASE.search(text)
    if release is None:
        return None
    major, minor = int(release[1]), int(release[2])
    for full in _FULL.finditer(text):
        if (int(full[1]), int(full[2])) == (major, minor):
            return Version(major, minor, int(full[3]))
    return Version(major, minor)


def ask(path: str, reader: Reader, timeout: float, scratch: Path) -> Answer:
    """Have one binary tell its version."""
    said = reader.run([path, "--version"], timeout=timeout, env={"TMPDIR": str(scratch), "HOME": str(scratch)})
    fault = _fault(path, said)
    version = None if fault else release_of(said.out + "\n" + said.err)
    if version is None:
        return Answer(None, fault or "garbage", said.rc, printed(said))
    return Answer(version, "", said.rc, "")


def _fault(path: str, said: Completed) -> Fault:
    if said.rc is not None:
        return "failing" if said.rc else ""
    # The text is in the language of the process: compare with what this process would say.
    fault = next((fault for number, fault in _ERRORS.items() if said.problem == os.strerror(number)), None)
    if fault == "denied" and os.path.isdir(path):
        return "directory"
    if fault == "missing" and os.path.exists(path):
        return "uninterpreted"
    return fault or ("hangs" if said.problem.endswith("stopped") else "unrunnable")


_ERRORS: dict[int, Fault] = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "unreachable",
    errno.ELOOP: "unreachable",
    errno.EACCES: "denied",
    errno.ENOEXEC: "unrunnable",
}


def printed(done: Completed) -> str:
    """What an operator needs to see: stderr, else the reason why nothing ran, else stdout."""
    text = done.err.strip() or done.problem or done.out.strip()
    clean = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
    return clean if len(clean) <= MAX_STDERR else clean[: MAX_STDERR - 1] + "…"


def cuda_object(path: str, reader: Reader) -> tuple[int | None, str]:
    """Compute capability in the header of a CUDA object (None if too old to tell), and what is wrong with it.

    Exit code 0 alone is the word of whatever was run. The suffix of a target is not in the header.
    """
    try:
        text = reader.read(path)
    except Unreadable:
        text = ""
    if text is None:
        return None, "exit code 0, but no object was written"
    head = text[:_HEADER].encode("utf-8", "surrogateescape")[:_HEADER]
    if head[:4] != b"\x7fELF" or int.from_bytes(head[18:20], "little") != EM_CUDA:
        return None, "exit code 0, but what was written is no CUDA object"
    # Since version 8 of its ABI (CUDA 12.9 and 13) the second byte of the flags, before that the first.
    flags = int.from_bytes(head[48:52], "little")
    return (flags >> 8 if head[8] >= 8 else flags) & 0xFF, ""


@contextmanager
def scratch_folder(subject: str) -> Iterator[Path]:
    """A folder that nobody else can look into, gone afterwards."""
    try:
        # Also when a killed tool still holds files in it.
        folder = tempfile.TemporaryDirectory(prefix=f"{subject}_probe.", ignore_cleanup_errors=True)
    except OSError as error:
        raise NodeError(
            f"{subject}.no_scratch",
            wanted="A temporary folder for a few small files",
            found=error.strerror or str(error),
            why="compilers read and write files only",
            fix="free space in /tmp, or set TMPDIR to a folder that the user of this task can write",
        ) from error
    with folder as name:
        yield Path(name)
