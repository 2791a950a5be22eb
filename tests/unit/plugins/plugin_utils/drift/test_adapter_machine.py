# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader sees which machine a report is about, whatever its facts lack."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.adapter import FLAGS_LIMIT, flags_of, machine_line

SPARK = {
    "machine": {"model": "DGX Spark Founders Edition", "product": "NVIDIA_DGX_Spark"},
    "gpu": {"devices": [{"name": "NVIDIA GB10", "driver_version": "580.159.03"}]},
    "kernel": {"release": "6.17.0-1014-nvidia", "os": {"pretty_name": "Ubuntu 24.04.4 LTS"}},
    "memory": {"total_bytes": 130_663_055_360},
}


def test_a_spark_is_told_in_one_line():
    assert machine_line({"spark": SPARK}) == (
        "DGX Spark Founders Edition, NVIDIA GB10, driver 580.159.03, Ubuntu 24.04.4 LTS, "
        "kernel 6.17.0-1014-nvidia, 122 GiB"
    )


@pytest.mark.parametrize("facts", [None, {}, {"spark": None}, {"spark": {}}, {"spark": {"gpu": {"devices": []}}}, "x"])
def test_without_facts_nothing_is_said(facts):
    assert machine_line(facts) == ""


def test_facts_cannot_break_the_line():
    hostile = {"machine": {"model": "evil\n\x1b[31m" + "x" * 1000}, "gpu": {"devices": ["x", {"name": 7}]}}
    line = machine_line({"spark": hostile})
    assert "\n" not in line and "\x1b" not in line and len(line) <= 300


@pytest.mark.parametrize("facts", [None, {}, {"spark": None}, {"spark": {}}, {"spark": {"known_issues": "x"}}, "x"])
def test_where_nobody_asked_there_are_no_flags_to_replace(facts):
    assert flags_of(facts) is None


def test_known_issues_are_flags_and_cannot_break_the_report():
    assert flags_of({"spark": {"known_issues": {}}}) == {}
    many = {f"x{number}": "y" for number in range(FLAGS_LIMIT + 1)}
    hostile = {"uefi_old": "UEFI 1.1\n\x1b[31m" + "x" * 2000, "Not an id": "gone", "empty": ""}
    flags = flags_of({"spark": {"known_issues": hostile}})
    assert list(flags) == ["uefi_old"]
    assert "\n" not in flags["uefi_old"] and "\x1b" not in flags["uefi_old"] and len(flags["uefi_old"]) <= 600
    assert len(flags_of({"spark": {"known_issues": many}})) == FLAGS_LIMIT
