# SPDX-License-Identifier: GPL-3.0-or-later
"""Root looks at somebody's files with their rights; nobody else changes at all."""

from __future__ import annotations

import os

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import somebody_else, with_rights_of_owner

NOBODY = 65534


def who() -> dict[str, object]:
    return {"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "pid": os.getpid()}


@pytest.fixture
def foreign(tmp_path):
    """A folder of nobody, where there is the right to give one away; otherwise of ourselves."""
    folder = tmp_path / "venv"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    return folder


def test_root_steps_down_and_cannot_come_back(foreign, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(foreign)
    found = with_rights_of_owner(str(link), who)
    if os.geteuid() == 0:
        assert set(found["ids"]) == {NOBODY} and 0 not in found["groups"] and found["pid"] != os.getpid()
    else:
        assert found == who()


def test_own_files_and_missing_ones_are_looked_at_as_before(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        assert with_rights_of_owner(str(path), who) == who()


def test_who_owns_a_link_on_the_way_chooses_its_end(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "current").symlink_to(tmp_path / "root")
    assert somebody_else(str(tmp_path / "home" / "current")) == os.geteuid()
    if os.geteuid() == 0:
        os.chown(tmp_path / "home" / "current", NOBODY, NOBODY, follow_symlinks=False)
        assert somebody_else(str(tmp_path / "home" / "current")) == NOBODY
        os.chown(tmp_path / "home", 4321, 4321)
        assert somebody_else(str(tmp_path / "home" / "current" / "bin")) == 4321


def test_what_everybody_can_write_is_nobodys(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    if os.geteuid() == 0:
        assert somebody_else(str(open_to_all)) == NOBODY
        (open_to_all / "ours").mkdir()
        assert somebody_else(str(open_to_all / "ours")) == 0
        open_to_all.chmod(0o777)
        assert somebody_else(str(open_to_all / "ours")) == NOBODY
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert somebody_else(str(loop)) in (NOBODY, os.geteuid())


def test_an_error_of_the_look_is_raised_as_it_was(foreign):
    def refuse() -> dict[str, object]:
        raise InputError("demo.bad", wanted="w", found="f", why="y", fix="x")

    with pytest.raises(SparkError) as error:
        with_rights_of_owner(str(foreign), refuse)
    assert (error.value.kind, error.value.problem.key, error.value.problem.fix) == ("input", "demo.bad", "x")


def test_a_look_that_crashes_is_an_error_and_not_an_empty_answer(foreign):
    def crash() -> dict[str, object]:
        raise ZeroDivisionError

    with pytest.raises((SparkError, ZeroDivisionError)):
        with_rights_of_owner(str(foreign), crash)
