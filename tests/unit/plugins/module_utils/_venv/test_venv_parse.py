# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations that are refused before anything is looked at, and what the digest is made of."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import HIDDEN, Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Declaration

A, B = "a" * 64, "b" * 64


def stage(name: str = "one", lock: str = f"torch==2.13.0 --hash=sha256:{A}", **more: Any) -> dict[str, Any]:
    return {"name": name, "lock": lock, "index_url": "", "assertions": [], **more}


def assertion(**more: str) -> dict[str, str]:
    return {"distribution": "torch", "version": "", "file": "", "attribute": "__version__", "suffix": "", **more}


def params(**more: Any) -> dict[str, Any]:
    found = {name: spec.get("default") for name, spec in parse.ARGUMENT_SPEC.items()}
    needed = {"name": "vllm", "interpreter": "/usr/bin/python3.12", "python": "3.12", "stages": [stage()]}
    return {**found, **needed, **more}


def declare(**more: Any) -> Declaration:
    return parse.declaration(params(**more))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("root", "venvs"),
        ("root", "/opt/../etc"),
        ("root", "/opt/\x1b[2J"),
        ("root", "/opt//x"),
        ("interpreter", "python3.12"),
        ("find_links", "wheels"),
        ("uv", ["uv"]),
        ("name", ".."),
        ("name", "a/b"),
        ("owner", "no body"),
        ("python", "3"),
        ("python", "3.12.1"),
        ("python", "2.7"),
        ("imports", ["torch; import os"]),
        ("imports", ["torch", "-c"]),
        ("entry_points", ["../../evil"]),
        ("size_mib", -1),
        ("stages", []),
        ("stages", [stage(), stage()]),
        ("stages", [stage("../x")]),
        ("stages", [stage(index_url="file:///tmp")]),
        ("stages", [stage(assertions=[assertion(distribution="vllm", version="1")])]),
        ("stages", [stage(assertions=[assertion()])]),
        ("stages", [stage(assertions=[assertion(file="torch/version.py")])]),
        ("stages", [stage(assertions=[assertion(file="../x.py", suffix="1")])]),
        ("stages", [stage(assertions=[assertion(file="/etc/x.py", suffix="1")])]),
        ("skip_controls", ["vllm_venv/nothing"]),
        ("blocklist", [{"distribution": "torch", "versions": [">2,<<"], "reason": "r"}]),
    ],
)
def test_what_cannot_be_meant_is_refused(option: str, value: object) -> None:
    with pytest.raises(InputError) as error:
        declare(**{option: value})
    assert error.value.problem.key in ("venv.input", "venv.lock")


def test_one_distribution_has_one_version_in_all_stages() -> None:
    again = stage("two", f"Torch==2.13.0 --hash=sha256:{A}")
    assert declare(stages=[stage(), again]).packages == {"torch": "2.13.0"}
    other = stage("two", f"torch==2.12.0 --hash=sha256:{A}")
    with pytest.raises(InputError, match=r"stage one has 2\.13\.0"):
        declare(stages=[stage(), other])


@pytest.mark.parametrize(
    ("versions", "locked", "blocked"),
    [
        (["2.10.0"], "2.10.0", True),
        (["2.10.0"], "2.10.0+cu130", True),
        (["2.10.0"], "2.10.1", False),
        (["*"], "9", True),
        ([">=2.10,<2.11"], "2.10.3", True),
        ([">=2.10,<2.11"], "2.11", False),
        (["1.0", "2.13"], "2.13.0", True),
    ],
)
def test_a_blocked_release_is_refused_with_its_reason(versions: list[str], locked: str, blocked: bool) -> None:
    entry = {"distribution": "Torch", "versions": versions, "reason": "hangs clusters"}
    stages = [stage(lock=f"\ntorch=={locked} --hash=sha256:{A}")]
    if not blocked:
        assert declare(stages=stages, blocklist=[entry]).packages == {"torch": locked}
        return
    with pytest.raises(InputError) as error:
        declare(stages=stages, blocklist=[entry])
    assert (error.value.problem.key, error.value.problem.why) == ("venv.blocked", "hangs clusters")
    assert error.value.problem.found.startswith("line 2: torch==")


def test_what_the_version_matrix_knows_is_refused_and_a_site_may_know_better() -> None:
    stages = [stage("a", f"torch==2.10.0+cu130 --hash=sha256:{'0' * 64}")]
    with pytest.raises(InputError) as error:
        declare(stages=stages)
    assert error.value.problem.why.startswith("Clusters hang")
    assert error.value.problem.fix == "lock 2.9.1, or 2.11 or newer; it is row torch_2_10_0_hangs of the version matrix"
    row = {"id": "torch_2_10_0_hangs", "subject": "python:torch", "range": "==2.10.0", "verdict": "known_good"}
    row = {**row, "why": "One node alone does not hang", "source": "us"}
    assert declare(stages=stages, version_matrix=[row]).packages == {"torch": "2.10.0+cu130"}


def test_the_digest_is_of_what_is_installed_and_of_nothing_else() -> None:
    first = declare().digest("aarch64")
    spelled = stage(lock=f"# comment\n\nTORCH==2.13.0 \\\n  --hash=sha256:{A}\n", index_url="https://u:p@example.org")
    same = declare(stages=[spelled], root="/srv", imports=["torch"], owner="nusy", find_links="/srv/wheels")
    assert same.digest("aarch64") == first and len(first) == 16
    others = [
        declare().digest("x86_64"),
        declare(python="3.11").digest("aarch64"),
        declare(stages=[stage(lock=f"torch==2.13.0 --hash=sha256:{B}")]).digest("aarch64"),
        declare(stages=[stage(lock=f"torch==2.13.1 --hash=sha256:{A}")]).digest("aarch64"),
        declare(stages=[stage(lock=f"torch==2.13.0 --hash=sha256:{A} --hash=sha256:{B}")]).digest("aarch64"),
    ]
    assert len({first, *others}) == 6


def test_the_parts_of_an_index_that_must_not_be_shown_are_known() -> None:
    url = "https://robot:s%40cret@index.example.org/simple"
    stages = [stage(index_url=url), stage("two", index_url="https://example.org")]
    proxy = {"https_proxy": "http://me:mine1@proxy.example.org:3128", "NO_PROXY": "localhost", "OTHER": "x://y:zzzz@z"}
    found = set(parse.secrets(params(stages=stages), proxy))
    assert found == {"s%40cret", "s@cret", "robot:s%40cret", "mine1", "me:mine1"}
    assert url not in repr(declare(stages=[stage(index_url=url)]))


@pytest.mark.parametrize("who", ["robot:s%40cret", "token-without-a-name", "u:pw"])
def test_a_declaration_without_its_secrets_still_is_one(who: str) -> None:
    """It is kept on the node for whoever judges there, and its index is not what is judged."""
    given = params(stages=[stage(index_url=f"https://{who}@index.example.org/simple")])
    hidden = Redactor(parse.secrets(given, {}))(given)
    assert isinstance(hidden, dict) and who not in str(hidden)
    assert hidden["stages"][0]["index_url"] == f"https://{HIDDEN}@index.example.org/simple"
    assert parse.declaration(hidden).digest("aarch64") == parse.declaration(given).digest("aarch64")
