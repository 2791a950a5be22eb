# SPDX-License-Identifier: GPL-3.0-or-later
"""Installation media as their readers see them: cloud-init's own schema, shellcheck, and a shell that runs the hook."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install import declared, place, render
from conftest import ROOT

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJk2jrBBzUVGrOJg7ZbWGkB1ibSGnGrOWJ9FgjYP1x7M ana@desk"
NETWORK = [{"mac": "4c:bb:47:00:00:01", "addresses": ["10.0.0.5/24"], "gateway": "10.0.0.1", "mtu": 9000}]
DGX = {"system": "dgx_os", "authorized_keys": [KEY], "network": NETWORK, "packages": ["jq", "tmux"]}
UBUNTU = {"system": "ubuntu", "authorized_keys": [KEY], "network": NETWORK, "disk_serial": "S7XX"}
SCRIPTS = sorted((ROOT / "plugins/plugin_utils/install").glob("*.sh"))


def tree(given: dict) -> render.Tree:
    install, problems = declared.parse(given, "spark-1", "ana")
    assert install, problems
    return render.tree(install)


def judged(cloud_init: Path, path: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(cloud_init / "usr/lib/python3/dist-packages")}
    argv = [sys.executable, str(cloud_init / "usr/bin/cloud-init"), "schema", "--config-file", str(path)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("part", ["dgx_os", "ubuntu", "inside ubuntu"])
def test_cloud_init_has_nothing_to_say(cloud_init: Path, tmp_path: Path, part: str) -> None:
    content = tree(DGX if part == "dgx_os" else UBUNTU)["seed/user-data"]
    if part == "inside ubuntu":  # what the installer hands on to the first boot
        content = b"#cloud-config\n" + yaml.safe_dump(yaml.safe_load(content)["autoinstall"]["user-data"]).encode()
    path = tmp_path / "user-data"
    path.write_bytes(content)
    done = judged(cloud_init, path)
    assert done.returncode == 0 and "Valid cloud-config" in done.stdout, done.stdout + done.stderr


def test_cloud_init_would_have_said_something(cloud_init: Path, tmp_path: Path) -> None:
    path = tmp_path / "user-data"
    path.write_bytes(bytes(tree(DGX)["seed/user-data"]).replace(b"lock_passwd: false", b"lock_passwd: 5"))
    done = judged(cloud_init, path)
    assert done.returncode != 0 and "lock_passwd" in done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(shellcheck: str, script: Path) -> None:
    done = subprocess.run([shellcheck, "--enable=all", "--exclude=SC2250,SC2292,SC2310,SC2312", script], check=False)
    assert done.returncode == 0


# --- the hook, run by the shell of this machine in folders of its own ------------------------------

CALLED = '#!/bin/sh\necho "$(basename "$0") $*" >>/var/log/called\n'


class Machine:
    """Fresh /etc, /var and /mnt in a mount namespace; programs that only say how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.oemdata = folder, folder / "oemdata"
        for name in ("etc/cloud", "etc/apt/sources.list.d", "var/log", "mnt", "bin"):
            (folder / name).mkdir(parents=True)
        for name in ("apt-get", "fwupdmgr", "mount", "umount", "mountpoint"):
            self.program(name, CALLED)
        self.program("blkid", f"{CALLED}echo /dev/stick\n")
        self.program("sleep", "#!/bin/sh\n")

    def program(self, name: str, text: str) -> None:
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)

    def run(self, script: str) -> int:
        binds = "".join(f"mount --bind {self.folder}/{name} /{name} && " for name in ("etc", "var", "mnt"))
        inner = (
            f"{binds} mkdir -p /mnt/oemdata && mount --bind {self.oemdata} /mnt/oemdata && PATH={self.folder}/bin:$PATH"
        )
        as_root = ["--map-root-user"] if os.geteuid() else []
        argv = ["unshare", *as_root, "--mount", "sh", "-ec", f"{inner} sh {self.folder / script}"]
        return subprocess.run(argv, timeout=60, check=False).returncode

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name, text in (("a.deb", b"deb"), ("b.cab", b"cab"), ("key.asc", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nx\n")):
        (tmp_path / name).write_bytes(text)
    files = {
        kind: [{"path": str(tmp_path / name), "sha256": hashlib.sha256(text).hexdigest()}]
        for kind, name, text in (("debs", "a.deb", b"deb"), ("firmware", "b.cab", b"cab"))
    }
    mirrors = {"apt_repository": "http://mirror/spark", "firmware_mirror": "http://mirror/lvfs/"}
    made = Machine(tmp_path / "machine")
    given = tree({**DGX, **files, **mirrors, "apt_key": str(tmp_path / "key.asc")})
    place.write(
        {name.removeprefix("oemdata/"): given[name] for name in given if name.startswith("oemdata/")}, made.oemdata
    )
    first_boot = yaml.safe_load(bytes(given["seed/user-data"]))["write_files"][0]["content"]
    (made.folder / "oemdata.sh").write_text(first_boot)
    # The hook by itself, as the script of the seed starts it.
    own = f"OEM_MNT=/mnt/oemdata OEM_SUMS=/mnt/oemdata/SHA256SUMS exec sh {render.HERE}/hook.sh\n"
    (made.folder / "hook.sh").write_text(own)
    return made


def test_the_hook_brings_what_was_declared(machine: Machine) -> None:
    assert machine.run("hook.sh") == 0, machine.read("var/log/spark-hook.log")
    called = machine.read("var/log/called")
    assert [line.split()[-1] for line in called.splitlines() if "apt-get" in line] == ["update", "./debs/a.deb", "tmux"]
    assert "fwupdmgr disable-remote lvfs" in called and "install" not in called.partition("fwupdmgr")[2]
    source = machine.read("etc/apt/sources.list.d/spark-install.sources")
    assert "URIs: http://mirror/spark\n" in source and "Signed-By: /etc/apt/keyrings/spark-install.asc\n" in source
    assert "MetadataURI=http://mirror/lvfs/firmware.xml.xz\n" in machine.read("etc/fwupd/remotes.d/spark-install.conf")
    assert machine.read("var/lib/nusy/firmware/b.cab") == "cab"
    assert (machine.folder / "var/log/spark-hook.log").stat().st_mode & 0o777 == 0o600
    for name in ("etc/apt/keyrings", "etc/apt/keyrings/spark-install.asc", "etc/fwupd/remotes.d"):
        assert (machine.folder / name).stat().st_mode & 0o005 == (0o005 if (machine.folder / name).is_dir() else 0o004)
    assert machine.run("hook.sh") == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("debs/a.deb", "other", "a file of OEMDATA is not what was declared"),
        ("apt-packages.txt", "jq evil", "a file of OEMDATA is not what was declared"),
        ("debs/evil.deb", "evil", "debs/evil.deb is on OEMDATA, and nobody declared it"),
        ("firmware/a.cab", "evil", "firmware/a.cab is on OEMDATA, and nobody declared it"),
    ],
)
def test_the_hook_does_nothing_with_what_nobody_declared(machine: Machine, name: str, text: str, said: str) -> None:
    (machine.oemdata / name).write_text(text)
    assert machine.run("hook.sh") == 1
    assert said in machine.read("var/log/spark-hook.log") and machine.read("var/log/called") == ""
    assert not (machine.folder / "etc/apt/sources.list.d/spark-install.sources").exists()


def test_the_first_boot_is_done_only_after_the_hook_has_succeeded(machine: Machine) -> None:
    done = machine.folder / "etc/cloud/cloud-init.disabled"
    machine.program("apt-get", '#!/bin/sh\ncase "$*" in *install*) exit 100;; esac\n')
    assert machine.run("oemdata.sh") == 1 and not done.exists()
    assert "mend the cause and boot again" in machine.read("var/log/spark-oemdata.log")
    machine.program("apt-get", CALLED)
    assert machine.run("oemdata.sh") == 0 and done.exists()
    before = machine.read("var/log/called")
    assert "umount /mnt/oemdata" in before
    assert machine.run("oemdata.sh") == 0 and machine.read("var/log/called") == before


@pytest.mark.parametrize("forged", [["hook.sh"], ["hook.sh", "SHA256SUMS"], ["SHA256SUMS"]])
def test_a_volume_that_was_not_made_with_the_seed_is_not_run(machine: Machine, forged: list[str]) -> None:
    (machine.oemdata / "hook.sh").write_text("echo evil >>/var/log/called\n" if "hook.sh" in forged else "")
    if "SHA256SUMS" in forged:
        digest = hashlib.sha256((machine.oemdata / "hook.sh").read_bytes()).hexdigest()
        (machine.oemdata / "SHA256SUMS").write_text(f"{digest}  hook.sh\n")
    assert machine.run("oemdata.sh") == 1
    assert "was not made with the seed of this machine" in machine.read("var/log/spark-oemdata.log")
    assert "evil" not in machine.read("var/log/called")
    assert not (machine.folder / "etc/cloud/cloud-init.disabled").exists()


def test_the_first_boot_without_the_volume_can_be_repeated(machine: Machine) -> None:
    machine.program("blkid", "#!/bin/sh\nexit 2\n")
    assert machine.run("oemdata.sh") == 1 and not (machine.folder / "etc/cloud/cloud-init.disabled").exists()
    assert "no volume OEMDATA within 60 s" in machine.read("var/log/spark-oemdata.log")
