# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof by use: modules import, programs are executable, files say what they must.

What belongs to a service account is run with its rights, in a private folder that is removed.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import tree
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.lock import canonical, same_version
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Assertion, Declaration

# vLLM takes half a minute to import from a cold disk.
IMPORT_SECONDS = 300.0
# Longer than an import may take: that one is to be stopped itself.
MARGIN_SECONDS = 15.0


@dataclass(frozen=True)
class Finding:
    """One truth that was looked for. ``ok`` or not, ``found`` is what an operator reads.

    unseen: there was no look, for the reason that is ``found``: not with the rights of anybody.
    """

    key: str
    ok: bool
    found: str
    wanted: str
    unseen: bool = False


@dataclass(frozen=True)
class Used:
    findings: tuple[Finding, ...] = ()

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.ok)


def look(wanted: Declaration, root: str, reader: Reader) -> Used:
    """Everything that is declared about the use of the environment in ``root``."""
    assertions = [judged(assertion, root) for stage in wanted.stages for assertion in stage.assertions]
    programs = [_program(name, root) for name in wanted.entry_points]
    return Used((*assertions, *programs, *_imports(wanted.imports, root, reader)))


def expected(wanted: Declaration) -> tuple[Finding, ...]:
    """What ``look`` will find in an environment that is yet to be built."""
    assertions = [a for stage in wanted.stages for a in stage.assertions]
    return (
        *(Finding(_key(a), False, "absent", _wanted(a)) for a in assertions),
        *(Finding(f"program {name}", False, "absent", "executable") for name in wanted.entry_points),
        *(Finding(f"import {name}", False, "absent", "works") for name in wanted.imports),
    )


def judged(assertion: Assertion, root: str) -> Finding:
    """From files alone: importing torch to ask for its version takes seconds and runs its code."""
    site = f"{root}/{tree.site_packages(root)}"
    if assertion.file:
        found = _assigned(f"{site}/{assertion.file}", assertion.attribute)
        ok = found.endswith(assertion.suffix)
    else:
        name = canonical(assertion.distribution)
        found = next((item.version for item in tree.distributions(site) if item.name == name), "absent")
        ok = same_version(found, assertion.version)
    return Finding(_key(assertion), ok, found, _wanted(assertion))


def _key(assertion: Assertion) -> str:
    inside = f" ({assertion.file}: {assertion.attribute})" if assertion.file else ""
    return f"{assertion.distribution}{inside}"


def _wanted(assertion: Assertion) -> str:
    return f"ends in {assertion.suffix}" if assertion.file else assertion.version


def _assigned(path: str, attribute: str) -> str:
    """The text that a source file assigns to a name."""
    try:
        text = tree.read(path)
        if text is None:
            return "absent"
        module = ast.parse(text)
    except Unreadable as error:
        return f"unreadable ({error})"
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        return f"unreadable ({type(error).__name__})"
    for node in module.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            return str(value.value) if isinstance(value, ast.Constant) else "not a plain text"
    return "not assigned"


def _program(name: str, root: str) -> Finding:
    path = f"{root}/bin/{name}"
    found = "executable" if os.path.isfile(path) and os.access(path, os.X_OK) else "absent"
    if found == "absent" and os.path.lexists(path):
        found = "not executable"
    return Finding(f"program {name}", found == "executable", found, "executable")


def _imports(modules: Sequence[str], root: str, reader: Reader) -> tuple[Finding, ...]:
    return tuple(_import(name, root, reader) for name in modules)


def _import(name: str, root: str, reader: Reader) -> Finding:
    try:
        problem, _said = _python(f"import {name}", root, reader)
    except rights.NoLook as error:
        return Finding(f"import {name}", False, one_line(error.problem.found, 200), "works", unseen=True)
    return Finding(f"import {name}", not problem, problem or "works", "works")


def cuda(root: str, reader: Reader) -> Mapping[str, object]:
    """Whether torch sees a GPU: reported, never judged, since most looks happen without one."""
    try:
        problem, said = _python("import torch; print(torch.cuda.is_available())", root, reader)
    except rights.NoLook as error:
        problem, said = one_line(error.problem.found, 200), ""
    if problem:
        return {"available": None, "reason": problem}
    available = said.strip().endswith("True")
    return {"available": available, "reason": "" if available else "torch sees no GPU"}


def _python(code: str, root: str, reader: Reader) -> tuple[str, str]:
    """(problem, output) of a line of Python in the environment."""
    python = f"{root}/bin/python"

    def run() -> dict[str, object]:
        with tempfile.TemporaryDirectory(prefix="vllm_venv.", ignore_cleanup_errors=True) as scratch:
            env = {"HOME": scratch, "TMPDIR": scratch}
            done = reader.run([python, "-I", "-B", "-c", code], timeout=IMPORT_SECONDS, env=env)
        return {"problem": "" if done.ok else one_line(done.said(1), 200), "out": done.out}

    said = rights.look([python], run, IMPORT_SECONDS + MARGIN_SECONDS).value
    return str(said["problem"]), str(said["out"])
