# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a snapshot is worked on: one run's alone, nothing in it leads out, and nothing of it stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models import fetch, work
from conftest import SIZE, Bench, control, states
from hub import Fault

WEIGHTS = "model.safetensors"
LABEL = ".nusy-snapshot.json"


def place(bench: Bench) -> Path:
    return bench.root / "tiny" / f".{bench.folder.name}.work"


def whole(bench: Bench) -> bool:
    """Exactly the declared bytes, and nothing beside them."""
    files = bench.hub.repositories["acme/tiny"].files
    assert {p.relative_to(bench.folder).as_posix() for p in bench.folder.rglob("*") if not p.is_dir()} == {
        *files,
        LABEL,
    }
    assert all((bench.folder / path).read_bytes() == source.read_bytes() for path, source in files.items())
    assert sorted(p.name for p in (bench.root / "tiny").iterdir()) == sorted([bench.folder.name, "current"])
    return states(bench.check()) == {}


@pytest.fixture
def elsewhere(bench: Bench) -> Path:
    """Of somebody: no run may write there, or take from there."""
    folder = bench.place / "elsewhere"
    (folder / "original").mkdir(parents=True)
    for name in ("config.json", "original/params.json"):
        (folder / name).write_text("mine")
    return folder


def untouched(elsewhere: Path) -> bool:
    files = sorted(p for p in elsewhere.rglob("*") if p.is_file())
    return [p.relative_to(elsewhere).as_posix() for p in files] == ["config.json", "original/params.json"] and all(
        p.read_text() == "mine" and p.stat().st_nlink == 1 for p in files
    )


@pytest.mark.parametrize("there", ["a link", "a file", "neither file nor folder"])
def test_what_is_in_the_place_of_the_work_folder_is_foretold_and_left_alone(
    bench: Bench, elsewhere: Path, there: str
) -> None:
    place(bench).parent.mkdir(parents=True)
    make: dict[str, Callable[[], object]] = {
        "a link": lambda: place(bench).symlink_to(elsewhere),
        "a file": lambda: place(bench).write_text("mine"),
        "neither file nor folder": lambda: os.mkfifo(place(bench)),
    }
    make[there]()
    found = control(bench.check(), "snapshots")
    assert f"{place(bench)} is {there}" in found.reason
    assert not any("publish" in step.text() for step in bench.check().steps)
    with pytest.raises(NodeError, match="move"):
        bench.apply()
    # Nor when it has come there since the look.
    with pytest.raises(NodeError) as caught:
        fetch.Fetch(bench.subject().wanted, bench.subject().wanted.models[0], "/").run()
    assert caught.value.problem.key == "models.no_folder"
    assert untouched(elsewhere) and bench.hub.asked == []


@pytest.mark.parametrize("name", ["tree", "peer", "tree/original", "file", "hard link"])
def test_nothing_in_the_work_folder_leads_out_of_it(bench: Bench, elsewhere: Path, name: str) -> None:
    digest = bench.hub.repositories["acme/tiny"].hashes["config.json"]
    (place(bench) / "tree").mkdir(parents=True)
    if name == "file":
        (place(bench) / digest).symlink_to(elsewhere / "config.json")
    elif name == "hard link":
        os.link(elsewhere / "config.json", place(bench) / digest)
    else:
        (place(bench) / "tree").rmdir() if name == "tree" else None
        (place(bench) / name).symlink_to(elsewhere / "original" if "/" in name else elsewhere)
    assert states(bench.apply()) == {}
    assert whole(bench) and untouched(elsewhere)


def test_a_link_in_the_place_of_a_snapshot_or_work_folder_is_somebodys(bench: Bench) -> None:
    """Through it their label would be taken from the snapshot that it leads to."""
    bench.apply()
    old = bench.root / "old"
    old.mkdir()
    for name in ("f" * 40, f".{'f' * 40}.work"):
        (old / name).symlink_to(bench.folder)
    plan = bench.apply(confirm=[str(old / ("f" * 40)), str(old / f".{'f' * 40}.work")])
    assert plan.facts["unused"] == [] and plan.facts["others"] == [str(old)]
    assert whole(bench) and len(list(old.iterdir())) == 2


def _holder(path: Path) -> subprocess.Popen[bytes]:
    path.mkdir(parents=True)
    code = (
        "import fcntl,os,sys,time; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), 2); print(flush=True); time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    return process


def test_who_works_on_the_same_snapshot_is_named_and_a_kill_frees_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "WAIT_SECONDS", 0.3)
    holder = _holder(place(bench))
    try:
        with pytest.raises(NodeError) as caught:
            bench.apply()
        problem = caught.value.problem
        assert problem.key == "models.busy" and f"process {holder.pid} " in problem.found
        assert f"ps -fp {holder.pid}" in problem.fix and bench.hub.asked == []
    finally:
        holder.kill()
        holder.wait()
    assert states(bench.apply()) == {} and whole(bench)


def test_of_two_runs_at_once_the_second_waits_and_fetches_nothing(bench: Bench) -> None:
    """On one disk, from two containers that do not see each other's turn."""
    bench.hub.faults[WEIGHTS] = Fault(pause=0.01)
    bench.root.mkdir()
    errors: list[BaseException] = []

    def run() -> None:
        subject = bench.subject()
        try:
            fetch.Fetch(subject.wanted, subject.wanted.models[0], "/").run()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == [] and bench.hub.sent(WEIGHTS) == SIZE
    bench.apply()
    assert whole(bench)


def test_a_download_ends_with_the_run_that_began_it(bench: Bench) -> None:
    bench.hub.faults[WEIGHTS] = Fault(pause=0.05)
    run = begun(bench)
    weights = place(bench) / bench.hub.repositories["acme/tiny"].hashes[WEIGHTS]
    until(lambda: weights.exists() and weights.stat().st_size > 0)
    killed(run)
    until(lambda: not _locked(place(bench)))
    had = weights.stat().st_size
    time.sleep(0.3)
    assert 0 < weights.stat().st_size == had < SIZE


def _locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def begun(bench: Bench, **given: object) -> int:
    """A real run in a process of its own."""
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            bench.apply(**given)
            code = 0
        os._exit(code)
    return pid


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# Of these a check said that nobody knows anything of this role, and that its folder should be given to its owner.
ODD: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)),
    "link": lambda path: path.symlink_to("/dev/zero"),
    "device": lambda path: os.mknod(path, 0o020644, os.makedev(1, 5)),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_file_in_the_place_of_a_label_is_named_and_replaced(
    bench: Bench, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply()
    bench.folder.chmod(0o755)
    (bench.folder / LABEL).unlink()
    monkeypatch.chdir(bench.folder)
    ODD[odd](bench.folder / LABEL)
    bench.folder.chmod(0o555)
    (change,) = control(bench.check(), "snapshots").changes
    assert change.key.endswith(": label") and states(bench.check()) == {"models/snapshots": "drifted"}
    # Of another model it is nobody's business.
    assert states(bench.apply()) == {} and whole(bench)


def test_a_folder_in_the_place_of_a_label_goes_when_it_is_named(bench: Bench) -> None:
    bench.apply()
    bench.folder.chmod(0o755)
    (bench.folder / LABEL).unlink()
    (bench.folder / LABEL).mkdir()
    bench.folder.chmod(0o555)
    assert control(bench.apply(), "snapshots").blocked_by == f"models_confirm: [{bench.folder / LABEL}]"
    named = [str(bench.folder), str(bench.folder / LABEL)]
    assert states(bench.apply(confirm=named)) == {} and whole(bench)


def test_an_odd_label_of_an_unused_snapshot_hides_no_other(bench: Bench) -> None:
    bench.apply(bench.manifest(), bench.manifest("old", "acme/next"))
    old = bench.root / "old" / bench.hub.repositories["acme/next"].commit
    old.chmod(0o755)
    (old / LABEL).unlink()
    os.mkfifo(old / LABEL)
    plan = bench.check()
    assert states(plan) == {} and plan.facts["others"] == [str(old.parent)]


def test_what_a_killed_run_left_beside_or_in_a_whole_snapshot_is_named_and_goes(bench: Bench) -> None:
    bench.apply()
    (place(bench) / "tree").mkdir(parents=True)
    (place(bench) / "leftover").write_bytes(b"x")
    (change,) = control(bench.check(), "snapshots").changes
    assert change.key.endswith("work folder")
    assert states(bench.apply()) == {} and whole(bench)
    bench.folder.chmod(0o755)
    (bench.folder / f".{LABEL}.new").write_text("half")
    bench.folder.chmod(0o555)
    (change,) = control(bench.check(), "snapshots").changes
    assert (change.key.rpartition(": ")[2], change.before) == ("label", "not finished")
    assert states(bench.apply()) == {} and whole(bench)


def test_a_snapshot_that_is_half_removed_goes_on_going_under_its_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply(bench.manifest(), bench.manifest("old", "acme/next"))
    old = bench.root / "old" / bench.hub.repositories["acme/next"].commit
    with monkeypatch.context() as patch:

        def as_if_killed(folder: str) -> None:
            (Path(folder) / "pruned" / LABEL).unlink()
            raise OSError(5, "as if killed", folder)

        patch.setattr(work, "remove", as_if_killed)
        with pytest.raises(NodeError, match="as if killed"):
            bench.apply(confirm=[str(old)])
    assert not old.exists()
    plan = bench.check()
    (left,) = cast("list[dict[str, int]]", plan.facts["unused"])
    assert left["size"] >= SIZE and states(plan) == {"models/unused": "drifted"}
    assert states(bench.apply(confirm=[str(old)])) == {} and not old.parent.exists()


def test_who_uses_a_snapshot_since_the_look_keeps_it(bench: Bench) -> None:
    bench.apply(bench.manifest(), bench.manifest("old", "acme/next"))
    old = bench.root / "old" / bench.hub.repositories["acme/next"].commit
    subject, reader = bench.subject(confirm=[str(old)]), HostReader()
    plan = subject.plan(reader)
    user = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "--model", str(old)])
    try:
        with pytest.raises(NodeError) as caught:
            subject.apply(plan, reader, HostWriter())
        assert caught.value.problem.key == "models.in_use" and f"process {user.pid} " in caught.value.problem.found
        assert (old / LABEL).exists()
    finally:
        user.kill()
        user.wait()
    assert states(bench.apply(confirm=[str(old)])) == {} and not old.exists()


@pytest.mark.parametrize(
    ("given", "run"),
    [
        ("{old}", "exec sleep 60"),
        ("{old}/original", "exec sleep 60"),
        ("{root}", "cd {mnt}/old/{rev} && exec sleep 60"),
        ("{root}", "exec /usr/bin/python3 -c 'import time; time.sleep(60)' --model {mnt}/old/{rev}"),
        ("{root}", ""),
    ],
)
def test_a_container_that_was_given_a_snapshot_under_another_path_keeps_it(bench: Bench, given: str, run: str) -> None:
    """In its own namespace of mounts: nothing of it has the path of here."""
    bench.apply(bench.manifest(), bench.manifest("old", "acme/next"))
    revision = bench.hub.repositories["acme/next"].commit
    old, mnt = bench.root / "old" / revision, bench.place / "mnt"
    mnt.mkdir()
    words = {"old": "$0", "root": "$0", "mnt": "$1", "rev": "$2"}
    script = f'mount --bind "$0" "$1" && echo && {(run or "exec sleep 60").format(**words)}'
    source = given.format(old=old, root=bench.root)
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, source, str(mnt), revision]
    user = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd="/")
    try:
        assert user.stdout and user.stdout.readline() == b"\n"
        until(lambda: Path(f"/proc/{user.pid}/cmdline").read_bytes().startswith((b"sleep", b"/usr/bin/python3")))
        bench.apply(confirm=[str(old)])
        assert old.exists() is bool(run)
    finally:
        user.kill()
        user.wait()


@pytest.mark.parametrize("source", ["hub", "peer"])
def test_kill_9_at_any_moment_costs_no_byte_and_leaves_none(bench: Bench, source: str) -> None:
    """Ten times, at another moment each: while bytes come, are compared and are published."""
    given: dict[str, object] = {}
    if source == "peer":
        peer = Bench(bench.place / "peer", bench.hub, bench.python)
        (bench.place / "peer").mkdir()
        peer.apply()
        given = {"peers": [str(peer.root)], "offline": True}
    first = time.monotonic()
    assert os.waitpid(begun(bench, **given), 0)[1] == 0 and whole(bench)
    took = time.monotonic() - first
    rng = random.Random(11)
    for _again in range(10):
        work.remove(str(bench.root))
        run = begun(bench, **given)
        time.sleep(took * rng.random())
        killed(run)
        assert states(bench.apply(**given)) == {} and whole(bench)
