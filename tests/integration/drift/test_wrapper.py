# SPDX-License-Identifier: GPL-3.0-or-later
"""bin/spark-drift: from any directory, any playbook, with its exit codes, cut off in the middle."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE, INVENTORY, ROOT, Ran, ansible_playbook

PROMISE = """
- name: Third party
  hosts: a
  gather_facts: false
  tasks:
    - name: Evidence
      promise:
        controls: [{id: alpha/one, state: STATE, reason: because}]
"""
USUAL_CODES = {"in_sync": 0, "drifted": 2, "unknown": 3}


class Site:
    """Somebody's site, outside of the clone, with a module of its own beside the playbook."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        (folder / "library").mkdir()
        shutil.copy(HERE / "modules/promise.py", folder / "library")
        (folder / "hosts.yml").write_text(INVENTORY)

    def environment(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "SPARK_DRIFT_"))}
        env["HOME"] = str(self.folder / "home")
        # The launcher takes the clone's .venv; another ansible-core is selected like this.
        if "SPARK_TEST_ANSIBLE_PLAYBOOK" in os.environ:
            env["SPARK_DRIFT_PYTHON"] = "chosen by the test"
        return env

    def argv(self, playbook: str, *arguments: str, root: Path = ROOT) -> list[str]:
        (self.folder / "theirs.yml").write_text(playbook)
        chosen = Path(ansible_playbook()).with_name("python")
        python = [str(chosen)] if "SPARK_TEST_ANSIBLE_PLAYBOOK" in os.environ else [sys.executable]
        where = ["--playbook", str(self.folder / "theirs.yml"), "-i", str(self.folder / "hosts.yml")]
        return [*python, str(root / "bin/spark-drift"), *where, "-o", str(self.output), *arguments]

    def run(self, playbook: str, *arguments: str, root: Path = ROOT, cwd: Path | None = None) -> Ran:
        done = subprocess.run(
            self.argv(playbook, *arguments, root=root),
            env=self.environment(),
            cwd=cwd or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Ran(done.returncode, done.stdout, self.output)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("state", USUAL_CODES)
def test_exit_codes(site: Site, state: str) -> None:
    ran = site.run(PROMISE.replace("STATE", state))
    assert ran.rc == USUAL_CODES[state] == ran.report["summary"]["exit_code"], ran.out
    assert ran.report["run"]["mode"] == "check"
    assert f"exit code {ran.rc}" in ran.out
    for name in ("index.html", "junit.xml", "drift.sarif", "drift.prom", "drift.md"):
        assert (site.output / name).stat().st_size > 100, name


@pytest.mark.one_core
def test_exit_zero_and_formats(site: Site) -> None:
    ran = site.run(PROMISE.replace("STATE", "unknown"), "--exit-zero", "--formats", "envelope")
    assert ran.rc == 0
    assert ran.report["summary"]["exit_code"] == 3
    assert sorted(path.name for path in (site.output / "envelopes").iterdir()) == ["a.json"]
    assert not (site.output / "index.html").exists()


@pytest.mark.one_core
def test_waivers(site: Site) -> None:
    waivers = site.folder / "mine.yml"
    good = "- {control: alpha/*, host: 'a*', reason: r, owner: o, expires: 2099-01-01}\n"
    waivers.write_text(good)
    ran = site.run(PROMISE.replace("STATE", "drifted"), "--waivers", str(waivers))
    assert ran.rc == 0
    assert ran.control("a", "alpha/one")["waiver"]["state"] == "drifted"
    waivers.write_text(good + "- {control: x/y}\n")
    ran = site.run(PROMISE.replace("STATE", "unknown"), "--waivers", str(waivers))
    assert ran.rc == 4
    assert ran.control("a", "alpha/one")["state"] == "waived"
    assert "mine.yml:2: [1].host: required, missing" in ran.report["waivers"]["problems"]
    assert ran.out.index("waiver file: mine.yml:2") < ran.out.index("exit code 4")


@pytest.mark.one_core
@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["site.yml"], ["--playbook", "/nowhere.yml"], ["--formats", "pdf"], ["--lim", "a"]]
)
def test_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bin/spark-drift"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert "cannot go on [drift." in done.stderr
    assert "to do:  " in done.stderr


NOTHING = "all: {hosts: {}}"
REFUSED = {
    "inventory_missing": (["-i", "nowhere.yml"], "", 64),
    "inventory_empty": ([], NOTHING, 64),
    "inventory_unusable": ([], "all: [:", 64),
    "limit_matches_nothing": (["-l", "nosuchhost"], INVENTORY, 64),
    "no_host_in_plays": (["-l", "b"], INVENTORY, 64),
    "output_foreign": (["-o", "theirs"], INVENTORY, 64),
    "output_unusable": (["-o", "hosts.yml"], INVENTORY, 1),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_makes_no_true_report_is_refused_in_four_parts(site: Site, key: str) -> None:
    """Also with --exit-zero, which make drift gives: a report about no machine would look clean."""
    arguments, inventory, code = REFUSED[key]
    theirs = site.folder / "theirs/index.html"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    argv = site.argv(PROMISE.replace("STATE", "in_sync"), "--exit-zero", *arguments)
    (site.folder / "hosts.yml").write_text(inventory)
    done = subprocess.run(
        argv, env=site.environment(), cwd=site.folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr
    assert f"cannot go on [drift.{key}]" in done.stderr
    for part in ("wanted: ", "found:  ", "why:    ", "to do:  "):
        assert part in done.stderr
    assert not (site.output / "report.json").exists()
    assert theirs.read_text() == "mine"
    assert list(theirs.parent.iterdir()) == [theirs]
    if key == "limit_matches_nothing":
        assert "a, b, c, dead" in done.stderr


@pytest.mark.one_core
def test_without_a_run_there_is_no_old_report(site: Site) -> None:
    assert site.run(PROMISE.replace("STATE", "in_sync")).rc == 0
    ran = site.run("- hosts: [\n")
    assert ran.rc == 1
    assert not (site.output / "report.json").exists()
    assert not (site.output / "index.html").exists()
    assert "cannot go on [drift.no_run]" in ran.out
    assert "theirs.yml" in ran.out  # what ansible-playbook said


@pytest.mark.one_core
def test_two_runs_do_not_share_a_directory(site: Site) -> None:
    site.output.mkdir()
    (site.output / "report.json").write_text("of another run\n")
    with (site.output / ".spark-drift").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = site.run(PROMISE)
    assert ran.rc == 1
    assert "another run writes to" in ran.out
    assert (site.output / "report.json").read_text() == "of another run\n"


@pytest.mark.one_core
def test_arguments_after_two_dashes(site: Site) -> None:
    play = PROMISE.replace("STATE", "'{{ wanted }}'")
    assert site.run(play, "--", "--extra-vars", "wanted=drifted").rc == 2


@pytest.mark.one_core
@pytest.mark.parametrize("stubborn", [False, True])
def test_interrupted(site: Site, stubborn: bool) -> None:
    """The report is partial and true, and nothing of the run is left behind."""
    naps = [f"sleep {1000 + number}.{os.getpid()}" for number in range(2)]
    sleeper = f"trap '' INT TERM; {naps[0]} & wait; {naps[1]}" if stubborn else naps[0]
    play = PROMISE.replace("STATE", "in_sync") + (
        f'    - {{name: Slow, ansible.builtin.shell: "{sleeper}", check_mode: false}}\n'
        "- {name: Later, hosts: a, gather_facts: false, roles: [nusy.dgx_spark.prereqs]}\n"
    )
    process = subprocess.Popen(
        site.argv(play), env=site.environment(), cwd=site.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    began = time.monotonic()
    events = site.output / "events.jsonl"
    try:
        while time.monotonic() - began < 60 and not (events.exists() and '"alpha/one"' in events.read_text()):
            time.sleep(0.1)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM if stubborn else signal.SIGINT)
        asked = time.monotonic()
        out = process.communicate(timeout=60)[0].decode()
    finally:
        process.poll() is None and process.kill()
    assert time.monotonic() - asked < 30
    ran = Ran(process.returncode, out, site.output)
    assert ran.rc == 3, out
    assert not ran.report["run"]["complete"]
    assert ran.control("a", "alpha/one")["state"] == "in_sync"
    later = [c for c in ran.host("a")["controls"] if c["id"].startswith("prereqs/")]
    assert later
    assert {c["state"] for c in later} == {"unknown"}
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [nap for nap in naps if nap in left]
