# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments of an account that is not root: built and looked at with its rights alone."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from venv_bench import Bench, private, states, system_python

OWNER = "daemon"
SYSTEM = "/usr/bin/python3"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """In a place that the account can reach, with a Python that it can run."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield from private(Path(name), monkeypatch)


def options() -> dict[str, object]:
    return {"owner": OWNER, "interpreter": SYSTEM, "python": system_python(), "uv": []}


def test_everything_belongs_to_it_and_runs_with_its_rights(site: Bench) -> None:
    uid = pwd.getpwnam(OWNER).pw_uid
    who = site.wheel("who", "1.0", files={"who.py": f"import os\nassert os.geteuid() == {uid}, os.geteuid()\n"})
    site.apply(who, imports=["who"], **options())
    assert {path.lstat().st_uid for path in [site.home, *site.home.rglob("*")]} == {uid}
    assert states(site.check(who, imports=["who"], **options())) == {}
    # Made by root, which everybody on the way must be or be the owner.
    assert site.root.stat().st_uid == 0
    first = site.current
    # What a pip run as root leaves: the account itself could not remove it.
    (site.site / "by_root").mkdir()
    (site.site / "by_root" / "x.py").write_text("x = 1\n")
    site.apply(who, imports=["who"], **options())
    assert site.current == f"{first}-2" and not (site.home / first).exists()


def test_a_place_in_its_own_folder_is_made_with_its_rights(site: Bench) -> None:
    """Root that made directories below a folder of somebody else could be led to make them anywhere."""
    account = pwd.getpwnam(OWNER)
    own = site.base / "own"
    own.mkdir()
    os.chown(own, account.pw_uid, account.pw_gid)
    alpha = site.wheel("alpha", "1.0")
    site.apply(alpha, **options(), root=str(own / "venvs"))
    assert (own / "venvs").stat().st_uid == account.pw_uid
    site.root, site.home = own / "venvs", own / "venvs" / "demo"
    assert states(site.check(alpha, **options())) == {}
