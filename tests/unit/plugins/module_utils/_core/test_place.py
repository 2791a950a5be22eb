# SPDX-License-Identifier: GPL-3.0-or-later
"""What root changes is where it was looked for, whatever the owners of folders on the way do meanwhile."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.place import held
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostWriter

EVE = 4321
ROOT = {"uid": os.geteuid(), "gid": os.getegid()}
EFFECTS = {
    "write": lambda w, p: w.write(p, "x", mode=0o644, **ROOT),
    "mkdir": lambda w, p: w.mkdir(p, mode=0o755, **ROOT),
    "symlink": lambda w, p: w.symlink(p, "elsewhere"),
    "remove": lambda w, p: w.remove(p),
    "rename": lambda w, p: w.rename(p, p + ".aside"),
    "attributes": lambda w, p: w.attributes(p, mode=0o777, uid=None, gid=None),
}
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away, and only root is led")


@pytest.fixture
def trees(tmp_path):
    """A folder of root with a file, and one of somebody else with a folder in it."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("precious")
    (tmp_path / "eve" / "conf").mkdir(parents=True)
    for path in (tmp_path / "eve", tmp_path / "eve" / "conf"):
        os.chown(path, EVE, EVE)
    return tmp_path


def contents(folder):
    return {p.name: (p.read_text(), stat.S_IMODE(p.stat().st_mode)) for p in folder.iterdir()}


@pytest.mark.parametrize("owner", [0, EVE])
@pytest.mark.parametrize("effect", EFFECTS)
def test_no_effect_goes_through_a_link_in_a_folder_of_somebody_else(effect, owner, trees):
    """Even one of root: its owner may have moved it there."""
    before = contents(trees / "victim")
    os.rmdir(trees / "eve" / "conf")
    os.symlink(trees / "victim", trees / "eve" / "conf")
    os.chown(trees / "eve" / "conf", owner, owner, follow_symlinks=False)
    with pytest.raises(OSError, match="somebody else decides") as error:
        EFFECTS[effect](HostWriter(), str(trees / "eve" / "conf" / "file"))
    assert error.value.errno == errno.ELOOP and contents(trees / "victim") == before


@pytest.mark.parametrize("effect", EFFECTS)
def test_no_effect_goes_through_a_foreign_link_in_roots_folder(effect, trees):
    before = contents(trees / "victim")
    os.symlink(trees / "victim", trees / "link")
    os.chown(trees / "link", EVE, EVE, follow_symlinks=False)
    with pytest.raises(OSError, match="somebody else decides"):
        EFFECTS[effect](HostWriter(), str(trees / "link" / "file"))
    assert contents(trees / "victim") == before


@pytest.mark.parametrize("target", ["{0}/victim", "victim", "eve/../victim", "./again"])
def test_a_link_of_root_is_followed(target, trees):
    os.symlink("victim", trees / "again")
    os.symlink(target.format(trees), trees / "link")
    HostWriter().write(str(trees / "link" / "new"), "x", mode=0o640, **ROOT)
    if target.startswith("eve"):
        assert not (trees / "eve" / "new").exists()
    assert (trees / "victim" / "new").read_text() == "x"


def test_a_service_may_have_files_in_its_own_folder(trees):
    HostWriter().write(str(trees / "eve" / "conf" / "app.env"), "x", mode=0o640, uid=EVE, gid=EVE)
    assert (trees / "eve" / "conf" / "app.env").stat().st_uid == EVE


def test_a_folder_that_is_swapped_between_look_and_change_does_not_lead_root_away(trees):
    """The folder is held: what takes its name meanwhile is not what is changed."""
    with held(str(trees / "eve" / "conf" / "x")) as (folder, name):
        os.rename(trees / "eve" / "conf", trees / "eve" / "old")
        os.symlink(trees / "victim", trees / "eve" / "conf")
        os.mkdir(name, dir_fd=folder)
    assert (trees / "eve" / "old" / "x").is_dir() and list(contents(trees / "victim")) == ["file"]


def test_attributes_behind_roots_link_into_a_foreign_tree_stay_in_that_tree(trees):
    (trees / "etc" / "ssh").mkdir(parents=True)
    (trees / "eve" / "conf" / "ssh").mkdir()
    os.symlink(trees / "eve" / "conf" / "ssh", trees / "models")
    os.rename(trees / "eve" / "conf", trees / "eve" / "old")
    os.symlink(trees / "etc", trees / "eve" / "conf")
    with pytest.raises(OSError):
        HostWriter().attributes(str(trees / "eve" / "conf" / "ssh"), mode=0o700, uid=EVE, gid=EVE)
    assert (trees / "etc" / "ssh").stat().st_uid == 0


def test_a_circle_ends_and_no_descriptor_is_left(trees):
    os.symlink("loop", trees / "loop")
    before = os.listdir("/proc/self/fd")
    for path in (trees / "loop" / "x", trees / "missing" / "x", trees / "victim" / "file" / "x"):
        with pytest.raises(OSError) as error:
            HostWriter().write(str(path), "x", mode=0o644, **ROOT)
        assert error.value.filename == str(path)
    assert os.listdir("/proc/self/fd") == before
