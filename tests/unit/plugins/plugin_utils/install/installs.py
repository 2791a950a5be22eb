# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations of hosts to be installed, for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install import declared
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install.declared import Install

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJk2jrBBzUVGrOJg7ZbWGkB1ibSGnGrOWJ9FgjYP1x7M ana@desk"
PORT = {
    "mac": "4C:BB:47:00:00:01",
    "addresses": ["10.0.0.5/24", "fd00::5/64"],
    "gateway": "10.0.0.1",
    "nameservers": ["10.0.0.1"],
    "mtu": 9000,
}
DGX: dict[str, Any] = {"system": "dgx_os", "authorized_keys": [KEY]}
UBUNTU: dict[str, Any] = {"system": "ubuntu", "authorized_keys": [KEY], "disk_serial": "SAMSUNG_MZALC4T0_S7XX"}


def install(given: dict[str, Any], **more: Any) -> Install:
    parsed, problems = declared.parse({**given, **more}, "spark-1", "ana")
    assert parsed, problems
    return parsed
