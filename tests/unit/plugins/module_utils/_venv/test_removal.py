# SPDX-License-Identifier: GPL-3.0-or-later
"""The one thing that deletes, as root, in folders of accounts that may be hostile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import manifest, removal
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.removal import remove_generation

NAME, OTHER, NONE = "0123456789abcdef", "fedcba9876543210", "0000000000000000"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A closed generation, its work, and something precious beside the home."""
    found = tmp_path / "home"
    lib = found / NAME / "lib"
    lib.mkdir(parents=True)
    (lib / "file").touch()
    (found / NAME / manifest.NAME).touch()
    (found / f".{NAME}.work").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    for folder in (lib, lib.parent):
        folder.chmod(0o555)
    return found


def precious(home: Path) -> bool:
    return (home.parent / "outside" / "precious").exists()


def test_it_goes_with_its_work_and_nothing_else_does(home: Path) -> None:
    (home / OTHER).mkdir()
    (home / "notes").touch()
    remove_generation(str(home), NAME, os.geteuid())
    assert sorted(path.name for path in home.iterdir()) == [OTHER, "notes"]


def test_links_are_removed_and_not_followed(home: Path) -> None:
    (home / NAME).chmod(0o755)
    (home / NAME / "link").symlink_to(home.parent / "outside")
    (home / OTHER).symlink_to(home.parent / "outside")
    for name in (NAME, OTHER, NONE):
        remove_generation(str(home), name, os.geteuid())
    assert [path.name for path in home.iterdir()] == [OTHER] and precious(home)


def test_a_home_of_somebody_else_and_a_link_in_its_place_are_refused(home: Path) -> None:
    with pytest.raises(PermissionError, match="does not belong to uid"):
        remove_generation(str(home), NAME, os.geteuid() + 1)
    (home.parent / "alias").symlink_to(home)
    with pytest.raises(OSError, match="Not a directory"):
        remove_generation(str(home.parent / "alias"), NAME, os.geteuid())
    assert (home / NAME / "lib" / "file").exists()


@pytest.mark.parametrize("name", ["..", "", "/", "notes", f"../home/{NAME}", f"{NAME}/lib", f"{NAME}-0", "current"])
def test_only_names_of_generations(home: Path, name: str) -> None:
    (home / "notes").mkdir()
    with pytest.raises(OSError, match="is no name of a generation"):
        remove_generation(str(home), name, os.geteuid())
    assert (home / "notes").exists() and (home / NAME / "lib" / "file").exists()


def test_a_mount_in_it_is_not_entered_though_it_is_of_the_same_device(home: Path) -> None:
    (home / NAME).chmod(0o755)
    (home / NAME / "data").mkdir()
    inside = f"""
import subprocess, sys
sys.path[:0] = {[path for path in sys.path if path.endswith("collections")]!r}
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.removal import remove_generation
subprocess.run(["mount", "--bind", {str(home.parent / "outside")!r}, {str(home / NAME / "data")!r}], check=True)
try:
    remove_generation({str(home)!r}, {NAME!r}, {os.geteuid()})
except OSError as error:
    print(error)
"""
    done = subprocess.run(["unshare", "--mount", sys.executable, "-c", inside], capture_output=True, text=True)
    assert "is a mount point: 'data'" in done.stdout, done.stderr
    assert precious(home)
    # What was begun is incomplete: nobody will use it.
    assert not (home / NAME / manifest.NAME).exists()


def test_a_depth_that_no_environment_has_is_an_error_and_not_our_end(home: Path) -> None:
    (home / NAME).chmod(0o755)
    begin = os.open(home / NAME, os.O_RDONLY)
    folder = begin
    for _level in range(removal.MAX_DEPTH + 50):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="folders deep"):
        remove_generation(str(home), NAME, os.geteuid())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_exchanged_for_a_link_meanwhile_leads_nowhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner exchanges it between the look at it and its opening."""
    original = os.open

    def exchanging(path, flags, *rest, **options):
        if path == "lib":
            (home / NAME / "lib").rename(home / "lib")
            (home / NAME / "lib").symlink_to(home.parent / "outside")
        return original(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(OSError, match="not empty"):
        remove_generation(str(home), NAME, os.geteuid())
    assert precious(home) and (home / "lib" / "file").exists()
