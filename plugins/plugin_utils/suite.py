# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of tools for a node: the node code of this collection, exactly what it needs.

The same release gives the same bytes, on every controller and with every zlib: nothing in the
archive is compressed, no entry has a time, the order is that of names.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import zipfile
from functools import lru_cache
from pathlib import Path

import yaml

COLLECTION = "ansible_collections.nusy.dgx_spark"
PREFIX = f"{COLLECTION}.plugins.module_utils."
BEGIN = f"{PREFIX}_suite.entry"
ROOT = Path(__file__).resolve().parents[2]
# The first date that a zip file can hold.
NO_TIME = (1980, 1, 1, 0, 0, 0)


@lru_cache(maxsize=1)
def archive() -> bytes:
    sources = closure(BEGIN)
    contents = {f"{name.replace('.', '/')}.py": text for name, text in sources.items()}
    for path in list(contents):
        parts = path.split("/")[:-1]
        contents |= {"/".join([*parts[:count], "__init__.py"]): b"" for count in range(1, len(parts) + 1)}
    digest = hashlib.sha256(b"".join(f"{p}\0{len(t)}\0".encode() + t for p, t in sorted(contents.items())))
    release = f"nusy.dgx_spark {version()} {digest.hexdigest()[:16]}"
    start = f'import sys\n\nfrom {BEGIN} import main\n\nsys.exit(main("{release}"))\n'
    contents["__main__.py"] = start.encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as out:
        for path, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(path, NO_TIME)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            out.writestr(entry, content)
    return whole.getvalue()


def closure(begin: str) -> dict[str, bytes]:
    """Every module that is imported from ``begin`` on, wherever in a file."""
    found: dict[str, bytes] = {}
    waiting = [begin]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = _path(name).read_bytes()
        for node in ast.walk(ast.parse(found[name])):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
                # ``from package import module`` and ``from module import name`` look alike.
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                module = node.module or ""
                waiting += [module] if _path(module).is_file() else [one for one in inside if _path(one).is_file()]
    return dict(sorted(found.items()))


def version() -> str:
    """Of the installed collection, or of its source tree."""
    manifest = ROOT / "MANIFEST.json"
    if manifest.is_file():
        return str(json.loads(manifest.read_text("utf-8"))["collection_info"]["version"])
    return str(yaml.safe_load((ROOT / "galaxy.yml").read_text("utf-8"))["version"])


def _path(name: str) -> Path:
    return ROOT / (name.removeprefix(f"{COLLECTION}.").replace(".", "/") + ".py")
