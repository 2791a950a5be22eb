# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on disk: snapshots against what is declared, and whatever else lies beside them.

Sixty gigabytes are judged by their inodes: a file is read again only when its stamp moved since it was compared with
its hash, which the label of the snapshot remembers.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import (
    COMMIT,
    LABEL,
    LINK,
    WORK,
    Model,
    parents,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import tree

FILE_MODE = 0o444
FOLDER_MODE = 0o555
FOLDER, FILE = "a folder", "a file"
# Beside the label while that is written.
LABEL_TO_BE = f".{LABEL}.new"


@dataclass(frozen=True)
class Snapshot:
    """One declared snapshot as found. Paths are relative to it; ``.`` is its own folder.

    state: absent, there, or what else is in its place. label: as it is on disk; None when there is none of ours.
    wrong: declared files that are not as declared, with how. open: what has another mode than it should.
    strangers: folders of somebody else. verified: a stamp moved and the bytes did not. unfinished: a run was killed
    while it wrote the label.
    """

    state: str
    label: Mapping[str, Any] | None = None
    labelled: bool = False
    wrong: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    verified: bool = False
    unfinished: bool = False

    def in_the_way(self) -> list[str]:
        """What nobody declares in the place of a declared file or the label, or above: a link may lead anywhere."""
        wanted = [*self.wrong, *(() if self.labelled else (LABEL,))]
        return [
            extra
            for extra in self.extra
            if any(f"{one}/".startswith(f"{other}/") for w in wanted for one, other in ((w, extra), (extra, w)))
        ]

    @property
    def whole(self) -> bool:
        return self.state == "there" and self.labelled and not (self.wrong or self.extra or self.open or self.strangers)


def inspect(folder: str, model: Model, uid: int, *, everything: bool = False) -> Snapshot:
    """Raises Unreadable."""
    there = _kind(folder)
    if there != FOLDER:
        return Snapshot(there or "absent", wrong={} if there else {f.path: "absent" for f in model.files})
    label = read_label(folder)
    found, folders = _scan(folder)
    unfinished = found.pop(LABEL_TO_BE, None) is not None
    known = (label or {}).get("files", {})
    wrong: dict[str, str] = {}
    regular: dict[str, os.stat_result] = {}
    moved = False
    for file in model.files:
        info = found.pop(file.path, None)
        why = _misfit(info, file.size, uid)
        if not why and info is not None:
            old = known.get(file.path, {})
            fresh = old.get("sha256") == file.sha256 and old.get("stamp") == stamp(info)
            if everything or not fresh:
                why = "" if tree.sha256(f"{folder}/{file.path}") == file.sha256 else "other content"
                moved = moved or not fresh
        if why:
            wrong[file.path] = why
        if info is not None and stat.S_ISREG(info.st_mode):
            regular[file.path] = info
    # Folders that hold an extra file are named when it is gone.
    holding = {parent for path in (*found, *(file.path for file in model.files)) for parent in parents(path)}
    extra = [*found, *(path for path in folders if path != "." and path not in holding)]
    open_ = [path for path, info in regular.items() if stat.S_IMODE(info.st_mode) != FILE_MODE and info.st_uid == uid]
    open_ += [p for p, i in folders.items() if stat.S_IMODE(i.st_mode) != FOLDER_MODE and i.st_uid == uid]
    return Snapshot(
        "there",
        label,
        not unfinished and bool(label) and {name: (label or {}).get(name) for name in model.label()} == model.label(),
        dict(sorted(wrong.items())),
        tuple(sorted(extra)),
        tuple(sorted(open_)),
        tuple(sorted(path for path, info in folders.items() if info.st_uid != uid)),
        moved,
        unfinished,
    )


def stamp(info: os.stat_result) -> list[int]:
    """While this stays, so does the content: the kernel moves ctime with every change."""
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def read_label(folder: str) -> dict[str, Any] | None:
    """None when there is none, or one that nobody could have written here. What is no file is replaced, not read."""
    if _kind(f"{folder}/{LABEL}") != FILE:
        return None
    data = tree.read(f"{folder}/{LABEL}")
    try:
        label: dict[str, Any] = json.loads(data or b"{}")
        return label if all(isinstance(one, dict) for one in label["files"].values()) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True)
class Stored:
    """One thing below the root. ``kind``: snapshot (complete, of ours), work (begun, of ours), or somebody's.

    size: bytes on the disk, of ours alone: what others have there may be millions of files.
    """

    path: str
    kind: str
    size: int
    name: str
    revision: str = ""


def stored(root: str) -> tuple[Stored, ...]:
    """Everything that lies there, two folders deep; what cannot be read is somebody's. Raises Unreadable."""
    found: list[Stored] = []
    for name in _names(root):
        home = f"{root}/{name}"
        if _kind(home) != FOLDER:
            found.append(Stored(home, "somebody's", 0, name))
            continue
        inside = _names(home)
        folders = [one for one in inside if _kind(f"{home}/{one}") == FOLDER]
        ours = [
            one for one in folders if WORK.fullmatch(one) or (COMMIT.fullmatch(one) and read_label(f"{home}/{one}"))
        ]
        for one in ours:
            kind = "work" if WORK.fullmatch(one) else "snapshot"
            found.append(Stored(f"{home}/{one}", kind, _size(f"{home}/{one}"), name, one.strip(".").split(".")[0]))
        if inside and not ours:
            found.append(Stored(home, "somebody's", 0, name))
            continue
        rest = [one for one in inside if one not in ours and one != LINK]
        found += [Stored(f"{home}/{one}", "somebody's", 0, name) for one in rest]
    return tuple(found)


def labels(root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every complete snapshot that is there, and its label."""
    for one in stored(root):
        label = read_label(one.path) if one.kind == "snapshot" else None
        if label:
            yield one.path, label


def _misfit(info: os.stat_result | None, size: int, uid: int) -> str:
    """What a look at the inode tells."""
    if info is None:
        return "absent"
    if not stat.S_ISREG(info.st_mode):
        return "a link" if stat.S_ISLNK(info.st_mode) else "no regular file"
    if info.st_uid != uid:
        return f"belongs to uid {info.st_uid}"
    return "" if info.st_size == size else f"{info.st_size} bytes"


def _scan(folder: str) -> tuple[dict[str, os.stat_result], dict[str, os.stat_result]]:
    """(everything but folders and the label, folders), links not followed."""
    files: dict[str, os.stat_result] = {}
    try:
        folders = {".": os.lstat(folder)}
        left = [""]
        while left:
            here = left.pop()
            with os.scandir(os.path.join(folder, here)) as entries:
                for entry in entries:
                    path, info = os.path.join(here, entry.name), entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        folders[path] = info
                        left.append(path)
                    elif path != LABEL:
                        files[path] = info
    except OSError as error:
        raise Unreadable(f"{error.filename or folder}: {error.strerror}") from error
    return files, folders


def place_of_work(path: str, uid: int) -> str:
    """What is there, as by _kind, or whose; empty when there is nothing."""
    kind = _kind(path)
    return "of somebody else" if kind == FOLDER and os.lstat(path).st_uid != uid else kind


def _kind(path: str) -> str:
    """What is there; empty when there is nothing."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    kinds = {stat.S_IFDIR: FOLDER, stat.S_IFREG: FILE, stat.S_IFLNK: "a link"}
    return kinds.get(stat.S_IFMT(mode), "neither file nor folder")


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


def _size(path: str) -> int:
    """Bytes on the disk below ``path``; of what cannot be entered, nothing."""
    try:
        total = os.lstat(path).st_blocks * 512
    except OSError:
        return 0
    for folder, _folders, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total
