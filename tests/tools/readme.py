# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the variable and control tables of every role's README from its specs.

usage: readme.py        The tables stand between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("variables", "controls")


def plain(text: object) -> str:
    """Ansible's markup as Markdown, on one line, safe inside a table."""
    parts = text if isinstance(text, list) else [text]
    flat = " ".join(" ".join(str(part).split()) for part in parts)
    flat = re.sub(r"\b[COVEM]\(([^()]*)\)", r"`\1`", flat)
    flat = re.sub(r"\bI\(([^()]*)\)", r"*\1*", flat)
    return re.sub(r"\bB\(([^()]*)\)", r"**\1**", flat).replace("|", "\\|")


def options(specs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, spec in specs.items():
        yield prefix + name, spec
        inner = f"{prefix}{name}[]." if spec.get("type") == "list" else f"{prefix}{name}."
        yield from options(spec.get("options", {}), inner)


def variables_table(specs: Mapping[str, Any]) -> str:
    lines = ["| Variable | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, spec in options(specs["argument_specs"]["main"].get("options", {})):
        kind = f"{spec['type']} of {spec['elements']}" if "elements" in spec else spec.get("type", "str")
        if spec.get("required"):
            default = "**required**"
        elif "default" in spec:
            value = spec["default"]
            default = f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"
        else:
            default = "–"
        meaning = plain(spec.get("description", ""))
        if "choices" in spec:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in spec["choices"]) + "."
        lines.append(f"| `{name}` | {kind} | {default.replace('|', chr(92) + '|')} | {meaning} |")
    return "\n".join(lines)


def controls_table(catalogue: Mapping[str, Any]) -> str:
    lines = ["| Control | Severity | In sync means | Applying may |", "|---|---|---|---|"]
    for control in catalogue["controls"]:
        cells = (f"`{control['id']}`", control["severity"], plain(control["title"]), plain(control["disrupts"] or "–"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rendered(role: Path) -> str:
    """The README with its tables as the specs have them now. ValueError when a table has no place."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text("utf-8"))
    catalogue = yaml.safe_load((role / "meta" / "controls.yml").read_text("utf-8"))
    text = (role / "README.md").read_text("utf-8")
    for name, table in zip(TABLES, (variables_table(specs), controls_table(catalogue)), strict=True):
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{role.name}/README.md has no place for the table: write {begin} and {end}, once each")
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    code = 0
    for role in sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir()):
        try:
            text = rendered(role)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            code = 1
            continue
        if text != (role / "README.md").read_text("utf-8"):
            (role / "README.md").write_text(text, "utf-8")
            print(f"roles/{role.name}/README.md: tables written")
    return code


if __name__ == "__main__":
    sys.exit(main())
