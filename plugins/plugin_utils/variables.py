# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the variables of a host those that roles document? Judged on the controller.

The one description of a role's variables is its ``meta/argument_specs.yml``; that of the shared
``spark_*`` is the file of the same name at the root of the collection. Every variable that
begins like those of a role must be one of them.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import shown, unknown, value_misfits

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # not a public interface: without it errors name no place
    Origin = None

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = "spark_foreign_variables"
# How alike the beginning of a name and that of a role's are when it was probably mistyped: one letter of six.
LIKE = 0.89
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclasses.dataclass(frozen=True)
class Variables:
    """The variables of one host, and how to get at their values."""

    host: str
    written: Mapping[str, Any]
    resolve: Callable[[Any], Any]

    def value(self, name: str, default: Any = None) -> Any:
        return self.resolve(self.written[name]) if name in self.written else default

    def misfits(self, owners: Mapping[str, Path], only: str = "") -> Iterator[Problem]:
        """``owners``: what variables begin with → the folder whose meta/ documents them.

        ``only``: judge what belongs to this owner. A value that cannot be computed yet is left to
        the role that uses it.
        """
        foreign = self.value(FOREIGN) or ()
        for name in sorted(self.written):
            candidates = owners_of(name, owners)
            declared = next((owner for owner in candidates if name in options(owners[owner])), "")
            owner = declared or next(iter(candidates), "")
            if not owner or only not in ("", owner):
                continue
            if declared:
                yield from self._value(name, options(owners[owner])[name])
            elif name not in foreign:
                yield unknown(
                    name,
                    name,
                    [option for candidate in candidates for option in options(owners[candidate])],
                    prefix=f"{candidates[-1]}_",
                    found=f"{name} on {self.host}{self.place(name)}",
                    otherwise=f"if it belongs to something else, add it to {FOREIGN}",
                )

    def nearly_ours(self, owners: Iterable[str]) -> Iterator[str]:
        """Names that begin almost like those of a role, which nothing reads. They may be somebody else's."""
        foreign = self.value(FOREIGN) or ()
        for name in sorted(self.written):
            if name in foreign or owners_of(name, owners):
                continue
            for owner in owners:
                begins = "_".join(name.split("_")[: owner.count("_") + 1])
                if name != begins and difflib.SequenceMatcher(None, begins, owner).ratio() > LIKE:
                    yield (
                        f"{name} on {self.host}{self.place(name)} is read by no role: is {owner}{name[len(begins) :]} "
                        f"meant? If it belongs to something else, add it to {FOREIGN}."
                    )

    def _value(self, name: str, option: Mapping[str, Any]) -> Iterator[Problem]:
        where = f" on {self.host}{self.place(name)}"
        try:
            value = self.value(name)
        except AnsibleUndefinedVariable:
            return
        except AnsibleError as error:
            why = "no role could use it"
            yield Problem("input.template", f"{name}: a value", f"{error.message}{where}", why, f"correct {name}")
            return
        if value is None and "default" not in option and not option.get("required"):
            return
        for problem in value_misfits(option, value, name):
            yield dataclasses.replace(problem, found=problem.found + where)

    def place(self, name: str) -> str:
        """Where a variable was written, as far as Ansible knows."""
        if Origin is None:
            return ""
        if origin := Origin.get_tag(self.written[name]):
            return f", at {_short(str(origin))}"
        # Null and truth values carry no place. The name does, though a later file may have given the value.
        origin = next((Origin.get_tag(key) for key in self.written if key == name), None)
        return f", named at {_short(str(origin))}" if origin else ""

    def source(self, found: str, folder: Path) -> str:
        """Of a role's variables those that hold the value of an error, as words to add to it."""
        hits = []
        for name in options(folder):
            try:
                value = self.value(name)
            except AnsibleError:
                continue
            values = value if isinstance(value, (list, tuple)) else [value]
            if any(found in (repr(item), shown(item)) for item in values):
                hits.append(f"{name}{self.place(name)}")
        return f", which is in {' and in '.join(hits)}" if hits else ""


def of_collection() -> dict[str, Path]:
    """The roles of this collection, and the variables they share."""
    return {"spark": ROOT, **beside(ROOT / "roles" / "any")}


def beside(role: Path) -> dict[str, Path]:
    return {folder.name: folder for folder in sorted(role.parent.iterdir()) if (folder / "meta").is_dir()}


def owners_of(name: str, owners: Iterable[str]) -> list[str]:
    """Longest first: vllm_venv_path belongs to vllm_venv, unless only vllm knows it."""
    return sorted((owner for owner in owners if name.startswith(f"{owner}_")), key=len, reverse=True)


@functools.cache
def options(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "meta" / "argument_specs.yml"
    if not path.is_file():
        return {}
    specs = yaml.load(path.read_text("utf-8"), Loader=YAML_LOADER)
    return dict(specs["argument_specs"]["main"].get("options") or {})


def _short(place: str) -> str:
    here = f"{Path.cwd()}/"
    return place.removeprefix(here)
