# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the variable and control tables of every role's README, the tables of shared variables and of published
ports and the catalogue of all controls, from the specs; the version matrix from its rows; the faults of endpoints from
what the probe knows.

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
sys.path.append(str(ROOT / "collections"))

import presets
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.faults import KINDS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import CDI_0_7, FOUNDERS, SPARK, named

MATRIX = "docs/version-matrix.md"
MODELS = "docs/guides/choosing-a-model.md"
SHARED = ("meta/argument_specs.yml", "docs/guides/inventory.md")
CATALOGUE, PORTS, FAULTS = "docs/controls.md", "docs/guides/ports.md", "docs/guides/serving.md"
SEVERITIES = ("critical", "high", "medium", "low", "info")


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


# Where alone a row counts, in the words of the page.
PLACES = {"": "", SPARK: "on a Spark", FOUNDERS: "on a Founders Edition", CDI_0_7: "beside a CDI 0.7.0 specification"}


def matrix_table() -> str:
    lines = ["| Subject | Versions | Verdict | Why, and what to do | Source | Row |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        where = " ".join(filter(None, (PLACES[row.only], row.unless and f"without {row.unless}")))
        about = f"{row.why}. {row.remedy[0].upper()}{row.remedy[1:]}." if row.remedy else f"{row.why}."
        cells = (
            named(row.subject),
            f"`{row.range}`{f', {where}' if where else ''}".replace("_", " "),
            row.verdict.replace("_", " "),
            about,
            row.source,
            f"`{row.id}`",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def rendered(role: Path) -> str:
    """The README with its tables as the specs have them now. ValueError when a table has no place."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text("utf-8"))
    catalogue = yaml.safe_load((role / "meta" / "controls.yml").read_text("utf-8"))
    return _filled(role / "README.md", variables=variables_table(specs), controls=controls_table(catalogue))


def rendered_guide(root: Path) -> str:
    """The guide to inventories, with the table of shared variables as their specs have it now."""
    specs, guide = (root / name for name in SHARED)
    return _filled(guide, variables=variables_table(yaml.safe_load(specs.read_text("utf-8"))))


def rendered_matrix(root: Path) -> str:
    return _filled(root / MATRIX, matrix=matrix_table())


def rendered_catalogue(root: Path) -> str:
    """The page of all controls, role by role, as their catalogues have them now."""
    roles = {path.parents[1].name: path for path in sorted(root.glob("roles/*/meta/controls.yml"))}
    controls = {role: yaml.safe_load(path.read_text("utf-8"))["controls"] for role, path in roles.items()}
    return _filled(root / CATALOGUE, controls=catalogue(controls))


def catalogue(controls: Mapping[str, list[Mapping[str, Any]]]) -> str:
    every = [control for listed in controls.values() for control in listed]
    counted = ((severity, sum(one["severity"] == severity for one in every)) for severity in SEVERITIES)
    shares = ", ".join(f"{count} {severity}" for severity, count in counted if count)
    parts = [f"{len(every)} controls of {len(controls)} roles: {shares}."]
    for role, listed in controls.items():
        parts += ["", f"## {role}", "", f"[Role {role}](../roles/{role}/README.md)", ""]
        parts += [
            "| Control | Severity | In sync means | Why | Applying may | References |",
            "|---|---|---|---|---|---|",
        ]
        for one in listed:
            # Named by hand: that of a heading would depend on who renders the page.
            name = f'<a id="{one["id"]}"></a>`{one["id"]}`'
            texts = (one["title"], one["rationale"], one["disrupts"] or "–", "; ".join(map(str, one["references"])))
            title, why, disrupts, references = map(plain, texts)
            parts.append(f"| {name} | {one['severity']} | {title} | {why} | {disrupts} | {references} |")
    return "\n".join(parts)


def rendered_faults(root: Path) -> str:
    """The guide to serving, with every fault that the probe knows."""
    lines = ["| Kind | Wanted | Why it matters | What to do |", "|---|---|---|---|"]
    lines += [f"| `{kind}` | {one.wanted} | {one.why} | {one.fix} |" for kind, one in KINDS.items()]
    return _filled(root / FAULTS, faults="\n".join(lines))


def rendered_models(root: Path) -> str:
    return _filled(root / MODELS, presets=presets.table(root), sums=presets.sums(root))


def rendered_ports(root: Path) -> str:
    """The guide to ports, with what roles publish now."""
    lines = ["| Service | Ports | Bind | Peers | Why |", "|---|---|---|---|---|"]
    for path in sorted(root.glob("roles/*/meta/ports.yml")):
        for one in yaml.safe_load(path.read_text("utf-8"))["ports"]:
            # What is computed of a variable is shown as the variable.
            ports = one["ports"] if isinstance(one["ports"], list) else [one["ports"]]
            words = (", ".join(map(str, ports)), one.get("bind", "loopback"), ", ".join(one.get("peers", [])))
            numbers, bind, peers = (re.sub(r"\{\{ *(.*?) *\}\}", r"`\1`", str(word)) or "–" for word in words)
            service = f"{path.parents[1].name}/{one['service']}"
            numbers = numbers.replace("|", "\\|")  # of a filter, and not of the table
            lines.append(f"| `{service}` | {numbers} | {bind} | {peers} | {plain(one['reason'])} |")
    return _filled(root / PORTS, ports="\n".join(lines))


def _filled(path: Path, **tables: str) -> str:
    text = path.read_text("utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            where = f"{path.parent.name}/{path.name}"
            raise ValueError(f"{where} has no place for the table: write {begin} and {end}, once each")
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    code = 0
    roles = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
    for path, render, source in (
        *((role / "README.md", rendered, role) for role in roles),
        (ROOT / SHARED[1], rendered_guide, ROOT),
        (ROOT / MATRIX, rendered_matrix, ROOT),
        (ROOT / CATALOGUE, rendered_catalogue, ROOT),
        (ROOT / PORTS, rendered_ports, ROOT),
        (ROOT / FAULTS, rendered_faults, ROOT),
        (ROOT / MODELS, rendered_models, ROOT),
    ):
        try:
            text = render(source)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            code = 1
            continue
        if text != path.read_text("utf-8"):
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(ROOT)}: tables written")
    return code


if __name__ == "__main__":
    sys.exit(main())
