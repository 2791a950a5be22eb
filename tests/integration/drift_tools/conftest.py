# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that read the other forms of the report, from their Debian packages.

A program that is not installed is unpacked into build/cache, so nothing on the machine
changes (the package prometheus would start a service). Without either the tests fail.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def program(name: str, package: str) -> str:
    installed = shutil.which(name)
    if installed:
        return installed
    unpacked = ROOT / "build" / "cache" / "debian" / package
    binary = unpacked / "usr" / "bin" / name
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    with (unpacked.parent / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _unpack(package, unpacked)
    return str(binary)


def _unpack(package: str, target: Path) -> None:
    folder = target.with_suffix(".download")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for argv in (["apt-get", "download", "-q", package], ["sh", "-c", 'dpkg-deb -x ./*.deb "$0"', str(target)]):
            done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                pytest.fail(f"{package} is needed: apt-get install {package}\n{done.stderr}")
    except FileNotFoundError as error:
        pytest.fail(f"{package} is needed, and {error.filename} is not here to fetch it")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool", "prometheus")


@pytest.fixture(scope="session")
def xmllint() -> str:
    return program("xmllint", "libxml2-utils")
