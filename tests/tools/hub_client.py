# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python with the release of huggingface_hub that goes to nodes, and nothing else of their locks."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "roles" / "vllm_venv" / "files" / "small").glob("*.lock"))


def python() -> str:
    """Made once for each content of the small set of locks."""
    pins = "\n".join(line for p in LOCKS for line in re.findall(r"^\S+==[^\s\\]+", p.read_text("utf-8"), re.MULTILINE))
    key = hashlib.sha256(f"{pins}{sys.executable}".encode()).hexdigest()[:12]
    place = ROOT / "build" / "venvs" / f"hub-{key}"
    if not (place / ".complete").exists():
        uv, constraints = Path(sys.executable).parent / "uv", place / "constraints.txt"
        subprocess.run([sys.executable, "-I", "-m", "venv", "--clear", "--without-pip", place], check=True)
        constraints.write_text(pins)
        argv = [uv, "pip", "install", "--quiet", "--cache-dir", ROOT / "build" / "cache" / "uv", "--only-binary=:all:"]
        subprocess.run([*argv, "--python", place / "bin/python", "-c", constraints, "huggingface_hub"], check=True)
        (place / ".complete").touch()
    return str(place / "bin" / "python")
