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
    return shutil.which(name) or str(unpacked(package) / "usr" / "bin" / name)


def unpacked(*packages: str) -> Path:
    """Where the packages are unpacked, named after the first one."""
    target = ROOT / "build" / "cache" / "debian" / packages[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{packages[0]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _unpack(packages, target)
    return target


def _unpack(packages: tuple[str, ...], target: Path) -> None:
    folder = target.with_suffix(".download")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    package = " ".join(packages)
    # Under another name until all is there: what was cut off is not taken for whole.
    extract = 'for one in ./*.deb; do dpkg-deb -x "$one" whole; done && mv whole "$0"'
    try:
        for argv in (["apt-get", "download", "-q", *packages], ["sh", "-ec", extract, str(target)]):
            done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                pytest.fail(f"{package} is needed: apt-get install {package}\n{done.stderr}")
    except FileNotFoundError as error:
        pytest.fail(f"{package} is needed, and {error.filename} is not here to fetch it")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shellcheck() -> str:
    return program("shellcheck", "shellcheck")


@pytest.fixture(scope="session")
def cloud_init() -> Path:
    """The Python packages of cloud-init, which judges by its own schema."""
    needs = ("configobj", "six", "jsonpatch", "json-pointer", "oauthlib")
    return unpacked("cloud-init", *(f"python3-{name}" for name in needs))


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool", "prometheus")


@pytest.fixture(scope="session")
def xmllint() -> str:
    return program("xmllint", "libxml2-utils")
