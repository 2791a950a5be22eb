# SPDX-License-Identifier: GPL-3.0-or-later
"""What every plugin says about itself, and what its code keeps to. Read as text: nothing is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rules import Tree

OURS = "ansible_collections.nusy.dgx_spark.plugins"
SPDX = "# SPDX-License-Identifier: GPL-3.0-or-later"
LICENCE = "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)"
ATTRIBUTES = ("check_mode", "diff_mode", "idempotent")
# Libraries of plugins, which document themselves in their docstrings.
LIBRARIES = {"module_utils", "plugin_utils", "doc_fragments"}
MAIN_LINES = 40
# Proven by whole runs of Ansible instead, as it means nothing outside of one.
PROVEN_BY_RUNS = {"action": "tests/integration/drift", "callback": "tests/integration/drift"}
# The only code that may end a module; see its docstring.
ENTRY = "plugins/module_utils/_core/entry.py"


def _python(tree: Tree, folder: str = "plugins") -> Iterator[Path]:
    yield from (path for path in tree.files if path.suffix == ".py" and tree.root / folder in path.parents)


def strings(path: Path) -> dict[str, str]:
    """Top-level (and class-level, for fragments) string assignments."""
    module = ast.parse(path.read_text("utf-8"))
    bodies = [module.body, *(node.body for node in module.body if isinstance(node, ast.ClassDef))]
    return {
        target.id: node.value.value
        for body in bodies
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def documentation(tree: Tree, path: Path) -> dict[str, Any]:
    """DOCUMENTATION with the options and attributes of its fragments."""
    document: dict[str, Any] = yaml.safe_load(strings(path).get("DOCUMENTATION", "{}")) or {}
    fragments = document.get("extends_documentation_fragment") or []
    for full in [fragments] if isinstance(fragments, str) else fragments:
        name, _dot, part = str(full).removeprefix("nusy.dgx_spark.").partition(".")
        source = tree.root / "plugins" / "doc_fragments" / f"{name}.py"
        text = strings(source).get(part.upper() or "DOCUMENTATION", "{}") if source.exists() else "{}"
        for key, value in (yaml.safe_load(text) or {}).items():
            if isinstance(value, dict):
                document[key] = {**value, **document.get(key, {})}
    return document


def folders_have_content(tree: Tree) -> Iterator[str]:
    """A folder without any file is not in the repository at all."""
    for name in sorted(
        {
            path.parts[1]
            for path in (file.relative_to(tree.root) for file in tree.files)
            if path.parts[0] == "plugins" and len(path.parts) > 2
        }
    ):
        if not any(path.name != "__init__.py" for path in _python(tree, f"plugins/{name}")):
            yield f"plugins/{name} holds no code"


def files_begin_as_agreed(tree: Tree) -> Iterator[str]:
    for folder in ("plugins", "tests"):
        for path in _python(tree, folder):
            text = path.read_text("utf-8")
            if SPDX not in text.splitlines()[:3]:
                yield f"{tree.relative(path)}: does not begin with {SPDX}"
            is_module = path.parent == tree.root / "plugins" / "modules"
            if is_module and LICENCE not in text.splitlines()[:5]:
                yield f"{tree.relative(path)}: lacks the line {LICENCE}"
            if not is_module and path.name != "__init__.py" and not ast.get_docstring(ast.parse(text)):
                yield f"{tree.relative(path)}: has no docstring"


def plugins_are_documented(tree: Tree) -> Iterator[str]:
    for path in _python(tree):
        kind = path.relative_to(tree.root / "plugins").parts[0]
        if kind in LIBRARIES or path.name == "__init__.py":
            continue
        where = tree.relative(path)
        if kind == "action":
            if not (tree.root / "plugins" / "modules" / path.name).exists():
                yield f"{where}: an action is documented by the module of its name, which is not there"
            continue
        document, texts = documentation(tree, path), strings(path)
        named = document.get("module" if kind == "modules" else "name")
        if named not in (path.stem, f"nusy.dgx_spark.{path.stem}"):
            yield f"{where}: DOCUMENTATION is about {named}"
        for key in ("short_description", "description", "author"):
            if not document.get(key):
                yield f"{where}: DOCUMENTATION lacks {key}"
        yield from _options(where, document.get("options") or {})
        if kind in ("modules", "filter"):
            for key in ("EXAMPLES", "RETURN"):
                if not yaml.safe_load(texts.get(key, "")):
                    yield f"{where}: {key} is empty"
            if f"nusy.dgx_spark.{path.stem}" not in texts.get("EXAMPLES", ""):
                yield f"{where}: EXAMPLES do not show nusy.dgx_spark.{path.stem}"


def _options(where: str, options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, spec in options.items():
        if not spec.get("description"):
            yield f"{where}: option {prefix}{name} has no description"
        if not spec.get("type"):
            yield f"{where}: option {prefix}{name} has no type"
        if spec.get("type") == "list" and not spec.get("elements"):
            yield f"{where}: option {prefix}{name} does not say of what it is a list"
        yield from _options(where, spec.get("suboptions") or {}, f"{prefix}{name}.")


def modules_state_their_attributes(tree: Tree) -> Iterator[str]:
    for path in sorted((tree.root / "plugins" / "modules").glob("*.py")):
        attributes = documentation(tree, path).get("attributes") or {}
        for name in ATTRIBUTES:
            if attributes.get(name, {}).get("support") not in ("full", "partial", "none", "N/A"):
                yield f"{tree.relative(path)}: does not state the attribute {name}"
            elif not attributes[name].get("description"):
                yield f"{tree.relative(path)}: the attribute {name} has no description"
        if attributes.get("check_mode", {}).get("support") != "full":
            yield f"{tree.relative(path)}: does not support check mode in full"


def modules_are_thin(tree: Tree) -> Iterator[str]:
    for path in sorted((tree.root / "plugins" / "modules").glob("*.py")):
        functions = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
        mains = [node for node in functions if node.name == "main"]
        if not mains and not (tree.root / "plugins" / "action" / path.name).exists():
            yield f"{tree.relative(path)}: has no main()"
        for node in mains:
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAIN_LINES:
                yield f"{tree.relative(path)}: main() has {lines} lines, {MAIN_LINES} are allowed"


def node_code_needs_only_python(tree: Tree) -> Iterator[str]:
    for path in (*_python(tree, "plugins/module_utils"), *_python(tree, "plugins/modules")):
        allowed = {"ansible.module_utils"} if path.parent.name == "modules" else set[str]()
        for line, name in _imports(path):
            if name.partition(".")[0] in sys.stdlib_module_names or name.startswith(f"{OURS}.module_utils"):
                continue
            if not any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed):
                yield f"{tree.relative(path)}:{line}: imports {name or 'relatively'}, which a node may not have"


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "" if node.level else node.module or ""


def only_the_entry_knows_check_mode(tree: Tree) -> Iterator[str]:
    """One code path for check and real run: nothing below it may ask which one it is."""
    for path in _python(tree, "plugins/module_utils"):
        if tree.relative(path) == ENTRY:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("check_mode", "exit_json", "fail_json"):
                yield f"{tree.relative(path)}:{node.lineno}: uses {node.attr}, which is {ENTRY}'s alone"


def tests_mirror_plugins(tree: Tree) -> Iterator[str]:
    """Every folder with code has tests in the folder of the same path, and no tests are left of code that went."""
    plugins, tests = tree.root / "plugins", tree.root / "tests" / "unit" / "plugins"
    code = {path.parent for path in _python(tree) if path.name != "__init__.py"}
    for name, place in PROVEN_BY_RUNS.items():
        if plugins / name in code and not list((tree.root / place).glob("test_*.py")):
            yield f"plugins/{name} has no tests in {place}"
    for folder in sorted(code - {plugins / name for name in ("doc_fragments", *PROVEN_BY_RUNS)}):
        mirror = tests / folder.relative_to(plugins)
        # A package may be tested as a whole by the tests of the package above it.
        nearest = [mirror, *(parent for parent in mirror.parents if tests in parent.parents)]
        if not any(list(place.glob("test_*.py")) for place in nearest[:2]):
            yield f"{tree.relative(folder)} has no tests in {tree.relative(mirror)}"
    for folder in sorted(
        {path.parent for path in _python(tree, "tests/unit/plugins") if path.name.startswith("test_")}
    ):
        if not (plugins / folder.relative_to(tests)).is_dir():
            yield f"{tree.relative(folder)} tests nothing that is there"


RULES = (
    folders_have_content,
    files_begin_as_agreed,
    plugins_are_documented,
    modules_state_their_attributes,
    modules_are_thin,
    node_code_needs_only_python,
    only_the_entry_knows_check_mode,
    tests_mirror_plugins,
)
