# SPDX-License-Identifier: GPL-3.0-or-later
"""What role ramalama does about workers that nobody declares, by its own script, with a systemctl of the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import variables

SAID = yaml.safe_load((variables.ROOT / "roles" / "ramalama" / "vars" / "main.yml").read_text())
OURS = "# A worker of role ramalama of nusy.dgx_spark. Changes here are drift.\n"
LOOK = 'act() { echo "$1"; }\n'
# stop fails of what keeps running, and of what is not known.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
stop*stuck* | stop*unknown*) exit 1 ;;
*is-active*stuck*) exit 0 ;;
*is-active*) exit 3 ;;
esac
"""


@pytest.fixture
def node():
    """Not below tmp_path, which nobody else may enter."""
    root = Path(tempfile.mkdtemp(prefix="ramalama."))
    root.chmod(0o755)
    (root / "units").mkdir(mode=0o755)
    (root / "bin").mkdir()
    (root / "bin" / "systemctl").write_text(SYSTEMCTL)
    (root / "bin" / "systemctl").chmod(0o755)
    yield root
    shutil.rmtree(root)


def worker(node: Path, name: str, text: str = OURS) -> Path:
    path = node / "units" / f"ramalama-{name}.container"
    path.write_text(text)
    path.chmod(0o644)
    return path


def run(node: Path, act: str, *declared: Path, flags: str = "-c", nobody: bool = False):
    script = act + SAID["__ramalama_each"].replace("/etc/containers/systemd", str(node / "units"))
    env = {"PATH": f"{node}/bin:/usr/bin:/bin", "CALLS": str(node / "calls")}
    user = {"user": 65534, "group": 65534, "extra_groups": []} if nobody and os.geteuid() == 0 else {}
    argv = ["/bin/sh", flags, script, "sh", *map(str, declared)]
    return subprocess.run(argv, capture_output=True, text=True, env=env, cwd="/", check=False, **user)


def test_only_quadlets_of_this_role_that_nobody_declares_are_named(node):
    declared, old = worker(node, "chat"), worker(node, "old one")
    worker(node, "theirs", "[Container]\n")
    done = run(node, LOOK, declared)
    assert (done.returncode, done.stdout) == (0, f"{old}\n")
    shutil.rmtree(node / "units")
    assert (run(node, LOOK).returncode, run(node, LOOK).stdout) == (0, "")


@pytest.mark.parametrize("mode", ["file", "folder"])
def test_what_cannot_be_read_is_not_taken_for_nothing(node, mode):
    place = worker(node, "old") if mode == "file" else node / "units"
    place.chmod(0)
    done = run(node, LOOK, nobody=True)
    place.chmod(0o755)
    assert done.returncode == 1 and done.stderr == f"{place} cannot be read\n"


def test_what_cannot_be_stopped_keeps_its_file(node):
    stuck, gone, unknown = (worker(node, name) for name in ("stuck", "gone", "unknown"))
    done = run(node, SAID["__ramalama_remove"], stuck, flags="-ec")
    assert done.returncode == 0 and not gone.exists() and not unknown.exists()
    done = run(node, SAID["__ramalama_remove"], flags="-ec")
    assert done.returncode == 1 and stuck.exists()
    assert "daemon-reload" not in (node / "calls").read_text().splitlines()[-1]
