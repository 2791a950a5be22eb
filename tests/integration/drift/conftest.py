# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab for the drift report: real ansible-playbook runs against local connections.

SPARK_TEST_ANSIBLE_PLAYBOOK selects another ansible-playbook (another ansible-core); by
default it is the one beside the interpreter of the tests.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SCHEMA = json.loads((ROOT / "plugins/plugin_utils/drift/report.schema.json").read_text())
CALLBACK = "nusy.dgx_spark.drift"
INVENTORY = """\
all:
  hosts:
    a: &local {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
    b: *local
    c: *local
    dead: {ansible_host: 127.0.0.1, ansible_port: 1, ansible_connection: ssh}
"""


def ansible_playbook() -> str:
    return os.environ.get("SPARK_TEST_ANSIBLE_PLAYBOOK") or str(Path(sys.executable).with_name("ansible-playbook"))


def validated(path: Path) -> dict:
    report = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    counted = dict.fromkeys(("in_sync", "drifted", "unknown", "waived", "not_selected"), 0)
    for host in report["hosts"]:
        ids = [control["id"] for control in host["controls"]]
        assert len(ids) == len(set(ids)), f"a control is there twice on {host['name']}"
        for control in host["controls"]:
            assert control["id"] in report["catalogue"]
            counted[control["state"]] += 1
    assert {key: report["summary"][key] for key in counted} == counted
    return report


@dataclass
class Ran:
    rc: int
    out: str
    directory: Path

    @functools.cached_property
    def report(self) -> dict:
        return validated(self.directory / "report.json")

    def host(self, name: str) -> dict:
        return next(host for host in self.report["hosts"] if host["name"] == name)

    def control(self, host: str, identity: str) -> dict:
        return next(control for control in self.host(host)["controls"] if control["id"] == identity)

    def ids(self, host: str) -> set[str]:
        return {control["id"] for control in self.host(host)["controls"]}


class Lab:
    """A collections tree with the real callback, and a module and roles made for tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        collection = folder / "tree/ansible_collections/nusy/dgx_spark"
        (collection / "plugins").mkdir(parents=True)
        for name in ("callback", "plugin_utils", "module_utils"):
            (collection / "plugins" / name).symlink_to(ROOT / "plugins" / name)
        for name in ("galaxy.yml", "meta"):
            (collection / name).symlink_to(ROOT / name)
        (collection / "plugins/modules").symlink_to(HERE / "modules")
        (collection / "roles").symlink_to(HERE / "roles")
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(INVENTORY)
        (folder / "ansible.cfg").write_text("[defaults]\n")
        self.count = 0

    def environment(self, directory: Path, **more: str) -> dict[str, str]:
        unset = ("ANSIBLE_", "SPARK_DRIFT_", "PYTHONDONTWRITEBYTECODE")
        env = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
        return env | {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "tree"),
            "ANSIBLE_LIBRARY": str(HERE / "modules"),
            "ANSIBLE_CALLBACKS_ENABLED": CALLBACK,
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_REMOTE_TMP": str(self.folder / "home/tmp"),
            "SPARK_DRIFT_DIR": str(directory),
            # Nothing in the tree, and nothing compiled by every run again.
            "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"),
            **more,
        }

    def argv(self, playbook: str | Path, *arguments: str, check: bool = True) -> list[str]:
        path = self.folder / "play.yml"
        if isinstance(playbook, str):
            path.write_text(playbook)
        else:
            path = playbook
        return [
            *(ansible_playbook(), "-i", str(self.inventory), "-e", f"scratch={self.folder}"),
            *(["--check", "--diff"] if check else []),
            str(path),
            *arguments,
        ]

    def run(
        self, playbook: str | Path, *arguments: str, check: bool = True, directory: str | None = None, **env: str
    ) -> Ran:
        """Run a playbook (text or file) with the callback."""
        self.count += 1
        target = self.folder / (directory or f"out{self.count}")
        done = subprocess.run(
            self.argv(playbook, *arguments, check=check),
            env=self.environment(target, **env),
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ran(done.returncode, done.stdout + done.stderr, target)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))
