# SPDX-License-Identifier: GPL-3.0-or-later
"""Scans of container images: Trivy's JSON report, and the short form of it that reaches a node. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Trivy's words, from least to most. UNKNOWN is one that nobody has rated yet: it is never left out.
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
SCHEMA = 2
_FINDING: dict[str, Any] = {
    "id": {"type": "str", "required": True},
    "severity": {"type": "str", "required": True},
    "package": {"type": "str", "required": True},
    "installed": {"type": "str", "default": ""},
    "fixed": {"type": "str", "default": ""},
}
# One scan, for argument specs.
SCAN: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "ids": {"type": "list", "elements": "str", "default": []},
    "digests": {"type": "list", "elements": "str", "default": []},
    "architecture": {"type": "str", "default": ""},
    "scanned": {"type": "str", "required": True},
    "findings": {"type": "list", "elements": "dict", "default": [], "options": _FINDING},
}


@dataclass(frozen=True)
class Finding:
    id: str
    severity: str
    package: str
    installed: str
    fixed: str

    @property
    def told(self) -> str:
        fix = f"fixed in {self.fixed}" if self.fixed else "no fix"
        return f"{self.id} ({self.severity}, {self.package} {self.installed}, {fix})"


@dataclass(frozen=True)
class Scan:
    """scanned: seconds since the epoch. findings: the worst first."""

    ids: frozenset[str]
    digests: frozenset[str]
    architecture: str
    scanned: float
    findings: tuple[Finding, ...]


def short(reports: Sequence[Mapping[str, Any]], severity: str) -> list[dict[str, Any]]:
    """What a node needs of Trivy's reports: a hundredth. Raises ValueError for what is no report of an image."""
    if severity not in SEVERITIES:
        raise ValueError(f"severity: {', '.join(SEVERITIES)}, and not {severity!r}")
    left_out = SEVERITIES[: SEVERITIES.index(severity)]
    return [_short(number, report, left_out) for number, report in enumerate(reports)]


def _short(number: int, report: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    name = report.get("ArtifactName") if isinstance(report, Mapping) else None
    if not name or report.get("ArtifactType") != "container_image" or report.get("SchemaVersion") != SCHEMA:
        raise ValueError(f"entry {number} is no report of `trivy image --format json` (schema {SCHEMA})")
    about = report.get("Metadata") or {}
    ids = [_plain(about["ImageID"])] if about.get("ImageID") else []
    digests = [str(digest).rpartition("@")[2] for digest in about.get("RepoDigests") or ()]
    if not ids and not digests:
        raise ValueError(f"entry {number} ({name}) names no image by ImageID or RepoDigests")
    scanned = str(report.get("CreatedAt") or "")
    seconds(scanned, f"entry {number} ({name})")
    findings = {tuple(one.items()): one for one in _findings(report) if one["severity"] not in left_out}
    return {
        "name": str(name),
        "ids": ids,
        "digests": digests,
        "architecture": str((about.get("ImageConfig") or {}).get("architecture") or ""),
        "scanned": scanned,
        "findings": sorted(findings.values(), key=_worst_first),
    }


def _findings(report: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for result in report.get("Results") or ():
        for one in result.get("Vulnerabilities") or ():
            yield {
                "id": str(one["VulnerabilityID"]),
                "severity": str(one.get("Severity") or "UNKNOWN"),
                "package": str(one.get("PkgName") or ""),
                "installed": str(one.get("InstalledVersion") or ""),
                "fixed": str(one.get("FixedVersion") or ""),
            }


def _worst_first(finding: Mapping[str, str]) -> tuple[int, str, str]:
    rank = SEVERITIES.index(finding["severity"]) if finding["severity"] in SEVERITIES else len(SEVERITIES)
    return -rank, finding["id"], finding["package"]


def _plain(identity: object) -> str:
    return str(identity).rpartition(":")[2]


def seconds(stamp: str, where: str) -> float:
    """RFC 3339, as Go writes it: with up to nine digits behind the second. Raises ValueError."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", stamp)
    if found is None:
        raise ValueError(f"{where} does not say when it was made (CreatedAt)")
    zone = "+00:00" if found[2] == "Z" else found[2]
    return datetime.datetime.fromisoformat(found[1] + zone).timestamp()


def scan(given: Mapping[str, Any], where: str) -> Scan:
    """One entry of the option. Raises ValueError."""
    findings = tuple(Finding(**{name: str(one.get(name) or "") for name in _FINDING}) for one in given["findings"])
    return Scan(
        frozenset(_plain(one) for one in given["ids"]),
        frozenset(given["digests"]),
        str(given["architecture"]),
        seconds(str(given["scanned"]), where),
        findings,
    )
