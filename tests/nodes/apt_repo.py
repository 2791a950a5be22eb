# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed apt repositories on disk, and stand-in packages to put into them.

    repository = AptRepo(directory)
    repository.publish([Package("hello", "1.0", files={"/usr/bin/hello": "#!/bin/sh\\necho hi\\n"})])

The packages are real: dpkg-deb builds them, apt installs them, their scripts run. Nodes see
the folder ``APT`` read-only at /srv/apt and read it by ``file:`` address, without a network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from host import CACHE, lock, run

APT = CACHE / "apt"  # what a node sees as /srv/apt
SEEN_BY_NODES = "/srv/apt"
PUBLIC_KEY = APT / "key.asc"
SECRET_KEY = CACHE / "apt-secret-key.asc"
SIGNER = "Stand-in packages for tests <nodes@test.invalid>"


@dataclass(frozen=True)
class Package:
    """One binary package.

    files: absolute path → content; text that starts with ``#!`` is made executable, a file as it is.
    conffiles: those of ``files`` that dpkg must treat as the administrator's own.
    unit: file name of a systemd unit → its text, put into /usr/lib/systemd/system.
    fields: any further control field, such as ``{"Breaks": "x (<< 2)"}``.
    """

    name: str
    version: str = "1.0"
    architecture: str = "all"
    depends: str = ""
    recommends: str = ""
    provides: str = ""
    conflicts: str = ""
    replaces: str = ""
    files: Mapping[str, str | Path] = field(default_factory=dict)
    conffiles: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    preinst: str = ""
    postinst: str = ""
    prerm: str = ""
    postrm: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    def control(self) -> str:
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": SIGNER,
            "Section": "misc",
            "Priority": "optional",
            "Depends": self.depends,
            "Recommends": self.recommends,
            "Provides": self.provides,
            "Conflicts": self.conflicts,
            "Replaces": self.replaces,
            **self.fields,
            "Description": f"stand-in for {self.name}, for tests only",
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)

    def build(self, directory: Path) -> Path:
        """Build the .deb into ``directory``."""
        target = directory / self.file_name
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch) / "root"
            units = {f"/usr/lib/systemd/system/{name}": text for name, text in self.units.items()}
            for path, content in {**self.files, **units}.items():
                _put(root / path.lstrip("/"), content)
            _put(root / "DEBIAN/control", self.control())
            if self.conffiles:
                _put(root / "DEBIAN/conffiles", "".join(f"{path}\n" for path in self.conffiles))
            for script in ("preinst", "postinst", "prerm", "postrm"):
                if text := getattr(self, script):
                    _put(root / "DEBIAN" / script, text)
                    (root / "DEBIAN" / script).chmod(0o755)
            for folder, _subfolders, _files in os.walk(root):
                Path(folder).chmod(0o755)
            # To compress takes longer than all the rest, and nobody downloads them.
            run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, target])
        target.chmod(0o644)
        return target


def _put(path: Path, content: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copy(content, path)
    else:
        path.write_text(content)
        path.chmod(0o755 if content.startswith("#!") else 0o644)


class AptRepo:
    """A flat signed repository in ``APT/<name>``. ``label``: what pins know it by; the name if it is empty.

    origin: what unattended-upgrades knows it by; nobody's if it is empty.
    """

    def __init__(self, name: str, label: str = "", origin: str = "") -> None:
        self.name = name
        self.origin = origin
        self.label = label or name
        self.directory = APT / name

    @property
    def source(self) -> str:
        """The line for /etc/apt/sources.list.d/<name>.list on a node."""
        return f"deb [signed-by={SEEN_BY_NODES}/{PUBLIC_KEY.name}] file:{SEEN_BY_NODES}/{self.name} ./"

    def publish(self, packages: Iterable[Package] = (), debs: Iterable[Path] = ()) -> None:
        """Replace the contents: exactly these packages are offered from now on."""
        fresh = APT / f".{self.name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for package in packages:
            package.build(fresh)
        for deb in debs:
            (fresh / deb.name).hardlink_to(deb)
        index_and_sign(fresh, self.label, self.origin)
        shutil.rmtree(self.directory, ignore_errors=True)
        fresh.rename(self.directory)

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def build_repo(packages: Iterable[Package], directory: Path) -> AptRepo:
    """Offer ``packages`` in ``directory``, which must be a direct child of ``APT``."""
    if directory.parent != APT:
        raise ValueError(f"{directory} is not where nodes look: {APT}/<name>")
    repository = AptRepo(directory.name)
    repository.publish(packages)
    return repository


def index_and_sign(directory: Path, label: str, origin: str = "") -> None:
    shell = "cd {} && apt-ftparchive {} . > {}"
    where = f"'{directory}'"
    run(["sh", "-c", shell.format(where, "packages", "Packages")], timeout=300)
    options = ["-o", f"APT::FTPArchive::Release::Label={label}", "-o", "APT::FTPArchive::Release::Suite=./"]
    options += ["-o", f"APT::FTPArchive::Release::Origin={origin}"] if origin else []
    # Written elsewhere first: a Release that exists while it is being made lists itself.
    release = run(["apt-ftparchive", *options, "release", directory])
    (directory / "Release").write_text(release)
    with _keyring() as home:
        run(["gpg", "--homedir", home, "--batch", "--yes", "--clearsign", "-o", directory / "InRelease",
             directory / "Release"])  # fmt: skip
    for path in (directory, *directory.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextlib.contextmanager
def _keyring() -> Iterator[Path]:
    """A GnuPG home with the signing key, gone afterwards together with its agent.

    In a short temporary path: the agent's socket name must fit into 107 bytes.
    """
    with lock("apt-key"), tempfile.TemporaryDirectory(prefix="nusy-gpg-") as scratch:
        home = Path(scratch)
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
        try:
            if SECRET_KEY.exists():
                run([*gpg, "--import", SECRET_KEY])
            else:
                run([*gpg, "--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never"])
                APT.mkdir(parents=True, exist_ok=True)
                PUBLIC_KEY.write_text(run([*gpg, "--armor", "--export"]))
                SECRET_KEY.write_text(run([*gpg, "--armor", "--export-secret-keys"]))
                SECRET_KEY.chmod(0o600)
            yield home
        finally:
            run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
