# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes count as users of a generation, told from a /proc made up here."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import busy

BOOT = 1_700_000_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("aaaa", "aaaa-2"):
        (tmp_path / "home" / name).mkdir(parents=True)
    (tmp_path / "home" / "current").symlink_to("aaaa-2")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text(f"cpu 1 2 3\nbtime {BOOT}\n")
    return tmp_path / "home"


def process(
    home: Path, *arguments: str, maps: str = "", cwd: str = "/", exe: str = "/usr/bin/python3", started: float = BOOT
) -> None:
    folder = home.parent / "proc" / "77"
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"".join(a.encode() + b"\0" for a in arguments))
    (folder / "cwd").symlink_to(cwd)
    (folder / "exe").symlink_to(exe)
    (folder / "maps").write_text(f"7f00-7f01 r-xp 0 00:00 0\n7f00-7f01 r-xp 00000000 fe:00 12 {maps}\n" if maps else "")
    ticks = int((started - BOOT) * os.sysconf("SC_CLK_TCK"))
    (folder / "stat").write_text(f"77 (a ) b) S {' '.join(['0'] * 18)} {ticks} 0\n")


def used(home: Path) -> set[str]:
    folders = [f"{home}/aaaa", f"{home}/aaaa-2"]
    return {Path(path).name for path in busy.users(folders, f"{home}/current", str(home.parent / "proc"))}


def test_a_process_of_something_else(home: Path) -> None:
    process(home, "/usr/bin/python3", "-m", "http.server", maps="/usr/lib/libc.so.6")
    assert used(home) == set()


def test_a_mapped_library_even_when_it_was_deleted(home: Path) -> None:
    process(home, "VLLM::EngineCore", maps=f"{home}/aaaa/lib/my lib.so (deleted)")
    assert used(home) == {"aaaa"}


@pytest.mark.parametrize("trace", ["cwd", "exe"])
def test_where_it_stands_and_what_it_is(home: Path, trace: str) -> None:
    process(home, "x", **{trace: f"{home}/aaaa-2/bin"})
    assert used(home) == {"aaaa-2"}


@pytest.mark.parametrize("argument", ["{}/bin/python", "--python={}/bin/python", "{}"])
def test_what_it_was_started_with(home: Path, argument: str) -> None:
    process(home, "pip", argument.format(home / "aaaa"))
    assert used(home) == {"aaaa"}


def test_a_path_that_only_begins_alike(home: Path) -> None:
    process(home, f"{home}/aaaa-2/bin/python")
    assert used(home) == {"aaaa-2"}


def test_through_the_link_before_it_was_moved_it_may_be_any(home: Path) -> None:
    process(home, f"{home}/current/bin/python", "-m", "vllm", started=BOOT)
    assert used(home) == {"aaaa", "aaaa-2"}


def test_through_the_link_after_it_was_moved_it_is_the_new_one_which_nobody_removes(home: Path) -> None:
    process(home, f"{home}/current/bin/python", started=time.time() + 60)
    assert used(home) == set()


def test_a_process_that_may_not_be_looked_at_is_not_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process(home, "x")

    def refused(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "readlink", refused)
    with pytest.raises(Unreadable, match="77: Permission denied"):
        used(home)


def test_the_init_of_a_container_may_have_more_rights_than_its_root(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.fail("this is about root")
    process(home, "/sbin/init")
    (home.parent / "proc" / "77").rename(home.parent / "proc" / "1")
    monkeypatch.setattr(os, "readlink", lambda path: (_ for _ in ()).throw(PermissionError(13, "denied", path)))
    assert used(home) == set()


def test_one_that_ended_meanwhile(home: Path) -> None:
    (home.parent / "proc" / "99").mkdir()
    assert used(home) == set()
