# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian for arm64, as a host that Ansible reaches through the emulator.

Modules come in through standard input (pipelining), and their interpreter is a command that
enters the root: so Ansible, the modules and their Python are what they are on a Spark, and
only the processor is emulated. No service manager runs there: what needs one is proven on nodes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent
CACHE = REPO / "build" / "cache" / "arm64"
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "ptxas"))  # wheels.py

import enter

SUITE = "trixie"
INCLUDE = "python3,python3-venv,ca-certificates,procps"


def made() -> Path:
    """The root, made once (some minutes: every package is configured by emulated programs)."""
    key = hashlib.sha256(f"{SUITE} {INCLUDE} {enter.SCRIPT}".encode()).hexdigest()[:12]
    root = CACHE / key
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / f".{key}.complete").exists():
            shutil.rmtree(root, ignore_errors=True)
            argv = ["mmdebstrap", "--mode=root", "--arch=arm64", "--variant=minbase", f"--include={INCLUDE}"]
            argv += ["--format=directory", "--skip=output/dev", SUITE, str(root)]
            subprocess.run([sys.executable, HERE / "enter.py", "/", *argv], check=True, capture_output=True, text=True)
            (CACHE / f".{key}.complete").touch()
    return root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy for this run, so that the next one begins with a bare node again."""
    place = tmp_path_factory.mktemp("arm64") / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", made(), place], check=True)
    yield place
    with contextlib.suppress(OSError):
        shutil.rmtree(place)


class Spark:
    """The emulated host. ``root``: its file system as this machine sees it."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.work = root, work
        self.interpreter = work / "python"
        words = f'"{sys.executable}" "{HERE / "enter.py"}" "{root}" /usr/bin/python3'
        self.interpreter.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        self.interpreter.chmod(0o755)
        self.runs = 0

    def run(self, *argv: str) -> str:
        enter = [sys.executable, HERE / "enter.py", self.root, *argv]
        return subprocess.run(enter, check=True, capture_output=True, text=True, timeout=600).stdout

    def play(self, tasks: list[dict[str, Any]], *, check: bool) -> list[dict[str, Any]]:
        """What each task returned. Raises AssertionError with the output when one failed."""
        self.runs += 1
        book, results = self.work / f"play-{self.runs}.yml", self.work / f"results-{self.runs}.jsonl"
        book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        inventory = self.work / "inventory.json"
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(self.interpreter)}
        inventory.write_text(json.dumps({"all": {"hosts": {"spark-arm": host}}}))
        env = {
            **os.environ,
            "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"),
            "ANSIBLE_HOME": str(REPO / "build" / "ansible"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(REPO / "tests" / "nodes" / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_results",
            "ANSIBLE_NOCOLOR": "1",
            "TASK_RESULTS": str(results),
        }
        argv = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, book]
        argv += ["--check", "--diff"] if check else []
        done = subprocess.run(argv, env=env, cwd=REPO, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return [json.loads(line)["result"] for line in results.read_text().splitlines()]


@pytest.fixture(scope="session")
def spark(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Spark:
    return Spark(root, tmp_path_factory.mktemp("plays"))
