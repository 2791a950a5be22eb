# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of media: what differs is written, for its owner alone, and what somebody else put there is left."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install import place
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install.declared import File
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install.render import SUMS, Tree, sums


def tree(**files: str | File) -> Tree:
    contents: Tree = {
        name.replace("__", "/"): text if isinstance(text, File) else text.encode() for name, text in files.items()
    }
    return {SUMS: sums(contents), **contents}


def changed(wanted: Tree, folder: Path) -> list[str]:
    return [change.path for change in place.changes(wanted, folder)]


@pytest.fixture
def hides_nothing() -> Iterator[None]:
    """By itself everything is open to all; whoever is tested after this is not."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("hides_nothing")
def test_a_tree_is_written_once(tmp_path: Path) -> None:
    folder, wanted = tmp_path / "media" / "spark-1", tree(a="one\n", oemdata__b="two\n")
    assert changed(wanted, folder) == [SUMS, "a", "oemdata/b"] and not folder.exists()
    place.write(wanted, folder)
    assert changed(wanted, folder) == []
    assert (folder / "oemdata/b").read_text() == "two\n"
    modes = {oct(path.stat().st_mode & 0o777) for path in (folder, folder / "oemdata")}
    assert modes == {"0o700"} and oct((folder / "a").stat().st_mode & 0o777) == "0o600"


def test_what_differs_is_told_and_written(tmp_path: Path) -> None:
    place.write(tree(a="one\n", old__b="two\n", c="three\n"), tmp_path)
    (tmp_path / "c").chmod(0o644)
    wanted = tree(a="1\n", c="three\n")
    told = {change.path: (change.before, change.after) for change in place.changes(wanted, tmp_path)}
    assert told.keys() == {SUMS, "a", "c", "old/b"}
    assert told["a"] == ("one\n", "1\n") and told["old/b"] == ("two\n", "") and "0o644" in told["c"][0]
    place.write(wanted, tmp_path)
    assert changed(wanted, tmp_path) == [] and not (tmp_path / "old").exists()


def test_a_folder_that_others_can_read_is_mended(tmp_path: Path) -> None:
    wanted = tree(a="one\n", b__c="two\n")
    place.write(wanted, tmp_path)
    (tmp_path / "b").chmod(0o755)
    assert changed(wanted, tmp_path) == ["b/"]
    place.write(wanted, tmp_path)
    assert changed(wanted, tmp_path) == []


def test_what_nobody_made_here_stops_it(tmp_path: Path) -> None:
    place.write(tree(a="one\n"), tmp_path)
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match="notes"):
        place.changes(tree(a="1\n"), tmp_path)
    assert (tmp_path / "a").read_text() == "one\n"


def test_a_run_that_was_cut_off_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, put, count = tree(a="one\n", b="two\n", c="three\n"), place._put, iter(range(9))

    def cut(target, content):
        if next(count) == 1:
            target.with_name(f".{target.name}.new").write_text("ha")
            raise KeyboardInterrupt
        put(target, content)

    monkeypatch.setattr(place, "_put", cut)
    with pytest.raises(KeyboardInterrupt):
        place.write(wanted, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / SUMS).exists()
    place.write(wanted, tmp_path)
    assert changed(wanted, tmp_path) == [] and not list(tmp_path.glob(".*"))


def test_packages_are_copied_and_shown_by_their_digest(tmp_path: Path) -> None:
    source = tmp_path / "a.deb"
    source.write_bytes(b"\xff\x00")
    wanted, folder = tree(debs__x=File(source, hashlib.sha256(b"\xff\x00").hexdigest())), tmp_path / "media"
    assert any("sha256" in change.after for change in place.changes(wanted, folder))
    place.write(wanted, folder)
    assert (folder / "debs/x").read_bytes() == b"\xff\x00" and changed(wanted, folder) == []
    (folder / "debs/x").write_bytes(b"\xfe")
    assert changed(wanted, folder) == ["debs/x"]


def test_a_link_in_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    wanted, outside = tree(a="one\n"), tmp_path / "outside"
    place.write(wanted, tmp_path / "media")
    outside.write_text("one\n")
    (tmp_path / "media/a").unlink()
    (tmp_path / "media/a").symlink_to(outside)
    assert changed(wanted, tmp_path / "media") == ["a"]
    place.write(wanted, tmp_path / "media")
    assert not (tmp_path / "media/a").is_symlink() and outside.read_text() == "one\n"
