# SPDX-License-Identifier: GPL-3.0-or-later
"""The real pacman on a Debian node, and a repository of stand-in packages for it.

pacman is that of the machine that carries the nodes, with every library it needs and the loader that they are for: a
node of another release runs it as it is. ``mount`` is for the node; what is published later is seen there at once.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SEEN_BY_NODES = "/srv/pacman"
PROGRAMS = ("pacman", "pacman-conf")
CONF = f"""\
[options]
Architecture = auto
SigLevel = Never
[extra]
Server = file://{SEEN_BY_NODES}/extra
"""


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}-any.pkg.tar"

    def build(self, folder: Path) -> str:
        """Its entry in the list of packages."""
        about = {"pkgname": self.name, "pkgver": self.version, "pkgdesc": "stand-in, for tests only", "arch": "any"}
        info = "".join(f"{key} = {value}\n" for key, value in about.items())
        # Not compressed, and so the same whenever it is built: pacman keeps what it has fetched.
        with tarfile.open(folder / self.file_name, "w") as archive:
            for path, text in {".PKGINFO": info, **self.files}.items():
                _add(archive, path.lstrip("/"), text)
        content = (folder / self.file_name).read_bytes()
        entry = {"FILENAME": self.file_name, "NAME": self.name, "VERSION": self.version, "CSIZE": str(len(content)),
                 "ISIZE": "1", "SHA256SUM": hashlib.sha256(content).hexdigest(), "ARCH": "any"}  # fmt: skip
        return "".join(f"%{key}%\n{value}\n\n" for key, value in entry.items())


def _add(archive: tarfile.TarFile, path: str, text: str) -> None:
    about = tarfile.TarInfo(path)
    about.size, about.mode = len(text.encode()), 0o755 if text.startswith("#!") else 0o644
    archive.addfile(about, io.BytesIO(text.encode()))


class PacmanRepo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mount = f"{folder}:{SEEN_BY_NODES}"
        (folder / "extra").mkdir()
        (folder / "lib").mkdir()
        for name in PROGRAMS:
            program = shutil.which(name)
            assert program is not None, f"{name} is not installed (package pacman-package-manager)"
            shutil.copy(program, folder / name)
            said = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
            for library in re.findall(r"(/\S+) \(0x", said):
                shutil.copy(library, folder / "lib")

    def publish(self, packages: Iterable[Package]) -> None:
        """Offered from now on; a node sees it after ``pacman -Sy``."""
        with tarfile.open(self.folder / "extra" / "extra.db", "w:gz") as lists:
            for package in packages:
                _add(lists, f"{package.name}-{package.version}/desc", package.build(self.folder / "extra"))

    def wrapper(self, name: str) -> str:
        """Not by LD_LIBRARY_PATH, which what pacman starts would have as well."""
        (loader,) = self.folder.glob("lib/ld-*")
        libraries = f"{SEEN_BY_NODES}/lib"
        return f'#!/bin/sh\nexec {libraries}/{loader.name} --library-path {libraries} {SEEN_BY_NODES}/{name} "$@"\n'
