# SPDX-License-Identifier: GPL-3.0-or-later
"""Who decides what a path leads to: every folder and link on the way counts."""

from __future__ import annotations

import os

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, Stat
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import NOBODY, walk

EVE = 1234


class Tree:
    """Paths of a node in memory: (kind, mode, uid), or the target of a link and whose it is."""

    def __init__(self) -> None:
        self.things: dict[str, tuple[Stat, str]] = {}
        for path in ("/", "/srv", "/mnt", "/mnt/big"):
            self.directory(path)
        self.directory("/tmp", mode=0o1777)
        self.directory("/srv/eve", uid=EVE)

    def directory(self, path: str, *, uid: int = 0, mode: int = 0o755) -> None:
        self.things[path] = (Stat("directory", mode, uid, uid), "")

    def file(self, path: str, *, uid: int = 0, mode: int = 0o644) -> None:
        self.things[path] = (Stat("file", mode, uid, uid), "")

    def link(self, path: str, target: str, *, uid: int = 0) -> None:
        self.things[path] = (Stat("link", 0o777, uid, uid), target)

    def stat(self, path: str) -> Stat | None:
        return self.things[path][0] if path in self.things else None

    def readlink(self, path: str) -> str | None:
        return self.things[path][1] if path in self.things else None


def tree() -> Tree:
    node = Tree()
    node.directory("/srv/group", mode=0o775)
    node.directory("/srv/eve/roots")
    node.directory("/tmp/roots")
    node.file("/srv/file")
    node.file("/srv/file_of_eve", uid=EVE)
    node.link("/srv/big", "../mnt/big")
    node.link("/srv/again", "/srv/./big")
    node.link("/srv/lost", "nowhere/at/all")
    node.link("/srv/loop", "/srv/loop")
    node.link("/srv/of_eve", "/mnt/big", uid=EVE)
    node.link("/srv/into_eves", "/srv/eve/roots")
    node.link("/srv/eve/of_root", "/mnt/big")
    node.link("/tmp/of_root", "/mnt/big")
    node.link("/srv/up", "..")
    return node


@pytest.mark.parametrize(
    ("path", "end", "decides", "by"),
    [
        ("/mnt/big", "/mnt/big", 0, ""),
        ("/srv/big", "/mnt/big", 0, ""),
        ("/srv/again", "/mnt/big", 0, ""),
        ("/srv/up", "/", 0, ""),
        ("/srv/missing/too", "/srv/missing/too", 0, ""),
        ("/srv/lost/x", "/srv/nowhere/at/all/x", 0, ""),
        ("/srv/file/below", "/srv/file", 0, ""),
        ("/tmp/roots", "/tmp/roots", 0, ""),
        ("/tmp/of_root", "/mnt/big", 0, ""),
        # From here on somebody else has a hand in it.
        ("/srv/eve", "/srv/eve", EVE, "/srv/eve"),
        ("/srv/eve/roots/x", "/srv/eve/roots/x", EVE, "/srv/eve"),
        ("/srv/into_eves", "/srv/eve/roots", EVE, "/srv/eve"),
        ("/srv/file_of_eve", "/srv/file_of_eve", EVE, "/srv/file_of_eve"),
        ("/srv/group/x", "/srv/group/x", NOBODY, "/srv/group"),
        ("/tmp", "/tmp", NOBODY, "/tmp"),
        ("/tmp/missing", "/tmp/missing", NOBODY, "/tmp"),
    ],
)
def test_where_a_path_leads_and_who_decides_it(path, end, decides, by):
    way = walk(path, tree())
    assert (way.end, way.decides, way.by, way.is_open) == (end, decides, by, True)


@pytest.mark.parametrize(
    ("path", "end", "decides"),
    [
        ("/srv/of_eve/x", "/srv/of_eve", EVE),
        ("/srv/eve/of_root", "/srv/eve/of_root", EVE),
        ("/srv/loop", "/srv/loop", 0),
    ],
)
def test_a_link_that_somebody_else_can_set_and_a_circle_are_not_followed(path, end, decides):
    way = walk(path, tree())
    assert (way.end, way.decides, way.is_open) == (end, decides, False)


def test_nothing_behind_a_foreign_link_is_even_looked_at():
    node = tree()
    looked: list[str] = []
    stat = node.stat
    node.stat = lambda path: looked.append(path) or stat(path)
    walk("/srv/of_eve/x", node)
    assert looked == ["/", "/srv", "/srv/of_eve"]


def test_the_kernel_agrees_where_a_path_ends(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "one").symlink_to("real/deep/../deep")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    if os.geteuid() == 0:
        assert walk(f"{tmp_path}/two/x", HostReader()).end == os.path.realpath(tmp_path / "two" / "x")
