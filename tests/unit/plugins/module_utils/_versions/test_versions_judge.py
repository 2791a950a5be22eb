# SPDX-License-Identifier: GPL-3.0-or-later
"""A version is judged by what is known, and never by what is not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import version_in_range
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import (
    EVERY,
    PYTHON,
    SUBJECTS,
    VERDICTS,
    Seen,
)

FOUNDERS = Seen(conditions={"spark": True, "founders_edition": True, "kho=off": False})
TWIN = Seen(conditions={"spark": True, "founders_edition": False, "kho=off": True})
ELSEWHERE = Seen(conditions={"spark": False, "founders_edition": False, "kho=off": False})
BLIND = Seen(unknown={"founders_edition": "no DMI"})


@pytest.mark.parametrize(
    ("subject", "version", "seen", "verdict", "rows"),
    [
        ("kernel", "6.17.0-1008-nvidia", ELSEWHERE, "known_bad", ["kernel_6_17_0_1008_panics"]),
        ("kernel", "6.17.0-1008-nvidia-64k", ELSEWHERE, "known_bad", ["kernel_6_17_0_1008_panics"]),
        # Ubuntu's own kernel of that number is another one.
        ("kernel", "6.17.0-1008-generic", ELSEWHERE, "unmeasured", []),
        ("kernel", "6.17.0-1014-nvidia", BLIND, "known_good", ["kernel_6_17_since_1014"]),
        ("kernel", "6.14.0-1013-nvidia", BLIND, "unmeasured", []),
        ("kernel", "6.1.0-51-amd64", BLIND, "unmeasured", []),
        ("kernel", "7.0.0-1019-nvidia", FOUNDERS, "known_bad", ["kernel_7_0_0_1019_kho"]),
        ("kernel", "7.0.0-1019-nvidia", TWIN, "known_good", ["kernel_7_0_0_1019"]),
        # Speaks for it, but nobody knows whether the one that speaks against it holds.
        ("kernel", "7.0.0-1019-nvidia", BLIND, "unjudged", []),
        ("driver", "570.86.10", BLIND, "known_bad", ["driver_before_580"]),
        ("driver", "580.126.09", BLIND, "known_good", ["driver_580"]),
        ("driver", "580.178.04", BLIND, "known_good", ["driver_580"]),
        ("driver", "580.95.05", BLIND, "unmeasured", []),
        ("driver", "590.48.01", BLIND, "unmeasured", ["driver_590_graphs"]),
        ("driver", "[N/A]", BLIND, "unjudged", []),
        ("cuda", "12.8", FOUNDERS, "known_bad", ["cuda_12_without_sm_121"]),
        ("cuda", "12.8", ELSEWHERE, "unmeasured", []),
        ("cuda", "13.0.2", ELSEWHERE, "known_good", ["cuda_13_0"]),
        ("container_toolkit", "1.20.0", BLIND, "unmeasured", ["container_toolkit_since_1_19_1"]),
        ("connectx_firmware", "28.44.1036", FOUNDERS, "known_bad", ["connectx_firmware_old"]),
        ("connectx_firmware", "28.45.4028", BLIND, "known_good", ["connectx_firmware_28_45_4028"]),
        ("uefi", "1.108.20", FOUNDERS, "known_bad", ["uefi_before_1_110_13"]),
        ("uefi", "1.110.13", FOUNDERS, "known_good", ["uefi_since_1_110_13"]),
        # A twin has versions of its own: those of the Founders Edition say nothing about it.
        ("uefi", "1.108.20", TWIN, "unmeasured", []),
        ("uefi", "1.108.20", BLIND, "unjudged", []),
        ("container_toolkit", "1.20.1", BLIND, "known_good", ["container_toolkit_1_20_1"]),
        ("docker", "29.2.1", BLIND, "known_good", ["docker_29"]),
        ("podman", "3.4.4+ds1-1ubuntu1", FOUNDERS, "known_bad", ["podman_without_cdi"]),
        ("podman", "5.4.2+ds1-2", FOUNDERS, "unmeasured", []),
        ("mlnx_fw_updater", "25.10-1", FOUNDERS, "known_bad", ["mlnx_fw_updater"]),
        ("mlnx_fw_updater", "25.10-1", ELSEWHERE, "unmeasured", []),
        ("doca_ofed", "3.2.0-044000", TWIN, "known_bad", ["doca_ofed_dkms"]),
        ("doca_ofed", "3.2.1-044418", TWIN, "unmeasured", []),
        ("python:triton", "3.2.0", BLIND, "known_bad", ["triton_before_3_3"]),
        ("python:triton", "3.3.1", BLIND, "known_bad", ["triton_3_3"]),
        ("python:triton", "3.4.0", BLIND, "unmeasured", ["triton_3_4"]),
        ("python:triton", "3.5.1", BLIND, "known_good", ["triton_3_5"]),
        ("python:triton", "3.6.0", BLIND, "known_good", ["triton_since_3_6"]),
        ("python:vllm", "0.27.1", BLIND, "known_good", ["vllm_on_gb10"]),
        ("python:torch", "2.10.0+cu130", BLIND, "known_bad", ["torch_2_10_0_hangs"]),
        ("python:torchtriton", "9", BLIND, "known_bad", ["torchtriton_malicious"]),
    ],
)
def test_verdicts(subject: str, version: str, seen: Seen, verdict: str, rows: list[str]) -> None:
    judged = judge.judge(ROWS, subject, version, seen)
    assert (judged.verdict, [row.id for row in judged.rows]) == (verdict, rows)
    assert bool(judged.reason) is not bool(judged.rows)


def test_what_cannot_be_judged_says_why() -> None:
    judged = judge.judge(ROWS, "uefi", "1.108.20", BLIND)
    assert judged.reason == "uefi_before_1_110_13: whether it has founders_edition is not known (no DMI)"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_shipped_row_is_whole(row: Any) -> None:
    given = {name: getattr(row, name) for name in judge.ROW}
    assert not list(judge.refusals([given]))
    assert row.subject in SUBJECTS or row.subject.startswith(PYTHON)
    assert row.verdict in VERDICTS and row.why and row.source
    assert row.range == EVERY or version_in_range("1", row.range) in (True, False)
    assert sum(other.id == row.id for other in ROWS) == 1
    # Made into sentences: "…: <why>; <remedy>."
    assert not row.why.endswith(".") and not row.remedy.endswith(".")


ROW = {"id": "x", "subject": "driver", "range": ">=590", "verdict": "known_bad", "why": "w", "source": "s"}


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"remedy": ""}, "spark_version_matrix[0].remedy"),
        ({"id": "Not One"}, "spark_version_matrix[0].id"),
        ({"subject": "drvier"}, "spark_version_matrix[0].subject"),
        ({"subject": "python:"}, "spark_version_matrix[0].subject"),
        ({"range": "590"}, "spark_version_matrix[0].range"),
        ({"range": ""}, "spark_version_matrix[0].range"),
        ({"verdict": "bad"}, "spark_version_matrix[0].verdict"),
        ({"unless": "kho off"}, "spark_version_matrix[0].unless"),
        ({"only": "laptop"}, "spark_version_matrix[0].only"),
        ({"reason": "r"}, "spark_version_matrix[0].reason"),
    ],
)
def test_rows_that_mean_nothing_are_refused(change: dict[str, str], at: str) -> None:
    with pytest.raises(InputError) as refused:
        judge.matrix([{**ROW, "remedy": "r", **change}])
    assert refused.value.problem.wanted.startswith(at)


def test_two_rows_of_one_id_are_refused() -> None:
    with pytest.raises(InputError, match=r"spark_version_matrix\[1\].id"):
        judge.matrix([{**ROW, "remedy": "r"}, {**ROW, "remedy": "r"}])


def test_a_row_of_the_site_counts_beside_the_shipped_ones_and_in_their_place() -> None:
    rows = judge.matrix([{**ROW, "remedy": "stay on 580"}])
    assert len(rows) == len(ROWS) + 1
    assert judge.judge(rows, "driver", "590.48.01", BLIND).verdict == "known_bad"
    shipped = {"id": "torch_2_10_0_hangs", "subject": "python:torch", "range": "==2.10.0", "verdict": "known_good"}
    rows = judge.matrix([{**shipped, "why": "one node", "source": "us", "remedy": None}])
    assert len(rows) == len(ROWS)
    assert judge.judge(rows, "python:torch", "2.10.0", BLIND).verdict == "known_good"
    assert "torch" not in [entry["distribution"] for entry in judge.known_bad(rows)]


@pytest.mark.parametrize(
    ("kernel", "wanted"),
    [("7.0.0-1019-nvidia", ("kho=off",)), ("7.0.0-1019-nvidia-64k", ("kho=off",)), ("6.17.0-1014-nvidia", ())],
)
def test_which_kernel_needs_which_parameter(kernel: str, wanted: tuple[str, ...]) -> None:
    assert judge.parameters_for(ROWS, kernel) == wanted


@pytest.mark.parametrize(
    ("parameters", "off"),
    [
        ({"quiet": [""]}, False),
        ({"kho": ["off"]}, True),
        ({"kho": ["off", "on"]}, False),  # the last one counts
        ({"kho": ["on", "off"]}, True),
        ({"kho": [""]}, False),
    ],
)
def test_conditions_of_the_kernels_command_line(parameters: dict[str, list[str]], off: bool) -> None:
    assert judge.conditions(ROWS, parameters) == {"kho=off": off}


def test_every_seen_version_is_judged_in_the_order_of_the_subjects() -> None:
    seen = Seen({"python:torch": "2.10.0", "cuda": "13.0", "kernel": "6.17.0-1008-nvidia"})
    judged = judge.judge_all(ROWS, seen)
    assert [one.subject for one in judged] == ["kernel", "cuda", "python:torch"]
    assert judge.told(judged[0], judged[0].rows[0]) == (
        "kernel 6.17.0-1008-nvidia is known to be bad: It panics; boot 6.17.0-1014-nvidia or newer."
    )
