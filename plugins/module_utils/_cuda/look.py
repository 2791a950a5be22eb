# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tools under a prefix, and have them build something.

The node is left as it was: what a compiler reads and writes lies in one private folder, which
is removed whatever happens.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import SYSTEM_PATH
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import NoLook
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import look as with_rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import (
    READERS,
    TOOLS,
    Look,
    Proof,
    ReadBack,
    Tool,
    Toolchain,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import (
    FAULTS,
    ask,
    cuda_object,
    printed,
    scratch_folder,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.observe import probe

# Uses the headers of the compiler and of the runtime, and an instruction that every target has.
SOURCE = """
#include <cuda_runtime.h>
extern "C" __global__ void probe(float *out, float x, dim3 shape) {
  out[threadIdx.x] = fmaf(x, __ldg(out + threadIdx.x), static_cast<float>(shape.x));
}
"""
# The one machine number of an ELF file that a node can have, by `uname -m`.
MACHINES = {62: "x86_64", 183: "aarch64"}
# A toolkit of everything has 15,000 files; what has more is not only a toolkit.
MAX_FILES = 200_000


def look(wanted: Toolchain, reader: Reader) -> Look:
    """With the rights of whoever could put other programs there: root does not run those."""
    try:
        # More than all runs may take, and their end.
        said = with_rights(
            [*map(wanted.binary, TOOLS)],
            lambda: _look(wanted, reader).as_json(),
            (wanted.timeout + 5) * (len(TOOLS) + 5),
        )
    except NoLook as error:
        why = f"not run: {error.problem.found}"
        return Look({name: Tool(wanted.binary(name), fault="unjudged", said=why) for name in TOOLS}, Proof(why=why), 0)
    return Look.of_json(said.value)


def _look(wanted: Toolchain, reader: Reader) -> Look:
    with scratch_folder("cuda") as scratch:
        tools = {name: _tool(wanted.binary(name), reader, wanted.timeout, scratch) for name in TOOLS}
        proof = _prove(wanted, tools, reader, scratch) if wanted.proven else Proof()
    return Look(tools, proof, size_mib(wanted.prefix))


def _tool(path: str, reader: Reader, timeout: float, scratch: Path) -> Tool:
    answer = ask(path, reader, timeout, scratch)
    size, hidden = 0.0, False
    try:
        found = os.stat(path)
        size, hidden = round(found.st_size / 2**20, 1), bool(found.st_mode & 0o111)
    except OSError as error:
        hidden = isinstance(error, PermissionError)
    if answer.version is not None:
        return Tool(path, str(answer.version), answer.version.short, size_mib=size)
    if answer.fault == "denied" and hidden:
        # Others may run it.
        return Tool(path, fault="unjudged", said=f"{path}: who looks may not run it", size_mib=size)
    said = FAULTS.get(answer.fault, "")
    if answer.fault == "unrunnable" and (machine := _other_machine(path)):
        said = f"it is a program for {machine}, and this machine is {os.uname().machine}"
    elif answer.fault in ("failing", "garbage"):
        said = f"{said}: {one_line(answer.said, 200)}"
    return Tool(path, fault=answer.fault, said=said, size_mib=size)


def _other_machine(path: str) -> str:
    """Whose program it is when it is not this machine's; empty when it is, or is none."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(20)
    except OSError:
        return ""
    if head[:4] != b"\x7fELF":
        return ""
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    machine = MACHINES.get(number, f"machine {number}")
    return "" if machine == os.uname().machine else machine


def _prove(wanted: Toolchain, tools: dict[str, Tool], reader: Reader, scratch: Path) -> Proof:
    ptxas = tools["ptxas"]
    assembled, why = None, ""
    if not ptxas.fault:
        done = probe(ptxas.path, "candidate", [wanted.arch], reader, wanted.timeout, scratch)
        assembled, why = done.assembles, f"{ptxas.path}: {one_line(done.stderr, 200)}" if done.stderr else ""
    if not wanted.compile:
        return Proof(assembled, None, "", why or ("" if assembled else "there is no ptxas that runs"))
    if tools["nvcc"].fault:
        return Proof(assembled, None, "", f"there is no nvcc that runs: {tools['nvcc'].said}")
    if not host_compiler(reader):
        return Proof(assembled, None, "", "nvcc needs a host compiler, and there is no g++ (install build-essential)")
    built, read_back, why = _build(wanted, tools, reader, scratch)
    return Proof(assembled, built, read_back, why)


def host_compiler(reader: Reader) -> str:
    """The g++ that nvcc finds: it looks in PATH, which is the system's here."""
    for folder in SYSTEM_PATH.split(":"):
        try:
            if reader.stat(f"{folder}/g++") is not None:
                return f"{folder}/g++"
        except Unreadable:
            continue
    return ""


def _build(wanted: Toolchain, tools: dict[str, Tool], reader: Reader, scratch: Path) -> tuple[bool, ReadBack, str]:
    """Whole, as an extension is built: with the host compiler's part, which -cubin would leave out."""
    source, kept = scratch / "probe.cu", scratch / "kept"
    source.write_text(SOURCE, encoding="ascii")
    kept.mkdir()
    target = wanted.arch.name
    env = {"TMPDIR": str(scratch), "HOME": str(scratch)}
    argv = [tools["nvcc"].path, f"-arch={target}", "-c", "--keep", "--keep-dir", str(kept)]
    argv += ["-o", str(scratch / "probe.o"), str(source)]
    done = reader.run(argv, timeout=wanted.timeout, env=env)
    if not done.ok:
        said = one_line(printed(done).replace(f"{scratch}/", ""), 300)
        return False, "", f"nvcc for {target} {done.ending}: {said}"
    cubin = str(next(kept.glob("*.cubin"), kept / "none"))
    capability, wrong = cuda_object(cubin, reader)
    if wrong:
        return False, "", f"nvcc for {target}: {wrong}"
    # One reader calls the other: without both there is only the header, which has no suffix.
    if not any(tools[name].fault for name in READERS):
        env["NVDISASM_PATH"] = tools["nvdisasm"].path
        shown = reader.run([tools["cuobjdump"].path, "-sass", cubin], timeout=wanted.timeout, env=env)
        codes = re.findall(r"^\s*code for (\S+)", shown.out, re.MULTILINE)
        if codes:
            found = target in codes
            return found, "cuobjdump", "" if found else f"cuobjdump finds code for {', '.join(codes)}, not {target}"
    found = capability == wanted.arch.capability
    return found, "elf", "" if found else f"the header of the object says sm_{capability}, not {target}"


def size_mib(prefix: str) -> int:
    """What all files under the prefix take, links to elsewhere not followed."""
    total = count = 0
    for folder, _folders, names in os.walk(os.path.realpath(prefix)):
        for name in names:
            count += 1
            try:
                total += os.lstat(f"{folder}/{name}").st_size
            except OSError:
                continue
        if count > MAX_FILES:
            break
    return round(total / 2**20)
