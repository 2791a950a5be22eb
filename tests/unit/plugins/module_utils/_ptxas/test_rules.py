# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of releases. That it is true is shown by tests/integration/ptxas."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Version, arch_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.rules import (
    BLACKWELL,
    HYPHENED,
    NEWEST_READ,
    PLAIN,
    RULES,
    cuda_for,
    isa_for,
    rules_for,
    settable,
)


def triton(text: str) -> Version:
    return Version(*map(int, text.split(".")))


def test_rows_are_in_order_and_the_last_is_the_newest_read() -> None:
    assert [row.since for row in RULES] == sorted({row.since for row in RULES})
    assert RULES[-1].since <= NEWEST_READ
    assert all(row.source for row in RULES)


@pytest.mark.parametrize(
    ("version", "gpu", "variable"),
    [
        ("3.1.0", "sm_121a", PLAIN),
        ("3.2.0", "sm_121a", PLAIN),
        ("3.3.1", "sm_121a", HYPHENED),
        ("3.3.1", "sm_90a", PLAIN),
        ("3.4.0", "sm_121a", PLAIN),
        ("3.5.1", "sm_121a", PLAIN),
        ("3.6.0", "sm_121a", BLACKWELL),
        ("3.6.0", "sm_90a", PLAIN),
        ("3.8.0", "sm_90a", PLAIN),
        ("3.9.0", "sm_90a", BLACKWELL),
        ("3.9.0", "sm_89", PLAIN),
    ],
)
def test_which_variable_counts(version: str, gpu: str, variable: str) -> None:
    assert rules_for(triton(version))[0].variable(arch_of(gpu, "ptxas")) == variable


@pytest.mark.parametrize(
    ("version", "gpu", "name"),
    [
        ("3.2.0", "sm_121a", "sm_121"),
        ("3.2.0", "sm_90", "sm_90a"),
        ("3.3.1", "sm_121", "sm_121a"),
        ("3.9.0", "sm_121f", "sm_121a"),
        ("3.9.0", "sm_80", "sm_80"),
    ],
)
def test_what_triton_calls_a_gpu(version: str, gpu: str, name: str) -> None:
    assert rules_for(triton(version))[0].target(arch_of(gpu, "ptxas")).name == name


@pytest.mark.parametrize(
    ("version", "accepted", "refused"),
    [
        ("3.1.0", "12.5.82", "12.6.85"),
        ("3.2.0", "12.6.85", "12.7.0"),
        ("3.3.1", "12.9.86", "13.0.88"),
        ("3.4.0", "12.9.86", "13.0.88"),
    ],
)
def test_up_to_which_cuda(version: str, accepted: str, refused: str) -> None:
    rules = rules_for(triton(version))[0]
    assert rules.accepts(triton(accepted))
    assert not rules.accepts(triton(refused))


def test_no_limit_from_3_5_on() -> None:
    assert rules_for(triton("3.5.0"))[0].accepts(Version(99, 9))


def test_a_release_that_nobody_read_is_an_assumption() -> None:
    assert rules_for(triton("3.5.1"))[1] == ""
    row, assumption = rules_for(Version(NEWEST_READ[0], NEWEST_READ[1] + 1))
    assert row is RULES[-1] and "newer" in assumption
    row, assumption = rules_for(Version(2, 3, 1))
    assert row is RULES[0] and "older" in assumption


def test_what_systemd_and_shells_can_set() -> None:
    assert settable(PLAIN) and settable(BLACKWELL) and not settable(HYPHENED)


@pytest.mark.parametrize(
    ("gpu", "cuda", "isa"),
    [
        ("sm_121a", "12.4.131", "8.8"),
        ("sm_121a", "13.0.88", "8.8"),
        ("sm_80", "13.0.88", "7.0"),
        # Not in the table: the newest that this ptxas has.
        ("sm_130a", "12.4.131", "8.4"),
        ("sm_130a", "12.8.93", "8.7"),
        ("sm_130a", "12.9.86", "8.8"),
        ("sm_130a", "13.4.59", "9.4"),
    ],
)
def test_which_ptx_version_is_written(gpu: str, cuda: str, isa: str) -> None:
    assert isa_for(arch_of(gpu, "ptxas"), triton(cuda)) == isa


@pytest.mark.parametrize(
    ("gpu", "cuda"),
    [("sm_121a", "12.9"), ("sm_120", "12.8"), ("sm_100", "12.7"), ("sm_110a", "13.0"), ("sm_80", ""), ("sm_130", "")],
)
def test_which_cuda_brought_a_target(gpu: str, cuda: str) -> None:
    assert cuda_for(arch_of(gpu, "ptxas")) == cuda
