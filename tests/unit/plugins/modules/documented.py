# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module documents, with its fragments."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import yaml

SAID_TWICE = ("type", "elements", "required", "default", "choices")


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


def said_twice(options: Mapping[str, Any]) -> dict[str, Any]:
    """What documentation and argument spec both say of options, and of those inside them."""
    return {
        name: {
            **{key: list(option[key]) if key == "choices" else option[key] for key in SAID_TWICE if key in option},
            "inside": said_twice(option.get("suboptions") or option.get("options") or {}),
        }
        for name, option in options.items()
    }
