# SPDX-License-Identifier: GPL-3.0-or-later
"""Under ansible-runner, which puts its own callback, working directory and environment around.

Needs the ansible-runner program: the one beside the interpreter of the tests, or the one
that SPARK_TEST_ANSIBLE_RUNNER names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import INVENTORY, Lab, ansible_playbook, validated

PLAY = """
- name: Under a runner
  hosts: a
  gather_facts: false
  roles: [nusy.dgx_spark.gamma]
  tasks:
    - name: Would write
      ansible.builtin.copy: {content: x, dest: "/tmp/never-written", mode: "0600"}
"""


def test_ansible_runner(lab: Lab) -> None:
    beside = Path(sys.executable).with_name("ansible-runner")
    runner = os.environ.get("SPARK_TEST_ANSIBLE_RUNNER") or (str(beside) if beside.exists() else "")
    if not runner:
        pytest.fail("ansible-runner is locked in requirements/test.lock and is not there")
    private = lab.folder / "private"
    (private / "project").mkdir(parents=True)
    (private / "inventory").mkdir()
    (private / "project/site.yml").write_text(PLAY)
    (private / "inventory/hosts.yml").write_text(INVENTORY)
    env = lab.environment(private / "drift")
    env["PATH"] = f"{Path(ansible_playbook()).parent}:{env['PATH']}"
    done = subprocess.run(
        [runner, "run", str(private), "-p", "site.yml", "--cmdline", "--check --diff"],
        env=env,
        cwd=lab.folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = validated(private / "drift/report.json")
    assert report["run"]["complete"]
    states = {c["id"]: c["state"] for c in report["hosts"][0]["controls"]}
    assert states == {"gamma/only": "in_sync", "task:under-a-runner/would-write": "drifted"}
    assert "exit code 2" in done.stdout
