# SPDX-License-Identifier: GPL-3.0-or-later
"""Every lock that goes to a node resolves there: aarch64, Python 3.12, wheels only, hashes right.

usage: aarch64.py       Looks for roles/*/files/**/*.lock. Reads the package index, installs nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
# pylock.toml names the very wheels that would be installed on that platform, with their hashes.
COMPILE = (
    "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-header", "--format", "pylock.toml",
    "--python-platform", "aarch64-manylinux_2_39", "--python-version", "3.12",  # Ubuntu 24.04: glibc 2.39
)  # fmt: skip


def problems(lock: Path) -> list[str]:
    found = ROOT / "build" / "aarch64" / f"{lock.parent.name}-{lock.stem}" / "pylock.toml"
    found.parent.mkdir(parents=True, exist_ok=True)
    found.unlink(missing_ok=True)
    uv, cache = Path(sys.executable).parent / "uv", ROOT / "build" / "cache" / "uv"
    argv = [uv, *COMPILE, "--cache-dir", cache, lock, "--output-file", found]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        return [done.stderr.strip()]
    allowed = set(re.findall(r"sha256:([0-9a-f]{64})", lock.read_text("utf-8")))
    return [
        f"{package['name']} {package['version']}: the lock holds the hash of none of its wheels for aarch64"
        for package in tomllib.loads(found.read_text("utf-8")).get("packages", [])
        if not allowed & {wheel["hashes"].get("sha256") for wheel in package.get("wheels", [])}
    ]


def main() -> int:
    locks = sorted(ROOT.glob("roles/*/files/**/*.lock"))
    if not locks:
        print("no role ships a lock for the node yet")
        return 1
    failed = False
    with ThreadPoolExecutor(len(locks)) as pool:  # they wait for the index, with hardly any work of their own
        for lock, found in zip(locks, pool.map(problems, locks), strict=True):
            failed = failed or bool(found)
            print(f"{lock.relative_to(ROOT)}: {'; '.join(found) or 'resolves'}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
