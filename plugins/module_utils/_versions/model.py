# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of versions, and what was seen of them on a node.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KNOWN_GOOD, KNOWN_BAD, UNMEASURED = "known_good", "known_bad", "unmeasured"
VERDICTS = (KNOWN_GOOD, KNOWN_BAD, UNMEASURED)
# The version is on the node, but a condition of a row, or the version itself, could not be judged.
UNJUDGED = "unjudged"

# Subject → what it is, in the words of a report. A Python distribution is python:<its name>.
SUBJECTS = {
    "kernel": "kernel",
    "driver": "NVIDIA driver",
    "cuda": "CUDA toolkit",
    "container_toolkit": "NVIDIA container toolkit",
    "connectx_firmware": "ConnectX-7 firmware",
    "uefi": "UEFI firmware",
    "nccl": "NCCL",
    "docker": "Docker",
    "podman": "Podman",
    "mlnx_fw_updater": "mlnx-fw-updater",
    "doca_ofed": "DOCA-OFED",
}
PYTHON = "python:"
# Conditions that are no kernel parameter.
SPARK, FOUNDERS = "spark", "founders_edition"
# A CDI specification of this version or newer is on the node.
CDI_0_7 = "cdi_0_7"
PLACES = (SPARK, FOUNDERS, CDI_0_7)
EVERY = "*"


@dataclass(frozen=True)
class Row:
    """One thing that is known of a range of versions.

    range: as in ``_text/versions.py``, or ``*``.
    only: the row counts only where this holds, one of PLACES; empty for everywhere.
    unless: the kernel parameter with which it does not, such as ``kho=off``.
    remedy: what to do about it, an imperative; of a known-bad row always there.
    """

    id: str
    subject: str
    range: str
    verdict: str
    why: str
    source: str
    remedy: str = ""
    only: str = ""
    unless: str = ""

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(condition for condition in (self.only, self.unless) if condition)


@dataclass(frozen=True)
class Seen:
    """Versions by subject, and whether conditions hold. What is in neither could not be seen; ``unknown`` says why."""

    versions: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, bool] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """The verdict on one version, with the rows that make it; several may speak against it.

    reason: of ``unjudged``, and of a version that no row names.
    """

    subject: str
    version: str
    verdict: str
    rows: tuple[Row, ...] = ()
    reason: str = ""

    @property
    def is_bad(self) -> bool:
        return self.verdict == KNOWN_BAD

    @property
    def title(self) -> str:
        return f"{named(self.subject)} {self.version}"


def named(subject: str) -> str:
    return SUBJECTS.get(subject, subject.removeprefix(PYTHON) if subject.startswith(PYTHON) else subject)
