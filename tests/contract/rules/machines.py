# SPDX-License-Identifier: GPL-3.0-or-later
"""Which roles need a kernel of their own, and that they never meet one that is somebody else's.

A container shares the kernel of the machine that carries it: there these values are the host's,
or cannot be set. A test of such a role in a container changes the host, or proves nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rules import Tree

# What → how it shows in the text of a role. Comments do not count.
TRACES = {
    "values of the kernel": r"(?<![\w./-])(?:vm|kernel|fs)[./][a-z_]+[a-z0-9_.]*\s*[=:]|/proc/sys/(?!net)",
    "kernel modules": r"\bkernel_modules:|\bmodprobe\b|\bmodules-load\.d\b|\binsmod\b",
    "swap": r"\b(?:swapon|swapoff|mkswap|zramctl)\b|fstype:\s*swap\b|[\w@-]\.swap\b",
    "the clock": r"\b(?:timedatectl|hwclock|adjtimex)\b|\bdate (?:-s|--set)\b|\.timezone:|/etc/(?:localtime|adjtime)\b",
    "arrays": r"\bmd_array:|\bmdadm\s+-|/dev/md\d",
    "memory limits": r"\b(?:Memory(?:Min|Low|High|Max|SwapMax)|ManagedOOM\w+|OOMPolicy)\s*=",
}
# Options and modules that name values of the kernel; only those below net belong to a container.
SYSCTL_MODULES = {"ansible.posix.sysctl", "sysctl"}
# Modules that make such things by themselves, and what.
MODULES = {"nusy.dgx_spark.memory_guard": "memory limits"}
FOLDERS = ("tasks", "handlers", "vars", "defaults", "templates", "files")
CONTAINER_TESTS = "tests/nodes/host.py"
LEFT_OUT = "NEED_A_KERNEL"


def needs_a_kernel(tree: Tree, role: Path) -> str:
    """Why the role may not run in a container, or nothing."""
    for folder in FOLDERS:
        for path in sorted((role / folder).glob("**/*")):
            if not path.is_file():
                continue
            text = re.sub(r"(?m)^\s*#.*$", "", path.read_text("utf-8", "replace"))
            for what, pattern in TRACES.items():
                if found := re.search(pattern, text):
                    return f"{what} ({tree.relative(path)}: {found.group().strip()})"
    for task in (*tree.role_tasks(role), *tree.role_handlers(role)):
        if task.module in MODULES:
            return f"{MODULES[task.module]} ({task.where}: {task.module})"
        names = [task.arguments.get("name")] if task.module in SYSCTL_MODULES else []
        for found in (*names, *_sysctls(task.body)):
            if not re.match(r"net[./]", str(found)):
                return f"values of the kernel ({task.where}: {found})"
    return ""


def _sysctls(node: Any) -> Iterator[str]:
    """Names below any ``sysctls`` of a task; a list that is only known at run time stands for the worst."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "sysctls":
                listed = value if isinstance(value, list) else [value]
                yield from (str(item.get("name")) if isinstance(item, Mapping) else str(item) for item in listed)
            else:
                yield from _sysctls(value)
    elif isinstance(node, list):
        for item in node:
            yield from _sysctls(item)


def kernel_roles_run_in_virtual_machines(tree: Tree) -> Iterator[str]:
    """In molecule by ``machine: vm`` of every platform, in the shared nodes not at all."""
    reasons = {role.name: why for role in tree.roles if (why := needs_a_kernel(tree, role))}
    for scenario in sorted({path.parent for path in (tree.root / "molecule").glob("*/*.yml")}):
        text = "\n".join(path.read_text("utf-8") for path in sorted(scenario.glob("**/*.yml")))
        platforms = (tree.yaml(scenario / "molecule.yml") or {}).get("platforms") or []
        contained = [platform["name"] for platform in platforms if platform.get("machine") != "vm"]
        for name, why in reasons.items():
            played = scenario.name == name or re.search(rf"\bnusy\.dgx_spark\.{name}\b", text)
            if played and (contained or not platforms):
                yield f"molecule/{scenario.name}: role {name} touches {why}, and not every platform is machine: vm"
    left_out = _left_out(tree.root / CONTAINER_TESTS)
    for name in sorted(reasons.keys() - left_out):
        yield f"{CONTAINER_TESTS}: {LEFT_OUT} lacks {name}, which touches {reasons[name]}"
    for name in sorted(left_out - reasons.keys()):
        yield f"{CONTAINER_TESTS}: {LEFT_OUT} names {name}, which could run in a container"


def _left_out(path: Path) -> set[str]:
    """The roles that runs on containers leave out, read without running the file."""
    for node in ast.parse(path.read_text("utf-8") if path.exists() else "").body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == LEFT_OUT:
            return set(ast.literal_eval(node.value)) if node.value else set()
    return set()


RULES = (kernel_roles_run_in_virtual_machines,)
