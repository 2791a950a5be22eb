# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve the locks that go to nodes: roles/*/files/<set>/<n>-<stage>.in → .lock beside it.

usage: node_locks.py [--upgrade] [SET …]      without --upgrade what is locked stays as it is

A set is resolved as a whole, so that its stages agree; a stage then holds what it needs and no
earlier one has. Only the hashes of wheels for the platforms of the set are kept: no source
distribution, nothing for another system, so a Spark's lock is 30 kB and not 600.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
# uv's name of a platform, and a Python. The first one decides which releases are taken.
SPARK = (("aarch64-manylinux_2_39", "3.12"),)
ANYWHERE = (
    ("aarch64-manylinux_2_39", "3.12"),
    ("x86_64-manylinux_2_28", "3.11"),
    ("x86_64-manylinux_2_28", "3.12"),
    ("x86_64-manylinux_2_28", "3.13"),
)


def platforms(folder: Path) -> tuple[tuple[str, str], ...]:
    return SPARK if folder.name.startswith("spark-") else ANYWHERE


def sets() -> list[Path]:
    return sorted({path.parent for path in ROOT.glob("roles/*/files/*/*.in")})


@dataclass
class Pins:
    """name → version, and name → hashes of its wheels."""

    versions: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, set[str]] = field(default_factory=dict)

    def text(self) -> str:
        return "".join(f"{name}=={version}\n" for name, version in sorted(self.versions.items()))


def compile_pins(requirements: str, platform: str, python: str, *options: str, constraints: str = "") -> Pins:
    """What uv resolves on one platform, in wheels only, with the hashes of the wheels that fit it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.txt").write_text(requirements)
        (folder / "constraints.txt").write_text(constraints)
        uv, cache = Path(sys.executable).parent / "uv", ROOT / "build" / "cache" / "uv"
        argv = [
            uv, "pip", "compile", "--quiet", "--only-binary", ":all:", "--no-header", "--format", "pylock.toml",
            "--python-platform", platform, "--python-version", python, "--cache-dir", cache, *options,
            "--constraint", folder / "constraints.txt", folder / "in.txt", "--output-file", folder / "pylock.toml",
        ]  # fmt: skip
        done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{platform}, Python {python}: {done.stderr.strip()}")
        packages = tomllib.loads((folder / "pylock.toml").read_text("utf-8")).get("packages", [])
    found = Pins()
    for package in packages:
        found.versions[package["name"]] = package["version"]
        found.hashes[package["name"]] = {wheel["hashes"]["sha256"] for wheel in package.get("wheels", [])}
    return found


def locked(path: Path) -> str:
    """The pins of a lock without its hashes, as constraints."""
    return "\n".join(re.findall(r"^\S+==[^\s\\]+", path.read_text("utf-8"), re.MULTILINE)) if path.exists() else ""


def resolve(folder: Path, *, upgrade: bool) -> None:
    inputs = sorted(folder.glob("*.in"))
    (platform, python), *others = platforms(folder)
    keep = "" if upgrade else "\n".join(locked(path.with_suffix(".lock")) for path in inputs)
    whole = compile_pins("".join(path.read_text("utf-8") for path in inputs), platform, python, constraints=keep)
    for other, its_python in others:
        # The same releases; what only that platform needs is added.
        every = "".join(path.read_text("utf-8") for path in inputs)
        found = compile_pins(every, other, its_python, constraints=whole.text())
        whole.versions |= found.versions
        for name, hashes in found.hashes.items():
            whole.hashes.setdefault(name, set()).update(hashes)
    for other, its_python in (*platforms(folder),):
        rest = compile_pins(whole.text(), other, its_python, "--no-deps")
        for name, hashes in rest.hashes.items():
            whole.hashes[name] |= hashes
    done: set[str] = set()
    for position, path in enumerate(inputs, 1):
        if position == len(inputs):
            names = set(whole.versions)
        else:
            text = path.read_text("utf-8")
            names = {
                n for p, v in platforms(folder) for n in compile_pins(text, p, v, constraints=whole.text()).versions
            }
        lines = []
        for name in sorted(names - done):
            pins = [f"{name}=={whole.versions[name]}", *(f"--hash=sha256:{h}" for h in sorted(whole.hashes[name]))]
            lines.append(" \\\n    ".join(pins) + "\n")
        path.with_suffix(".lock").write_text("".join(lines))
        done |= names
        print(path.with_suffix(".lock").relative_to(ROOT), f"({len(lines)} distributions)", flush=True)


def main(arguments: list[str]) -> int:
    names = [argument for argument in arguments if not argument.startswith("--")]
    for folder in sets():
        if not names or folder.name in names:
            resolve(folder, upgrade="--upgrade" in arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
