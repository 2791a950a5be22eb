# SPDX-License-Identifier: GPL-3.0-or-later
"""One order for versions: total, and that of dpkg and of PEP 440 where they are about numbers."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.versions import (
    compare_versions,
    version_in_range,
)
from ansible_collections.nusy.dgx_spark.tests.tools.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

ANY = st.from_regex(r"[0-9]{1,2}([._~+-]?([0-9]{1,2}|rc|a|dev|post|nvidia|cu|ubuntu)){0,5}", fullmatch=True)
NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))

# From low to high; versions on one line are equal.
ORDER = [
    ["1.0~~", "1.0~~0"],
    ["1.0~", "1.0~0"],
    ["1.0~1"],
    ["1.0a1", "1.0-A-1"],
    ["1.0dev3"],
    ["1.0rc1", "1.0-rc.1", "1.0_RC1"],
    ["1.0rc2"],
    ["1.0rc10"],
    ["1.0", "1", "01.00.0"],
    ["1.0-nvidia"],
    ["1.0ubuntu1"],
    ["1.0.1"],
    ["1.2"],
    ["1.10"],
    ["1.10+1"],
    ["1.10+2"],
    ["1.10+10"],
    ["1.10.post1", "1.10-post1"],
    ["1.10.1"],
    ["9"],
    ["580.126.09", "580.126.9"],
    ["580.159.03"],
    ["580.159.03-0ubuntu1"],
    ["581"],
]


def test_versions_compare_in_the_documented_order() -> None:
    ranked = [(rank, version) for rank, line in enumerate(ORDER) for version in line]
    for (one, first), (other, second) in itertools.product(ranked, ranked):
        assert compare_versions(first, second) == (one > other) - (one < other), f"{first} and {second}"


@given(one=ANY, other=ANY, third=ANY)
@settings(max_examples=examples(200))
def test_the_order_is_total(one: str, other: str, third: str) -> None:
    assert compare_versions(one, one) == 0
    assert compare_versions(one, other) == -compare_versions(other, one)
    if compare_versions(one, other) <= 0 and compare_versions(other, third) <= 0:
        assert compare_versions(one, third) <= 0


@given(one=NUMBERS, other=NUMBERS, suffix=st.sampled_from(["", "rc1", ".post2", "a3", ".dev1"]))
@settings(max_examples=examples(200))
def test_numbers_compare_as_in_pep_440(one: str, other: str, suffix: str) -> None:
    packaging = pytest.importorskip("packaging.version")
    first, second = packaging.Version(one), packaging.Version(other)
    assert compare_versions(one, other) == (first > second) - (first < second)
    before = packaging.Version(one + suffix)
    assert compare_versions(one + suffix, one) == (before > first) - (before < first)


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not installed")
@given(one=NUMBERS, other=NUMBERS, revision=st.sampled_from(["", "-1", "-0ubuntu1", "-1+2", "~rc1", "-1~bpo1"]))
@settings(max_examples=examples(60), deadline=None)
def test_packages_compare_as_in_dpkg(one: str, other: str, revision: str) -> None:
    """Of the same length: to dpkg 1.0 is older than 1.0.0, to an operator they are one."""
    if one.count(".") != other.count("."):
        return
    first, second = one + revision, other + revision
    older = subprocess.run(["dpkg", "--compare-versions", first, "lt", second], check=False).returncode == 0
    newer = subprocess.run(["dpkg", "--compare-versions", first, "gt", second], check=False).returncode == 0
    assert compare_versions(first, second) == newer - older
    bare = subprocess.run(["dpkg", "--compare-versions", first, "gt", one], check=False).returncode == 0
    assert (compare_versions(first, one) > 0) == bare


@pytest.mark.parametrize(
    ("version", "wanted", "inside"),
    [
        ("580.159.03", ">=580.126.09,<581", True),
        ("580.126.9", ">=580.126.09", True),
        ("580.95.05", ">=580.126.09,<581", False),
        ("581.0", ">=580.126.09,<581", False),
        ("13.0.2", ">=13.0,<13.1", True),
        ("13.0", "==13.0.0", True),
        ("12.9.86", ">=13.0,<13.1", False),
        # A flavour counts only where the bound names one.
        ("6.17.0-1014-nvidia", ">=6.17.0-1014", True),
        ("6.17.0-1014-nvidia", "<=6.17.0-1014", True),
        ("6.17.0-1014-nvidia", "==6.17.0-1014-nvidia", True),
        ("6.17.0-1014-nvidia", "==6.17.0-1014-generic", False),
        ("6.17.0-1014-nvidia-64k", "==6.17.0-1014-nvidia", False),
        ("6.17.0-1008-nvidia", "!=6.17.0-1008", False),
        ("6.17.0-1014-nvidia", ">=6.14.0-1015,<6.15 | >=6.17.0-1014", True),
        ("6.14.0-1015-nvidia", ">=6.14.0-1015,<6.15 | >=6.17.0-1014", True),
        ("6.17.0-1008-nvidia", ">=6.14.0-1015,<6.15|>=6.17.0-1014", False),
        # So does the part after +.
        ("2.13.0+cu130", "==2.13.0", True),
        ("2.13.0+cu130", "==2.13.0+cu130", True),
        ("2.13.0+cu129", "==2.13.0+cu130", False),
        ("2.13.0", "==2.13.0+cu130", False),
        ("2.13.0+cpu", "<=2.13.0", True),
        ("1.19.0-1+1", ">=1.19.0-1", True),
        ("1.19.0-1+1", ">=1.19.0-1+2", False),
        ("1.3.0rc13", "<1.3.0", True),
        ("1.3.0rc13", ">=1.3.0rc5", True),
        ("26.05.post1-py3", ">26.05,<26.06", True),
        ("2.10.0", "!=2.10.0", False),
        (" 2.9.1\n", " >= 2.9.1 , < 3 ", True),
    ],
)
def test_version_in_range(version: str, wanted: str, inside: bool) -> None:
    assert version_in_range(version, wanted) is inside


@pytest.mark.parametrize("version", ["", "v1.0", "[N/A]", "latest", "1:2.0", "1.0 2", "1.0,2"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        version_in_range(version, ">=1")


@pytest.mark.parametrize("wanted", ["", "13.0", ">=", ">=1,", "|>=1", "=1", "=>1", "~=1.0", ">=1 <2"])
def test_what_is_no_range_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match="in the range"):
        version_in_range("1.0", wanted)


def test_a_bad_bound_is_found_even_where_it_would_not_decide() -> None:
    with pytest.raises(ValueError, match="'new' is not a version"):
        version_in_range("1.0", ">=1 | >=new")
