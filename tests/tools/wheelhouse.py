# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiny real wheels, made where they are needed: every install of them is a real one, without a network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

# A wheel's bytes must not depend on the clock.
EPOCH = (2026, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Wheel:
    name: str
    version: str
    path: Path

    @property
    def pin(self) -> str:
        return (
            f"{self.name}=={self.version} \\\n    --hash=sha256:{hashlib.sha256(self.path.read_bytes()).hexdigest()}\n"
        )


def wheel(
    folder: Path,
    name: str,
    version: str,
    files: dict[str, str] | None = None,
    programs: dict[str, str] | None = None,
    tag: str = "py3-none-any",
    misrecord: str = "",
) -> Wheel:
    """A wheel of one module (or of ``files``) with console scripts ``programs``.

    misrecord: a file about which its RECORD is wrong.
    """
    files = dict(files or {f"{name}.py": f"__version__ = {version!r}\n\ndef main():\n    print({name!r})\n"})
    info = f"{name}-{version}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if programs:
        lines = "".join(f"{program} = {target}\n" for program, target in programs.items())
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    said = {path: text + "x" if path == misrecord else text for path, text in files.items()}
    record = "".join(f"{path},sha256={_hash(text)},{len(text.encode())}\n" for path, text in said.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(zipfile.ZipInfo(inside, EPOCH), text)
    return Wheel(name, version, path)


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


# A stand-in for torch and vLLM: a version that only a file tells, a program, and a need of the node.
ENGINE = """import os

__version__ = {version!r}
os.stat("/etc/hostname")


def main():
    print("engine", __version__)
"""


def demo(folder: Path) -> Path:
    """Wheels of a small engine in two releases, and their locks old.lock, new.lock and base.lock."""
    base = wheel(
        folder, "base", "2.13.0", {"base/__init__.py": "", "base/version.py": "__version__ = '2.13.0+cu130'\n"}
    )
    (folder / "base.lock").write_text(base.pin)
    for name, version in (("old", "0.25.0"), ("new", "0.27.1")):
        text = ENGINE.format(version=version)
        engine = wheel(folder, "engine", version, {"engine.py": text}, programs={"engine": "engine:main"})
        (folder / f"{name}.lock").write_text(engine.pin)
    return folder
