# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tree as a whole holds, and what never gets into it."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

from rules import Tree

CONTRACTS = (
    "evidence",
    "drift-report",
    "exit-codes",
    "paths-env",
    "launchers",
    "spec1-prereqs",
    "spec2-cuda-toolchain",
    "spec3-vllm-venv",
    "spec4-vllm-runtime",
    "spec5-ptxas",
    "spec6-launchers",
)
STATUS = re.compile(r"^\*\*Status:\*\* (.+)$", re.MULTILINE)
AGREED = "contract agreed, implementation not yet in this release"
FOLDERS = {
    "bin", "changelogs", "collections", "docs", "inventories", "meta", "molecule", "playbooks", "plugins",
    "requirements", "roles", "tests",
}  # fmt: skip
# Settings that trade truth or safety for quiet.
WEAKENED = {
    "host_key_checking", "deprecation_warnings", "system_warnings", "command_warnings", "localhost_warning",
    "inventory_unparsed_warning", "jinja2_native_warning", "fact_caching_connection", "display_skipped_hosts",
}  # fmt: skip
# Written apart, so that this file is not a finding of its own.
PRIVATE = tuple(
    re.compile(text)
    for text in (
        r"/work/" + r"(main|shared)\b",
        r"/root/" + r"\.(pyenv|cargo|cache|config)\b",
        r"\.pyenv/versions/" + r"\d",
        r"/opt/" + r"(wheels|pypi)\b",
        r"files\.python" + r"hosted\.org",
        r"\bpypi\." + r"org\b",
        r"registry\.npm" + r"js\.org",
        r"\bproxy\.golang" + r"\.org",
        r"\bdeb\.debian" + r"\.org",
    )
)
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def no_place_of_a_developer_is_named(tree: Tree) -> Iterator[str]:
    for path in tree.files:
        if path.is_symlink() or path.stat().st_size > 2_000_000:
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for pattern in PRIVATE:
            for found in pattern.finditer(text):
                line = text.count("\n", 0, found.start()) + 1
                yield f"{tree.relative(path)}:{line}: names {found.group()}"


def only_known_folders(tree: Tree) -> Iterator[str]:
    for name in sorted({path.relative_to(tree.root).parts[0] for path in tree.files if path.parent != tree.root}):
        if name not in FOLDERS and not name.startswith("."):
            yield f"{name}/ has no place in the layout"


def contracts_are_there(tree: Tree) -> Iterator[str]:
    for name in CONTRACTS:
        path = tree.root / "docs" / "contracts" / f"{name}.md"
        if not path.exists():
            yield f"docs/contracts/{name}.md is missing"
        elif name.startswith("spec") and (problem := _status(tree, path)):
            yield f"docs/contracts/{name}.md: {problem}"


def _status(tree: Tree, path: Path) -> str:
    """A spec is implemented by roles that are there, or says that it is not."""
    found = STATUS.search(path.read_text("utf-8"))
    if not found:
        return "says no status (a line beginning with **Status:**)"
    status = found[1].strip().rstrip(".")
    named = re.fullmatch(r"implemented by role `([a-z0-9_]+)`", status)
    if named:
        return "" if named[1] in tree.role_names else f"there is no role {named[1]}"
    return "" if status == AGREED else f"the status {status!r} is neither `implemented by role …` nor `{AGREED}`"


def the_readme_leads_everywhere(tree: Tree) -> Iterator[str]:
    """A page that nobody is sent to, and a plugin that nobody is told of, are not there."""
    text = (tree.root / "README.md").read_text("utf-8")
    for path in (
        page for folder in ("docs", "docs/guides", "docs/design") for page in (tree.root / folder).glob("*.md")
    ):
        if f"({tree.relative(path)})" not in text:
            yield f"README.md: does not lead to {tree.relative(path)}"
    for path in (
        one for kind in ("modules", "filter", "lookup") for one in (tree.root / "plugins" / kind).glob("*.py")
    ):
        if path.stem != "__init__" and f"`{path.stem}`" not in text:
            yield f"README.md: does not name {tree.relative(path)}"


def links_in_documents_lead_somewhere(tree: Tree) -> Iterator[str]:
    for path in tree.files:
        if path.suffix != ".md":
            continue
        text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            place = target.partition("#")[0]
            if place and not re.match(r"[a-z]+:", place) and not (path.parent / place).exists():
                yield f"{tree.relative(path)}: the link to {target} leads nowhere"


def sanity_ignores_nothing(tree: Tree) -> Iterator[str]:
    for path in sorted((tree.root / "tests" / "sanity").glob("ignore*")):
        yield f"{tree.relative(path)}: mend the finding, do not ignore it"


def settings_weaken_nothing(tree: Tree) -> Iterator[str]:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(tree.root / "ansible.cfg")
    for section in settings.sections():
        for key in sorted(WEAKENED & set(settings[section])):
            yield f"ansible.cfg: sets {key}"


def locks_agree(tree: Tree) -> Iterator[str]:
    """`make test` installs test.lock over drift.lock into one environment, so it must hold the same pins."""
    folder = tree.root / "requirements"
    pins = {path.stem: _pins(path) for path in sorted(folder.glob("*.lock"))}
    for path in sorted(folder.glob("*.in")):
        if path.stem not in pins:
            yield f"requirements/{path.name} has no lock: run make lock"
            continue
        locked = {name for name, _version in pins[path.stem]}
        for line in path.read_text("utf-8").splitlines():
            wanted = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
            if wanted and re.sub(r"[._-]+", "-", wanted[0]).lower() not in locked:
                yield f"requirements/{path.stem}.lock does not hold {wanted[0]}: run make lock"
    for name, version in sorted(pins.get("drift", set()) - pins.get("test", set())):
        yield f"requirements/test.lock does not hold {name}=={version} of drift.lock"
    for path in sorted(folder.glob("*.lock")):
        text = path.read_text("utf-8")
        for pin in re.split(r"\n(?=\S)", text):
            if "==" in pin and "--hash=sha256:" not in pin:
                yield f"requirements/{path.name}: {pin.split()[0]} has no hash"


def _pins(path: Path) -> set[tuple[str, str]]:
    return set(PINNED.findall(path.read_text("utf-8")))


RULES = (
    no_place_of_a_developer_is_named,
    only_known_folders,
    contracts_are_there,
    links_in_documents_lead_somewhere,
    the_readme_leads_everywhere,
    sanity_ignores_nothing,
    settings_weaken_nothing,
    locks_agree,
)
