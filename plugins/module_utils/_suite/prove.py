# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a binary is what its name says: there, executable, of a version, and able to do its work.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import (
    Arch,
    Version,
    arch_of,
    cuda_object,
    scratch_folder,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.rules import isa_for
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.model import Tools

KERNEL = "__global__ void probe(float *x) { x[threadIdx.x] += 1.0f; }\n"


@dataclass(frozen=True)
class Proof:
    """state: in_sync (proven), drifted, or unknown. leads_to: what the path is, links followed.

    hidden: unknown to who looks; another one may see it.
    """

    state: str
    said: str
    leads_to: str = ""
    version: str = ""
    hidden: bool = False


def prove_all(wanted: Tools, reader: Reader) -> dict[str, Proof]:
    """In the order in which one needs the work of another: an object has to be made before it is read."""
    first = [name for name in ("NVCC_BIN", "PTXAS_BIN") if name in wanted.binaries]
    cubin = ""
    proofs: dict[str, Proof] = {}
    for name in (*first, *(name for name in wanted.binaries if name not in first)):
        path = wanted.binaries[name]
        fault = _fault(path)
        if fault:
            proofs[name] = fault
            continue
        real = os.path.realpath(path)
        try:
            answer = look([path], partial(_prove, name, path, cubin, wanted, reader), 2 * wanted.timeout + 30).value
        except NodeError as error:
            proofs[name] = Proof("unknown", one_line(str(error)), real)
            continue
        cubin = str(answer["cubin"] or cubin)
        proofs[name] = Proof(str(answer["state"]), str(answer["said"]), real, str(answer["version"]))
    return {name: proofs[name] for name in sorted(proofs)}


def _fault(path: str) -> Proof | None:
    """What is wrong before it is run."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return Proof("drifted", "a link that leads nowhere" if os.path.islink(path) else "absent")
    except PermissionError as error:
        return Proof("unknown", str(error.strerror), hidden=True)
    except OSError as error:
        return Proof("drifted", str(error.strerror))
    if not stat.S_ISREG(found.st_mode):
        return Proof("drifted", "not a regular file")
    if not found.st_mode & 0o111:
        return Proof("drifted", "not executable")
    return None if os.access(path, os.X_OK) else Proof("unknown", "who looks may not run it", hidden=True)


def _prove(name: str, path: str, cubin: str, wanted: Tools, reader: Reader) -> dict[str, Any]:
    """As JSON, since it may run in a process of the owner of ``path``."""
    with scratch_folder("launchers") as scratch:
        env = {"HOME": str(scratch), "TMPDIR": str(scratch)}
        asked = reader.run([path, "--version"], timeout=wanted.timeout, env=env)
        if not asked.ok:
            return _answer("drifted", f"--version {asked.ending}: {asked.said(1)}")
        version = _version(asked.out + asked.err)
        made, state, problem = "", "in_sync", ""
        if name == "NVIDIA_SMI_BIN":
            state, problem = _lists_a_gpu(path, env, wanted, reader)
        elif name in ("NVCC_BIN", "PTXAS_BIN"):
            made, problem = _builds(name, path, scratch, env, wanted, reader)
        elif name in ("CUOBJDUMP_BIN", "NVDISASM_BIN"):
            state, problem = _reads(name, path, cubin, scratch, env, wanted, reader)
        if problem:
            state = "drifted" if state == "in_sync" else state
        return _answer(state, problem or version, version, made)


def _answer(state: str, said: str, version: str = "", cubin: str = "") -> dict[str, Any]:
    return {"state": state, "said": one_line(said), "version": version, "cubin": cubin}


def _version(text: str) -> str:
    """The line that has a number in it: some print a banner first."""
    lines = [line.strip() for line in text.splitlines() if any(c.isdigit() for c in line)]
    release = [line for line in lines if "release" in line]
    return one_line((release or lines or ["it names no version"])[0], 120)


def _lists_a_gpu(path: str, env: Mapping[str, str], wanted: Tools, reader: Reader) -> tuple[str, str]:
    done = reader.run([path, "-L"], timeout=wanted.timeout, env=env)
    if done.ok and done.out.startswith("GPU 0"):
        return "in_sync", ""
    return "unknown", f"no GPU: {done.said(1)}"


def _builds(
    name: str, path: str, scratch: Path, env: Mapping[str, str], wanted: Tools, reader: Reader
) -> tuple[str, str]:
    """(the object, what went wrong). Exit code 0 alone is the word of whatever was run."""
    arch, cubin = arch_of(wanted.arch, "launchers"), scratch / "probe.cubin"
    if name == "NVCC_BIN":
        source = scratch / "probe.cu"
        source.write_text(KERNEL, encoding="ascii")
        argv = [path, f"-arch={arch.name}", "-cubin", "-o", str(cubin), str(source)]
    else:
        source = scratch / "probe.ptx"
        source.write_text(_ptx(arch), encoding="ascii")
        argv = [path, f"--gpu-name={arch.name}", str(source), "-o", str(cubin)]
    done = reader.run(argv, timeout=wanted.timeout, env=env)
    if not done.ok:
        return "", f"does not build for {arch.name}: {done.said(1)}"
    _capability, problem = cuda_object(str(cubin), reader)
    return ("", problem) if problem else (base64.b64encode(cubin.read_bytes()).decode(), "")


def _reads(
    name: str, path: str, cubin: str, scratch: Path, env: Mapping[str, str], wanted: Tools, reader: Reader
) -> tuple[str, str]:
    if not cubin:
        return "unknown", "no object to read: neither nvcc nor ptxas made one"
    source = scratch / "probe.cubin"
    source.write_bytes(base64.b64decode(cubin))
    argv = [path, "-sass", str(source)] if name == "CUOBJDUMP_BIN" else [path, str(source)]
    done = reader.run(argv, timeout=wanted.timeout, env=env)
    if done.ok and "probe" in done.out:
        return "in_sync", ""
    return "drifted", f"does not read what was built for {wanted.arch}: {done.said(1)}"


def _ptx(arch: Arch) -> str:
    isa = isa_for(arch, Version(13, 0))
    return f".version {isa}\n.target {arch.name}\n.address_size 64\n.visible .entry probe() {{ ret; }}\n"
