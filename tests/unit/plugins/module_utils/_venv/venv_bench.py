# SPDX-License-Identifier: GPL-3.0-or-later
"""A bench of real environments: tiny wheels, real package tools, the Python of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import entry
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import parse, removal
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import GENERATION, WORK
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.subject import EnsureVenv

sys.path.insert(0, str(Path(__file__).resolve().parents[5] / "tests" / "tools"))

from wheelhouse import Wheel, wheel

# The Python of an environment, not that environment: what is built must not lean on it.
PYTHON = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}")
# uv of `make test`: with pip alone these tests take a minute longer, and prove the same.
UV = str(Path(__file__).resolve().parents[5] / ".venv" / "bin" / "uv")


class Bench:
    def __init__(self, base: Path) -> None:
        self.base, self.wheels, self.root = base, base / "wheels", base / "venvs"
        self.home = self.root / "demo"
        self.uv = [UV]

    def wheel(self, name: str, version: str, **options: Any) -> Wheel:
        return wheel(self.wheels, name, version, **options)

    def params(self, *wheels: Wheel, **options: Any) -> dict[str, Any]:
        """Module parameters of an environment with one stage of these wheels."""
        lock = "".join(item.pin for item in wheels)
        found = {name: spec.get("default") for name, spec in parse.ARGUMENT_SPEC.items()}
        found |= {
            "name": "demo",
            "root": str(self.root),
            "interpreter": PYTHON,
            "python": f"3.{sys.version_info[1]}",
            "stages": [self.stage("only", lock)],
            "find_links": str(self.wheels),
            "uv": self.uv,
        }
        return {**found, **options}

    @staticmethod
    def stage(name: str, lock: str, **options: Any) -> dict[str, Any]:
        return {"name": name, "lock": lock, "index_url": "", "assertions": [], **options}

    def subject(self, *wheels: Wheel, **options: Any) -> EnsureVenv:
        return EnsureVenv(parse.declaration(self.params(*wheels, **options)))

    def check(self, *wheels: Wheel, **options: Any) -> Plan:
        return self.subject(*wheels, **options).plan(HostReader())

    def apply(self, *wheels: Wheel, writer: HostWriter | None = None, **options: Any) -> Plan:
        """A real run, as entry makes it; what it found before."""
        subject = self.subject(*wheels, **options)
        found = subject.plan(HostReader())
        entry.converge(subject, found, HostReader(), writer or HostWriter())
        return found

    @property
    def current(self) -> str:
        return (self.home / "current").readlink().name

    @property
    def site(self) -> Path:
        (site,) = (self.home / "current").glob("lib/python3.*/site-packages")
        return site

    def listing(self) -> list[str]:
        """Everything below the root of the environments, with what tells a change."""
        return sorted(
            f"{path.relative_to(self.base)} {path.lstat().st_mtime_ns} {path.lstat().st_ino}"
            for path in [self.root, *self.root.rglob("*")]
            if os.path.lexists(path)
        )


def states(plan: Plan) -> dict[str, str]:
    """The controls that are not in sync, by their short names."""
    return {c.id.partition("/")[2]: c.state for c in plan.controls if c.state != "in_sync"}


def control(plan: Plan, name: str) -> Control:
    (found,) = (c for c in plan.controls if c.id == f"vllm_venv/{name}")
    return found


def diff(plan: Plan, name: str) -> dict[str, tuple[object, object]]:
    return {change.key: (change.before, change.after) for change in control(plan, name).changes}


def torch(bench: Bench, version_line: str) -> Wheel:
    """As much of torch as its version can be read from."""
    return bench.wheel("torch", "2.13.0", files={"torch/__init__.py": "", "torch/version.py": f"{version_line}\n"})


def altered(bench: Bench) -> None:
    """Somebody has changed the code of package alpha."""
    (bench.site / "alpha.py").write_text("def main():\n    print('evil!')\n\n\n__version__ = 1\n")


def system_python() -> str:
    """The version of the Python that every account can run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output(["/usr/bin/python3", "-c", code], text=True).strip()


def private(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose records and lock are not the machine's. Folders of generations are opened for removal."""
    monkeypatch.setattr(record, "FOLDER", str(base / "state" / "applied"))
    monkeypatch.setattr(record, "KEY", str(base / "state" / "applied" / ".key"))
    # No test pulls the plug, and waiting for what everybody else on this machine writes takes most of the time.
    monkeypatch.setattr(os, "sync", lambda: None)
    yield Bench(base)
    for folder in base.glob("*/demo*/*"):
        if GENERATION.match(folder.name) or WORK.match(folder.name):
            removal.remove_generation(str(folder.parent), folder.name, folder.parent.stat().st_uid)


def failing(bench: Bench, key: str, *wheels: Wheel, **options: Any) -> NodeError:
    """Apply fails with this key, and everything is as it was."""
    before = bench.listing()
    with pytest.raises(NodeError) as error:
        bench.apply(*wheels, **options)
    problem = error.value.problem
    assert problem.key == key, problem.text()
    assert [line.split()[0] for line in bench.listing()] == [line.split()[0] for line in before]
    assert all((problem.wanted, problem.found, problem.why, problem.fix))
    return error.value


def subject_source(bench: Bench, *wheels: Wheel, expect: str = "", **options: Any) -> str:
    """Python source of a real run in a process of its own; with ``expect`` it must fail with that key."""
    return f"""
import json, sys
sys.path[:0] = {[path for path in sys.path if path.endswith("collections")]!r}
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import entry
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.subject import EnsureVenv
record.FOLDER, record.KEY = {record.FOLDER!r}, {record.KEY!r}
subject = EnsureVenv(parse.declaration(json.loads({json.dumps(bench.params(*wheels, **options))!r})))
key = ""
try:
    entry.converge(subject, subject.plan(HostReader()), HostReader(), HostWriter())
except SparkError as error:
    key = error.problem.key
    print(error, file=sys.stderr)
assert key == {expect!r}, key
"""
