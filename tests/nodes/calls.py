# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a run went to a node: once from Ansible's results, once from the node's own log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import identity

# Actions that start nothing on a node. Everything else counts, so an unknown one cannot hide.
CONTROLLER_ONLY = {
    *("ansible.builtin.assert", "ansible.builtin.group_by", "ansible.builtin.validate_argument_spec"),
    "nusy.dgx_spark.preflight",
}


def by_role(tasks: Iterable[dict[str, Any]], host: str) -> Counter[str]:
    """Role → module calls on one host, from the lines of the callback task_results; "" is outside roles."""
    counted: Counter[str] = Counter()
    for task in tasks:
        if task["host"] != host or task["action"] in CONTROLLER_ONLY or task["status"] == "skipped":
            continue
        # "nusy.dgx_spark.prereqs : Ensure …"; a loop is one result that holds one for each item.
        role = task["task"].partition(" : ")[0] if " : " in task["task"] else ""
        counted[role.removeprefix("nusy.dgx_spark.")] += len(task["result"].get("results") or [None])
    return counted


def as_root(name: str) -> int:
    """Commands that sudo has run on a node since it booted. With pipelining a module call is one of them."""
    log = identity.execute(name, ["journalctl", "--boot", "--output=cat", "--no-pager", "_COMM=sudo"])
    return log.count(" ; USER=root ; COMMAND=")
