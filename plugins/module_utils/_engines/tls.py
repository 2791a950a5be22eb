# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of an engine: files of root that its unit hands it as credentials, and nobody else.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import Tls

SERVER = ("certificate", "key", "client_ca")
# With which the engine itself is asked whether it is ready, where it lets in nobody without one.
CLIENT = ("client_certificate", "client_key")
# What a unit's file can name without being quoted, and root and the service read the same.
PATH = re.compile(r"/[A-Za-z0-9_./@+-]+")


def credentials(files: Mapping[str, str]) -> dict[str, str]:
    """For LoadCredential=."""
    return {_slot(name): path for name, path in files.items()}


def held(unit: str, files: Mapping[str, str]) -> dict[str, str]:
    """Where the engine finds each of them."""
    return {name: f"/run/credentials/{unit}/{_slot(name)}" for name in files}


def shown(places: Mapping[str, str]) -> Tls | None:
    """What its clients meet, out of what is ``held``."""
    return Tls(places["certificate"], *(places.get(name, "") for name in CLIENT)) if places else None


def _slot(name: str) -> str:
    return f"tls-{name.replace('_', '-')}"
