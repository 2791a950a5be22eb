# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that have other bytes, too many or too few of them, and a disk that fills up while one is copied."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from conftest import SIZE, Bench, control, snapshot, states

WEIGHTS = "model.safetensors"
MIB = 1 << 20


def peer(bench: Bench, name: str) -> Bench:
    """With a root of its own, as another host has."""
    (bench.place / name).mkdir()
    other = Bench(bench.place / name, bench.hub, bench.python)
    other.apply()
    return other


def cut(weights: Path) -> None:
    weights.write_bytes(b"\0" * MIB)


def longer(weights: Path) -> None:
    weights.write_bytes(b"\0" * 3 * SIZE)


@pytest.mark.parametrize("change", [cut, longer, lambda weights: weights.write_bytes(b"\0" * SIZE), Path.unlink])
def test_after_a_wrong_peer_the_next_one_gives_the_whole(bench: Bench, change: Callable[[Path], object]) -> None:
    """rsync would append the right end to the wrong beginning, and the right peer would be called wrong."""
    wrong, right = peer(bench, "wrong"), peer(bench, "right")
    wrong.folder.chmod(0o755)
    (wrong.folder / WEIGHTS).chmod(0o644)
    change(wrong.folder / WEIGHTS)
    bench.hub.asked.clear()
    found = snapshot(bench.apply(peers=[str(wrong.root), str(right.root)], offline=True))
    assert found["came"] == {str(wrong.root): 3, str(right.root): 1} and bench.hub.asked == []
    assert list(found["passed"]) == [str(wrong.root)]
    assert (bench.folder / WEIGHTS).read_bytes() == (right.folder / WEIGHTS).read_bytes()


def test_a_peer_that_is_mended_is_taken_at_the_next_run(bench: Bench) -> None:
    only = peer(bench, "only")
    good = (only.folder / WEIGHTS).read_bytes()
    (only.folder / WEIGHTS).chmod(0o644)
    (only.folder / WEIGHTS).write_bytes(b"\0" * (SIZE + 1))
    given = {"peers": [str(only.root)], "offline": True}
    with pytest.raises(NodeError) as caught:
        bench.apply(**given)
    assert caught.value.problem.key == "models.offline"
    (work,) = bench.root.glob("tiny/.*.work")
    assert sum(p.stat().st_size for p in work.rglob("*") if p.is_file()) < MIB, "more than was declared came"
    (only.folder / WEIGHTS).write_bytes(good)
    assert states(bench.apply(**given)) == {}


def test_what_a_killed_run_had_of_a_peer_is_taken_and_what_is_too_long_is_not(bench: Bench) -> None:
    source = peer(bench, "source")
    copies = bench.root / "tiny" / f".{bench.folder.name}.work" / "peer"
    copies.mkdir(parents=True)
    (copies / "config.json").write_bytes(b"x" * 100)
    (copies / WEIGHTS).write_bytes((source.folder / WEIGHTS).read_bytes())
    source.folder.chmod(0o755)
    (source.folder / WEIGHTS).unlink()
    assert states(bench.apply(peers=[str(source.root)], offline=True)) == {}


def test_a_disk_that_fills_up_while_a_peer_is_copied_is_named_and_what_came_is_kept(bench: Bench) -> None:
    source = peer(bench, "source")
    given = {"peers": [str(source.root)], "offline": True}
    bench.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "none", bench.root], check=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe._free", lambda _path: 1 << 40
            )
            with pytest.raises(NodeError) as caught:
                bench.apply(**given)
        assert caught.value.problem.key == "models.disk_full" and not bench.folder.exists()
        subprocess.run(["mount", "-o", "remount,size=16m", bench.root], check=True)
        kept = SIZE - snapshot(bench.check(**given))["missing"]
        parts = [p.stat().st_size for p in bench.root.rglob(WEIGHTS)]
        assert kept or sum(parts) >= MIB
        assert states(bench.apply(**given)) == {}
        assert not list(bench.root.glob("tiny/.*.work"))
    finally:
        subprocess.run(["umount", bench.root], check=True)


def test_a_disk_that_fills_up_while_this_node_copies_from_itself_asks_nobody_else(bench: Bench) -> None:
    """The same bytes in another snapshot; without room for them no other source helps."""
    bench.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0755", "none", bench.root], check=True)
    try:
        bench.apply()
        bench.hub.asked.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe._free", lambda _path: 1 << 40
            )
            with pytest.raises(NodeError) as caught:
                bench.apply(bench.manifest("tiny", "acme/next"))
        assert caught.value.problem.key == "models.disk_full" and bench.hub.asked == []
    finally:
        subprocess.run(["umount", bench.root], check=True)


def test_a_link_in_another_snapshot_of_this_node_is_not_copied(bench: Bench) -> None:
    bench.apply()
    bench.folder.chmod(0o755)
    aside = bench.place / "aside"
    (bench.folder / WEIGHTS).rename(aside)
    (bench.folder / WEIGHTS).symlink_to(aside)
    assert set(states(bench.apply(bench.manifest("next", "acme/next")))) == {"models/unused"}
    assert (
        bench.root / "next" / bench.hub.repositories["acme/next"].commit / WEIGHTS
    ).read_bytes() == aside.read_bytes()


def test_a_host_without_any_of_the_folders_is_foretold_and_filled(bench: Bench) -> None:
    root = bench.place / "srv" / "no" / "models"
    plan = bench.check(root=str(root))
    assert states(plan) == {"models/place": "drifted", "models/snapshots": "drifted", "models/current": "drifted"}
    assert control(plan, "space").state == "in_sync" and not root.parent.exists()
    assert states(bench.apply(root=str(root))) == {} and (root / "tiny" / "current" / WEIGHTS).exists()
