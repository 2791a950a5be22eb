# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads ``meta/controls.yml`` of a role: what the role promises to report.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import text

FILE = "meta/controls.yml"
SEVERITIES = ("critical", "high", "medium", "low", "info")
CONTROL_ID = re.compile(r"[a-z0-9_]+/[a-z0-9_]+\Z")
_TEXTS = ("title", "rationale", "remedy", "disrupts")

Entry = dict[str, Any]


def entry(
    role: str,
    title: str,
    severity: str,
    *,
    rationale: str = "",
    references: tuple[str, ...] = (),
    remedy: str = "",
    disrupts: str = "",
) -> Entry:
    return {
        "role": role,
        "title": title,
        "severity": severity,
        "rationale": rationale,
        "references": list(references),
        "remedy": remedy,
        "disrupts": disrupts,
    }


def read(role: str, role_path: Path) -> tuple[dict[str, Entry], list[str]]:
    """The controls of a role by id, and what is wrong with the file.

    A role without the file promises nothing (any role of anybody). A broken entry is left
    out and named: the caller marks the report as incomplete.
    """
    path = role_path / FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return {}, [f"catalogue of role {role}: {text.line(error)}"]
    controls = document.get("controls") if isinstance(document, dict) else None
    if not isinstance(controls, list):
        return {}, [f"catalogue of role {role}: not a mapping with a list `controls`"]
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for number, raw in enumerate(controls):
        where = f"catalogue of role {role}: controls[{number}]"
        identity = raw.get("id") if isinstance(raw, dict) else None
        if not isinstance(identity, str) or not CONTROL_ID.match(identity) or identity.split("/")[0] != role:
            problems.append(f"{where}: id is not {role}/<control>: {text.line(identity, 80)}")
            continue
        wrong = [key for key in _TEXTS if not isinstance(raw.get(key), str)]
        if raw.get("severity") not in SEVERITIES:
            wrong.append("severity")
        references = raw.get("references")
        if not isinstance(references, list):
            wrong.append("references")
            references = []
        if wrong:
            # The promise itself stands: the control is expected, with what can be read.
            problems.append(f"{where} ({identity}): missing or wrong {', '.join(wrong)}")
        entries[identity] = entry(
            role,
            text.line(raw.get("title") or identity, text.NAME_LIMIT),
            raw["severity"] if raw.get("severity") in SEVERITIES else "medium",
            rationale=text.clean(str(raw.get("rationale") or "").strip()),
            references=tuple(text.line(reference) for reference in references),
            remedy=text.line(raw.get("remedy") or ""),
            disrupts=text.line(raw.get("disrupts") or ""),
        )
    return entries, problems
