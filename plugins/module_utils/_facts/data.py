# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables: the makers of GB10 machines, and faults that are known by a simple sign other than a version.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

# What the driver calls the GPU of every DGX Spark and of its OEM twins. DMI strings differ
# from twin to twin and are never used to decide.
SPARK_GPU = "NVIDIA GB10"


@dataclass(frozen=True)
class Twin:
    """``maker`` and ``product`` are compared with the DMI strings, without regard to case."""

    maker: str
    product: str
    brand: str
    model: str


# Source of the strings: recorded machines (DMI of a founders box in a kernel oops, of the
# ASUS, HP and Dell twins in fleet inventories). The models of MSI, Acer and Gigabyte were
# not seen in DMI: their maker is recognised, their model is not guessed.
TWINS = (
    Twin("nvidia", "dgx_spark", "NVIDIA", "DGX Spark Founders Edition"),
    Twin("asustek", "gx10", "ASUS", "Ascent GX10"),
    Twin("dell", "pro max with gb10", "Dell", "Pro Max with GB10"),
    Twin("hp", "zgx nano", "HP", "ZGX Nano G1n"),
    Twin("lenovo", "30kl", "Lenovo", "ThinkStation PGX"),
    Twin("nvidia", "", "NVIDIA", ""),
    Twin("asustek", "", "ASUS", ""),
    Twin("dell", "", "Dell", ""),
    Twin("hp", "", "HP", ""),
    Twin("lenovo", "", "Lenovo", ""),
    Twin("giga", "", "Gigabyte", ""),
    Twin("micro-star", "", "MSI", ""),
    Twin("msi", "", "MSI", ""),
    Twin("acer", "", "Acer", ""),
)


def twin(vendor: str, product: str) -> Twin | None:
    maker, name = vendor.casefold(), product.casefold()
    return next((t for t in TWINS if maker.startswith(t.maker) and t.product in name), None)


Facts = Mapping[str, object]


@dataclass(frozen=True)
class Issue:
    """A fault that a few facts give away. ``shown`` raises KeyError when one of them is unknown.

    Source of each: the operator reports and issue threads named beside it.
    """

    id: str
    subsets: tuple[str, ...]
    text: str
    shown: Callable[[Facts], bool]


def _at(facts: Facts, path: str) -> object:
    here: object = facts
    for key in path.split("/"):
        if not isinstance(here, Mapping) or key not in here:
            raise KeyError(path.replace("/", "."))
        here = here[key]
    return here


def _cma_impossible(facts: Facts) -> bool:
    free, total = _at(facts, "memory/cma_free_bytes"), _at(facts, "memory/cma_total_bytes")
    return cast(int, free) > cast(int, total)


def _twin_mtu_differs(facts: Facts) -> bool:
    ports = cast(Mapping[str, Any], _at(facts, "network/connectx/ports"))
    return any(
        len({_at(facts, f"network/interfaces/{name}/mtu") for name in functions}) > 1 for functions in ports.values()
    )


def _nic_slow_port(facts: Facts) -> bool:
    ports = cast(Mapping[str, Any], _at(facts, "network/connectx/ports"))
    return any(len(functions) == 1 for functions in ports.values()) and _at(facts, "is_spark") is True


ISSUES = (
    Issue(
        "cma_free_exceeds_total",
        ("memory",),
        "CmaFree is larger than CmaTotal: the kernel's handover memory is accounted wrongly and RDMA will fail.",
        _cma_impossible,  # the sign of the same fault, readable without root
    ),
    Issue(
        "connectx_mtu_differs",
        ("network",),
        "The two PCIe functions of one ConnectX-7 port have different MTUs: one half of the link runs slower.",
        _twin_mtu_differs,  # NVIDIA/dgx-spark-playbooks issues 25 and 102
    ),
    Issue(
        "connectx_function_missing",
        ("network", "gpu"),
        "A ConnectX-7 port shows one PCIe function instead of two: only half of its 200 Gb/s can be reached.",
        _nic_slow_port,  # NVIDIA/dgx-spark-playbooks pull request 108
    ),
)


def known_issues(facts: Facts) -> tuple[dict[str, str], dict[str, str]]:
    """The issues that these facts show, and why others could not be judged."""
    shown: dict[str, str] = {}
    unjudged: dict[str, str] = {}
    for issue in ISSUES:
        missing = [subset for subset in issue.subsets if subset not in facts]
        if missing:
            unjudged[issue.id] = f"needs the facts of {', '.join(missing)}, which were not gathered"
            continue
        try:
            if issue.shown(facts):
                shown[issue.id] = issue.text
        except KeyError as error:
            unjudged[issue.id] = f"a fact it is judged by is unknown: {error.args[0]}"
    return shown, unjudged
