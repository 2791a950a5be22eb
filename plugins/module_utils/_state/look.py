# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that one document is about, looked at once.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import (
    accounts,
    kernel,
    mounts,
    packages,
    paths,
    probes,
    record,
    settings,
    sysfs,
    units,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Directory, Document, File, Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.wholes import Whole


@dataclass(frozen=True)
class Seen:
    """Everything the document is about, as found on the node."""

    packages: packages.Seen | Unknown
    accounts: accounts.Seen
    paths: dict[str, paths.Seen | Unknown]
    kernel: kernel.Seen
    sysfs: sysfs.Seen
    mounts: mounts.Seen
    settings: settings.Seen
    probes: probes.Seen
    units: units.Seen | Unknown
    record: record.Record
    pristine: frozenset[str] = frozenset()  # files as their package brought them


def observe(reader: Reader, document: Document, wholes: Mapping[str, Whole], together: Mapping[str, str]) -> Seen:
    """wholes: its files by their path. together: control → the transaction that its packages are part of."""
    controls = document.selected
    content = frozenset(wholes)
    owned: list[File | Directory] = [
        *(whole.file for whole in wholes.values()),
        *(d for c in controls for d in c.directories),
    ]
    wanted = [
        *content,
        *(d.path for c in controls for d in c.directories),
        *(x.path for c in controls for x in c.links),
        *(m.path for c in controls for m in c.mounts),
    ]
    followed = frozenset(
        [*(d.path for c in controls for d in c.directories), *(m.path for c in controls for m in c.mounts)]
    )
    found = paths.observe(reader, wanted, read=content, follow=followed)
    last = record.read(reader, document.role)
    strangers = {
        path: one.content
        for path, one in found.items()
        if path in content - last.taken and isinstance(one, paths.Seen) and isinstance(one.content, str) and one.content
    }
    return Seen(
        packages.observe(
            reader,
            {c.id: c.packages for c in controls},
            together,
            recommends=document.install_recommends,
        ),
        accounts.observe(
            reader,
            [g for c in controls for g in c.groups],
            [u for c in controls for u in c.users],
            [pair for thing in owned for pair in (("user", thing.owner), ("group", thing.group))],
        ),
        found,
        kernel.observe(reader, document.role, controls),
        sysfs.observe(reader, document.role, controls),
        mounts.observe(reader, [m for c in controls for m in c.mounts]),
        settings.observe(reader, [s for c in controls for s in c.settings]),
        probes.observe(reader, [p for c in controls for p in c.probes]),
        units.observe(reader, document.role, [unit for c in controls for unit in c.units]),
        last,
        packages.as_shipped(reader, strangers),
    )
