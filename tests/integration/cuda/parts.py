# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheels of the lock that role cuda_toolchain ships, and what is in them, for tests.

In build/cache/cuda, by the content of the lock; pip fetches them once and checks every hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "roles" / "cuda_toolchain" / "files" / "13.0" / "toolkit.lock"
CACHE = ROOT / "build" / "cache" / "cuda"
INSIDE = "nvidia/cu13/"
LIMIT = 540  # seconds; 105 MB


def wheels() -> Path:
    """A folder with all wheels of the lock for this machine."""
    return _cached("wheels", _download)


def unpacked() -> Path:
    """A folder for each wheel, by the name of its distribution, with its part of the toolkit."""
    return _cached("unpacked", _unpack)


def _cached(name: str, fill: Callable[[Path], object]) -> Path:
    """Made by ``fill`` whole or not at all; two test processes make it once."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"{name}-{digest}"
    with (CACHE / f".{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=".new.") as folder:
                fresh = Path(folder) / "content"
                fresh.mkdir()
                fill(fresh)
                fresh.rename(target)
    return target


def _download(folder: Path) -> None:
    argv = [sys.executable, "-m", "pip", "download", "-q", "--no-cache-dir", "--no-deps", "--only-binary=:all:"]
    argv += ["--require-hashes", "-d", str(folder), "-r", str(LOCK)]
    subprocess.run(argv, check=True, capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL)


def _unpack(folder: Path) -> None:
    for wheel in sorted(wheels().glob("*.whl")):
        name = wheel.name.partition("-")[0].replace("_", "-")
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if entry.filename.startswith(INSIDE) and not entry.is_dir():
                    path = folder / name / entry.filename.removeprefix(INSIDE)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(entry))
                    path.chmod(0o755 if entry.external_attr >> 16 & 0o100 else 0o644)


def toolkit() -> Path:
    """All of them put together, as somebody would find it on a node."""
    return _cached("toolkit", lambda folder: _put_together(folder, os.link))


def existing(folder: Path) -> Path:
    """A toolkit in ``folder`` made of links into the cache: for taking parts away."""
    return _put_together(folder, os.symlink)


def _put_together(folder: Path, link: Callable[[Path, Path], object]) -> Path:
    for part in unpacked().iterdir():
        for path in part.rglob("*"):
            if path.is_file():
                place = folder / path.relative_to(part)
                place.parent.mkdir(parents=True, exist_ok=True)
                link(path, place)
    (folder / "lib64").symlink_to("lib")
    return folder
