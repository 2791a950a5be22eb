# SPDX-License-Identifier: GPL-3.0-or-later
"""An advisory becomes a row that holds for what it says, and for more where that cannot be understood."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge, osv
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Seen


def advisory(*events: dict[str, str], versions: tuple[str, ...] = (), kind: str = "ECOSYSTEM", **more: Any) -> Any:
    ranges = [{"type": kind, "events": list(events)}] if events else []
    affected = {"package": {"ecosystem": "PyPI", "name": "A_Package"}, "ranges": ranges, "versions": list(versions)}
    return {"id": "GHSA-1-x", "aliases": ["CVE-2026-1"], "summary": "It leaks.", "affected": [affected], **more}


FROM, ALWAYS, FIXED = {"introduced": "1.2"}, {"introduced": "0"}, {"fixed": "2.0.1"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (advisory(FROM, FIXED), ">=1.2,<2.0.1"),
        (advisory(ALWAYS, FIXED), "<2.0.1"),
        (advisory(FROM, {"last_affected": "1.9"}), ">=1.2,<=1.9"),
        (advisory(FROM), ">=1.2"),
        (advisory(ALWAYS), "*"),
        (advisory(ALWAYS, {"fixed": "1.0"}, FROM, FIXED), "<1.0 | >=1.2,<2.0.1"),
        (advisory(versions=("1.0", "1.1rc1")), "==1.0 | ==1.1rc1"),
        # The list is what a range that says "always" means, where there is one: that of a malicious release.
        (advisory(ALWAYS, versions=("1.82.7", "1.82.8")), "==1.82.7 | ==1.82.8"),
        (advisory(FROM, FIXED, kind="GIT", versions=("1.3",)), "==1.3"),
        # Not understood: for every version, and never for none.
        (advisory({"introduced": "v1"}, FIXED), "*"),
        (advisory({"begun": "1"}, FIXED), "*"),
        (advisory(versions=("what, ever",)), "*"),
        (advisory(), "*"),
    ],
)
def test_ranges(given: Any, wanted: str) -> None:
    (row,) = osv.rows([given])
    assert row["range"] == wanted
    assert not list(judge.refusals([row]))


def test_a_row_says_what_and_what_to_do() -> None:
    (row,) = osv.rows([advisory(FROM, FIXED)])
    assert row == {
        "id": "ghsa_1_x_a_package",
        "subject": "python:a-package",
        "range": ">=1.2,<2.0.1",
        "verdict": "known_bad",
        "why": "It leaks",
        "source": "GHSA-1-x, CVE-2026-1",
        "remedy": "lock 2.0.1 or newer",
    }
    rows = judge.matrix([row])
    assert judge.judge(rows, "python:a-package", "2.0.0", Seen()).is_bad
    assert not judge.judge(rows, "python:a-package", "2.0.1", Seen()).is_bad
    assert [entry["versions"] for entry in judge.known_bad(rows)][-1] == [">=1.2,<2.0.1"]


def test_what_is_withdrawn_or_of_another_world_makes_no_row() -> None:
    other = advisory(FROM, FIXED)
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert osv.rows([advisory(FROM, FIXED, withdrawn="2026-01-01T00:00:00Z"), other]) == []


def test_two_parts_of_one_distribution_make_one_row() -> None:
    given = advisory(FROM, FIXED)
    given["affected"].append({"package": {"ecosystem": "PyPI", "name": "a.package"}, "versions": ["3.0"]})
    (row,) = osv.rows([given])
    assert row["range"] == ">=1.2,<2.0.1 | ==3.0"


@pytest.mark.parametrize("given", [[{}], ["x"], [{"id": 1}]])
def test_what_is_no_advisory_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="is no OSV advisory"):
        osv.rows(given)
