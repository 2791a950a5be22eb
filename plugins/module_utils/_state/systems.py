# SPDX-License-Identifier: GPL-3.0-or-later
"""Which systems a document is made for. On another one nobody knows anything, and nothing is done.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import parse_environment

OS_RELEASE = "/etc/os-release"
# What is made for the node as a whole: DGX OS 7 calls itself Ubuntu 24.04; Debian is what it is run on in the tests.
SUPPORTED = ("ubuntu 24.04", "debian 12", "debian 13")


def unfit(systems: Sequence[str], reader: Reader) -> str:
    """Why nothing that is made for ``systems`` is for this one; empty if it is. os-release(5).

    One that is made of another (ID_LIKE) is another one, and so is another release where one is named.
    """
    if not systems:
        return ""
    try:
        found = parse_environment(reader.read(OS_RELEASE) or "")
    except Unreadable as error:
        return str(error)
    name = found.get("ID", "")
    here = f"{name} {found.get('VERSION_ID', '')}".strip()
    if name and not {name, here}.isdisjoint(systems):
        return ""
    return f"unsupported platform: {OS_RELEASE} says {here or 'nothing'}, wanted is {' or '.join(systems)}"


def cannot_have(title: str, why: str) -> NodeError:
    return NodeError(
        "state.unsupported",
        wanted=f"{title} as declared",
        found=why,
        why="nothing was changed: what is made for another system would not run",
        fix="declare what this system can have, or leave the role out on this host",
    )
