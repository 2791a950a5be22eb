# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module documents, with its fragments."""

from __future__ import annotations

import importlib
from typing import Any

import yaml


def options_of(module: Any) -> dict[str, Any]:
    """Options as ansible-doc shows them."""
    document = yaml.safe_load(module.DOCUMENTATION)
    options: dict[str, Any] = dict(document["options"])
    fragments = document.get("extends_documentation_fragment", [])
    for name in [fragments] if isinstance(fragments, str) else fragments:
        namespace, _dot, fragment = name.rpartition(".")
        found = importlib.import_module(f"ansible_collections.{namespace}.plugins.doc_fragments.{fragment}")
        for option, told in yaml.safe_load(found.ModuleDocFragment.DOCUMENTATION)["options"].items():
            options.setdefault(option, told)
    return options
