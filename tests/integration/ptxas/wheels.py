# SPDX-License-Identifier: GPL-3.0-or-later
"""Real ptxas and Triton out of the wheels of a package index, pinned by hash.

usage: wheels.py fetch NAME==VERSION …    extract the binaries, print their folders
       wheels.py lock                     resolve PINS again and write wheels.lock

Only what is needed stays in build/cache/ptxas, in folders named by the wheel's hash; the
wheels themselves (150-290 MB each) are deleted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "wheels.lock"
CACHE = HERE.parents[2] / "build" / "cache" / "ptxas"
# Triton's wheels are per Python. For the binaries any tag does, for a compile it is this one.
PYTHON = "3.11"
MACHINES = ("x86_64", "aarch64")
PINS = (
    *(f"triton=={v}" for v in ("3.1.0", "3.2.0", "3.3.1", "3.4.0", "3.5.1", "3.6.0", "3.7.0", "3.8.0", "3.9.0")),
    *(f"nvidia-cuda-nvcc-cu12=={v}" for v in ("12.4.131", "12.5.82", "12.6.85", "12.8.93", "12.9.86")),
    "nvidia-cuda-nvcc==13.0.88",
)
LIMIT = 540  # seconds for one download; the largest takes 5 on a good line


class Unavailable(Exception):
    """The wheel cannot be had here; the text says why."""


@dataclass(frozen=True)
class Wheel:
    machine: str
    name: str
    version: str
    file: str
    sha256: str

    @property
    def key(self) -> str:
        return f"{self.name}-{self.version}-{self.sha256[:12]}"


def locked(name: str, version: str, machine: str = "") -> Wheel:
    machine = machine or platform.machine()
    for line in LOCK.read_text().splitlines():
        if line and not line.startswith("#"):
            wheel = Wheel(*line.split())
            if (wheel.machine, wheel.name, wheel.version) == (machine, name, version):
                return wheel
    raise Unavailable(f"{name} {version} has no wheel for {machine} in {LOCK.name}")


def binaries(name: str, version: str, machine: str = "") -> Path:
    """A folder laid out like site-packages with the ptxas binaries and METADATA of one wheel."""
    wheel = locked(name, version, machine)
    return _cached(wheel.key, lambda folder: _extract(_download(wheel, folder), folder))


def ptxas(name: str, version: str) -> Path:
    (path,) = binaries(name, version).glob("nvidia/*/bin/ptxas")
    return path


def environment(version: str, python: str) -> Path:
    """A virtual environment of ``python`` that holds Triton ``version`` whole.

    Compiling ahead of time needs no other package, but for the setuptools that Triton 3.1 and
    3.2 import; Python 3.11 puts one beside the pip of a new environment.
    """
    wheel = locked("triton", version)

    def make(folder: Path) -> None:
        file = _download(wheel, folder)
        bare = [] if version in ("3.1.0", "3.2.0") else ["--without-pip"]
        _run([python, "-m", "venv", *bare, str(folder / "venv")])
        (site,) = (folder / "venv").glob("lib/python3.*/site-packages")
        # A wheel is a zip laid out like site-packages; pip would only add console scripts and bytecode.
        with zipfile.ZipFile(file) as archive:
            archive.extractall(site)
        _run([str(folder / "venv/bin/python"), "-m", "compileall", "-q", str(site)])
        file.unlink()
        _executable(site)

    return _cached(f"venv-{wheel.key}", make) / "venv"


def _download(wheel: Wheel, folder: Path) -> Path:
    """The wheel, by pip, which checks the hash; checked here once more, since all rests on it."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    argv = [*_pip("download", wheel.machine), "--require-hashes", "-d", str(folder), "-r", str(requirement)]
    try:
        _run(argv)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        raise Unavailable(
            f"pip could not download {wheel.name} {wheel.version} for {wheel.machine}: "
            f"{lines[-1] if lines else f'exit code {error.returncode}'}. Is a package index reachable?"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"pip was still downloading {wheel.name} {wheel.version} after {LIMIT} s") from error
    requirement.unlink()
    (file,) = folder.glob("*.whl")
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise Unavailable(f"{file.name} has sha256 {digest}, {LOCK.name} has {wheel.sha256}")
    return file


def _extract(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            path = Path(name)
            if (path.parent.name == "bin" and path.name.startswith("ptxas")) or path.name == "METADATA":
                archive.extract(name, folder)
    file.unlink()
    _executable(folder)


def _executable(folder: Path) -> None:
    """zipfile drops the mode that pip would restore."""
    for path in folder.rglob("bin/*"):
        if path.is_file():
            path.chmod(0o755)


def _cached(key: str, fill: Callable[[Path], None]) -> Path:
    """CACHE/key, made by ``fill`` whole or not at all; two test processes make it once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / key
    with _locked(CACHE / f".{key}.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=".new.") as name:
                fresh = Path(name) / "content"
                fresh.mkdir()
                fill(fresh)
                fresh.rename(target)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _pip(command: str, machine: str) -> list[str]:
    # pip's own cache would keep a second copy of every wheel.
    argv = [sys.executable, "-m", "pip", command, "-q", "--no-cache-dir", "--no-deps", "--only-binary=:all:"]
    # The tags that the pinned wheels have; naming a platform switches the implied ones off.
    tags = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux2010")
    return [*argv, f"--python-version={PYTHON}", *(f"--platform={tag}_{machine}" for tag in tags)]


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)


def write_lock() -> None:
    """Ask the index for the hash of each pin: it tells them without a download."""
    lines = ["# machine name version file sha256; written by wheels.py lock"]
    for machine in MACHINES:
        for pin in PINS:
            with tempfile.TemporaryDirectory() as folder:
                report = Path(folder) / "report.json"
                argv = [*_pip("install", machine), "--dry-run", "--ignore-installed", "--target", f"{folder}/none"]
                done = subprocess.run(
                    [*argv, "--report", str(report), pin], capture_output=True, text=True, timeout=LIMIT
                )
                if done.returncode:
                    print(f"{machine}: no wheel of {pin}", file=sys.stderr)
                    continue
                (item,) = json.loads(report.read_text())["install"]
                info = item["download_info"]
                file = info["url"].rpartition("/")[2].partition("#")[0]
                name, _equals, version = pin.partition("==")
                lines.append(f"{machine} {name} {version} {file} {info['archive_info']['hashes']['sha256']}")
    LOCK.write_text("\n".join(lines) + "\n")


def matching_python() -> str:
    """A python3.11 that runs: the wheels above are for it."""
    for candidate in (sys.executable, shutil.which(f"python{PYTHON}") or "", f"/usr/bin/python{PYTHON}"):
        if candidate and os.access(candidate, os.X_OK):
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, timeout=30)
            if done.stdout.strip() == PYTHON:
                return candidate
    raise Unavailable(f"python{PYTHON} is not installed")


def main(argv: list[str]) -> int:
    if argv[:1] == ["lock"] and len(argv) == 1:
        write_lock()
        return 0
    if argv[:1] == ["fetch"] and len(argv) > 1:
        for pin in argv[1:]:
            name, _equals, version = pin.partition("==")
            print(binaries(name, version))
        return 0
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Unavailable as error:
        sys.exit(f"wheels.py: {error}")
