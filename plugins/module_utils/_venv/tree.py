# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in an environment, read from its files: no package tool, no import, no network.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.lock import canonical
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Difference, Entry, Manifest

# Name and version stand in the first lines; the rest of METADATA is a description.
_HEAD = 8192
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_PIECE = 1 << 20
# No RECORD, manifest or source file is larger.
_MAX_TEXT = 128 << 20


@dataclass(frozen=True)
class Distribution:
    name: str
    version: str
    folder: str  # its .dist-info, absolute


def scan(root: str, ignore: frozenset[str] = frozenset()) -> dict[str, Entry]:
    """Every file and link below ``root`` by its relative path, but for compiled Python.

    Compiled files follow from their sources, and Python writes them as it likes; a ``.pyc``
    elsewhere than in ``__pycache__`` can be imported by itself and counts as a file. A link is
    not followed. ``ignore``: names in ``root`` itself.
    """
    found: dict[str, Entry] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder) if folder else root) as entries:
                for entry in entries:
                    if not folder and entry.name in ignore:
                        continue
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    elif not (entry.name.endswith(".pyc") and os.path.basename(folder) == "__pycache__"):
                        found[path] = _entry(entry.stat(follow_symlinks=False), entry.path)
        except OSError as error:
            raise Unreadable(f"{os.path.join(root, folder)}: {error.strerror}") from error
    return found


def _entry(found: os.stat_result, path: str) -> Entry:
    content = ""
    if stat.S_ISLNK(found.st_mode):
        content = f"-> {os.readlink(path)}"
    elif not stat.S_ISREG(found.st_mode):
        content = "neither file nor link"
    return Entry(
        stat.S_IMODE(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, content
    )


def read(path: str, limit: int = _MAX_TEXT) -> bytes | None:
    """The first ``limit`` bytes of a file; None when there is none.

    Who owns an environment may be hostile to root that looks at it: no link is followed, a FIFO
    makes nobody wait, and a device is not read. Raises Unreadable.
    """
    try:
        descriptor = os.open(path, _READING)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    data = bytearray()
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable(f"{path}: not a regular file")
        while piece := os.read(descriptor, min(_PIECE, limit - len(data))):
            data += piece
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return bytes(data)


def sha256(path: str) -> str:
    """Hexadecimal; never through a link, never blocked by what is no file."""
    digest = hashlib.sha256()
    try:
        descriptor = os.open(path, _READING)
        with os.fdopen(descriptor, "rb", buffering=0) as handle:
            while piece := handle.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    return digest.hexdigest()


def hashed(root: str, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {
        path: entry if entry.content else replace(entry, content=sha256(f"{root}/{path}"))
        for path, entry in entries.items()
    }


def compare(root: str, manifest: Manifest, found: Mapping[str, Entry]) -> Difference:
    """Only files whose stamp moved are read again: eight gigabytes are judged by their inodes."""
    altered, missing = list[str](), list[str]()
    for path, wanted in manifest.files.items():
        entry = found.get(path)
        if entry is None:
            missing.append(path)
        elif entry.content or wanted.content.startswith("-> "):
            if entry.content != wanted.content:
                altered.append(path)
        elif entry.stamp != wanted.stamp and (
            (entry.mode, entry.size) != (wanted.mode, wanted.size) or sha256(f"{root}/{path}") != wanted.content
        ):
            altered.append(path)
    extra = [path for path in found if path not in manifest.files]
    return Difference(tuple(sorted(altered)), tuple(sorted(missing)), tuple(sorted(extra)))


def site_packages(root: str) -> str:
    """Relative to ``root``; empty when it is no environment."""
    try:
        names = sorted(name for name in os.listdir(f"{root}/lib") if re.fullmatch(r"python3\.[0-9]+", name))
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise Unreadable(f"{root}/lib: {error.strerror}") from error
    sites = [f"lib/{name}/site-packages" for name in names]
    return next((site for site in sites if os.path.isdir(f"{root}/{site}")), "")


def distributions(site: str) -> tuple[Distribution, ...]:
    """What pip would list, read from the metadata."""
    try:
        names = sorted(os.listdir(site))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise Unreadable(f"{site}: {error.strerror}") from error
    found = []
    for name in names:
        if not name.endswith((".dist-info", ".egg-info")):
            continue
        folder = f"{site}/{name}"
        head = next(
            (text for text in (_head(f"{folder}/METADATA"), _head(f"{folder}/PKG-INFO"), _head(folder)) if text), ""
        )
        said = {key.lower(): value for key, value in re.findall(r"^(Name|Version): *(\S+)", head, re.MULTILINE)}
        stem, _dash, version = name.rpartition(".")[0].partition("-")
        found.append(Distribution(canonical(said.get("name", stem)), said.get("version", version or "?"), folder))
    return tuple(found)


def _head(path: str) -> str:
    try:
        return (read(path, _HEAD) or b"").decode("utf-8", "replace")
    except Unreadable:
        return ""


def claims(root: str, site: str, distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Path relative to ``root`` → SHA-256, as the distribution's RECORD has it; empty where it has none."""
    text = (read(f"{distribution.folder}/RECORD") or b"").decode("utf-8", "surrogateescape")
    for row in csv.reader(io.StringIO(text)):
        if not row or not row[0]:
            continue
        place = row[0] if row[0].startswith("/") else posixpath.join(root, site, row[0])
        path = posixpath.relpath(posixpath.normpath(place), root)
        kind, _equals, value = (row[1] if len(row) > 1 else "").partition("=")
        yield path, _hexadecimal(value) if kind == "sha256" else ""


def _hexadecimal(value: str) -> str:
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except ValueError:
        return "not a hash"
