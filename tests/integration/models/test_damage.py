# SPDX-License-Identifier: GPL-3.0-or-later
"""What was published and then damaged is named exactly, and repaired alone; what is somebody's is left to them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import shares
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import store, tiers
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import tree
from conftest import SIZE, Bench, control, states

WEIGHTS = "model.safetensors"
NESTED = "original/params.json"


def keys(bench: Bench, name: str = "snapshots", **given: object) -> dict[str, tuple[object, object]]:
    prefix = f"snapshot tiny/{bench.folder.name}"
    return {c.key.removeprefix(f"{prefix}: "): (c.before, c.after) for c in control(bench.check(**given), name).changes}


def corrupt(bench: Bench) -> None:
    """Of the same size and with its old times: only ctime tells."""
    path = bench.folder / WEIGHTS
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.chmod(0o644)
    with path.open("r+b") as handle:
        handle.write(b"\0" * 10)
    path.chmod(0o444)
    os.utime(path, ns=times)


def truncate(bench: Bench) -> None:
    (bench.folder / WEIGHTS).chmod(0o644)
    os.truncate(bench.folder / WEIGHTS, 100)
    (bench.folder / WEIGHTS).chmod(0o444)


def linked(bench: Bench) -> None:
    (bench.folder / WEIGHTS).unlink()
    (bench.folder / WEIGHTS).symlink_to("/etc/hostname")


@pytest.mark.breaks("models/snapshots")
@pytest.mark.parametrize(
    ("damage", "key", "found", "fetched"),
    [
        (corrupt, WEIGHTS, "other content", {WEIGHTS}),
        (truncate, WEIGHTS, "100 bytes", {WEIGHTS}),
        (linked, WEIGHTS, "a link", {WEIGHTS}),
        (lambda b: (b.folder / NESTED).unlink(), NESTED, "absent", {NESTED}),
        (lambda b: os.chown(b.folder / WEIGHTS, 65534, 0), WEIGHTS, "belongs to uid 65534", set()),
        (lambda b: (b.folder / WEIGHTS).chmod(0o666), f"mode of {WEIGHTS}", "another", set()),
        (lambda b: (b.folder / "original").chmod(0o777), "mode of original", "another", set()),
        (lambda b: os.chown(b.folder / "original", 65534, 0), "folder original", "of somebody else", set()),
        (lambda b: (b.folder / ".nusy-snapshot.json").write_text("{}"), "label", "none of this role", set()),
        (lambda b: (b.folder / ".nusy-snapshot.json").write_text("[" * 200_000), "label", "none of this role", set()),
    ],
)  # fmt: skip
def test_damage_is_named_and_repaired_alone(
    bench: Bench, damage: Callable[[Bench], object], key: str, found: str, fetched: set[str]
) -> None:
    bench.apply()
    damage(bench)
    bench.hub.asked.clear()
    assert {key: found} == {name: before for name, (before, _after) in keys(bench).items()}
    assert states(bench.apply()) == {}
    assert {path for _m, path, _r, _s in bench.hub.asked} == fetched
    assert (bench.folder / WEIGHTS).read_bytes() == bench.hub.repositories["acme/tiny"].files[WEIGHTS].read_bytes()
    assert Path("/etc/hostname").exists()


@pytest.mark.breaks("models/current")
def test_a_link_that_leads_elsewhere_is_repaired(bench: Bench) -> None:
    bench.apply()
    link = bench.root / "tiny" / "current"
    link.unlink()
    link.symlink_to("/tmp")
    assert states(bench.check()) == {"models/current": "drifted"}
    assert states(bench.apply()) == {} and os.readlink(link) == bench.folder.name


def test_what_nobody_declares_goes_only_when_it_is_named(bench: Bench) -> None:
    bench.apply()
    bench.folder.chmod(0o755)
    extra = bench.folder / "modeling_evil.py"
    extra.write_text("print()")
    bench.folder.chmod(0o555)
    plan = bench.apply()
    assert str(extra) in control(plan, "snapshots").blocked_by and extra.exists()
    assert states(bench.apply(confirm=[str(extra)])) == {} and not extra.exists()


def _link_instead_of_a_folder(bench: Bench) -> Path:
    elsewhere = bench.place / "elsewhere"
    (bench.folder / "original").rename(elsewhere)
    (elsewhere / "params.json").unlink()
    (bench.folder / "original").symlink_to(elsewhere)
    return bench.folder / "original"


def _folder_instead_of_a_file(bench: Bench) -> Path:
    (bench.folder / "config.json").unlink()
    (bench.folder / "config.json").mkdir()
    return bench.folder / "config.json"


@pytest.mark.parametrize("damage", [_link_instead_of_a_folder, _folder_instead_of_a_file])
def test_what_is_in_the_place_of_a_declared_file_goes_when_it_is_named_and_is_never_written_through(
    bench: Bench, damage: Callable[[Bench], Path]
) -> None:
    bench.apply()
    bench.folder.chmod(0o755)
    place = damage(bench)
    bench.folder.chmod(0o555)
    bench.hub.asked.clear()
    assert str(place) in control(bench.apply(), "snapshots").blocked_by
    assert bench.hub.asked == [] and not (bench.place / "elsewhere" / "params.json").exists()
    assert states(bench.apply(confirm=[str(place)])) == {}
    assert not (bench.place / "elsewhere" / "params.json").exists()


def test_a_folder_of_somebody_is_adopted_if_it_is_as_declared_and_else_asked_for(bench: Bench) -> None:
    source = bench.hub.repositories["acme/tiny"].files[WEIGHTS].parent
    bench.root.mkdir()
    (bench.root / "tiny").mkdir()
    subprocess.run(["cp", "-r", source, bench.folder], check=True)
    (bench.folder / "config.json").write_text("mine")
    plan = bench.apply()
    assert str(bench.folder) in control(plan, "snapshots").blocked_by
    assert (bench.folder / "config.json").read_text() == "mine" and bench.hub.asked == []
    (bench.folder / "config.json").write_bytes((source / "config.json").read_bytes())
    assert states(bench.apply()) == {} and bench.hub.asked == []


def test_looking_reads_no_bytes_until_an_inode_was_touched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.apply()
    read = bench.place / "read"
    honest = tree.sha256

    def counted(path: str) -> str:
        with read.open("a") as handle:
            handle.write(f"{os.path.basename(path)}\n")
        return honest(path)

    monkeypatch.setattr(tree, "sha256", counted)
    assert states(bench.check()) == {} and not read.exists()
    assert states(bench.check(verify="everything")) == {} and len(read.read_text().split()) == 4
    read.unlink()
    os.utime(bench.folder / WEIGHTS)
    assert states(bench.check()) == {} and read.read_text().split() == [WEIGHTS]
    # A real run remembers what it compared.
    subject, reader, writer = bench.subject(), HostReader(), HostWriter()
    subject.settle(subject.plan(reader), reader, writer)
    read.unlink()
    assert states(bench.check()) == {} and not read.exists()


def test_everything_finds_what_no_inode_tells(bench: Bench) -> None:
    """A disk that rots changes no stamp: here the label is made to say that it was compared since."""
    bench.apply()
    corrupt(bench)
    path = bench.folder / ".nusy-snapshot.json"
    label = json.loads(path.read_text())
    label["files"][WEIGHTS]["stamp"] = store.stamp(os.lstat(bench.folder / WEIGHTS))
    path.write_text(json.dumps(label))
    assert states(bench.check()) == {}
    assert keys(bench, verify="everything")[WEIGHTS][0] == "other content"
    assert states(bench.apply(verify="everything")) == {}


@pytest.mark.breaks("models/unused")
def test_only_named_snapshots_go_and_nobody_elses_ever(bench: Bench) -> None:
    bench.apply(bench.manifest(), bench.manifest("old", "acme/next"))
    theirs = bench.root / "theirs"
    theirs.mkdir()
    (theirs / "weights").write_bytes(b"x")
    old = bench.root / "old" / bench.hub.repositories["acme/next"].commit
    plan = bench.apply()
    assert control(plan, "unused").blocked_by == f"models_confirm: [{old}]" and old.is_dir()
    assert plan.facts["others"] == [str(theirs)]
    # What runs from it keeps it.
    user = subprocess.Popen(["sleep", "60"], cwd=old)
    try:
        busy = bench.apply(confirm=[str(old)])
        assert "sleep" in control(busy, "unused").reason and old.is_dir()
    finally:
        user.kill()
        user.wait()
    assert states(bench.apply(confirm=[str(old), str(theirs)])) == {}
    assert not (bench.root / "old").exists() and theirs.is_dir()


@pytest.mark.names("models/space")
def test_what_is_named_makes_room_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with 5 MiB, of which an unused model has 4."""
    bench.apply(bench.manifest("old", "acme/next"))
    old = bench.root / "old" / bench.hub.repositories["acme/next"].commit

    def free(_path: str) -> int:
        used = sum(p.stat().st_size for p in bench.root.rglob("*") if p.is_file())
        return 5 * (SIZE // 4) - used

    monkeypatch.setattr("ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe._free", free)
    assert states(bench.check())["models/space"] == "drifted"
    with pytest.raises(NodeError):
        bench.apply()
    assert states(bench.apply(confirm=[str(old)])) == {} and not old.exists()


TIER = {"owner": "", "mode": "", "free_gib": 0, "file_systems": [], "mounted": None}


def wrong(plan: Plan) -> dict[str, str]:
    return {change.key: change.before for change in control(plan, "tiers").changes}


@pytest.mark.breaks("models/tiers")
def test_tiers_have_folders_and_room(bench: Bench) -> None:
    tier = {**TIER, "name": "checkpoints", "path": str(bench.place / "ckpt")}
    assert states(bench.apply(tiers=[tier])) == {}
    (bench.place / "ckpt").chmod(0o777)
    assert states(bench.check(tiers=[tier])) == {"models/tiers": "drifted"}
    assert states(bench.apply(tiers=[tier])) == {}
    assert (bench.place / "ckpt").stat().st_mode & 0o7777 == 0o750
    plan = bench.check(tiers=[{**tier, "free_gib": 1 << 20}])
    assert wrong(plan) == {"room of tier checkpoints": "less"}
    assert "GiB are free" in control(plan, "tiers").reason


def test_no_link_leads_a_tier_or_the_root_into_the_system(bench: Bench) -> None:
    """Named as what was there before, it would be given away."""
    link = bench.place / "ckpt"
    link.symlink_to("/etc")
    tier = {**TIER, "name": "checkpoints", "path": str(link)}
    plan = bench.check(tiers=[tier], confirm=[str(link)])
    assert wrong(plan) == {"tier checkpoints": "a link to /etc"} and not any("/ckpt" in s.text() for s in plan.steps)
    bench.root.symlink_to("/etc")
    plan = bench.check(confirm=[str(bench.root)])
    assert plan.steps == () and set(states(plan).values()) == {"unknown"}
    with pytest.raises(NodeError, match="leads to /etc"):
        bench.apply()
    # Anywhere else it may lead.
    bench.root.unlink()
    (bench.place / "disk").mkdir()
    bench.root.symlink_to(bench.place / "disk")
    assert states(bench.apply()) == {}


def test_a_tier_is_on_a_disk_of_its_own_and_of_the_kind_it_should_be(bench: Bench) -> None:
    path = bench.place / "archive"
    tier = {**TIER, "name": "cold_archive", "path": str(path), "free_gib": 1 << 20, "file_systems": ["ext4"]}
    # No folder is made there, and neither the room nor the kind of what is below it is told.
    for make in (lambda: None, path.mkdir):
        make()
        assert wrong(bench.check(tiers=[tier])) == {"tier cold_archive": "not mounted"}
        with pytest.raises(NodeError, match=f"mount its disk at {path}"):
            bench.apply(tiers=[tier])
        assert path.exists() is (make == path.mkdir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0750", "none", str(path)], check=True)
    try:
        plan = bench.check(tiers=[tier])
        assert wrong(plan) == {"file system of tier cold_archive": "tmpfs", "room of tier cold_archive": "less"}
        fits = {**tier, "free_gib": 0, "file_systems": ["ext4", "tmpfs"]}
        assert states(bench.check(tiers=[fits])) == {}
        # Of the same file system, and yet a mount: the root of the tmpfs shown once more.
        bound = {**fits, "name": "artifacts", "path": str(bench.place / "bound"), "mounted": True}
        (bench.place / "bound").mkdir(mode=0o750)
        subprocess.run(["mount", "--bind", str(path), bound["path"]], check=True)
        try:
            assert states(bench.check(tiers=[fits, bound])) == {}
        finally:
            subprocess.run(["umount", bound["path"]], check=True)
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.breaks("models/tiers")
def test_a_tier_that_cannot_be_looked_at_is_unknown_beside_those_that_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a share whose server is gone."""
    gone, real = str(bench.place / "gone"), tiers.measured
    monkeypatch.setattr(shares, "SECONDS", 0.5)
    monkeypatch.setattr(tiers, "measured", lambda path: time.sleep(60) if path == gone else real(path))
    plan = bench.check(
        tiers=[{**TIER, "name": "gone", "path": gone}, {**TIER, "name": "near", "path": str(bench.place / "near")}]
    )
    assert states(plan)["models/tiers"] == "drifted"
    assert {c.key for c in control(plan, "tiers").changes} >= {f"directory {bench.place / 'near'}"}
    assert "no answer within 0.5 s" in control(plan, "tiers").reason


def test_nothing_declared_is_nothing_done(bench: Bench) -> None:
    subject = bench.subject()
    assert subject
    plan = Bench(bench.place, bench.hub, bench.python, {"models": []}).check()
    assert plan.steps == () and {c.state for c in plan.controls} <= {"not_selected", "in_sync"}
    assert not bench.root.exists()


@pytest.mark.breaks("models/place")
def test_a_folder_that_is_somebodys_is_not_written_into_before_it_is_named(bench: Bench) -> None:
    bench.apply()
    truncate(bench)
    os.chown(bench.root / "tiny", 65534, 0)
    plan = bench.check()
    assert states(plan) == {"models/place": "drifted", "models/snapshots": "drifted"} and plan.steps == ()
    assert control(plan, "snapshots").blocked_by == f"models_confirm: [{bench.root / 'tiny'}]"
    bench.apply()
    assert (bench.folder / WEIGHTS).stat().st_size == 100
    assert states(bench.apply(confirm=[str(bench.root / "tiny")])) == {}
