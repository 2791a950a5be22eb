# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a tree of files into a folder of the controller: what differs, nothing else, readable for its owner alone.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install.declared import File
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install.render import SUMS, Content, Tree, digest

FOLDER_MODE, FILE_MODE = 0o700, 0o600
# A file that a run which was cut off had not finished.
LEFT_OVER = re.compile(r"(?:^|/)\.[^/]+\.new\Z")


@dataclasses.dataclass(frozen=True)
class Change:
    """``before`` and ``after``: the file as a diff shows it; empty where there is none."""

    path: str
    before: str
    after: str


def changes(tree: Tree, folder: Path) -> list[Change]:
    """What writing would change. Refuses a folder with files that nobody made here."""
    known = tree.keys() | _made_before(folder)
    found = set(_files(folder))
    left_over = {path for path in found if LEFT_OVER.search(path)}
    if foreign := sorted(found - known - left_over):
        raise InputError(
            "install.foreign",
            wanted=f"{folder}: a folder that holds installation media of this playbook, or nothing",
            found=", ".join(foreign[:5]),
            why="they would get onto the medium, or be lost",
            fix="move them away, or name another spark_install_directory",
        )
    listed = [Change(path, "", _shown(content)) for path, content in tree.items() if path not in found]
    for path in sorted(found & tree.keys()):
        before = _mode(folder / path) + _read(folder / path)
        after = oct(FILE_MODE) + digest(tree[path])
        if before != after:
            listed.append(Change(path, _shown_file(folder / path), _shown(tree[path])))
    listed += [Change(path, _shown_file(folder / path), "") for path in found - tree.keys()]
    folders = [folder, *(path for path in folder.glob("**/*") if path.is_dir())] if folder.is_dir() else []
    listed += [
        Change(f"{os.path.relpath(path, folder)}/", _mode(path), oct(FOLDER_MODE))
        for path in folders
        if _mode(path) != oct(FOLDER_MODE)
    ]
    return sorted(listed, key=lambda change: change.path)


def write(tree: Tree, folder: Path) -> None:
    """The sums come last and name every file: a tree that was cut off does not agree with its sums."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in _files(folder):
        if path not in tree:
            (folder / path).unlink()
    for path in sorted(tree, key=lambda path: (path == SUMS, path)):
        target = folder / path
        for one in reversed([target.parent, *target.parent.parents]):
            if one == folder or folder in one.parents:
                one.mkdir(exist_ok=True)
                one.chmod(FOLDER_MODE)
        _put(target, tree[path])
    for path in sorted(folder.glob("**/*"), reverse=True):
        if path.is_dir():
            path.chmod(FOLDER_MODE)
            with contextlib.suppress(OSError):  # only one that is empty goes
                path.rmdir()


def _put(target: Path, content: Content) -> None:
    new = target.with_name(f".{target.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        if isinstance(content, File):
            with content.path.open("rb") as source:
                shutil.copyfileobj(source, file)
        else:
            file.write(content)
    new.replace(target)


def _made_before(folder: Path) -> set[str]:
    """What the sums of an earlier run name."""
    sums = folder / SUMS
    lines = sums.read_text("utf-8").splitlines() if sums.is_file() else []
    return {SUMS, *(line.partition("  ")[2] for line in lines)}


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("**/*")):
        if not path.is_dir() or path.is_symlink():
            yield os.path.relpath(path, folder)


def _mode(path: Path) -> str:
    return oct(path.lstat().st_mode & 0o7777)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(content: Content) -> str:
    """Texts as they are, packages by their digest."""
    if isinstance(content, File):
        return f"sha256 {content.sha256}\n"
    return content.decode()


def _shown_file(path: Path) -> str:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return f"sha256 {_read(path)}\n"
    return f"mode {_mode(path)}\n{text}" if _mode(path) != oct(FILE_MODE) else text
