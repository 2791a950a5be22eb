# SPDX-License-Identifier: GPL-3.0-or-later
"""On which hosts does a role run? What it publishes counts there, and nowhere else.

Engines may be declared for all hosts, and run only where a playbook has their role. ``meta/groups.yml`` of a role
says in which groups that is.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ansible.parsing.dataloader import DataLoader
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables

FILE = "groups.yml"


def running(owners: Mapping[str, Path], host: Variables, loader: DataLoader) -> dict[str, Path]:
    """Those of the roles that run on that host.

    A host of no group that any of them names is of plays that we do not know: all of them may run there, and what is
    declared for it counts.
    """
    paths = {role: folder / "meta" / FILE for role, folder in owners.items()}
    said = {role: set(loader.load_from_file(str(path))["groups"]) for role, path in paths.items() if path.is_file()}
    ours = set().union(*said.values()).intersection(host.value("group_names", ()))
    return {role: folder for role, folder in owners.items() if not ours or role not in said or said[role] & ours}
