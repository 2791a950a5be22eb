# SPDX-License-Identifier: GPL-3.0-or-later
"""All facts of a node: which subjects there are, and what follows from several of them.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.data import SPARK_GPU, known_issues
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.gather import Answers, ask
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.look import Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Tree
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.subjects import compute, connected, system
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.versions import judged_versions
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Row

SUBJECTS: dict[str, Callable[[Look], Tree]] = {
    "machine": system.machine,
    "kernel": system.kernel,
    "gpu": compute.gpu,
    "cuda": compute.cuda,
    "cpu": compute.cpu,
    "memory": compute.memory,
    "network": connected.network,
    "storage": connected.storage,
    "dgx": system.dgx,
    "firmware": partial(system.firmware, fwupd=False),
    "containers": system.containers,
    "packages": system.packages,
    "security": system.security,
    "reboot": system.reboot,
}
# Left of the whole limit for stopping commands that are still running.
MARGIN = 1.0


def observe(
    reader: Reader,
    *,
    subsets: Sequence[str],
    seconds: float,
    fwupd: bool = False,
    rows: Sequence[Row] = ROWS,
    ask: Callable[..., Answers] = ask,
) -> tuple[dict[str, object], dict[str, str]]:
    """The facts as the module returns them, and the tracebacks of subjects that failed by a bug."""
    subjects: dict[str, Callable[[Look], Tree]] = {**SUBJECTS, "firmware": partial(system.firmware, fwupd=fwupd)}
    wanted = list(subjects) if "all" in subsets else [name for name in subjects if name in subsets]
    inner = max(seconds - MARGIN, seconds / 2)
    answers = ask({name: partial(_question, subjects[name], reader, inner) for name in wanted}, seconds)
    facts, unknown = dict(answers.facts), dict(answers.unknown)
    _decide_spark(facts, unknown)
    facts["versions"], of_versions, doubts = judged_versions(rows, facts, unknown)
    shown, unjudged = known_issues(facts)
    facts["known_issues"] = {**of_versions, **shown}
    unknown.update(doubts)
    unknown.update({f"known_issues.{name}": reason for name, reason in unjudged.items()})
    facts["unknown"] = dict(sorted(unknown.items()))
    return facts, answers.bugs


def _question(subject: Callable[[Look], Tree], reader: Reader, seconds: float) -> Tree:
    return subject(Look(reader, seconds))


def _decide_spark(facts: dict[str, object], unknown: dict[str, str]) -> None:
    """By the name of the GPU and nothing else: twins carry other DMI strings, and virtual machines may copy them."""
    gpu = facts.get("gpu")
    devices = gpu.get("devices") if isinstance(gpu, dict) else None
    if isinstance(devices, list):
        facts["is_spark"] = any(isinstance(d, dict) and d.get("name") == SPARK_GPU for d in devices)
    else:
        reason = unknown.get("gpu.devices") or unknown.get("gpu") or "the facts of the GPU were not gathered"
        unknown["is_spark"] = reason
