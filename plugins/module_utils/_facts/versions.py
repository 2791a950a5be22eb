# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts held against the version matrix.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cmp_to_key

from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import compare_versions
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import (
    CDI_0_7,
    FOUNDERS,
    SPARK,
    UNJUDGED,
    Row,
    Seen,
)

Facts = Mapping[str, object]
# The family that every firmware of a ConnectX-7 begins with; other RDMA devices have other ones, or none.
CONNECTX_7 = "28."
# What the machine's table of firmware (SMBIOS type 45) writes before a released version.
RELEASED = "R:"


def judged_versions(
    rows: Sequence[Row], facts: Facts, unknown: Mapping[str, str]
) -> tuple[dict[str, dict[str, object]], dict[str, str], dict[str, str]]:
    """Verdicts by subject, known-bad rows by id as sentences, and by dotted path what could not be judged."""
    seen = look(rows, facts, unknown)
    verdicts: dict[str, dict[str, object]] = {}
    bad: dict[str, str] = {}
    doubts = {f"versions.{subject}": reason for subject, reason in seen.unknown.items() if subject in _VERSIONS}
    for judged in judge.judge_all(rows, seen):
        verdicts[judged.subject] = {
            "version": judged.version,
            "verdict": judged.verdict,
            "rows": [row.id for row in judged.rows],
        }
        if judged.is_bad:
            bad.update({row.id: judge.told(judged, row) for row in judged.rows})
        elif judged.verdict == UNJUDGED:
            doubts[f"versions.{judged.subject}.verdict"] = judged.reason
            del verdicts[judged.subject]["verdict"]
    return verdicts, bad, doubts


def look(rows: Sequence[Row], facts: Facts, unknown: Mapping[str, str]) -> Seen:
    versions: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for subject, (path, pick) in _VERSIONS.items():
        found, reason = pick(_at(facts, path)), _reason(path, facts, unknown)
        if found:
            versions[subject] = found
        elif reason:
            reasons[subject] = reason
    conditions: dict[str, bool] = {}
    parameters = _at(facts, "kernel.parameters")
    if isinstance(parameters, Mapping):
        conditions.update(judge.conditions(rows, parameters))
    else:
        why = _reason("kernel.parameters", facts, unknown)
        reasons.update({row.unless: why for row in rows if row.unless})
    spark, model = facts.get("is_spark"), _at(facts, "machine.model")
    if isinstance(spark, bool):
        conditions[SPARK] = spark
        if not spark:
            conditions[FOUNDERS] = False
        elif isinstance(model, str):
            conditions[FOUNDERS] = "Founders Edition" in model
    cdi = _has_cdi_0_7(_at(facts, "containers.cdi_specs"))
    if cdi is None:
        reasons[CDI_0_7] = _reason("containers.cdi_specs", facts, unknown) or "not gathered"
    else:
        conditions[CDI_0_7] = cdi
    told = unknown.get("is_spark", "not gathered")
    reasons.update({SPARK: told, FOUNDERS: told if spark is None else _reason("machine.model", facts, unknown)})
    return Seen(versions, conditions, reasons)


def _at(facts: object, path: str) -> object:
    for key in path.split("."):
        if not isinstance(facts, Mapping) or key not in facts:
            return None
        facts = facts[key]
    return facts


def _reason(path: str, facts: Facts, unknown: Mapping[str, str]) -> str:
    """Why there is no such fact, by the longest path that has a reason; empty if nothing of it is there."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        above = ".".join(parts[:length])
        below = [reason for key, reason in unknown.items() if key == above or key.startswith(f"{above}.")]
        if below and (length == len(parts) or above in unknown):
            return below[0]
    return "" if parts[0] in facts else f"the facts of {parts[0]} were not gathered"


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""


def _default_toolkit(cuda: object) -> str:
    """The version of the one that /usr/local/cuda leads to."""
    default, toolkits = _at(cuda, "default_path"), _at(cuda, "toolkits")
    return next((_text(one.get("version")) for one in _maps(toolkits) if one.get("path") == default), "")


def _lowest_connectx(devices: object) -> str:
    """Two functions with two versions are as good as the older one."""
    each = _maps(_values(devices))
    versions = (_text(one.get("firmware")) for one in each)
    firmware = [version for version in versions if version.startswith(CONNECTX_7)]
    return min(firmware, key=cmp_to_key(compare_versions), default="")


def _uefi(components: object) -> str:
    named = (one for one in _maps(components) if one.get("name") == "UEFI")
    return next((_text(one.get("version")) for one in named), "").removeprefix(RELEASED)


def _has_cdi_0_7(specs: object) -> bool | None:
    """None: a specification could not be read, and none of the others is of that version."""
    if not isinstance(specs, Mapping):
        return None
    versions = [_text(_at(spec, "cdi_version")) for spec in specs.values()]
    if any(version and compare_versions(version, "0.7.0") >= 0 for version in versions):
        return True
    return False if all(versions) else None


def _docker(packages: object) -> str:
    """Of the package, without epoch and revision: the client would say the same."""
    names = ("docker-ce", "docker.io")
    found = (_text(packages.get(name)) for name in names) if isinstance(packages, Mapping) else iter(())
    return next((version.rpartition(":")[2].partition("-")[0] for version in found if version), "")


def _values(found: object) -> Iterable[object]:
    return found.values() if isinstance(found, Mapping) else ()


def _maps(found: object) -> list[Mapping[str, object]]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, Iterable) else []


# Subject → the fact that has its version, by dotted path, and how to read it there.
_VERSIONS: dict[str, tuple[str, Callable[[object], str]]] = {
    "kernel": ("kernel.release", _text),
    "driver": ("gpu.driver_version", _text),
    "cuda": ("cuda", _default_toolkit),
    "container_toolkit": ("containers.nvidia_toolkit.version", _text),
    "connectx_firmware": ("network.rdma_devices", _lowest_connectx),
    "uefi": ("firmware.components", _uefi),
    "nccl": ("packages.libnccl2", _text),
    "docker": ("packages", _docker),
    "podman": ("packages.podman", _text),
    "mlnx_fw_updater": ("packages.mlnx-fw-updater", _text),
    "doca_ofed": ("packages.doca-ofed", _text),
}
