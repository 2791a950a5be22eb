# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests do with nodes: run commands and plays, look from outside, start afresh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import ansible_mitogen
import identity
import nodes as node_control
import testinfra
from apt_repo import AptRepo
from host import NEED_A_KERNEL, REPO, NodesError, podman

VENV_BIN = Path(sys.executable).parent
CALLBACKS = Path(__file__).parent / "callback_plugins"
# For plays of many small tasks, with one of its strategies: mitogen_linear, mitogen_free.
MITOGEN = {"ANSIBLE_STRATEGY_PLUGINS": str(Path(ansible_mitogen.__file__).parent / "plugins" / "strategy")}


@dataclass(frozen=True)
class Machine:
    """A node as a test sees it. Commands run as root and without Ansible or SSH."""

    name: str
    address: str

    # What plays leave out here: see NEED_A_KERNEL.
    left_out: ClassVar[tuple[str, ...]] = NEED_A_KERNEL

    @property
    def variables(self) -> dict[str, object]:
        """How Ansible gets there."""
        return identity.variables(self.name)

    def run(self, *command: str, check: bool = True, timeout: float = 300) -> str:
        """Standard output; NodesError with its last words when it fails and ``check`` is set."""
        return identity.execute(self.name, command, check=check, timeout=timeout)

    def shell(self, script: str, *, check: bool = True, timeout: float = 300) -> str:
        return self.run("sh", "-c", script, check=check, timeout=timeout)

    def ok(self, *command: str) -> bool:
        try:
            self.run(*command)
        except NodesError:
            return False
        return True

    def read(self, path: str) -> str:
        return self.run("cat", path)

    def write(self, path: str, content: str, mode: str = "0644") -> None:
        self.run("sh", "-c", 'printf %s "$2" > "$1" && chmod "$3" "$1"', "sh", path, content, mode)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command and return at once, for tests that interrupt it."""
        container = identity.container(identity.get(self.name))
        return subprocess.Popen(podman(["exec", container, *command]), stdin=subprocess.DEVNULL)

    def reset(self) -> Machine:
        node_control.reset([self.name])
        return self

    def restart(self) -> Machine:
        node_control.restart([self.name])
        return self

    def use(self, repository: AptRepo) -> None:
        """Add an apt source, as an administrator would, and read its list of packages."""
        self.write(f"/etc/apt/sources.list.d/{repository.name}.list", repository.source + "\n")
        self.run("apt-get", "update", "-q")

    @property
    def outside(self) -> testinfra.host.Host:
        """pytest-testinfra's view over SSH: neither Ansible nor our own code takes part."""
        return testinfra.get_host(f"ssh://{self.name}?ssh_config={identity.SSH_CONFIG}&sudo=true")


def start(names: Sequence[str], *, flavour: str = "base", mounts: Sequence[str] = ()) -> list[Machine]:
    """Nodes that vanish at the latest when a later run finds this process gone."""
    started = node_control.up(names, flavour=flavour, mounts=mounts, owner=os.getpid())
    return [Machine(node.name, node.address) for node in started]


@dataclass(frozen=True)
class PlayResult:
    """What a run of ansible-playbook did: every task result, and the drift report if asked for."""

    rc: int
    stdout: str
    stderr: str
    tasks: tuple[dict[str, Any], ...]
    drift: Path

    def of(self, *, host: str = "", task: str = "", action: str = "") -> list[dict[str, Any]]:
        """The results on a host, of a task name, of a module (full or last part of its name)."""
        return [
            entry
            for entry in self.tasks
            if host in ("", entry["host"])
            and task in ("", entry["task"])
            and (action in ("", entry["action"]) or entry["action"].endswith(f".{action}"))
        ]

    def with_status(self, status: str) -> list[tuple[str, str]]:
        return [(entry["host"], entry["task"]) for entry in self.tasks if entry["status"] == status]

    @property
    def changed(self) -> list[tuple[str, str]]:
        return self.with_status("changed")

    @property
    def failed(self) -> list[tuple[str, str]]:
        return [*self.with_status("failed"), *self.with_status("unreachable")]

    @cached_property
    def report(self) -> dict[str, Any]:
        """The drift report; the run must have been made with ``report=True``."""
        return json.loads((self.drift / "report.json").read_text())

    def assert_ok(self) -> PlayResult:
        assert self.rc == 0, f"exit {self.rc}\n{self.stdout[-6000:]}\n{self.stderr[-3000:]}"
        return self


def ansible_playbook(
    play: str | Path | list[dict[str, Any]],
    machines: Sequence[Machine],
    directory: Path,
    *arguments: str,
    check: bool = False,
    become: bool = True,
    report: bool = False,
    extra: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> PlayResult:
    """Run a playbook, a path in this repository or a list of plays, on these machines alone.

    directory: where inventory, results and report of this run go.
    check: with --check --diff.
    become: with --become; the nodes' user may sudo without a password.
    report: with the drift callback, see ``PlayResult.report``.
    """
    number = len([*directory.glob("run-*")])
    work = directory / f"run-{number}"
    work.mkdir(parents=True)
    inventory, results = work / "inventory.json", work / "results.jsonl"
    hosts = {machine.name: machine.variables for machine in machines}
    inventory.write_text(json.dumps({"all": {"children": {"spark": {"hosts": hosts}}}}))
    if isinstance(play, list):
        book = work / "play.yml"
        book.write_text(json.dumps(play))  # every JSON document is YAML
    else:
        book = REPO / play
    command = [VENV_BIN / "ansible-playbook", "-i", inventory, book]
    command += ["--check", "--diff"] if check else []
    command += ["--become"] if become else []
    command += ["-e", json.dumps(extra)] if extra else []
    left_out = {name for machine in machines for name in machine.left_out}
    command += ["--skip-tags", ",".join(sorted(left_out))] if left_out else []
    full_env = {
        **os.environ,
        "PATH": f"{VENV_BIN}:{os.environ.get('PATH', '')}",
        "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"),
        "ANSIBLE_HOME": str(REPO / "build" / "ansible"),
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "task_results" + (",nusy.dgx_spark.drift" if report else ""),
        "ANSIBLE_NOCOLOR": "1",
        "SPARK_DRIFT_DIR": str(work / "drift"),
        "TASK_RESULTS": str(results),
        **(env or {}),
    }
    done = subprocess.run(
        [str(part) for part in [*command, *arguments]],
        cwd=REPO,
        env=full_env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    lines = results.read_text().splitlines() if results.exists() else []
    return PlayResult(
        done.returncode, done.stdout, done.stderr, tuple(json.loads(line) for line in lines), work / "drift"
    )
