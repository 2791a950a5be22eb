# SPDX-License-Identifier: GPL-3.0-or-later
"""DGX OS: its release file, the level of its over-the-air (OTA) updates, and NVIDIA's OTA recipes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node, Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import assignments, json_object

# DGX_SERIAL_NUMBER stays out: nothing of ours needs it, and facts travel into logs and caches.
RELEASE_KEYS = {
    "DGX_NAME": "name",
    "DGX_PLATFORM": "platform",
    "DGX_SWBUILD_VERSION": "image_version",
    "DGX_SWBUILD_DATE": "image_date",
    "DGX_COMMIT_ID": "commit",
    "DGX_OTA_VERSION": "ota_version",
    "DGX_OTA_DATE": "ota_date",
}


def release(text: str) -> dict[str, Node]:
    """/etc/dgx-release. A fresh image has no OTA lines: then the OTA level is the image's (None)."""
    found = assignments("/etc/dgx-release", text)
    if not any(key in found for key in RELEASE_KEYS):
        raise ParseError("/etc/dgx-release", text, "lines DGX_…=…")
    facts: dict[str, Node] = {}
    for key, fact in RELEASE_KEYS.items():
        if key in found:
            facts[fact] = found[key]
        elif fact.startswith("ota_"):
            facts[fact] = None
        else:
            facts[fact] = Unknown(f"/etc/dgx-release holds no {key}")
    return facts


def ota_snapshot(text: str) -> dict[str, Node]:
    """The Dashboard's answer to ``GetOTAAvailabilitySnapshot``, as busctl prints it: ``ssbbs "ready" …``."""
    quoted = r'"((?:[^"\\]|\\.){0,300})"'
    match = re.fullmatch(rf"ssbbs {quoted} {quoted} (true|false) (true|false) {quoted}\s*", text[:2000], re.ASCII)
    if match is None:
        raise ParseError("GetOTAAvailabilitySnapshot", text, 'ssbbs "state" "time" true false "name"')
    return {
        "state": match[1],
        "checked_at": match[2],
        "updates_enabled": match[3] == "true",
        "update_available": match[4] == "true",
        "available_name": match[5] or None,
    }


def recipe(text: str) -> dict[str, Node]:
    """One ``spark-ota-*.json`` of NVIDIA's checker: which OTA it describes."""
    metadata = json_object("OTA recipe", text).get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ParseError("OTA recipe", text, "an object metadata with a name")
    facts: dict[str, Node] = {"name": metadata["name"]}
    for key, fact in (("external_name", "external_name"), ("releaseDate", "release_date")):
        value = metadata.get(key)
        facts[fact] = value if isinstance(value, str) else None
    return facts
