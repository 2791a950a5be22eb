# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command under another Python, in an environment made from one lock.

usage: pythons.py (oldest|newest|torch) LOCK -- ARGUMENT …     runs `python ARGUMENT …` there

oldest: Python 3.10, the oldest a node may have; outside CI the next one that is there.
newest: the newest of 3.13 and 3.12.
torch: Python 3.11, for which the build of torch for processors is locked.
Environments stand in build/venvs, one for each interpreter and lock, made once.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = ROOT / ".venv" / "bin" / "uv"
WANTED = {"oldest": ("3.10",), "newest": ("3.13", "3.12"), "torch": ("3.11",)}
# Whoever has none of the oldest runs those tests all the same. In CI that would hide that nobody did.
ELSE: dict[str, tuple[str, ...]] = {} if os.environ.get("CI") == "true" else {"oldest": ("3.11", "3.12", "3.13")}


def find(which: str) -> str | None:
    """The interpreter's path: on PATH, or where pyenv keeps its versions."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in (*WANTED[which], *ELSE.get(which, ())):
        places = [Path(folder) / f"python{version}" for folder in os.environ.get("PATH", "").split(":") if folder]
        for path in [*places, *sorted(pyenv.glob(f"{version}*/bin/python{version}"))]:
            # Started, not only found: a version manager's shim may refuse.
            if path.exists() and _runs(path, version):
                return str(path)
    return None


def missing(which: str) -> str:
    return "" if find(which) else f"no Python {' or '.join(WANTED[which])} on PATH or under pyenv"


def _runs(path: Path, version: str) -> bool:
    probe = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-I", "-c", probe], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def environment(python: str, lock: str) -> Path:
    """The python of an environment that holds exactly what ``requirements/<lock>.lock`` names."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_bytes()
    key = hashlib.sha256(text + python.encode() + str(ROOT).encode()).hexdigest()[:12]
    place = ROOT / "build" / "venvs" / f"{lock}-{key}"
    if not (place / ".complete").exists():
        # uv of .venv: pip needs five times the processor time, some of it in each environment for itself.
        subprocess.run([python, "-I", "-m", "venv", "--clear", "--without-pip", place], check=True)
        argv = [UV, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--compile-bytecode"]
        argv += ["--cache-dir", ROOT / "build" / "cache" / "uv", "--python", place / "bin" / "python"]
        subprocess.run([*argv, "-r", ROOT / "requirements" / f"{lock}.lock"], check=True)
        (place / ".complete").touch()
    return place / "bin" / "python"


def main(arguments: list[str]) -> int:
    try:
        which, lock, dashes, *command = arguments
        if which not in WANTED or dashes != "--":
            raise ValueError
    except ValueError:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 64
    python = find(which)
    if python is None:
        print(missing(which), file=sys.stderr)
        return 1
    inside = environment(python, lock)
    print(f"{python} with requirements/{lock}.lock: {inside}", flush=True)
    os.environ["PATH"] = f"{inside.parent}:{os.environ['PATH']}"
    os.environ["VIRTUAL_ENV"] = str(inside.parent.parent)
    os.execv(inside, [str(inside), *command])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
