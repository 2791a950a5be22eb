# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the collection's root, the report's default folder, the waiver file.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

# Resolved, so that the committed link in collections/ leads to the clone itself.
ROOT = Path(__file__).resolve().parents[3]


def is_clone() -> bool:
    """An artefact has MANIFEST.json in the place of galaxy.yml."""
    return (ROOT / "galaxy.yml").is_file() and not (ROOT / "MANIFEST.json").exists()


def base() -> Path:
    """The folder whose ``build/drift`` takes the report when nothing was configured.

    Never inside an installed collection, which belongs to a package manager; there the
    working directory is what an operator expects, as with any tool that leaves a report.
    """
    return ROOT if is_clone() else Path.cwd()


def directory(configured: str | None) -> Path:
    return Path(configured).absolute() if configured else base() / "build" / "drift"


def waivers(configured: str | None) -> Path | None:
    """A configured file must exist (its absence is a problem); the default one may."""
    if configured:
        return Path(configured).absolute()
    usual = base() / "waivers.yml"
    return usual if usual.is_file() else None


def version() -> str:
    """The collection's version, from the artefact's manifest or the clone's galaxy.yml."""
    try:
        if is_clone():
            found = re.search(r"^version:\s*(\S+)", (ROOT / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
            return found[1] if found else ""
        return str(json.loads((ROOT / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]["version"])
    except (OSError, ValueError, KeyError):
        return ""
