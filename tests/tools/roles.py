# SPDX-License-Identifier: GPL-3.0-or-later
"""The molecule scenario of every role, or of the roles named, one after the other.

usage: roles.py [ROLE …]        All are run; the exit code says whether all passed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(names: list[str]) -> int:
    known = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
    if unknown := sorted(set(names) - set(known)):
        print(f"no such role: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 64
    roles = names or known
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        # Molecule starts ansible-config by its name.
        "PATH": f"{tools}:{os.environ.get('PATH', os.defpath)}",
        # It keeps its state below the home folder of its user unless told where.
        "MOLECULE_EPHEMERAL_DIRECTORY": "",
        "ANSIBLE_HOME": str(ROOT / "build" / "ansible"),
    }
    failed = []
    for role in roles:
        state = ROOT / "build" / "molecule" / role
        state.mkdir(parents=True, exist_ok=True)
        environment["MOLECULE_EPHEMERAL_DIRECTORY"] = str(state)
        print(f"== {role}", flush=True)
        if subprocess.run([tools / "molecule", "test", "-s", role], cwd=ROOT, env=environment, check=False).returncode:
            failed.append(role)
    print(
        f"{len(roles) - len(failed)} of {len(roles)} roles passed"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return int(bool(failed) or not roles)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
