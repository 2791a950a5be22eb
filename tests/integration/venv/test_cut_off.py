# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are cut off anywhere, and a disk that fills up: what is in use works on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostWriter
from venv_bench import Bench, states, subject_source


class Cut(BaseException):
    """Not an Exception: like a kill, nothing may tidy up after it."""


class Cutting(HostWriter):
    """Ends the run before its n-th touch of the node."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def __getattribute__(self, name: str):
        value = super().__getattribute__(name)
        if name in ("run", "write", "mkdir", "symlink", "rename"):
            if self.left == 0:
                raise Cut
            self.left -= 1
        return value


def test_a_run_cut_off_anywhere_harms_nothing_and_the_next_one_ends_alike(bench: Bench) -> None:
    old, new = bench.wheel("alpha", "1.0"), bench.wheel("alpha", "1.1")
    bench.apply(old, imports=["alpha"])
    for after in range(20):
        in_use = bench.current
        try:
            bench.apply(new, imports=["alpha"], writer=Cutting(after))
        except Cut:
            # What is in use works, and what a check says of it is what the next run then does.
            assert bench.current in (in_use, *(p.name for p in bench.home.iterdir()))
            subprocess.run([bench.home / "current/bin/python", "-c", "import alpha"], check=True)
            plan = bench.check(new, imports=["alpha"])
            assert bench.apply(new, imports=["alpha"]) == plan
            assert states(bench.check(new, imports=["alpha"])) == {}
            assert not [p for p in bench.home.iterdir() if p.name.endswith(".work")]
            # As before the first cut: only the old one is there.
            bench.apply(old, imports=["alpha"])
            (bench.home / "previous").unlink(missing_ok=True)
            bench.apply(old, imports=["alpha"])
        else:
            assert after >= 6, "a build touches the node more often than this"
            return
    pytest.fail("no run was long enough")


def test_a_run_killed_while_pip_works_is_finished_by_the_next_one(bench: Bench) -> None:
    """The real tool, SIGKILL for the run and not for pip, which goes on: its folder is not touched."""
    old, new = bench.wheel("alpha", "1.0"), bench.wheel("alpha", "1.1")
    bench.apply(old, imports=["alpha"])
    first, known = bench.current, set(os.listdir(bench.home))
    bench.uv = []
    with subprocess.Popen([sys.executable, "-c", subject_source(bench, new)], start_new_session=True) as run:
        deadline = time.monotonic() + 120
        while not (pips := _processes("-m pip", str(bench.home))):
            assert run.poll() is None and time.monotonic() < deadline, "pip never ran"
            time.sleep(0.02)
        for pid in pips:
            os.kill(pid, signal.SIGSTOP)
        run.kill()
    try:
        assert bench.current == first
        subprocess.run([bench.home / "current/bin/python", "-c", "import alpha"], check=True)
        begun = {name for name in set(os.listdir(bench.home)) - known if not name.startswith(".")}
        plan = bench.apply(new)
        # Beside the one that an orphan still works in, which is kept as long.
        assert bench.current not in begun and begun <= set(os.listdir(bench.home))
        assert "generations" not in states(plan)
    finally:
        for pid in pips:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _processes("-m pip", str(bench.home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "remove_generation" in [step.action for step in bench.apply(new).steps]
    assert states(bench.check(new)) == {} and not begun & set(os.listdir(bench.home))


def _processes(*words: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if all(word in line for word in words) and state != "Z":
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("tool", "mount", "key"),
    [
        ("uv", "size=24m", "venv.disk_full"),
        ("pip", "size=24m", "venv.disk_full"),
        # Not even room for pip itself, which is not told by who installs it.
        ("pip", "size=300k", "venv.disk_full"),
        ("pip", "ro", "venv.unwritable"),
    ],
)
def test_a_disk_that_fills_up_or_is_read_only(bench: Bench, tool: str, mount: str, key: str) -> None:
    """On a file system of its own, in a mount namespace of its own."""
    big = bench.wheel("big", "1.0", files={f"big/f{n}.py": f"x = '{os.urandom(500_000).hex()}'\n" for n in range(40)})
    if tool == "pip":
        bench.uv = []
    bench.root.mkdir()
    inside = (
        f"import os, subprocess\nargv = ['mount', '-t', 'tmpfs', '-o', '{mount},mode=0755', 'none']\n"
        f"subprocess.run([*argv, {str(bench.root)!r}], check=True)\n"
        + subject_source(bench, big, expect=key)
        + f"\nassert os.listdir({str(bench.root)!r}) == [], os.listdir({str(bench.root)!r})\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", inside], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
