# SPDX-License-Identifier: GPL-3.0-or-later
"""A model as an engine names it: by its name in the manifest, or by a path. Pure, so that a controller can ask too.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError

# What the role models takes without a word.
ROOT = "/srv/models"
# For a module that resolves names. As much of the manifest is read as is needed here: what is wrong with it, role
# models says.
OPTIONS: dict[str, Any] = {
    "models": {"type": "list", "elements": "dict", "default": []},
    "models_root": {"type": "str", "default": ROOT},
}
GGUF = ".gguf"
# Of a model that sees: the part that is loaded beside it.
PROJECTOR = "mmproj"
# What engines read, the first kind that is there. A repository may have the same weights in several.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def folder(name: str, manifest: Sequence[object], root: str, at: str) -> str:
    """Of a name; raises InputError where it is in no manifest."""
    entry = next((one for one in _entries(manifest) if one["name"] == name), None)
    if entry is None:
        raise _wrong(name, [str(one["name"]) for one in _entries(manifest)], at)
    return f"{root}/{entry['name']}/{entry['revision']}"


def gguf(model: str, manifest: Sequence[object], root: str, at: str) -> str:
    """``<name>`` where the model has one file to load, else ``<name>/<file>``; raises InputError."""
    name, _slash, wanted = model.partition("/")
    home = folder(name, manifest, root, at)
    entry = next(one for one in _entries(manifest) if one["name"] == name)
    files = [path for path in _files(entry) if path.endswith(GGUF)]
    alone = [path for path in files if not posixpath.basename(path).startswith(PROJECTOR)]
    chosen = [path for path in files if path == wanted] if wanted else alone
    if len(chosen) != 1:
        raise InputError(
            "models.no_file",
            wanted=f"{at}: one file of the model {name} that ends with {GGUF}",
            found=f"{model!r}, and the manifest has {', '.join(files) or 'none'}",
            why="llama.cpp loads one file, and which one nobody said",
            fix=f"write {name}/{files[0]}, or another one of them" if files else f"add it to the files of {name}",
        )
    return f"{home}/{chosen[0]}"


def weights(path: str, manifest: Sequence[object], root: str) -> int:
    """Bytes of what an engine loads from that file or folder, by the manifest; 0 where it does not have it.

    Of a folder the files at its top alone: engines look no deeper, and repositories keep other formats there.
    """
    for entry in _entries(manifest):
        home, files = f"{root}/{entry['name']}/{entry['revision']}", _files(entry)
        if path == home:
            return _loaded(files)
        if path.startswith(f"{home}/"):
            return files.get(path.removeprefix(f"{home}/"), 0)
    return 0


def _loaded(files: Mapping[str, int]) -> int:
    top = {path: size for path, size in files.items() if "/" not in path}
    for suffix in WEIGHTS:
        found = {path: size for path, size in top.items() if path.endswith(suffix)}
        # The same weights once more in the form of those who made them: one of the two is loaded.
        again = sum(size for path, size in found.items() if path.startswith("consolidated"))
        if found:
            return max(again, sum(found.values()) - again)
    return 0


def _entries(manifest: Sequence[object]) -> Iterator[Mapping[str, Any]]:
    # Judged here as well as by role models: others read it first.
    for one in manifest if isinstance(manifest, (list, tuple)) else ():
        if isinstance(one, Mapping) and isinstance(one.get("name"), str) and isinstance(one.get("revision"), str):
            yield one


def _files(entry: Mapping[str, Any]) -> dict[str, int]:
    files = entry.get("files")
    given = [one for one in files if isinstance(one, Mapping)] if isinstance(files, (list, tuple)) else []
    sizes = {str(one.get("path", "")): str(one.get("size")) for one in given}
    return {path: int(size) for path, size in sizes.items() if path and re.fullmatch(r"[0-9]{1,16}", size)}


def _wrong(name: str, known: Sequence[str], at: str) -> InputError:
    near = difflib.get_close_matches(name, known, 1)
    declared = f"the manifest has {', '.join(known)}" if known else "models_manifest is empty"
    return InputError(
        "models.no_such_name",
        wanted=f"{at}: a name in models_manifest, or a path",
        found=f"{name!r}; {declared}"[:300],
        why="the engine would be started with a model that nobody fetches",
        fix=f"write {near[0]}" if near else f"declare {name} in models_manifest, or write its path",
    )
