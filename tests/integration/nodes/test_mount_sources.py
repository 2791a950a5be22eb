# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel shows of real mounts is understood: file systems on loop devices, bound folders, layers.

Test nodes have no block devices of their own, so this runs beside them: in a mount namespace of this
machine, which ends with the process. findmnt is the judge of what is mounted where.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]

# Run inside the namespace: mount, look with our own eyes, print what was found.
SCRIPT = """
set -e
cd "$1"
mkdir a b c deep src layered
truncate -s 16M disk.img other.img
mkfs.ext4 -q -L "my disk" -U 11111111-2222-3333-4444-555555555555 disk.img
mkfs.ext4 -q other.img
mount -o loop disk.img a
mkdir a/inner
mount --bind src b
mount --bind a c
mount --bind a/inner deep
mount -t tmpfs -o size=1m,nr_inodes=500,noexec 'a tmp#fs' layered
mount -o loop other.img layered
python3 "$2" "$1"
"""

LOOK = """
import json, os, sys
sys.path.insert(0, {collections!r})
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import mount_options, mounts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Mount, Unknown

root = sys.argv[1]
reader = HostReader()
device = os.popen(f"findmnt -no SOURCE {{root}}/a").read().strip()
words = {{
    "device": ("a", device, "ext4", ()),
    "any type": ("a", device, "auto", ()),
    "image": ("a", f"{{root}}/disk.img", "ext4", ("loop",)),
    "other image": ("a", f"{{root}}/other.img", "ext4", ("loop",)),
    "tag nobody has": ("a", "UUID=99999999-2222-3333-4444-555555555555", "ext4", ()),
    "bound folder": ("b", f"{{root}}/src", "none", ("bind",)),
    "another bound folder": ("b", f"{{root}}/a/inner", "none", ("bind",)),
    "bound file system": ("c", f"{{root}}/a", "none", ("bind",)),
    "bound folder of it": ("deep", f"{{root}}/a/inner", "none", ("bind",)),
    "folder of it as if it were it": ("deep", device, "ext4", ()),
    "layered": ("layered", f"{{root}}/other.img", "ext4", ("loop",)),
    "what it hides": ("layered", "tmpfs", "tmpfs", ()),
    "not mounted": ("src", device, "ext4", ()),
}}
found = {{}}
for name, (point, source, fstype, given) in words.items():
    wanted = Mount(f"{{root}}/{{point}}", source, fstype, given)
    place = mounts.observe(reader, [wanted]).places[wanted.path]
    same = place.same
    found[name] = "absent" if place.live is None else "unknown" if isinstance(same, Unknown) else same
hidden = [m for m in mounts.parse_mountinfo(open("/proc/self/mountinfo").read()) if m.source == "a tmp#fs"]
found["blanks"] = [m.point for m in hidden]
flags = ("size=1m", "nr_inodes=500", "noexec", "exec", "size=2m")
found["options"] = [d.option + " " + d.found for d in mount_options.compare("tmpfs", flags, hidden[0].options)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    missing = [tool for tool in ("unshare", "mkfs.ext4", "losetup", "findmnt") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing or not Path("/dev/loop-control").exists():
        text = "mounting needs root, loop devices and " + (", ".join(missing) or "nothing else")
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    folder = tmp_path_factory.mktemp("mounts")
    look = folder / "look.py"
    look.write_text(LOOK.format(collections=str(REPO / "collections")))
    place = folder / "place"
    place.mkdir()
    argv = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(place), str(look)]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), place


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("device", True),
        ("any type", True),
        ("image", True),
        ("other image", False),
        ("tag nobody has", "unknown"),
        ("bound folder", True),
        ("another bound folder", False),
        ("bound file system", True),
        ("bound folder of it", True),
        ("folder of it as if it were it", False),
        ("layered", True),
        ("what it hides", False),
        ("not mounted", "absent"),
    ],
)
def test_what_the_kernel_shows_is_understood(found, words, same):
    assert found[0][words] == same


def test_blanks_and_options_are_read_as_the_kernel_writes_them(found):
    assert found[0]["blanks"] == [str(found[1] / "layered")]
    assert found[0]["options"] == ["exec noexec", "size 1024k"]
