# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a run went to a node: once from Ansible's results, once from the node's own log.

What a full check of a node costs is a promise: at most two module calls for each role, and one
for facts. Every call costs about 0.3 s, and 0.25 s of the node's CPU, whatever it does. Seconds
are measured by `make bench` and asserted nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import identity
import testing

PER_ROLE = 2
FOR_FACTS = 1
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


def keep_the_promise(check: testing.PlayResult, machine: testing.Machine, roles: Iterable[str], seen: int) -> None:
    """Of a full check of these roles. seen: commands as root meanwhile, so that no action plugin makes
    calls which Ansible's results do not show."""
    counted = by_role(check.tasks, machine.name)
    assert seen == counted.total()
    assert counted.pop("", 0) <= FOR_FACTS
    assert counted.keys() == {*roles}
    assert {role: number for role, number in counted.items() if number > PER_ROLE} == {}
