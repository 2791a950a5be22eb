# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools and files say, understood or refused."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.tools import Version, release_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.parse import (
    assigned_version,
    environment_file,
    metadata_version,
    triton_version,
)
from ansible_collections.nusy.dgx_spark.tests.tools.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

# Printed by the ptxas of the wheels and of /usr/local/cuda-13.0 (build lines as printed).
PTXAS_13_0 = """ptxas: NVIDIA (R) Ptx optimizing assembler
Copyright (c) 2005-2025 NVIDIA Corporation
Built on Wed_Aug_20_01:55:12_PM_PDT_2025
Cuda compilation tools, release 13.0, V13.0.88
Build cuda_13.0.r13.0/compiler.36424714_0
"""
number = st.integers(0, 9999)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (PTXAS_13_0, Version(13, 0, 88)),
        (PTXAS_13_0.replace("\n", "\r\n"), Version(13, 0, 88)),
        ("Cuda compilation tools, release 12.9, V12.9.86", Version(12, 9, 86)),
        ("Cuda compilation tools, release 12.9", Version(12, 9)),
        # The full version of something else does not count.
        ("release 12.9, V1.2.3", Version(12, 9)),
        ("V1.2.3, release 12.9, V12.9.86", Version(12, 9, 86)),
        ("release 13", None),
        ("Release 13.0", None),
        ("V13.0.88", None),
        ("", None),
        ("release ٣.١", None),
        ("release 99999999999999999999.1", None),
    ],
)
def test_ptxas_version(text: str, version: Version | None) -> None:
    assert release_of(text) == version


@settings(max_examples=examples(100), deadline=None)
@given(before=st.text(), major=number, minor=number, patch=number, after=st.text())
def test_ptxas_version_finds_what_was_written(before: str, major: int, minor: int, patch: int, after: str) -> None:
    if "release" in before:
        return
    text = f"{before}\nCuda compilation tools, release {major}.{minor}, V{major}.{minor}.{patch}\n{after}"
    assert release_of(text) == Version(major, minor, patch)


@given(st.text())
def test_no_text_upsets_a_parser(text: str) -> None:
    for parse in (release_of, triton_version):
        found = parse(text)
        assert found is None or parse(f"release {found.short}, V{found}" if parse is release_of else str(found))
    for name, value in environment_file(text).items():
        assert name.isidentifier() and name.isascii() and isinstance(value, str)
    assert isinstance(assigned_version(text), str)
    assert isinstance(metadata_version(text), str)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.5.1", Version(3, 5, 1)),
        ("3.5", Version(3, 5)),
        (" 3.5.0+git1a2b3c4d\n", Version(3, 5)),
        ("3.7.0rc1", Version(3, 7)),
        ("3.6.0.post1", Version(3, 6)),
        ("3.6.0.dev20260101", Version(3, 6)),
        ("4.10.2", Version(4, 10, 2)),
        ("3", None),
        ("v3.5.1", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_triton_version(text: str, version: Version | None) -> None:
    assert triton_version(text) == version


def test_assigned_version_takes_the_assignment_and_no_mention() -> None:
    source = '"""__version__ is below"""\n# __version__ = "0"\n__version__ = \'3.5.1\'\nother = __version__\n'
    assert assigned_version(source) == "3.5.1"
    assert assigned_version('__version__: str = "3.6.0"\n') == "3.6.0"
    assert assigned_version("__version__ = get()\n") == ""


def test_metadata_version_reads_the_header_only() -> None:
    assert metadata_version("Metadata-Version: 2.1\nName: triton\nVersion: 3.9.0\n\nVersion: 1\n") == "3.9.0"
    assert metadata_version("Metadata-Version: 2.1\r\nName: triton\r\nVersion: 3.9.0\r\n\r\n") == "3.9.0"
    assert metadata_version("Name: triton\n\nVersion: 1\n") == ""


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nB=2\nA=3\n", {"A": "3", "B": "2"}),
        ("# A=1\n; B=2\n  # C=3\nD=4", {"D": "4"}),
        ("# ends in a backslash \\\nA=1\n", {"A": "1"}),
        ("A = /x y  \n", {"A": "/x y"}),
        ("A=\nB=", {"A": "", "B": ""}),
        ("A='/x y '\nB=\" /z\"\n", {"A": "/x y ", "B": " /z"}),
        ('A="a\\"b\\\\c\\$d\\`e\\f"\n', {"A": 'a"b\\c$d`e\\f'}),
        ("A='a\\b'\n", {"A": "a\\b"}),
        ("A=a\\ b\\\nc\n", {"A": "a bc"}),
        ("A='one\ntwo'\nB=3\n", {"A": "one\ntwo", "B": "3"}),
        ("A='one' 'two'\n", {"A": "onetwo"}),
        ("A=it's\nB=2\n", {"A": "it's", "B": "2"}),
        ("A=1 # no comment\n", {"A": "1 # no comment"}),
        ("A=x\\ \n", {"A": "x "}),
        ("A=$B\n", {"A": "$B"}),
        # Names that systemd drops: what a service gets does not hold them.
        ("TRITON_PTXAS-BLACKWELL_PATH=/x\nexport A=1\n1A=2\n=3\nB=4\n", {"B": "4"}),
        ("no equals sign\nA=1\n", {"A": "1"}),
        ("A='never closed\nB=2\n", {"A": "never closed\nB=2\n"}),
    ],
)
def test_environment_file(text: str, variables: dict[str, str]) -> None:
    assert environment_file(text) == variables


@settings(max_examples=examples(100), deadline=None)
@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), st.text()))
def test_environment_file_reads_back_what_was_quoted(variables: dict[str, str]) -> None:
    escaped = {k: "".join("\\" + c if c in '"\\`$' else c for c in v) for k, v in variables.items()}
    text = "".join(f'{name}="{value}"\n' for name, value in escaped.items())
    assert environment_file(text) == variables
