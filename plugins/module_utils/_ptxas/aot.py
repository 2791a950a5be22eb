# SPDX-License-Identifier: GPL-3.0-or-later
"""A real ahead-of-time compile by the Triton under test. Needs no GPU.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import MAX_STDERR, Arch, scratch_folder
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import Compiled, Observation, Request

# A file, since Triton reads the source of a kernel back. Up to 3.1 arguments go by position,
# 3.2 has their names, and 3.3 calls constants by another name.
SCRIPT = """
import inspect
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def probe(x, y, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    tl.store(y + offsets, tl.load(x + offsets, mask=inside) + 1.0, mask=inside)


types = {"x": "*fp32", "y": "*fp32", "n": "i32"}
if "constexprs" in inspect.signature(ASTSource).parameters:
    source = ASTSource(fn=probe, signature={**types, "BLOCK": "constexpr"}, constexprs={"BLOCK": 256})
elif triton.__version__.startswith(("3.0.", "3.1.")):
    source = ASTSource(fn=probe, signature=dict(enumerate(types.values())), constants={3: 256})
else:
    source = ASTSource(fn=probe, signature=types, constants={"BLOCK": 256})
compiled = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
cubin = compiled.asm["cubin"]
if cubin[:4] != b"\\x7fELF" or cubin[18:20] != b"\\xbe\\x00":
    sys.exit("what Triton made is no CUDA object")
"""


def compile_with_rights(
    request: Request, seen: Observation, environment: Mapping[str, str], reader: Reader
) -> Compiled:
    """``compile_for`` with the rights of who decides what is run: Python, what it imports, each ptxas."""

    def question() -> dict[str, object]:
        with scratch_folder("ptxas") as scratch:
            return asdict(compile_for(request.arch, seen.python, environment, reader, request.timeout, scratch))

    forced = [path for path in environment.values() if path.startswith("/")]
    paths = [seen.python, *forced, *(_code(seen.triton.folder) if seen.triton else ())]
    return Compiled(**look([path for path in paths if path], question, request.timeout + 30, user=seen.user).value)


def _code(folder: str) -> Iterator[str]:
    """All of Triton, and what lies beside it: Python reads *.pth there and imports by name."""
    site = os.path.dirname(folder)
    yield from (f"{site}/{name}" for name in os.listdir(site))
    for place, folders, files in os.walk(folder):
        yield from (f"{place}/{name}" for name in (*folders, *files))


def compile_for(
    arch: Arch, python: str, environment: Mapping[str, str], reader: Reader, timeout: float, scratch: Path
) -> Compiled:
    """Compile one kernel with ``python``'s Triton and the given variables.

    Isolated (-I) from user site, PYTHON* variables and the script's own folder, so that
    the Triton of the environment answers and no other; -B, so that importing it writes
    nothing. Triton's cache and home are in ``scratch``: an old result proves nothing.
    """
    script = scratch / "aot.py"
    script.write_text(SCRIPT, encoding="utf-8")
    own = {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "TRITON_HOME": str(scratch),
        "TRITON_CACHE_DIR": str(scratch / "cache"),
    }
    begin = time.monotonic()
    done = reader.run(
        [python, "-I", "-B", str(script), str(arch.capability)], timeout=timeout, env={**environment, **own}
    )
    text = "\n".join(part for part in (done.err.strip(), done.problem) if part)
    clean = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
    return Compiled(done.ok, round(time.monotonic() - begin, 2), clean[-MAX_STDERR:])
