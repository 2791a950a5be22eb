# SPDX-License-Identifier: GPL-3.0-or-later
"""What documents and plugins show as YAML is taken by what it is for, as an operator's own would be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import misfits, unknown, value_misfits

from rules import Tree
from rules.plugins import documentation, strings

BLOCK = re.compile(r"^ *```ya?ml\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def examples_are_taken(tree: Tree) -> Iterator[str]:
    modules = {
        f"nusy.dgx_spark.{path.stem}": _options(documentation(tree, path))
        for path in (tree.root / "plugins" / "modules").glob("*.py")
        if path.name != "__init__.py"
    }
    variables = {name: option for place in (tree.root, *tree.roles) for name, option in tree.options(place).items()}
    for where, text in _shown(tree):
        try:
            found = list(yaml.safe_load_all(text))
        except yaml.YAMLError as error:
            yield f"{where}: an example is no YAML: {str(error).splitlines()[0]}"
            continue
        for problem in _problems(found, modules, variables, tuple(f"{name}_" for name in tree.role_names)):
            yield f"{where}: an example has {problem.found}, and not {problem.wanted}"


def _shown(tree: Tree) -> Iterator[tuple[str, str]]:
    for path in tree.files:
        if path.suffix == ".md":
            for block in BLOCK.findall(path.read_text("utf-8")):
                yield tree.relative(path), block
    for kind in ("modules", "filter", "lookup"):
        for path in sorted((tree.root / "plugins" / kind).glob("*.py")):
            yield tree.relative(path), strings(path).get("EXAMPLES", "")


def _problems(
    found: object, modules: Mapping[str, Any], variables: Mapping[str, Any], prefixes: tuple[str, ...]
) -> Iterator[Problem]:
    """At every depth: a variable may stand in vars of a role of a play, in a file of an inventory, or alone."""
    if isinstance(found, list):
        for one in found:
            yield from _problems(one, modules, variables, prefixes)
    if not isinstance(found, Mapping):
        return
    for name, value in found.items():
        if name in modules and isinstance(value, Mapping):
            sure = "{{" not in str(value)
            yield from (one for one in misfits(modules[name], _plain(value)) if sure or one.key != "input.missing")
        elif name in variables and not _computed(value):
            yield from value_misfits(variables[name], _plain(value), name)
        elif name not in variables and str(name).startswith(prefixes):
            yield unknown(str(name), str(name), variables)
        yield from _problems(value, modules, variables, prefixes)


def _options(documented: Mapping[str, Any]) -> dict[str, Any]:
    """As an argument spec has them."""
    return {
        name: {**option, "options": _options({"options": option["suboptions"]})} if "suboptions" in option else option
        for name, option in (documented.get("options") or {}).items()
    }


def _computed(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def _plain(value: Any) -> Any:
    """Without what is only known when it is computed."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items() if not _computed(one)}
    return [_plain(one) for one in value if not _computed(one)] if isinstance(value, list) else value
