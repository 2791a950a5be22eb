# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is gone costs what is on it, once and for a limited time; everything else is looked at directly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import shares
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A folder that the table of mounts calls a share, beside an ordinary one."""
    for name in ("my nas", "disk"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x\udcff", errors="surrogateescape")
    (tmp_path / "disk" / "to_nas").symlink_to("../my nas")
    mount(tmp_path, monkeypatch)
    monkeypatch.setattr(shares, "SECONDS", 0.3)
    monkeypatch.setattr(shares, "FRESH_SECONDS", -1.0)
    return tmp_path


def mount(folder: Path, monkeypatch, number: int = 41, kind: str = "nfs4") -> None:
    point = str(folder / "my nas").replace(" ", "\\040")
    table = folder / "mountinfo"
    table.write_text(
        "21 1 0:5 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n"
        f"22 1 8:1 / {folder} rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"{number} 22 0:44 / {point} rw shared:2 master:1 - {kind} nas:/x rw\n"
    )
    monkeypatch.setattr(shares, "MOUNTS", str(table))


def silence(monkeypatch) -> None:
    """Whoever asks the share waits. The children inherit it."""
    for name in ("lstat", "open", "listdir", "readlink"):
        real = getattr(os, name)

        def hang(path, *args, real=real, through=name in ("open", "listdir"), **options):
            if "/my nas" in str(path) or "/to_nas/" in str(path) or (through and str(path).endswith("/to_nas")):
                time.sleep(60)
            return real(path, *args, **options)

        monkeypatch.setattr(os, name, hang)


LOOKS = {
    "stat": lambda reader, folder: reader.stat(f"{folder}/file"),
    "read": lambda reader, folder: reader.read(f"{folder}/file"),
    "file": lambda reader, folder: reader.file(f"{folder}/file"),
    "listdir": lambda reader, folder: reader.listdir(folder),
    "readlink": lambda reader, folder: reader.readlink(f"{folder}/file"),
    "missing": lambda reader, folder: reader.stat(f"{folder}/missing"),
}


@pytest.mark.parametrize("way", ["my nas", "disk/to_nas"])
@pytest.mark.parametrize("look", LOOKS)
def test_a_share_that_answers_says_the_same_as_a_disk(look, way, node):
    found, same = LOOKS[look](HostReader(), f"{node}/{way}"), LOOKS[look](HostReader(), f"{node}/disk")
    if look == "file":
        found, same = found[1], same[1]
    if look == "stat":
        found, same = found.kind, same.kind
    if look == "listdir":
        same = tuple(name for name in same if name != "to_nas")
    assert found == same


@pytest.mark.parametrize("way", ["my nas", "disk/to_nas"])
@pytest.mark.parametrize("look", LOOKS)
def test_a_silent_one_is_unreadable(look, way, node, monkeypatch):
    silence(monkeypatch)
    with pytest.raises(Unreadable, match="my nas is silent: no answer within"):
        LOOKS[look](HostReader(), f"{node}/{way}")


def test_a_silent_one_is_asked_once_and_again_when_it_is_mounted_anew(node, monkeypatch):
    reader = HostReader()
    silence(monkeypatch)
    begin = time.monotonic()
    for _time in range(20):
        with pytest.raises(Unreadable):
            reader.stat(f"{node}/my nas/file")
    assert time.monotonic() - begin < 3
    monkeypatch.undo()
    mount(node, monkeypatch)
    with pytest.raises(Unreadable):
        reader.stat(f"{node}/my nas/file")
    mount(node, monkeypatch, number=42)
    monkeypatch.setattr(shares, "FRESH_SECONDS", -1.0)
    assert reader.stat(f"{node}/my nas/file").kind == "file"


def test_what_is_no_share_is_looked_at_without_another_process(node, monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a process for a look at a disk"))
    reader = HostReader()
    assert reader.stat(f"{node}/disk/to_nas").kind == "link"  # the link itself is on the disk
    assert reader.readlink(f"{node}/disk/to_nas") == "../my nas"
    assert reader.read("/proc/sys/kernel/ostype") == "Linux\n" and reader.listdir("/proc/sys/fs/binfmt_misc") != ("x",)
    mount(node, monkeypatch, kind="ext4")
    assert reader.stat(f"{node}/my nas/file").kind == "file"


def test_what_the_share_refuses_is_the_reason(node):
    with pytest.raises(Unreadable, match="not a regular file"):
        HostReader().read(f"{node}/my nas")


DEAD = """
import ctypes, os, sys
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None).mount(b"dead", sys.argv[1].encode(), b"fuse", 0, options):
    sys.exit(3)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import shares
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
shares.SECONDS = 0.5
reader = HostReader()
for look in (reader.stat, reader.listdir, reader.read):
    for path in (sys.argv[1], sys.argv[1] + "/x"):
        try:
            print(look(path))
        except Unreadable as error:
            print("unreadable" if "is silent" in str(error) else error)
print(reader.stat("/").kind)
"""


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and /dev/fuse")
def test_a_file_system_that_nobody_serves_stops_no_look(tmp_path):
    (tmp_path / "nas").mkdir()
    argv = ["/usr/bin/unshare", "-m", sys.executable, "-c", DEAD, str(tmp_path / "nas")]
    path = os.pathsep.join(sys.path)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env={**os.environ, "PYTHONPATH": path})
    if done.returncode == 3:
        pytest.skip("this kernel lets nobody mount FUSE here")
    assert done.stdout.split() == ["unreadable"] * 6 + ["directory"], done.stderr
