# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node keeps of each environment, to tell who moved: one record and one declaration each."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import declared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import Declaration
from venv_bench import Bench, control


def test_two_of_one_name_below_different_roots_have_a_record_each(bench: Bench) -> None:
    alpha, other = bench.wheel("alpha", "1.0"), str(bench.base / "others")
    bench.apply(alpha)
    elsewhere = bench.apply(alpha, root=other)
    assert control(elsewhere, "packages").cause == "never_applied"
    # Neither has overwritten what is known of the other: it is the declaration that moves.
    for options in ({}, {"root": other}):
        moved = bench.check(bench.wheel("alpha", "1.1"), **options)
        assert control(moved, "packages").cause == "intentional"
    for root in (other, str(bench.root)):
        folder = Path(root, "demo", "current").resolve()
        (folder / "pyvenv.cfg").chmod(0o600)
        assert control(bench.check(alpha, root=root), "files").cause == "corrective"
    bench.apply(alpha, root=other)
    assert control(bench.check(alpha), "files").cause == "corrective"


def test_the_record_of_a_release_that_told_them_apart_by_name_is_taken_over(bench: Bench, monkeypatch) -> None:
    alpha = bench.wheel("alpha", "1.0")
    monkeypatch.setattr(declared, "STATE", str(bench.base / "state"))
    monkeypatch.setattr(declared, "FOLDER", str(bench.base / "state" / "declared"))
    old = bench.subject(alpha).wanted.record_by_name
    with monkeypatch.context() as before:
        before.setattr(Declaration, "record", Declaration.record_by_name)
        bench.apply(alpha)
        declared.keep(declared.Declared(old, "vllm_venv", {}), HostReader(), HostWriter())
    # Another root of that name is not told by it, and leaves it alone.
    elsewhere = bench.apply(alpha, root=str(bench.base / "others"))
    assert control(elsewhere, "packages").cause == "never_applied"
    assert os.path.exists(record.path_of(old)) and os.path.exists(declared.path_of(old))

    assert control(bench.check(bench.wheel("alpha", "1.1")), "packages").cause == "intentional"
    bench.apply(alpha)
    assert not os.path.exists(record.path_of(old)) and not os.path.exists(declared.path_of(old))
    assert control(bench.check(bench.wheel("alpha", "1.1")), "packages").cause == "intentional"


def test_below_the_common_root_the_name_is_enough(bench: Bench) -> None:
    assert bench.subject(bench.wheel("alpha", "1.0"), root="/opt/nusy/venvs").record == "vllm_venv-demo"
