# SPDX-License-Identifier: GPL-3.0-or-later
"""Would the call of a role be refused for what was written? Judged on the controller, before any node is touched.

Such a role is one call of a module that ensures something. What it would be given is computed as the
role would, and handed to the very code that the module begins with, which needs no node.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.module_utils._console.judge import SUBJECTS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import misfits, secrets
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.groups import running
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables, owners_of

NAMESPACE = "nusy.dgx_spark."


@dataclasses.dataclass(frozen=True)
class Unjudged:
    """What of a role nobody could compute before it runs, and why not."""

    role: str
    what: str
    why: str

    def text(self, host: str) -> str:
        return (
            f"{self.what} of role {self.role} on {host} cannot be computed before it runs, and was not judged: "
            f"{self.why}. What is wrong with it will stop that role, after those before it were applied."
        )


def unjudged(role: str, what: str, error: AnsibleError) -> Unjudged:
    return Unjudged(role, what, " ".join(str(error).split()).rstrip("."))


def refusals(
    owners: Mapping[str, Path], host: Variables, loader: DataLoader, templar: Templar
) -> Iterator[Problem | Unjudged]:
    """What the calls of those roles that run on that host would be refused for, led back to its variables."""
    ours = {name for name in host.written if owners_of(name, owners)}
    for folder in running(owners, host, loader).values():
        # Nothing written that the role reads: it is called as it was shipped. Computing that takes time on every host.
        if not ours.isdisjoint(_read_by(folder, owners)):
            for problem in _refusals(folder, host, loader, templar):
                if isinstance(problem, Unjudged):
                    yield problem
                    continue
                # By its own variable or, where that is left at its default, by the one that the default reads.
                sources = (host.source(problem.found, owner) for owner in (folder, *owners.values()))
                source = next(filter(None, sources), "")
                yield dataclasses.replace(problem, found=f"{problem.found} on {host.host}{source}")


def _refusals(folder: Path, host: Variables, loader: DataLoader, templar: Templar) -> Iterator[Problem | Unjudged]:
    """What cannot be computed before the role runs is left to its own call, by name."""
    there = environment(folder, host, loader, templar)
    for module, arguments in _calls(_read(folder / "tasks", loader) or ()).items():
        try:
            options = there.template({**arguments, **SUBJECTS[module].made})
        except AnsibleError as error:
            yield unjudged(folder.name, "the call", error)
            continue
        yield from _judged(SUBJECTS[module], options)


def _calls(tasks: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Each module that ensures something, with what its first call gives it: a later one asks for the same again."""
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        given = {**(defaults or {}), **task.get("module_defaults", {})}
        for module in SUBJECTS:
            name = f"{NAMESPACE}{module}"
            if name in task:
                found.setdefault(module, {**given.get(name, {}), **(task[name] or {})})
        found = {**_calls(task.get("block", ()), given), **found}
    return found


def environment(folder: Path, host: Variables, loader: DataLoader, templar: Templar) -> Templar:
    """Templates with the variables that a role sees on that host."""
    role = {**_read(folder / "vars", loader), "role_path": str(folder)}
    known = {**_read(folder / "defaults", loader), **host.written, **role}
    return templar.copy_with_new_env(available_variables=known)


def _judged(ensuring: Ensuring, options: Mapping[str, Any]) -> Iterator[Problem]:
    judged = ArgumentSpecValidator(ensuring.options).validate(options)
    if judged.error_messages:
        problems, hidden = list(misfits(ensuring.options, options)), secrets(ensuring.options, options)
    else:
        try:
            ensuring.subject(judged.validated_parameters)
            return
        except InputError as error:
            problems, hidden = [error.problem], iter(ensuring.hidden(judged.validated_parameters))
    redact = Redactor(hidden).text
    for one in problems:
        yield Problem(**{part: redact(text) for part, text in dataclasses.asdict(one).items()})


def _read(part: Path, loader: DataLoader) -> Any:
    path = part / "main.yml"
    return (loader.load_from_file(str(path), trusted_as_template=True) if path.is_file() else None) or {}


def _read_by(folder: Path, owners: Mapping[str, Path]) -> frozenset[str]:
    """The words of a role; of one that takes what others publish, also theirs."""
    own = _words(*(folder / part / "main.yml" for part in ("defaults", "vars", "tasks")))
    if "published_engines" not in own:
        return own
    return own | _words(*(owner / "meta" / "engines.yml" for owner in owners.values()))


@functools.cache
def _words(*paths: Path) -> frozenset[str]:
    return frozenset(word for path in paths if path.is_file() for word in re.findall(r"\w+", path.read_text("utf-8")))
