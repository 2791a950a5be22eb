# SPDX-License-Identifier: GPL-3.0-or-later
"""The default inventory is for looking: no way of calling the playbooks changes the machine you sit at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "way",
    [[], ["--skip-tags", "always"], ["--start-at-task", "Ensure that the variables*"]],
    ids=["plain", "without the preflight", "from the middle"],
)
def test_a_real_run_stops_however_it_is_called(tmp_path, way):
    # Should the guard ever fail, what would be changed is this one file.
    target = tmp_path / "ptxas.env"
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/runtime.yml", *way]
    command += ["-i", "inventories/local", "-e", f"ptxas_environment_file={target}"]
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "SPARK_DRIFT_DIR": str(tmp_path / "drift")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and not target.exists()
    assert "this inventory is for looking" in done.stdout + done.stderr
