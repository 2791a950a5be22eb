# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve requirements/*.in again into *.lock, every file with its hash; then the locks that go to nodes.

usage: lock.py [--upgrade] [NAME …]      without --upgrade what is locked stays as it is
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import node_locks

ROOT = Path(__file__).resolve().parents[2]
# The oldest Python that a lock must install on, where it is not the controller's.
CONTROLLER, OLDEST = "3.11", {"unit": "3.10"}
# One lock for every platform and Python; nothing of the place where it was made.
OPTIONS = (
    "--universal", "--generate-hashes", "--no-annotate", "--no-header",
    "--no-emit-index-url", "--no-emit-find-links", "--quiet",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    upgrade = ["--upgrade"] if "--upgrade" in arguments else []
    every = sorted(path.stem for path in (ROOT / "requirements").glob("*.in"))
    names = [argument for argument in arguments if not argument.startswith("--")] or every
    uv = Path(sys.executable).parent / "uv"
    # drift first: test and bench include drift.in and must agree with it
    for name in sorted(names, key=lambda name: (name != "drift", name)):
        agree = ["--constraint", "requirements/drift.lock"] if name in ("test", "bench") else []
        argv = [uv, "pip", "compile", *OPTIONS, "--python-version", OLDEST.get(name, CONTROLLER), *upgrade, *agree]
        argv += [f"requirements/{name}.in", "-o", f"requirements/{name}.lock"]
        if code := subprocess.run(argv, cwd=ROOT, check=False).returncode:
            return code
        print(f"requirements/{name}.lock")
    return 0 if names != every else node_locks.main(upgrade)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
