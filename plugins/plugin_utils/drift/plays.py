# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads Ansible's plays before they run: hosts, roles, tags, and what tags leave out.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import text

COLLECTION = "nusy.dgx_spark"
INCLUDES = frozenset(("include_tasks", "include_role", "import_tasks", "import_role"))


def action_of(task: Any) -> str:
    # Not `resolved_action`: asking for it warns when a task was never resolved.
    return str(getattr(task, "_resolved_action", None) or task.action)


def included_role(task: Any) -> str:
    """The name a static reader can know of the role that an include_role will bring in."""
    name = getattr(task, "_role_name", None)
    if not isinstance(name, str) or "{{" in name or action_of(task).rpartition(".")[2] != "include_role":
        return ""
    return name.removeprefix(f"{COLLECTION}.")


def tasks_of(play: Any) -> Iterator[Any]:
    """Every task a reader can know before the play runs, in order, roles included."""

    def walk(entries: Iterable[Any]) -> Iterator[Any]:
        for entry in entries:
            if hasattr(entry, "rescue"):
                yield from walk([*entry.block, *entry.rescue, *entry.always])
            elif not getattr(entry, "implicit", False):
                yield entry

    yield from walk(play.compile())


def roles_of(play: Any) -> dict[str, dict[str, Any]]:
    """Roles of the play by short name: where they are, and how many of their telling tasks
    the tags of the run select and leave out. Telling is what can bring evidence: our own
    modules, and includes, behind which they may be.
    """
    every: dict[str, set[bool]] = {}
    telling: dict[str, list[bool]] = {}
    paths: dict[str, str] = {}
    tags: dict[str, set[str]] = {}
    for task in tasks_of(play):
        chosen = selected(task, play)
        role = getattr(task, "_role", None)
        if role is not None:
            name = str(role.get_name(include_role_fqcn=False))
            paths[name] = str(role._role_path)
            every.setdefault(name, set()).add(chosen)
            own = {str(tag) for tag in getattr(task, "tags", None) or ()}
            tags[name] = tags.get(name, own) & own
            action = action_of(task)
            if action.startswith(f"{COLLECTION}.") or action.rpartition(".")[2] in INCLUDES:
                telling.setdefault(name, []).append(chosen)
        if brought := included_role(task):
            every.setdefault(brought, set()).add(chosen)
            telling.setdefault(brought, []).append(chosen)
    return {
        name: {
            "selected": telling.get(name, []).count(True),
            "left_out": telling.get(name, []).count(False) if name in telling else int(not any(choices)),
            **({"path": paths[name]} if name in paths else {}),
            # With one of these the role can be run alone.
            **({"tags": sorted(tags[name])} if tags.get(name) else {}),
        }
        for name, choices in every.items()
    }


def selected(task: Any, play: Any) -> bool:
    """Whether the tags of the run select a task; True when that cannot be told yet."""
    tags = getattr(task, "tags", None) or []
    if any("{{" in str(tag) for tag in tags):
        return True
    return bool(task.evaluate_tags(play.only_tags, play.skip_tags, all_vars={}))


def hosts_of(play: Any, *, whole: bool) -> list[str] | None:
    """The hosts a play targets: the whole play, or the serial batch that begins."""
    manager = play.get_variable_manager()
    inventory = getattr(manager, "_inventory", None)
    if inventory is None:
        return None
    pattern = play.hosts
    if any("{{" in str(part) for part in (pattern if isinstance(pattern, list) else [pattern])):
        from ansible.template import Templar

        pattern = Templar(loader=play.get_loader(), variables=manager.get_vars(play=play)).template(pattern)
    return [str(host.get_name()) for host in inventory.get_hosts(pattern, ignore_restrictions=whole)]


def local_hosts(play: Any) -> list[str]:
    """Hosts that inventories/local marks: a real run changes them only when it names them."""
    inventory = getattr(play.get_variable_manager(), "_inventory", None)
    hosts = inventory.hosts.values() if inventory is not None else ()
    return [text.line(host.get_name(), text.NAME_LIMIT) for host in hosts if host.vars.get("spark_local") is True]


def unmatched(play: Any, limit: str | None) -> list[str]:
    """The parts of ``--limit`` that name no host: Ansible only warns, and leaves them out."""
    from ansible.inventory.manager import split_host_pattern

    inventory = getattr(play.get_variable_manager(), "_inventory", None)
    parts = split_host_pattern(limit or "") if inventory is not None else []
    names = [str(part) for part in parts if not str(part).startswith(("@", "!"))]
    return [
        name
        for name in names
        if not inventory.get_hosts(name.lstrip("&"), ignore_limits=True, ignore_restrictions=True)
    ]


def role_path(task: Any) -> tuple[str, Path] | None:
    """Short name and folder of the role that a task belongs to."""
    role = getattr(task, "_role", None)
    if role is None:
        return None
    return str(role.get_name(include_role_fqcn=False)), Path(str(role._role_path))
