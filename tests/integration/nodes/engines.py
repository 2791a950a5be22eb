# SPDX-License-Identifier: GPL-3.0-or-later
"""Real engines for test nodes: Ray and llama.cpp out of the small lock of role vllm_venv, for the Python of a node."""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "roles" / "vllm_venv" / "files" / "small" / "2-servers.lock"
CACHE = ROOT / "build" / "cache" / "engines"
PYTHON = "3.13"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")

sys.path.insert(0, str(ROOT / "tests" / "tools"))

import pythons


def site_packages() -> Path:
    """Installed once for each content of the lock."""
    place = CACHE / hashlib.sha256(LOCK.read_bytes() + repr((PYTHON, PLATFORMS)).encode()).hexdigest()[:16]
    if not place.exists():
        work = place.with_name(f"{place.name}.{os.getpid()}")
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(work)]
        argv += ["--python-version", PYTHON, "--only-binary=:all:", "--no-deps", "--no-compile", "--require-hashes"]
        argv += [word for platform in PLATFORMS for word in ("--platform", platform)]
        done = subprocess.run([*argv, "-r", str(LOCK)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        _compile(work)
        with contextlib.suppress(OSError):  # another run was faster
            os.rename(work, place)
        shutil.rmtree(work, ignore_errors=True)
    return place


def _compile(folder: Path) -> None:
    """Nodes cannot write to what is mounted, and Ray is slow to start from sources. Without that Python it is so."""
    python = pythons.find("newest")
    if python and python.endswith(PYTHON):
        argv = [python, "-m", compileall.__name__, "-q", "-j", "2", str(folder)]
        subprocess.run(argv, capture_output=True, check=False)
