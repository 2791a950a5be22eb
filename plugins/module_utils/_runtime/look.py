# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the caches are, and whether the environment imports and compiles with these variables.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.aot import compile_for
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import is_ptxas_variable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.model import Runtime
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import parse_environment

_IMPORT = """
import importlib, json, sys
said = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        said[name] = f"{type(error).__name__}: {error}"
sys.stdout.write("\\n" + json.dumps(said))
"""


@dataclass(frozen=True)
class Size:
    """whole: every file was counted. Otherwise ``size`` is the least that it can be, and ``problem`` says why."""

    size: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Used:
    """What use showed. ``unknown``: why nothing could be tried; empty imports and compiled then."""

    unknown: str = ""
    imports: Mapping[str, str] | None = None  # module → what went wrong, empty if nothing did
    compiled: str | None = None  # what went wrong


def measure(path: str, seconds: float) -> Size:
    """What the files below ``path`` take on the disk, links not followed, bounded in time."""
    deadline, total, problem = time.monotonic() + seconds, 0, ""
    folders = [path]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    total += _blocks(entry) * 512
                    if time.monotonic() > deadline:
                        return Size(total, f"{path} was not counted whole within {seconds:g} s")
        except FileNotFoundError:
            continue  # a cache lives while it is counted
        except OSError as error:
            problem = f"{folder}: {error.strerror}"
    return Size(total, problem)


def _blocks(entry: os.DirEntry[str]) -> int:
    """0 for what was removed while the folder was read."""
    try:
        return entry.stat(follow_symlinks=False).st_blocks
    except FileNotFoundError:
        return 0


def use(wanted: Runtime, reader: Reader) -> Used:
    """Import and compile with the rights of who owns the environment, as a service would."""
    python = f"{wanted.venv}/bin/python"
    try:
        if reader.stat(python) is None:
            return Used(f"there is no {python}: role vllm_venv makes it")
        found = parse_environment(reader.read(wanted.ptxas_file) or "")
    except Unreadable as error:
        return Used(str(error))
    forced = {name: path for name, path in found.items() if is_ptxas_variable(name)}
    variables = {**wanted.variables, **forced}
    # What is imported is run, and so is a ptxas that is forced.
    places = [python, f"{wanted.venv}/lib", *(path for path in forced.values() if path.startswith("/"))]
    try:
        answer = look(places, lambda: _used(wanted, python, variables, reader), 2 * wanted.timeout + 30).value
    except NodeError as error:
        return Used(one_line(str(error)))
    compiled = answer["compiled"]
    return Used(
        str(answer["unknown"]),
        cast("dict[str, str]", answer["imports"]),
        None if compiled is None else str(compiled),
    )


def _used(wanted: Runtime, python: str, variables: Mapping[str, str], reader: Reader) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="vllm_runtime.", ignore_cleanup_errors=True) as scratch:
        # A look leaves nothing, so what an import or a compile writes goes into the private folder.
        caches = dict.fromkeys(wanted.cache_variables, scratch)
        env = {**variables, **caches, "HOME": scratch, "TMPDIR": scratch}
        imports, unknown = _imports(wanted, python, env, reader)
        compiled = None
        if wanted.compile and not unknown:
            done = compile_for(arch_of(wanted.arch, "vllm_runtime"), python, env, reader, wanted.timeout, Path(scratch))
            compiled = "" if done.ok else one_line(done.stderr.splitlines()[-1] if done.stderr else "it says nothing")
    return {"imports": imports, "compiled": compiled, "unknown": unknown}


def _imports(wanted: Runtime, python: str, env: Mapping[str, str], reader: Reader) -> tuple[dict[str, str], str]:
    """In one process: torch alone takes seconds."""
    argv = [python, "-I", "-B", "-c", _IMPORT, *wanted.imports]
    done = reader.run(argv, timeout=wanted.timeout, env=env)
    if done.rc is None and not done.out:
        return {}, one_line(f"{python} {done.ending}")
    try:
        said = json.loads(done.out.rpartition("\n")[2])
        return {name: one_line(str(said.get(name, ""))) for name in wanted.imports}, ""
    except (ValueError, AttributeError):
        # An import that takes the whole process with it.
        return dict.fromkeys(wanted.imports, one_line(f"Python {done.ending}: {done.said(1)}")), ""
