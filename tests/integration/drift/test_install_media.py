# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook that renders installation media: every host or none, without contacting one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, ansible_playbook

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJk2jrBBzUVGrOJg7ZbWGkB1ibSGnGrOWJ9FgjYP1x7M ana@desk"
# Nothing answers there: a run that asked a host for anything would fail.
HOSTS: dict[str, Any] = {
    name: {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "ana", "spark_install": declared}
    for name, declared in {
        "spark-1": {"system": "dgx_os", "authorized_keys": [KEY], "packages": ["jq"], "timezone": "{{ zone }}"},
        "spark-2": {"system": "ubuntu", "authorized_keys": [KEY], "disk_serial": "S7XX"},
    }.items()
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def write(site: Path, **installs: dict[str, Any]) -> None:
    hosts = {name: {**values} for name, values in HOSTS.items()}
    for name, more in installs.items():
        host = name.replace("_", "-")
        hosts[host]["spark_install"] = {**hosts[host]["spark_install"], **more}
    given = {"spark": {"hosts": hosts, "vars": {"zone": "Europe/Berlin"}}}
    (site / "hosts.yml").write_text(yaml.safe_dump(given))


def play(site: Path, *arguments: str) -> tuple[int, str, dict[str, int]]:
    """Exit code, output, and how many tasks changed something on each host. Started from the folder of the site."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "SPARK_"))}
    env |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(site / "home"), "ANSIBLE_NOCOLOR": "1"}
    command = [ansible_playbook(), "-i", "hosts.yml", str(ROOT / "playbooks/install_media.yml"), *arguments]
    env["SPARK_DRIFT_DIR"] = str(site / "drift")
    done = subprocess.run(command, cwd=site, env=env, capture_output=True, text=True, timeout=120, check=False)
    recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", done.stdout, re.MULTILINE)
    return done.returncode, done.stdout + done.stderr, {host: int(count) for host, count in recap}


def test_media_are_foretold_written_once_and_then_left_alone(site: Path) -> None:
    media = site / "build/install-media"
    code, out, changed = play(site, "--check", "--diff")
    assert code == 0 and changed == {"spark-1": 1, "spark-2": 1}, out
    assert "timezone: Europe/Berlin" in out and not media.exists()
    code, out, changed = play(site)
    assert code == 0 and changed == {"spark-1": 1, "spark-2": 1} and "mke2fs -t ext4 -L OEMDATA" in out
    assert sorted(str(path.relative_to(media)) for path in media.glob("**/*") if path.is_file()) == [
        "spark-1/SHA256SUMS",
        "spark-1/oemdata/SHA256SUMS",
        "spark-1/oemdata/apt-packages.txt",
        "spark-1/oemdata/hook.sh",
        "spark-1/seed/meta-data",
        "spark-1/seed/user-data",
        "spark-2/SHA256SUMS",
        "spark-2/seed/meta-data",
        "spark-2/seed/user-data",
    ]
    assert not [path for path in media.glob("*/**/*") if path.stat().st_mode & 0o077]
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=media / "spark-1", check=True)
    code, out, changed = play(site)
    assert code == 0 and changed == {"spark-1": 0, "spark-2": 0}


def test_wrong_input_of_one_host_writes_nothing_for_any(site: Path) -> None:
    write(site, spark_2={"disk_serial": "S7*"})
    code, out, _changed = play(site)
    assert code != 0 and "spark_install.disk_serial: one serial, without wildcards" in out and "on spark-2" in out
    assert not (site / "build").exists()
    # A shape that is wrong stops in the preflight, which knows where it was written.
    write(site, spark_2={"password": "hunter22"})
    code, out, _changed = play(site)
    assert code != 0 and "spark_install.password: a name that is documented" in out and "hunter22" not in out
    assert not (site / "build").exists()


def test_a_folder_with_something_else_is_refused(site: Path) -> None:
    assert play(site)[0] == 0
    (site / "build/install-media/spark-2/seed/notes").write_text("mine")
    write(site, spark_1={"hostname": "other"})
    code, out, _changed = play(site)
    assert code != 0 and "seed/notes" in out and "move them away" in out
    assert "spark-1" in (site / "build/install-media/spark-1/seed/meta-data").read_text()


def test_two_hosts_share_neither_folder_nor_disk_nor_name(site: Path) -> None:
    write(site, spark_1={"hostname": "spark-2"})
    code, out, _changed = play(site)
    assert code != 0 and "spark_install.hostname: one of its own" in out and "'spark-2', as of spark-1" in out
    text = (site / "hosts.yml").read_text()
    (site / "hosts.yml").write_text(text.replace("spark-1:", "rack/1:").replace("hostname: spark-2", "hostname: one"))
    code, out, _changed = play(site)
    assert code != 0 and "a host whose name can be that of a folder" in out and "'rack/1'" in out
    assert not (site / "build").exists()
