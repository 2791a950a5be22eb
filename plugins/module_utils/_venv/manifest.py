# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a generation: written last, so that its presence means "complete".

It holds the hash of every file as it was verified against the RECORD of its distribution, and
the stamp of the inode at that time, so that a later look reads only what was touched since.
It lies in the generation and belongs to its owner: it protects against accidents and shows
drift, not against an intruder who has the rights of that owner.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
import stat

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import tree
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Entry, Manifest

NAME = ".nusy-manifest.json"
SCHEMA = "nusy.dgx_spark.venv/1"


def write(manifest: Manifest) -> str:
    files = {
        path: [entry.mode, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode, entry.content]
        for path, entry in sorted(manifest.files.items())
    }
    whole = {
        "schema": SCHEMA,
        "digest": manifest.digest,
        "misrecorded": list(manifest.misrecorded),
        "packages": dict(sorted(manifest.packages.items())),
        "files": files,
    }
    return json.dumps(whole, separators=(",", ":")) + "\n"


def read(folder: str) -> Manifest | None:
    """None: there is none, or what is there is not one. A big one is larger than Reader.read allows."""
    path = f"{folder}/{NAME}"
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    data = tree.read(path)
    return None if data is None else parse(data.decode("utf-8", "surrogateescape"))


def parse(text: str) -> Manifest | None:
    try:
        whole = json.loads(text)
        if whole["schema"] != SCHEMA:
            return None
        files = {
            str(path): Entry(int(mode), int(size), int(mtime), int(ctime), int(inode), str(content))
            for path, (mode, size, mtime, ctime, inode, content) in whole["files"].items()
        }
        packages = {str(name): str(version) for name, version in whole["packages"].items()}
        return Manifest(str(whole["digest"]), packages, files, tuple(map(str, whole["misrecorded"])))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
