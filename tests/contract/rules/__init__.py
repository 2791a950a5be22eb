# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the whole tree. A rule takes a Tree and yields findings, each one line that says
where and what; none means that the rule is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

# What is not ours, or was made by a tool.
SKIPPED = {".git", ".venv", "build", "collections", ".ansible", "__pycache__", ".hypothesis", "node_modules"}
# What a task holds beside its module.
KEYWORDS = {
    "action", "always", "any_errors_fatal", "args", "async", "become", "become_exe", "become_flags",
    "become_method", "become_user", "block", "changed_when", "check_mode", "collections", "connection", "debugger",
    "delay", "delegate_facts", "delegate_to", "diff", "environment", "failed_when", "ignore_errors",
    "ignore_unreachable", "listen", "local_action", "loop", "loop_control", "module_defaults", "name", "no_log",
    "notify", "poll", "port", "register", "remote_user", "rescue", "retries", "run_once", "tags", "throttle",
    "timeout", "until", "vars", "when",
}  # fmt: skip

Rule = Callable[["Tree"], Iterator[str]]


@dataclass(frozen=True)
class Task:
    """One task, with the block keywords above it left out: they are tasks of their own here."""

    where: str  # file and name, for a finding
    body: dict[str, Any]
    handler: bool = False

    @property
    def module(self) -> str:
        names = [key for key in self.body if key not in KEYWORDS and not key.startswith("with_")]
        return names[0] if names else ""

    @property
    def short(self) -> str:
        """The module without ansible.builtin."""
        return self.module.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")

    @property
    def arguments(self) -> dict[str, Any]:
        given = self.body.get(self.module)
        return given if isinstance(given, dict) else {}


@dataclass(frozen=True)
class Tree:
    root: Path

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    @cached_property
    def files(self) -> tuple[Path, ...]:
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.endswith("_cache"))
            found += [Path(folder, name) for name in sorted(names) if name not in SKIPPED]  # .git: a file in a worktree
        return tuple(found)

    @cached_property
    def roles(self) -> tuple[Path, ...]:
        return tuple(sorted(path for path in (self.root / "roles").glob("*") if path.is_dir()))

    @cached_property
    def role_names(self) -> frozenset[str]:
        return frozenset(role.name for role in self.roles)

    def yaml(self, path: Path) -> Any:
        """What a file holds; None when it is not there."""
        return yaml.safe_load(path.read_text("utf-8")) if path.exists() else None

    def options(self, role: Path) -> dict[str, Any]:
        specs = self.yaml(role / "meta" / "argument_specs.yml") or {}
        return dict(specs.get("argument_specs", {}).get("main", {}).get("options") or {})

    def controls(self, role: Path) -> list[dict[str, Any]]:
        return list((self.yaml(role / "meta" / "controls.yml") or {}).get("controls") or [])

    def tasks_of(self, path: Path, *, handler: bool = False) -> Iterator[Task]:
        yield from self._walk(self.relative(path), self.yaml(path) or [], handler)

    def role_tasks(self, role: Path) -> Iterator[Task]:
        for path in sorted((role / "tasks").glob("**/*.yml")):
            yield from self.tasks_of(path)

    def role_handlers(self, role: Path) -> Iterator[Task]:
        for path in sorted((role / "handlers").glob("**/*.yml")):
            yield from self.tasks_of(path, handler=True)

    @cached_property
    def plays(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        paths = [*sorted((self.root / "playbooks").glob("*.yml")), *self.root.glob("site.yml")]
        return tuple((self.relative(path), play) for path in paths for play in self.yaml(path) or [])

    def play_tasks(self) -> Iterator[Task]:
        for where, play in self.plays:
            for key in ("pre_tasks", "tasks", "post_tasks", "handlers"):
                yield from self._walk(where, play.get(key) or [], key == "handlers")

    def all_tasks(self) -> Iterator[Task]:
        for role in self.roles:
            yield from self.role_tasks(role)
            yield from self.role_handlers(role)
        yield from self.play_tasks()

    def _walk(self, where: str, items: list[Any], handler: bool) -> Iterator[Task]:
        for item in items:
            yield Task(f"{where}: {item.get('name', 'a task without a name')}", item, handler)
            for key in ("block", "rescue", "always"):
                yield from self._walk(where, item.get(key) or [], handler)
