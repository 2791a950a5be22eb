# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback under real ansible-playbook runs of every awkward kind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import HERE, ROOT, Lab, Ran, ansible_playbook, validated


@pytest.fixture(scope="module")
def mixed(shared_lab: Lab) -> Ran:
    # A node may send half a character; by default Ansible refuses it before a callback sees it.
    ran = shared_lab.run(HERE / "mixed.yml", ANSIBLE_MODULE_STRICT_UTF8_RESPONSE="false")
    assert "PLAY RECAP" in ran.out, ran.out
    assert "Callback dispatch" not in ran.out
    return ran


SOMEBODY = "task:somebody-else-s-play/"


class TestMixed:
    def test_the_run_is_complete_and_unknown_wins(self, mixed: Ran) -> None:
        report = mixed.report
        assert report["run"]["complete"]
        assert report["run"]["mode"] == "check"
        assert report["summary"]["exit_code"] == 3

    def test_host_states(self, mixed: Ran) -> None:
        states = {host["name"]: host["state"] for host in mixed.report["hosts"]}
        assert states == {"a": "reached", "b": "partial", "c": "reached", "dead": "unreachable"}
        assert "Connection refused" in mixed.host("dead")["reason"]

    def test_worst_item_of_a_loop_wins(self, mixed: Ran) -> None:
        control = mixed.control("a", "alpha/two")
        assert control["state"] == "drifted"
        assert control["before"] == {"v": 1}
        assert control["cause"] == "corrective"

    def test_worst_of_two_plays_wins(self, mixed: Ran) -> None:
        assert mixed.control("a", "alpha/one")["state"] == "drifted"
        assert mixed.control("b", "alpha/one") == {"id": "alpha/one", "state": "in_sync"}

    def test_a_promise_without_evidence_is_unknown(self, mixed: Ran) -> None:
        control = mixed.control("a", "alpha/three")
        assert control["state"] == "unknown"
        assert control["reason"].startswith("not reached (after alpha : Look at two")

    def test_a_failed_task_leaves_the_rest_unknown(self, mixed: Ran) -> None:
        assert mixed.control("b", "beta/first")["state"] == "drifted"  # came with the failed result
        for identity in ("beta/second", "beta/third"):
            control = mixed.control("b", identity)
            assert control["state"] == "unknown"
            assert "beta : Look at the first, which failed: [beta.broken] the node refused" in control["reason"]
        assert mixed.control("b", "delta/only")["reason"] == "not reached (after beta : Look at the first)"
        assert mixed.control("b", "task:beta/look-at-the-first")["state"] == "unknown"

    def test_skipped_by_condition_is_not_selected(self, mixed: Ran) -> None:
        for host, identity in (("c", "beta/third"), ("c", "delta/only"), ("a", "gamma/only")):
            control = mixed.control(host, identity)
            assert (control["state"], control["reason"]) == ("not_selected", "skipped by its condition")

    def test_an_included_role_brings_its_catalogue(self, mixed: Ran) -> None:
        assert mixed.control("c", "gamma/only")["state"] == "in_sync"
        assert mixed.report["catalogue"]["gamma/only"]["severity"] == "high"

    def test_everything_of_an_unreachable_host_is_unknown(self, mixed: Ran) -> None:
        controls = mixed.host("dead")["controls"]
        assert {c["id"] for c in controls} >= {"alpha/one", "beta/first", "delta/only"}
        assert all(c["state"] == "unknown" and c["reason"].startswith("unreachable: ") for c in controls)

    def test_third_party_tasks(self, mixed: Ran) -> None:
        file = mixed.control("a", SOMEBODY + "would-write-a-file")
        assert file["state"] == "drifted"
        assert list(file["after"].values()) == ["secret of a\n"]
        states = {
            "cannot-tell": "unknown",
            "cannot-tell-of-some": "in_sync",
            "reads-really-runs": "in_sync",
            "fails-and-nobody-cares": "unknown",
            "fails-and-is-rescued": "unknown",
            "the-way-out": "in_sync",
            "until-it-works": "in_sync",
        }
        for slug, state in states.items():
            assert mixed.control("a", SOMEBODY + slug)["state"] == state, slug
        assert "not evaluated in check mode" in mixed.control("a", SOMEBODY + "cannot-tell")["reason"]

    def test_what_is_no_control(self, mixed: Ran) -> None:
        ids = mixed.ids("a")
        for slug in ("left-out", "talks-only", "a-consequence"):
            assert SOMEBODY + slug not in ids

    def test_delegated_evidence_belongs_to_the_host_it_ran_for(self, mixed: Ran) -> None:
        assert mixed.control("a", SOMEBODY + "for-a-on-c")["task"] == "For a, on c (on c)"
        assert SOMEBODY + "for-a-on-c" not in mixed.ids("c")

    def test_no_log_stays_hidden(self, mixed: Ran) -> None:
        assert mixed.control("a", SOMEBODY + "hidden") == {
            "id": SOMEBODY + "hidden",
            "state": "drifted",
            "task": "Hidden",
        }
        assert mixed.control("a", SOMEBODY + "hidden-and-failing")["reason"] == "failed: the output is hidden by no_log"
        for path in mixed.directory.rglob("*"):
            assert not path.is_file() or b"hunter2" not in path.read_bytes(), path

    def test_hostile_output_is_harmless_and_small(self, mixed: Ran) -> None:
        hostile = next(c for c in mixed.host("a")["controls"] if "before" in c and "evil" in "".join(c["before"]))
        text = json.dumps(hostile)
        assert len(text) < 12_000
        assert not any(ord(letter) < 32 for letter in "".join(hostile["before"].values()).replace("\n", ""))
        assert "\u202e" not in "".join(hostile["after"].values())
        assert (mixed.directory / "events.jsonl").stat().st_size < 200_000
        (mixed.directory / "report.json").read_text(encoding="utf-8")  # valid UTF-8


PARTS = """
- hosts: a,b
  gather_facts: false
  roles:
    - {role: nusy.dgx_spark.alpha, tags: [alpha]}
    - {role: nusy.dgx_spark.gamma, tags: [gamma]}
- hosts: a
  gather_facts: false
  tags: [late]
  roles: [nusy.dgx_spark.delta]
"""


@pytest.mark.parametrize(
    ("arguments", "selected"),
    [
        (("--tags", "gamma"), {"gamma/only"}),
        (("--skip-tags", "alpha,late"), {"gamma/only"}),
        (("--tags", "alpha,late"), {"alpha/one", "alpha/two", "alpha/three", "delta/only"}),
    ],
)
def test_tags_leave_out_on_purpose(lab: Lab, arguments: tuple[str, ...], selected: set[str]) -> None:
    ran = lab.run(PARTS, *arguments)
    states = {c["id"]: c["state"] for c in ran.host("a")["controls"]}
    assert {identity for identity, state in states.items() if state != "not_selected"} == selected
    left_out = [c for c in ran.host("a")["controls"] if c["state"] == "not_selected"]
    assert {c["reason"] for c in left_out} == {"left out by the tags of this run"}
    assert ran.report["run"]["complete"]


def test_limit_leaves_hosts_out_entirely(lab: Lab) -> None:
    ran = lab.run(PARTS, "--limit", "b")
    assert [host["name"] for host in ran.report["hosts"]] == ["b"]
    assert "delta/only" not in ran.ids("b")


def test_a_play_that_never_starts_is_not_forgotten(lab: Lab) -> None:
    play = """
- name: Ends it
  hosts: b
  gather_facts: false
  roles: [nusy.dgx_spark.beta]
- name: Comes too late
  hosts: a
  gather_facts: false
  roles: [nusy.dgx_spark.gamma]
"""
    ran = lab.run(play)
    host = ran.host("a")
    assert host["state"] == "partial"
    assert host["reason"] == "never started on this host: play Comes too late"
    assert ran.control("a", "gamma/only")["reason"] == "not reached (play Comes too late never started)"
    assert ran.report["summary"]["exit_code"] == 3


def test_a_serial_batch_that_never_starts_is_not_forgotten(lab: Lab) -> None:
    play = """
- name: Waves
  hosts: b,a
  serial: 1
  gather_facts: false
  roles: [nusy.dgx_spark.beta]
"""
    ran = lab.run(play)
    assert ran.host("b")["state"] == "partial"
    assert ran.control("a", "beta/first")["reason"] == "not reached (play Waves never started)"


def test_ending_a_host_early_leaves_it_unknown(lab: Lab) -> None:
    play = """
- hosts: a
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nusy.dgx_spark.gamma}
    - ansible.builtin.meta: end_host
    - ansible.builtin.import_role: {name: nusy.dgx_spark.delta}
"""
    ran = lab.run(play)
    assert ran.control("a", "gamma/only")["state"] == "in_sync"
    assert ran.control("a", "delta/only") == {
        "id": "delta/only",
        "state": "unknown",
        "reason": "not reached (after gamma : Look at the only one)",
    }


def test_an_included_role_that_is_never_reached_is_not_forgotten(lab: Lab) -> None:
    play = """
- hosts: b
  gather_facts: false
  roles: [nusy.dgx_spark.beta]
  post_tasks:
    - ansible.builtin.include_role: {name: nusy.dgx_spark.prereqs}
"""
    # The real role: of an include that did not run only its name is known, and our own roles.
    ran = lab.run(play)
    states = {c["state"] for c in ran.host("b")["controls"] if c["id"].startswith("prereqs/")}
    assert states == {"unknown"}


def test_a_real_run_repairs(lab: Lab) -> None:
    play = """
- name: Really
  hosts: a
  gather_facts: false
  roles: [nusy.dgx_spark.alpha, nusy.dgx_spark.beta]
  tasks:
    - name: Write a file
      ansible.builtin.copy: {content: x, dest: "{{ scratch }}/really", mode: "0600"}
    - name: Only looks
      ansible.builtin.copy: {content: x, dest: "{{ scratch }}/not-really", mode: "0600"}
      check_mode: true
    - name: In the background
      ansible.builtin.command: sleep 1
      async: 10
      poll: 0
"""
    ran = lab.run(play, check=False)
    assert ran.report["run"]["mode"] == "apply"
    two = ran.control("a", "alpha/two")
    # Of the loop's items one was unknown, which is worse than repaired.
    assert two["state"] == "unknown"
    blocked = ran.control("a", "beta/first")
    assert (blocked["state"], blocked["cause"]) == ("drifted", "blocked")
    file = ran.control("a", "task:really/write-a-file")
    assert (file["state"], file["repaired"]) == ("in_sync", True)
    assert ran.control("a", "task:really/only-looks")["state"] == "drifted"
    assert ran.control("a", "task:really/in-the-background")["state"] == "unknown"


def test_after_a_real_run_that_failed_each_control_is_what_was_seen_then(lab: Lab) -> None:
    play = """
- name: Really
  hosts: a
  gather_facts: false
  tasks:
    - name: Breaks off
      nusy.dgx_spark.promise:
        controls:
          - {id: gamma/repaired, state: drifted, before: {v: 1}, after: {v: 2}}
          - {id: gamma/half, state: drifted, before: {v: 1, w: 1}, after: {v: 2, w: 2}}
          - {id: gamma/lost, state: drifted, before: {v: 1}, after: {v: 2}}
          - {id: gamma/fine, state: in_sync}
        left:
          - {id: gamma/repaired, state: in_sync}
          - {id: gamma/half, state: drifted, before: {w: 1}, after: {w: 2}}
          - {id: gamma/lost, state: unknown, reason: could not be seen}
          - {id: gamma/fine, state: in_sync}
        error: {key: demo.broken, kind: node}
"""
    ran = lab.run(play, check=False)
    controls = {name: ran.control("a", f"gamma/{name}") for name in ("repaired", "half", "lost", "fine")}
    task = {"task": "Breaks off"}
    assert controls == {
        "repaired": {
            **{"id": "gamma/repaired", "state": "in_sync", "repaired": True, "before": {"v": 1}, "after": {"v": 2}},
            **task,
        },
        "half": {"id": "gamma/half", "state": "drifted", "before": {"w": 1}, "after": {"w": 2}, **task},
        "lost": {"id": "gamma/lost", "state": "unknown", "reason": "could not be seen", **task},
        "fine": {"id": "gamma/fine", "state": "in_sync"},
    }
    assert "[demo.broken]" in ran.control("a", "task:really/breaks-off")["reason"]
    assert ran.report["summary"]["exit_code"] == 3


def test_two_playbooks_are_one_report(lab: Lab) -> None:
    first = lab.folder / "first.yml"
    first.write_text("- {hosts: a, gather_facts: false, roles: [nusy.dgx_spark.gamma]}")
    second = "- {hosts: b, gather_facts: false, roles: [nusy.dgx_spark.delta]}"
    ran = lab.run(second, str(first))
    assert ran.ids("a") == {"gamma/only"}
    assert ran.ids("b") == {"delta/only"}
    assert ran.report["run"]["complete"]
    assert len((ran.directory / "history/runs.jsonl").read_text().splitlines()) == 1


def test_no_host_is_not_clean(lab: Lab) -> None:
    ran = lab.run("- {hosts: nobody, gather_facts: false, roles: [nusy.dgx_spark.gamma]}")
    assert ran.report["run"]["incomplete_reason"] == "no host matched any play"
    assert ran.report["summary"]["exit_code"] == 3


def test_an_error_of_ansible_itself_still_leaves_a_partial_report(lab: Lab) -> None:
    play = """
- {hosts: a, gather_facts: false, roles: [nusy.dgx_spark.gamma]}
- {hosts: "{{ nobody_defines_this }}", gather_facts: false, roles: [nusy.dgx_spark.delta]}
"""
    ran = lab.run(play)
    assert ran.rc != 0
    assert ran.control("a", "gamma/only")["state"] == "in_sync"
    assert "interrupted before its end" in ran.report["run"]["incomplete_reason"]
    assert ran.report["summary"]["exit_code"] == 3


@pytest.mark.one_core
def test_ages_come_with_the_second_run(lab: Lab) -> None:
    play = """
- hosts: a
  gather_facts: false
  tasks:
    - name: Drifted
      promise:
        controls: [{id: alpha/one, state: drifted}, {id: alpha/two, state: in_sync}]
"""
    assert "first_seen" not in lab.run(play, directory="same").control("a", "alpha/one")
    time.sleep(1)  # a run may take less, and ages are whole seconds
    again = lab.run(play, directory="same")
    assert again.control("a", "alpha/one")["age_seconds"] >= 1
    assert "first_seen" not in again.control("a", "alpha/two")
    assert len(again.report["trend"]) == 1


def test_a_callback_that_breaks_does_not_break_the_run(lab: Lab) -> None:
    """The disk is full, for the callback only: its events file is a full device."""
    target = lab.folder / "full"
    customised = lab.folder / "customised"
    customised.mkdir()
    # A link to the device would be replaced, as any link in the place of a file of the report is.
    (customised / "sitecustomize.py").write_text(
        "import os\nreal = os.open\n"
        "def opened(path, flags, *more, **named):\n"
        "    if flags & os.O_CREAT and str(path).endswith('/events.jsonl'):\n"
        "        return real('/dev/full', os.O_WRONLY)\n"
        "    return real(path, flags, *more, **named)\n"
        "os.open = opened\n"
    )
    play = "- {hosts: a, gather_facts: false, roles: [nusy.dgx_spark.gamma]}"
    ran = lab.run(play, directory="full", PYTHONPATH=str(customised))
    assert ran.rc == 0
    assert ran.out.count("drift report") == 1
    assert not (target / "report.json").exists()


@pytest.mark.one_core
def test_two_runs_do_not_share_a_directory(lab: Lab) -> None:
    target = lab.folder / "shared"
    target.mkdir()
    (target / "report.json").write_text("of another run\n")
    with (target / ".spark-drift").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = lab.run("- {hosts: a, gather_facts: false, roles: [nusy.dgx_spark.gamma]}", directory="shared")
        assert ran.rc == 0
        assert "another run writes to" in ran.out
        assert (target / "report.json").read_text() == "of another run\n"
        assert not (target / "events.jsonl").exists()


def test_switched_off(lab: Lab) -> None:
    ran = lab.run("- {hosts: a, gather_facts: false}", SPARK_DRIFT_ENABLED="false")
    assert ran.rc == 0
    assert not ran.directory.exists()


@pytest.mark.parametrize(("number", "partial"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_a_stopped_run(lab: Lab, number: int, partial: bool) -> None:
    """SIGINT leaves a partial report; SIGKILL leaves events from which one can be built."""
    play = """
- hosts: a
  gather_facts: false
  roles: [nusy.dgx_spark.gamma]
  tasks:
    - {name: Slow, promise: {controls: [], sleep: 20}}
    - ansible.builtin.import_role: {name: nusy.dgx_spark.delta}
"""
    target = lab.folder / "stopped"
    process = subprocess.Popen(
        lab.argv(play),
        env=lab.environment(target),
        cwd=lab.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        events = target / "events.jsonl"
        while time.monotonic() < deadline and not (events.exists() and '"gamma/only","state"' in events.read_text()):
            time.sleep(0.1)
        time.sleep(1)
        os.kill(process.pid, number)
        out = process.communicate(timeout=30)[0].decode(errors="replace")
    finally:
        process.poll() is None and process.kill()
    if not partial:
        assert not (target / "report.json").exists()
        builds = "from pathlib import Path; import sys; sys.path.insert(0, sys.argv[1])\n"
        builds += "from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import produce\n"
        builds += "produce.produce(Path(sys.argv[2]), waivers=None, formats=())"
        import sys

        subprocess.run([sys.executable, "-c", builds, str(ROOT / "collections"), str(target)], check=True)
    report = validated(target / "report.json")
    assert report["run"]["complete"] is False, out
    assert "interrupted" in report["run"]["incomplete_reason"]
    controls = {c["id"]: c["state"] for c in report["hosts"][0]["controls"]}
    assert controls["gamma/only"] == "in_sync"
    assert controls["delta/only"] == "unknown"
    assert report["hosts"][0]["state"] == "partial"
    assert report["summary"]["exit_code"] == 3


@pytest.mark.one_core
def test_from_the_clone_itself_in_any_directory(tmp_path: Path, lab: Lab) -> None:
    """The committed ansible.cfg enables the callback; only the output is redirected here.

    One role is enough for that. All of them together run in test_touch.
    """
    for cwd in (ROOT, tmp_path):
        target = tmp_path / f"from-{cwd.name}"
        env = {k: v for k, v in lab.environment(target).items() if not k.startswith("ANSIBLE_")}
        env["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
        env["ANSIBLE_HOME"] = str(tmp_path / "home")
        done = subprocess.run(
            [ansible_playbook(), str(ROOT / "site.yml"), "--check", "--diff", "-l", "localhost", "-t", "ptxas"],
            env=env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        report = validated(target / "report.json")
        assert done.returncode == 0 and report["run"]["complete"], done.stdout + done.stderr
        assert {host["name"] for host in report["hosts"]} == {"localhost"}
        assert any(identity.startswith("prereqs/") for identity in report["catalogue"])
