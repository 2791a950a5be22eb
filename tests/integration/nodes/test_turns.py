# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has the node for itself, and what a run that fails half-way leaves and tells, on real nodes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import testing

LOCK = "/run/nusy/turn.lock"


def play(*controls: dict[str, object]) -> list[dict[str, object]]:
    task = {"name": "Run", "nusy.dgx_spark.ensure_state": {"role": "turn", "controls": list(controls)}}
    return [{"hosts": "all", "gather_facts": False, "tasks": [task]}]


@contextlib.contextmanager
def another_run(node: testing.Machine, script: str) -> Iterator[None]:
    """Somebody has the turn, and does something at its end."""
    node.shell("mkdir -p -m 755 /run/nusy; rm -f /run/begun")
    other = node.start("flock", LOCK, "sh", "-c", f"touch /run/begun; {script}")
    try:
        deadline = time.monotonic() + 30
        while not node.ok("test", "-e", "/run/begun"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield
    finally:
        node.shell("touch /run/go", check=False)
        other.wait(60)
        node.shell("rm -f /run/go")


UNTIL_TOLD = "while [ ! -e /run/go ]; do sleep 0.2; done"


def test_a_check_and_a_run_without_root_wait_for_nobody(node, ansible_playbook):
    directory = {"id": "turn/place", "directories": [{"path": "/srv/turn"}]}
    with another_run(node, UNTIL_TOLD):
        check = ansible_playbook(play(directory), [node], check=True, timeout=60).assert_ok()
        assert check.of(task="Run")[0]["result"]["plan"] == ["make_directory /srv/turn"]
        node.shell("mkdir -m 755 /srv/turn")
        run = ansible_playbook(play(directory), [node], become=False, timeout=60).assert_ok()
        assert run.of(task="Run")[0]["result"]["plan"] == []
        assert not node.ok("flock", "--nonblock", LOCK, "true"), "the other one had gone, this proved nothing"


def test_a_real_run_looks_only_when_it_is_its_turn(node, ansible_playbook):
    """What it returns is what it did: nothing of what the other one had done meanwhile."""
    controls = [{"id": f"turn/{name}", "directories": [{"path": f"/srv/{name}"}]} for name in ("theirs", "ours")]
    with another_run(node, "sleep 6; mkdir -m 755 /srv/theirs"):
        run = ansible_playbook(play(*controls), [node]).assert_ok()
    (done,) = run.of(task="Run")
    assert done["result"]["plan"] == ["make_directory /srv/ours"]
    assert {c["id"]: c["state"] for c in done["result"]["controls"]} == {
        "turn/theirs": "in_sync",
        "turn/ours": "drifted",
    }
    assert "role turn, process " in node.read(LOCK)


def test_the_report_of_a_run_that_failed_says_what_is_true_now(fresh_node, ansible_playbook):
    bad = {"path": "/etc/turn/bad", "content": "x\n", "validate": ["/usr/bin/grep", "-q", "no such line", "%s"]}
    run = ansible_playbook(
        play(
            {"id": "turn/before", "files": [{"path": "/etc/turn/first", "content": "x\n"}]},
            {"id": "turn/broken", "directories": [{"path": "/srv/turn"}], "files": [bad]},
            {"id": "turn/never", "directories": [{"path": "/srv/never"}]},
        ),
        [fresh_node],
        report=True,
    )
    assert run.rc == 2 and run.of(task="Run")[0]["result"]["error"]["key"] == "paths.validation_failed"
    (host,) = run.report["hosts"]
    controls = {control.pop("id"): control for control in host["controls"]}
    assert controls["turn/before"]["state"] == "in_sync" and controls["turn/before"]["repaired"]
    assert controls["turn/broken"]["state"] == "drifted"
    assert controls["turn/broken"]["before"] == {"file /etc/turn/bad": "absent"}  # the directory is there now
    assert controls["turn/never"]["before"] == {"directory /srv/never": "absent"}
    assert controls["turn/file_extra"]["state"] == "in_sync"
    assert fresh_node.ok("test", "-e", "/etc/turn/first") and not fresh_node.ok("test", "-e", "/srv/never")
    assert fresh_node.shell("ls -A /run/nusy/scratch /etc/turn").split() == [
        *("/etc/turn:", "first"),
        "/run/nusy/scratch:",
    ]
    record = json.loads(fresh_node.read("/var/lib/nusy/applied/turn.json"))
    assert record["controls"] == {} and "/etc/turn/first" in record["taken"]
