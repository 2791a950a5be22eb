# SPDX-License-Identifier: GPL-3.0-or-later
"""Models come from a hub with the real client, whole or not at all, and no byte twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from conftest import SIZE, Bench, control, snapshot, states
from hub import Fault

WEIGHTS = "model.safetensors"
# What a cut connection may cost: the piece that was on its way.
MIB = 1 << 20


def refused(bench: Bench, key: str, *models: dict[str, Any], **given: Any) -> str:
    """The run fails with that key, and publishes nothing."""
    with pytest.raises(NodeError) as caught:
        bench.apply(*models, **given)
    assert caught.value.problem.key == key, caught.value
    assert not bench.folder.exists()
    return caught.value.problem.text()


def test_a_check_foretells_and_a_run_publishes_exactly_the_declared_bytes(bench: Bench) -> None:
    foretold = bench.check()
    assert states(foretold) == {"models/place": "drifted", "models/snapshots": "drifted", "models/current": "drifted"}
    left = bench.apply()
    assert states(left) == {} and left.steps == ()
    assert os.readlink(bench.root / "tiny" / "current") == bench.folder.name
    for path, source in bench.hub.repositories["acme/tiny"].files.items():
        assert (bench.folder / path).read_bytes() == source.read_bytes()
        assert (bench.folder / path).stat().st_mode & 0o7777 == 0o444
    assert sorted(p.name for p in (bench.root / "tiny").iterdir()) == sorted([bench.folder.name, "current"])
    assert snapshot(left)["came"] == {bench.hub.url: 4}
    assert states(bench.check()) == {}
    assert all(not asked for asked in bench.hub.authorised), "a token was sent for what is not gated"


def test_503_is_tried_again_and_a_hub_that_stays_broken_is_named(bench: Bench) -> None:
    bench.hub.faults[WEIGHTS] = Fault(status=503, times=2)
    assert states(bench.apply()) == {}
    bench.hub.faults[WEIGHTS] = Fault(status=503, times=99)
    assert "mirror" in refused(Bench(bench.place / "other", bench.hub, bench.python), "models.hub_failed")


def test_a_connection_that_is_cut_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.hub.faults[WEIGHTS] = Fault(cut=5 * MIB // 2)
    assert states(bench.apply()) == {}
    assert [(r, size) for _m, path, r, size in bench.hub.asked if path == WEIGHTS] == [
        ("", 5 * MIB // 2),
        (f"bytes={2 * MIB}-", 2 * MIB),
    ]


def test_a_run_that_is_killed_is_gone_on_with_by_the_next(bench: Bench, tmp_path: Path) -> None:
    """All its processes, by SIGKILL, when half of the weights is there."""
    bench.hub.faults[WEIGHTS] = Fault(pause=0.1)
    code = f"""
import os, sys
sys.path[:0] = {[p for p in sys.path if p]!r}
os.setpgid(0, 0)
from conftest import *
import dataclasses
class Server: pass
hub = Server(); hub.url = {bench.hub.url!r}
Bench(Path({str(bench.place)!r}), hub, {bench.python!r}).apply({bench.manifest()!r})
"""
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, cwd=Path(__file__).parent)
    work = bench.root / "tiny" / f".{bench.folder.name}.work" / bench.hub.repositories["acme/tiny"].hashes[WEIGHTS]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (work.exists() and work.stat().st_size >= 2 * MIB):
        time.sleep(0.05)
    client = _client_of(bench)
    os.kill(run.pid, signal.SIGKILL)
    os.kill(client, signal.SIGKILL)
    run.wait()
    had = work.stat().st_size
    assert 2 * MIB <= had < SIZE and not bench.folder.exists()
    bench.hub.faults.clear()
    bench.hub.asked.clear()
    assert snapshot(bench.check())["missing"] == SIZE - had
    assert states(bench.apply()) == {}
    assert bench.hub.asked[-1] == ("GET", WEIGHTS, f"bytes={had}-", SIZE - had)


def _client_of(bench: Bench) -> int:
    """The process that downloads: it is started with the Python of the bench."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0] == bench.python.encode() and str(bench.place).encode() in os.readlink(folder / "cwd").encode():
                return int(folder.name)
            if words[0] == bench.python.encode() and b"-c" in words:
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("no download is running")


def test_other_bytes_than_declared_are_never_published(bench: Bench) -> None:
    bench.hub.faults[WEIGHTS] = Fault(content=True)
    said = refused(bench, "models.hash")
    assert WEIGHTS in said
    # The others are kept, and those bytes are not.
    bench.hub.asked.clear()
    assert states(bench.apply()) == {}
    assert {path for _m, path, _r, _s in bench.hub.asked} == {WEIGHTS}


def test_another_size_than_declared_is_other_bytes(bench: Bench) -> None:
    entry = bench.manifest()
    entry["files"][0]["size"] += 1
    refused(bench, "models.hash", entry)


def test_a_hub_that_does_not_stop_fills_no_disk(bench: Bench) -> None:
    """It sends more than was declared, and would go on."""
    entry = bench.manifest()
    (weights,) = (file for file in entry["files"] if file["path"] == WEIGHTS)
    weights["size"] = 1 << 20
    assert "other" in refused(bench, "models.hash", entry)
    (part,) = bench.root.glob(f"tiny/.*.work/{weights['sha256']}")
    assert part.stat().st_size == 0 and bench.hub.sent(WEIGHTS) <= SIZE


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"revision": "0" * 40}, "models.no_revision", "commits/main"),
        ({"repository": "acme/absent"}, "models.no_repository", "acme/absent"),
        ({"files": [{"path": "no.json", "size": 2, "sha256": "a" * 64}]}, "models.no_file", "no.json"),
    ],
)
def test_what_the_hub_does_not_have_is_told_apart(bench: Bench, change: dict[str, Any], key: str, words: str) -> None:
    assert words in refused(bench, key, {**bench.manifest(), **change})


def test_a_gated_model_needs_the_right_token_and_nobody_sees_it(bench: Bench) -> None:
    entry = bench.manifest("closed", "acme/closed", gated=True)
    plan = bench.check(entry)
    assert "no token is given" in control(plan, "snapshots").reason and not any(
        "publish" in s.text() for s in plan.steps
    )
    with pytest.raises(NodeError) as none:
        bench.apply(entry)
    assert none.value.problem.key == "state.not_ensured" and "models_token" in none.value.problem.fix
    with pytest.raises(NodeError) as wrong:
        bench.apply(entry, token="hf_wrong_token")
    assert wrong.value.problem.key == "models.not_allowed" and "hf_wrong_token" not in str(wrong.value)
    assert states(bench.apply(entry, token="hf_right_token")) == {}
    assert "hf_right_token" not in json.dumps(dict(bench.check(entry, token="hf_right_token").facts))


def test_a_hub_that_is_away_is_named(bench: Bench) -> None:
    said = refused(bench, "models.unreachable", endpoint="http://127.0.0.1:9")
    assert "models_endpoint" in said


def test_without_the_library_it_says_where_it_is_looked_for(bench: Bench) -> None:
    assert "huggingface_hub" in refused(bench, "models.no_client", python="/usr/bin/python3")
    assert "models_python" in refused(bench, "models.no_client", python="/nonexistent/python")


def test_room_is_looked_for_before_the_first_byte(bench: Bench) -> None:
    plan = bench.check(reserve_gib=1 << 20)
    assert states(plan)["models/space"] == "drifted" and not any("publish" in step.text() for step in plan.steps)
    assert "no room" in refused(bench, "state.not_ensured", reserve_gib=1 << 20)
    assert bench.hub.asked == []


def test_a_disk_that_fills_up_meanwhile_is_named_and_what_came_is_kept(bench: Bench) -> None:
    """A small tmpfs of which the look believes that it is a large one."""
    bench.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "none", bench.root], check=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "ansible_collections.nusy.dgx_spark.plugins.module_utils._models.observe._free", lambda _path: 1 << 40
            )
            said = refused(bench, "models.disk_full")
        assert "models_confirm" in said
        subprocess.run(["mount", "-o", "remount,size=16m", bench.root], check=True)
        assert states(bench.apply()) == {}
        assert bench.hub.asked[-1][1:3] != (WEIGHTS, "") and any(
            r for _m, path, r, _s in bench.hub.asked if path == WEIGHTS
        )
    finally:
        subprocess.run(["umount", bench.root], check=True)


def test_offline_asks_no_hub_and_a_peer_serves(bench: Bench, tmp_path: Path) -> None:
    plan = bench.check(offline=True)
    assert "models_offline" in control(plan, "snapshots").reason and plan.facts
    bench.apply()
    other = Bench(bench.place / "other", bench.hub, bench.python)
    bench.hub.asked.clear()
    assert states(other.apply(offline=True, peers=[str(bench.root)])) == {}
    assert bench.hub.asked == []
    assert snapshot(other.check(offline=True))["came"] == {str(bench.root): 4}


def test_what_a_peer_has_otherwise_comes_from_the_hub_and_the_peer_is_named(bench: Bench) -> None:
    bench.apply()
    weights = bench.folder / WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(b"\0" * SIZE)
    other = Bench(bench.place / "other", bench.hub, bench.python)
    bench.hub.asked.clear()
    found = snapshot(other.apply(peers=["/nonexistent", str(bench.root)]))
    assert {path for _m, path, _r, _s in bench.hub.asked} == {WEIGHTS}
    assert found["came"] == {str(bench.root): 3, bench.hub.url: 1}
    assert "other bytes" in found["passed"][str(bench.root)] and "/nonexistent" in found["passed"]


def test_a_new_revision_takes_over_what_this_node_has_already(bench: Bench) -> None:
    bench.apply()
    bench.hub.asked.clear()
    left = bench.apply(bench.manifest("tiny", "acme/next"))
    assert {path for _m, path, _r, _s in bench.hub.asked} == {"config.json"}
    old = next(c for c in left.controls if c.id == "models/unused")
    assert old.state == "drifted" and str(bench.folder) in old.blocked_by
    assert bench.folder.is_dir()


def test_a_copy_from_a_peer_goes_on_where_it_stopped(bench: Bench) -> None:
    """What came before is believed until the hash of the whole is known: other bytes cost this file alone."""
    bench.apply()
    other = Bench(bench.place / "other", bench.hub, bench.python)
    begun = other.root / "tiny" / f".{bench.folder.name}.work" / "peer" / WEIGHTS
    begun.parent.mkdir(parents=True)
    begun.write_bytes((bench.folder / WEIGHTS).read_bytes()[:MIB])
    assert states(other.apply(peers=[str(bench.root)], offline=True)) == {}
    wrong = Bench(bench.place / "wrong", bench.hub, bench.python)
    begun = wrong.root / "tiny" / f".{bench.folder.name}.work" / "peer" / WEIGHTS
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"\0" * MIB)
    bench.hub.asked.clear()
    assert states(wrong.apply(peers=[str(bench.root)])) == {}
    assert {path for _m, path, _r, _s in bench.hub.asked} == {WEIGHTS}
