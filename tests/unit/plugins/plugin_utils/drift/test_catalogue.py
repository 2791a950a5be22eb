# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogues are read as they are written, and a broken one says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import catalogue

GOOD = """
controls:
  - id: r/a
    title: A
    severity: high
    rationale: Because.
    references: [one]
    remedy: fix {host}
    disrupts: ""
"""


def write(folder: Path, content: str) -> Path:
    (folder / "meta").mkdir()
    (folder / catalogue.FILE).write_text(content)
    return folder


def test_a_good_file(tmp_path: Path) -> None:
    entries, problems = catalogue.read("r", write(tmp_path, GOOD))
    assert problems == []
    assert entries == {
        "r/a": catalogue.entry("r", "A", "high", rationale="Because.", references=("one",), remedy="fix {host}")
    }


def test_a_role_without_the_file_promises_nothing(tmp_path: Path) -> None:
    assert catalogue.read("r", tmp_path) == ({}, [])


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (GOOD.replace("severity: high", "severity: awful"), 1),
        (GOOD.replace("    title: A\n", ""), 1),
        (GOOD.replace("references: [one]", "references: one"), 1),
        (GOOD.replace("r/a", "other/a"), 0),
        (GOOD.replace("r/a", "r/Not An Id"), 0),
        ("controls: {}", 0),
        ("[", 0),
        ("- x", 0),
        ("", 0),
    ],
)
def test_a_bad_file_is_named_and_its_promises_stand(tmp_path: Path, content: str, kept: int) -> None:
    entries, problems = catalogue.read("r", write(tmp_path, content))
    assert len(entries) == kept
    assert len(problems) == 1
    assert problems[0].startswith("catalogue of role r: ")
