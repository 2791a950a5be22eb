# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware as SMBIOS, UEFI and fwupd list it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Node
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import hexadecimal, json_object

# What firmware writes into a string that its maker never filled in.
PLACEHOLDERS = {"", "not specified", "default string", "to be filled by o.e.m.", "unknown", "none", "n/a"}


def meant(text: str) -> str | None:
    """The string, or None for a placeholder."""
    word = text.strip()
    return None if word.lower() in PLACEHOLDERS else word


def inventory(text: str) -> list[dict[str, Node]]:
    """``dmidecode -t 45``: components and versions. Names repeat, so this is a list."""
    found: list[dict[str, Node]] = []
    for line in text.splitlines():
        # Only the first colon separates: versions hold colons themselves.
        key, _colon, value = line.strip().partition(":")
        if key == "Firmware Component Name":
            found.append({"name": meant(value), "version": None})
        elif key == "Firmware Version" and found and found[-1]["version"] is None:
            found[-1]["version"] = meant(value)
    if not found:
        raise ParseError("dmidecode -t 45", text, "at least one Firmware Component Name")
    return found


def packed_version(value: int) -> str:
    """``0x02009b0b`` → ``2.155.11``: the way NVIDIA packs x.y.z into a UEFI version (0xXX00YYZZ)."""
    return f"{value >> 24 & 0xFF}.{value >> 8 & 0xFFFF}.{value & 0xFF}" if value <= 0xFFFFFFFF else str(value)


def fwupd_devices(text: str) -> list[dict[str, Node]]:
    """``fwupdmgr get-devices --json``. Names repeat; version and vendor may be absent. Serials are left out."""
    devices = json_object("fwupdmgr get-devices", text).get("Devices")
    if not isinstance(devices, list):
        raise ParseError("fwupdmgr get-devices", text, "a list Devices")
    found: list[dict[str, Node]] = []
    for device in devices:
        if not isinstance(device, dict) or not isinstance(device.get("Name"), str):
            raise ParseError("fwupdmgr get-devices", str(device), "a device with a Name")
        facts: dict[str, Node] = {"name": device["Name"]}
        for key in ("Version", "Vendor", "Plugin"):
            value = device.get(key)
            facts[key.lower()] = value if isinstance(value, str) else None
        guids = device.get("Guid")
        facts["guids"] = [item for item in guids if isinstance(item, str)] if isinstance(guids, list) else []
        version = facts["version"]
        packed = isinstance(version, str) and version.startswith("0x")
        facts["version_decoded"] = packed_version(hexadecimal("fwupd version", str(version))) if packed else None
        releases = device.get("Releases")
        facts["upgrade_version"] = _upgrade(releases) if isinstance(releases, list) else None
        found.append(facts)
    return found


def _upgrade(releases: list[object]) -> str | None:
    """The first release that fwupd itself calls an upgrade (they come newest first)."""
    for entry in releases:
        if isinstance(entry, dict) and isinstance(entry.get("Flags"), list) and "is-upgrade" in entry["Flags"]:
            version = entry.get("Version")
            return version if isinstance(version, str) else None
    return None


def efi_switch(text: str) -> bool:
    """A UEFI variable of one byte (``SecureBoot``), behind the four bytes of its attributes."""
    if len(text) != 5 or text[4] not in "\x00\x01":
        raise ParseError("UEFI variable", text, "four bytes of attributes and 0 or 1")
    return text[4] == "\x01"
