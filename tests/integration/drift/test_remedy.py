# SPDX-License-Identifier: GPL-3.0-or-later
"""A printed remedy is pasted into a shell, and then the finding is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, ansible_playbook, validated

INVENTORY = """\
spark:
  hosts:
    "odd name; $(touch {folder}/pwned)":
      ansible_connection: local
      ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
      ansible_remote_tmp: {folder}/tmp
      spark_local: true
"""
# A role of the catalogue, on one file of the sandbox; its play and its tags are somebody's own.
PLAY = """\
- hosts: spark
  gather_facts: false
  tags: [ptxas]
  roles: [nusy.dgx_spark.ptxas]
  vars: {{ptxas_environment_file: "{folder}/ptxas.env"}}
- hosts: spark
  gather_facts: false
  tags: [other]
  tasks: [{{name: Not asked for, ansible.builtin.copy: {{content: x, dest: "{folder}/other", mode: "0600"}}}}]
"""

# A real run leaves its record and its turn; in a namespace of its own they go with the test.
ASIDE = r"""
set -e
mount -t tmpfs aside "$ASIDE"
mkdir "$ASIDE/upper" "$ASIDE/work"
mount -t overlay aside -o "lowerdir=/var/lib,upperdir=$ASIDE/upper,workdir=$ASIDE/work" /var/lib
mount -t tmpfs aside /run
exec sh -c "$PASTED"
"""


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a site"
        self.folder.mkdir()
        (self.folder / "my hosts.yml").write_text(INVENTORY.format(folder=self.folder))
        (self.folder / "play.yml").write_text(PLAY.format(folder=self.folder))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "SPARK_DRIFT_"))}
        # The ansible-playbook that printed it is not on this PATH: the command must say where it is.
        self.env = {**env, "HOME": str(self.folder), "PATH": "/usr/bin:/bin"}

    def report(self, *arguments: str) -> tuple[dict, str]:
        chosen = Path(ansible_playbook()).with_name("python")
        if "SPARK_TEST_ANSIBLE_PLAYBOOK" in os.environ:
            self.env["SPARK_DRIFT_PYTHON"] = "chosen by the test"
        argv = [str(chosen) if chosen.exists() else sys.executable, str(ROOT / "bin/spark-drift")]
        argv += ["--playbook", "play.yml", "-i", "my hosts.yml", "-o", "out", *arguments]
        done = subprocess.run(
            argv, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True, timeout=120, check=False
        )
        return validated(self.folder / "out/report.json"), done.stdout

    def paste(self, command: str) -> str:
        (aside := self.folder.parent / "aside").mkdir()
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", ASIDE],
            cwd=self.folder,
            env={**self.env, "PASTED": command, "ASIDE": str(aside)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not (self.folder / "pwned").exists()
        return done.stdout + done.stderr


def printed(board: str, about: str) -> str:
    """The command of the board, with its line ends and indentation, as a mouse would take it."""
    lines = board.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("  repair "):
            rest = lines[number:]
            end = next(at for at, one in enumerate(rest) if not one.endswith("\\"))
            command = "\n".join(rest[: end + 1]).removeprefix("  repair ")
            if about in command:
                return command
    raise AssertionError(board)


def states(report: dict) -> dict[str, str]:
    return {control["id"]: control["state"] for control in report["hosts"][0]["controls"]}


@pytest.mark.one_core
@pytest.mark.skipif(os.geteuid() != 0, reason="real runs of ensure_state want root")
def test_the_printed_remedy_repairs_and_nothing_else(tmp_path: Path) -> None:
    site = Site(tmp_path)
    report, board = site.report("-e", "a_secret=hunter2")
    assert states(report)["ptxas/environment"] == "drifted"
    assert (
        "hunter2" not in (site.folder / "out/report.json").read_text() + (site.folder / "out/events.jsonl").read_text()
    )
    assert report["run"]["variables"] == ["a_secret"]
    command = printed(board, "--tags ptxas")
    assert f"spark_local_apply={os.uname().nodename}" in command
    record = Path("/var/lib/nusy/applied/ptxas.json")
    before = record.read_bytes() if record.exists() else None
    said = site.paste(command)
    assert (record.read_bytes() if record.exists() else None) == before
    assert (site.folder / "ptxas.env").exists(), said
    assert not (site.folder / "other").exists()
    assert states(site.report()[0])["ptxas/environment"] == "in_sync"
