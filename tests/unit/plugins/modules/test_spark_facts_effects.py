# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathering on this very machine, watched by strace: nothing is written, started or asked over a socket."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
CALLS = "open,openat,creat,unlink,unlinkat,mkdir,mkdirat,rename,renameat,renameat2,symlink,symlinkat,link,linkat"
CALLS += ",chmod,fchmodat,chown,lchown,fchownat,truncate,mknod,mknodat,mount,connect,execve,delete_module,finit_module"
GATHER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.observe import observe
facts, bugs = observe(HostReader(), subsets=["all"], seconds=20)
assert not bugs, bugs
print(json.dumps(facts))
"""


def traced(*command: str) -> list[str]:
    return ["strace", "-f", "-qq", "-e", f"trace={CALLS}", *command]


def can_trace() -> bool:
    if not shutil.which("strace"):
        return False
    return subprocess.run(traced("true"), capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="strace is not here or may not trace: effects not watched")
def test_gathering_leaves_the_machine_as_it_was(tmp_path: Path) -> None:
    log = tmp_path / "trace"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = traced("-o", str(log), sys.executable, "-B", "-c", GATHER, str(ROOT / "collections"))
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"TMPDIR": str(scratch)}, timeout=120
    )
    assert json.loads(done.stdout)["memory"]["total_bytes"] > 0
    calls = log.read_text(encoding="utf-8", errors="replace").splitlines()
    assert len(calls) > 100
    effects = [
        line
        for line in calls
        # Feeding a command its empty input goes through a file of the temporary folder, gone at once.
        if str(scratch) not in line
        and "resumed>" not in line  # its beginning, with the path, has its own line
        and "/dev/null" not in line
        and (
            re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE|O_TRUNC", line)
            or re.search(r" (unlink|mkdir|rename|sym|link|chmod|fchmod|chown|lchown|fchown|trunc|mknod|mount)", line)
            or re.search(r" (delete|finit)_module\(", line)
            # glibc asks for a name service cache, which is here or is not; it starts none.
            or ("connect(" in line and "nscd" not in line)
        )
    ]
    assert effects == []
    assert list(scratch.iterdir()) == []
    started = {match[1] for line in calls if (match := re.search(r'execve\("([^"]+)".* = 0$', line))}
    assert not {path for path in started if re.search(r"mst|mlx|modprobe|check_ota|fwupd|systemctl", path)}


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/usr/bin/python3", os.X_OK), reason="needs root and a system Python"
)
def test_anybody_can_gather_in_an_empty_environment() -> None:
    probe = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; assert sys.version_info >= (3, 10)"], check=False, capture_output=True
    )
    if probe.returncode:
        pytest.skip("the system Python is older than 3.10")
    argv = ["/usr/bin/python3", "-B", "-c", GATHER, str(ROOT / "collections")]
    found = {}
    for user in (None, "nobody"):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={}, user=user, cwd="/", timeout=60)
        if user and "Permission denied" in done.stderr:
            pytest.skip("another user cannot read this checkout")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        found[user] = json.loads(done.stdout)
    assert found["nobody"]["cpu"]["online_count"] == found[None]["cpu"]["online_count"]
    assert found["nobody"]["unknown"]["firmware.components"] == "needs root"
