# SPDX-License-Identifier: GPL-3.0-or-later
"""Root looks at somebody's files with their rights; nobody else changes at all."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.rights import NoLook, Shared, act, decides, look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader

EVE, BOB = 4321, 4322
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def who() -> dict[str, object]:
    return {"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "pid": os.getpid()}


def decided(*paths: Path) -> int:
    return decides([str(path) for path in paths], HostReader())


@pytest.fixture
def eves(tmp_path: Path) -> Path:
    """A folder of somebody else, where there is the right to give one away; otherwise of ourselves."""
    folder = tmp_path / "venv"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, EVE, EVE)
    return folder


def test_root_steps_down_and_cannot_come_back(eves: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(eves)
    looked = look([str(link)], who, 10)
    if os.geteuid() == 0:
        assert looked.user == EVE
        assert looked.value["ids"][:3] == [EVE] * 3
        assert 0 not in [*looked.value["ids"], *looked.value["groups"]]
    else:
        assert (looked.user, looked.value["ids"]) == (os.geteuid(), who()["ids"])


@needs_root
def test_what_only_root_decides_is_looked_at_as_the_user_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        assert look([str(path)], who, 10).value["ids"] == who()["ids"]
        assert look([str(path)], who, 10, user=BOB).value["ids"][:3] == [BOB] * 3


@needs_root
def test_who_owns_a_link_or_a_folder_on_the_way_decides(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "home").mkdir()
    link = tmp_path / "home" / "current"
    link.symlink_to(tmp_path / "root")
    assert decided(link, tmp_path / "root") == 0
    os.lchown(link, EVE, EVE)
    assert decided(link / "bin") == decided(tmp_path / "root", link) == EVE
    os.lchown(link, 0, 0)
    os.chown(tmp_path / "home", EVE, EVE)
    assert decided(link / "bin") == EVE


@needs_root
def test_where_several_decide_nobody_looks(tmp_path: Path, eves: Path) -> None:
    (eves / "bin").mkdir()
    program = eves / "bin" / "python"
    program.touch()
    os.chown(program, BOB, BOB)
    with pytest.raises(Shared, match=f"user {EVE} by {eves}, user {BOB} by {program}"):
        look([str(program)], who, 10)
    os.chown(program, EVE, EVE)
    bobs = tmp_path / "bob"
    bobs.touch()
    os.chown(bobs, BOB, BOB)
    assert (decided(program), decided(bobs)) == (EVE, BOB)
    with pytest.raises(Shared):
        decided(program, bobs)


@needs_root
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
@pytest.mark.parametrize("owner", [0, EVE])
def test_what_a_group_or_everybody_can_write_is_nobodys(tmp_path: Path, mode: int, owner: int) -> None:
    shared = tmp_path / "open"
    (shared / "ours").mkdir(parents=True)
    for folder in (shared, shared / "ours"):
        os.chown(folder, owner, owner)
    shared.chmod(mode)
    with pytest.raises(Shared, match="a group or everybody"):
        decided(shared)
    if mode == 0o1777:  # as in /tmp nobody can replace what is there
        assert decided(shared / "ours") == owner
    else:
        with pytest.raises(Shared):
            decided(shared / "ours")


@needs_root
def test_the_own_group_of_a_user_is_nobody_else(eves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the umask is 002, a home is full of what the group can write."""
    import grp
    import pwd

    eves.chmod(0o775)
    account = pwd.struct_passwd(("eve", "x", EVE, EVE, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: account)
    for name, members, alone in (
        ("eve", [], True),
        ("eve", ["eve"], True),
        ("eve", ["bob"], False),
        ("all", [], False),
    ):
        monkeypatch.setattr(grp, "getgrgid", lambda _gid, found=(name, "x", EVE, members): grp.struct_group(found))
        if alone:
            assert decided(eves) == EVE
        else:
            with pytest.raises(Shared):
                decided(eves)


def test_an_error_of_the_look_is_raised_as_it_was(eves: Path) -> None:
    def refuse() -> dict[str, object]:
        raise InputError("demo.bad", wanted="w", found="f", why="y", fix="x")

    with pytest.raises(InputError) as error:
        look([str(eves)], refuse, 10)
    assert (error.value.problem.key, error.value.problem.fix) == ("demo.bad", "x")


def test_a_look_that_crashes_is_an_error_and_not_an_empty_answer(eves: Path) -> None:
    def crash() -> dict[str, object]:
        raise ZeroDivisionError

    with pytest.raises(NodeError, match="ZeroDivisionError"):
        look([str(eves)], crash, 10)


@needs_root
def test_an_owner_who_stops_the_look_stops_only_the_look(eves: Path) -> None:
    """Who has the rights of a process may send it signals, SIGSTOP too."""

    def stopped() -> None:
        subprocess.Popen(["sleep", "3"])
        os.kill(os.getpid(), signal.SIGSTOP)

    began = time.monotonic()
    with pytest.raises(NoLook, match="no answer within 1 s"):
        look([str(eves)], stopped, 1)
    assert time.monotonic() - began < 3


# --- to change what is somebody's ---


@needs_root
def test_an_action_for_somebody_else_has_their_rights_and_leaves_ours() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o777)
        made = Path(name, "made")
        act(EVE, made.mkdir, 10, "a folder of Eve")
        assert made.stat().st_uid == EVE and os.geteuid() == 0
    with pytest.raises(NodeError) as error:
        act(BOB, lambda: os.rmdir("/etc"), 10, "a folder less")
    problem = error.value.problem
    assert problem.key == "rights.not_done" and problem.wanted == f"a folder less, with the rights of user {BOB}"
    assert problem.found.startswith(("PermissionError", "OSError"))


@needs_root
def test_an_action_that_fails_or_hangs_fails_here_as_there() -> None:
    def refused() -> None:
        raise InputError("x.y", wanted="w", found="f", why="y", fix="z")

    with pytest.raises(InputError) as error:
        act(EVE, refused, 10, "something")
    assert error.value.problem.key == "x.y"
    with pytest.raises(NodeError, match="no answer within"):
        act(EVE, lambda: time.sleep(30), 0.2, "something")


def test_an_action_for_root_or_by_somebody_else_is_simply_done() -> None:
    done: list[int] = []
    act(0, lambda: done.append(os.getpid()), 10, "something")
    assert done == [os.getpid()]
