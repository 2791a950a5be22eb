# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine whose memory is used up goes on answering, and what used it up is what goes.

One story: what happens without the role → bare check → apply → empty check → the same load again. The
machine has 1 GiB and is emulated; what it shows is the order of things, not their speed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pressure
import pytest
import testing

NOTHING = {"weights_gib": 0.1, "kv_cache_gib": 0.0, "activation_gib": 0.0, "process_gib": 0.0}
GREEDY = {"name": "greedy", "unit": "greedy.service", "health": "unit", "enforce_eager": True, **NOTHING}
# Of role llama_cpp, and declared for that role alone. Its unit has started when it has loaded: nobody else is asked.
SLOW = {"name": "slow", "model": "/srv/slow.gguf", "port": 8081, **NOTHING}
UNIT, LOADS = "llama@slow.service", "spark-load-guard@llama@slow.service"
LOAD_SECONDS = 5
DECLARED = {
    "engines": [GREEDY],
    "reserve_gib": 0.2,
    "page_cache_gib": 0.1,
    "load_free_gib": 0.05,
    "load_seconds": 600,
    "swap": "off",
    # Of this machine 4 and 2 % of all memory, which is what earlyoom 1.7 goes by. 1.8 goes by what is available and
    # what programs have, without what is hidden from it.
    "term_percent": 12.0,
    "kill_percent": 6.0,
}
CONFIRM = ["/swap.img", UNIT]
CONTROLS = {"budget", "killer_settings", "killer", "system_protected", "engines", "load_guard", "swap", "pressure",
            "file_extra"}  # fmt: skip
CONTROLLER = "ansible.builtin.validate_argument_spec"
PLAY = [{"hosts": "spark", "gather_facts": False, "roles": ["nusy.dgx_spark.memory_guard"]}]
# For how long the engine may take all there is.
AT_MOST = 90.0
# Trouble: an open session needs more than three times its slowest answer when nothing happens.
TIMES = 3
# It took 0.17 to 0.29 s in seven measurements, by what else this host did: a lucky one makes no other answer slow.
SLOWEST_IDLE = 0.2
# A login is a handshake and some thirty programs, 0.5 to 0.9 s when nothing happens: what a person waits for it.
LOGIN_SECONDS = 5.0
# Each is over in a second or two, which is a few answers; so there is more than one.
ROUNDS = 2
# Swap that is there from the beginning, as DGX OS has it, and an engine that somebody has started.
BEFORE = """
dd if=/dev/zero of=/swap.img bs=1M count=16 status=none; chmod 0600 /swap.img; mkswap -q /swap.img
echo '/swap.img none swap sw 0 0' >> /etc/fstab
printf '[Service]\\nExecStart=/usr/bin/sleep infinity\\nExecStartPost=/usr/bin/sleep {load}\\n' > {units}/llama@.service
systemctl daemon-reload; systemctl start swap.img.swap {unit}
"""
UNITS = "/etc/systemd/system"


def limit(*quiet: pressure.Seen) -> float:
    return TIMES * max(SLOWEST_IDLE, *(seconds for seen in quiet for seconds in seen.open_session))


class Story:
    def __init__(self, machine: Any, directory: Path) -> None:
        self.machine = machine
        self.directory = directory
        self.runs: dict[str, testing.PlayResult] = {}

    def run(
        self, name: str, *, check: bool, llama: tuple[Any, ...] = (SLOW,), **more: Any
    ) -> dict[str, dict[str, Any]]:
        """Runs the role; its verdicts by the last part of their names."""
        extra = {f"memory_guard_{option}": value for option, value in {**DECLARED, **more}.items()}
        extra["llama_cpp_engines"] = list(llama)
        done = testing.ansible_playbook(PLAY, [self.machine], self.directory, check=check, extra=extra)
        (result,) = done.of(action="memory_guard")
        self.runs[name] = done
        return {control["id"].partition("/")[2]: control for control in result["result"].get("controls", [])}

    def drifted(self, name: str, **more: Any) -> set[str]:
        verdicts = self.run(name, check=True, **more)
        self.runs[name].assert_ok()
        assert set(verdicts) == CONTROLS
        return {name for name, control in verdicts.items() if control["state"] != "in_sync"}

    def score(self, unit: str) -> str:
        return self.machine.shell(f"cat /proc/$(systemctl show -P MainPID {unit})/oom_score_adj").strip()

    def log(self, unit: str) -> str:
        return self.machine.run("journalctl", "--unit", unit, "--no-pager", "--output=cat")


@pytest.fixture(scope="module")
def idle(machine: Any) -> pressure.Seen:
    pressure.prepare(machine)
    return pressure.idle(machine, 15)


@pytest.fixture(scope="module")
def story(machine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    return Story(machine, tmp_path_factory.mktemp("memory"))


def test_without_the_role_others_are_killed_or_nobody_gets_an_answer(story, idle):
    """The load is one that hurts: else the proof below would prove nothing."""
    seen = pressure.under_pressure(story.machine, AT_MOST)
    print(f"idle: {idle}\nwithout: {seen}")
    assert seen.died or max(seen.open_session) > limit(idle), str(seen)
    story.machine.shell(BEFORE.format(units=UNITS, unit=UNIT, load=LOAD_SECONDS))


def test_a_check_of_a_bare_machine_predicts_what_apply_does(story):
    machine = story.machine
    before = story.run("bare", check=True)
    story.runs["bare"].assert_ok()
    assert {name for name, control in before.items() if control["state"] == "in_sync"} == {"budget", "file_extra"}
    assert before["swap"]["blocked_by"] == "memory_guard_confirm: [/swap.img]"
    assert before["engines"]["blocked_by"] == f"memory_guard_confirm: [{UNIT}]"
    assert not machine.ok("test", "-e", f"{UNITS}/earlyoom.service.d")
    logged_in = machine.run("systemctl", "show", "-P", "MainPID", "ssh.service")
    done = story.run("apply", check=False, confirm=CONFIRM)
    story.runs["apply"].assert_ok()
    for name in CONTROLS:
        assert [done[name][side] for side in ("before", "after")] == [
            before[name][side] for side in ("before", "after")
        ]
    # Nobody was logged out for it.
    assert machine.run("systemctl", "show", "-P", "MainPID", "ssh.service") == logged_in
    assert story.drifted("clean") == set() and story.runs["clean"].changed == []
    # One call, as it is promised of every role; its arguments are judged on the controller.
    calls = [task["action"] for task in story.runs["clean"].tasks if task["action"] != CONTROLLER]
    assert calls == ["nusy.dgx_spark.memory_guard"]


def watched(story: Story, guard: str, number: int) -> list[str]:
    """What the guard of a load said at the end of each, when so many are over."""
    deadline = time.monotonic() + 30
    while True:
        found = [line for line in story.log(guard).splitlines() if "; clean pages were dropped " in line]
        if len(found) >= number or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_the_kernel_has_what_was_declared(story):
    machine = story.machine
    units = ("earlyoom.service", "ssh.service", "systemd-logind.service", UNIT)
    assert [story.score(unit) for unit in units] == ["-1000", "-1000", "-900", "500"]
    # It was watched over when it moved into its slice, until systemd said that it had started: asked by a program
    # that may do next to nothing.
    (loaded,) = watched(story, LOADS, 1)
    seconds = re.match(rf"{re.escape(UNIT)} has started after (\d+) s; ", loaded)
    assert seconds and LOAD_SECONDS - 1 <= int(seconds[1]) <= 60, loaded
    for path, value in (
        ("system.slice/ssh.service/memory.min", f"{32 << 20}"),
        ("user.slice/memory.min", f"{128 << 20}"),
        ("nusy.slice/nusy-engines.slice/memory.swap.max", "0"),
        (f"nusy.slice/nusy-engines.slice/{UNIT}/memory.oom.group", "1"),
    ):
        assert machine.read(f"/sys/fs/cgroup/{path}") == f"{value}\n"
    # A login has the ordinary score, though its sshd is the last to be killed.
    assert machine.outside.run("cat /proc/self/oom_score_adj").stdout.strip() == "0"
    for unit in ("earlyoom.service", "spark-pressure-watch.service", "spark-load-guard@greedy.service", LOADS):
        told = machine.run("systemd-analyze", "security", "--no-pager", unit, check=False)
        assert float(told.rpartition("exposure level for ")[2].split()[1]) <= 2.0, told
    assert machine.read("/proc/swaps").splitlines()[1:] == []
    assert not machine.ok("systemctl", "start", "swap.img.swap")


def test_under_pressure_the_engine_goes_alone_and_the_machine_answers(story, idle):
    # Once more, near to what is held against it: what else this host does changes within minutes.
    late, quiet = limit(idle, again := pressure.idle(story.machine, 10)), f"idle: {idle}; {again}"
    for number in range(1, ROUNDS + 1):
        seen = pressure.under_pressure(story.machine, AT_MOST)
        told = f"{quiet}\nwith: {seen}"
        print(told)
        assert seen.died == [] and 0 < seen.took < AT_MOST, told
        # By earlyoom, which tells whom it ended, and not by the kernel.
        ended = [line for line in story.log("earlyoom.service").splitlines() if " to process " in line]
        assert len(ended) >= number and all("/usr/local/bin/greedy" in line for line in ended), ended
        loads = watched(story, "spark-load-guard@greedy.service", number)
        assert len(loads) == number and all(line.startswith("greedy.service ") for line in loads), loads
        # Throughout: not one answer is later.
        assert max(seen.open_session) <= late, told
        assert max(seen.new_session, default=0) <= LOGIN_SECONDS, told


# In the file or in the running process, and what is read again by systemd first.
DAMAGE = {
    "killer_settings": f"sed -i s/-1000/0/ {UNITS}/earlyoom.service.d/50-nusy-memory_guard.conf",
    "killer": "systemctl disable --now -q earlyoom.service",
    "load_guard": f"rm {UNITS}/greedy.service.d/51-nusy-memory_guard_load.conf",
    "swap": "systemctl unmask -q swap.img.swap; systemctl start swap.img.swap",
    "pressure": "systemctl disable --now -q spark-pressure-watch.service",
    "file_extra": f"echo OOMPolicy=stop >> {UNITS}/{UNIT}.d/50-nusy-memory_guard.conf",
    "engines": f"echo 0 > /proc/$(systemctl show -P MainPID {UNIT})/oom_score_adj",
    "system_protected": "echo 0 > /sys/fs/cgroup/system.slice/ssh.service/memory.min",
}


@pytest.mark.breaks(*DAMAGE, role="memory_guard")
def test_what_is_broken_by_hand_is_named_alone_and_repaired(story):
    """All at once, since a look is dear here. That nothing is left of it, the first look of the next test shows."""
    story.machine.shell("; ".join(DAMAGE.values()))
    found = story.run("damaged", check=True, confirm=CONFIRM)
    story.runs["damaged"].assert_ok()
    broken = {name: control["cause"] for name, control in found.items() if control["state"] != "in_sync"}
    assert broken == dict.fromkeys(DAMAGE, "corrective")
    assert story.run("repair", check=False, confirm=CONFIRM) == found
    story.runs["repair"].assert_ok()


BIG = {"name": "big", "model": "/srv/big.gguf", "port": 8082, **NOTHING, "weights_gib": 64.0}
CHANGED = {"llama": (SLOW, BIG), "killer": "systemd-oomd"}


@pytest.mark.names("memory_guard/budget")
def test_what_cannot_fit_fails_the_run_and_does_not_start_and_the_other_killer_takes_over(story):
    """Two declarations in one run, since a run is dear here; all but the budget is made."""
    machine = story.machine
    done = story.run("too large", check=False, **CHANGED)
    failed = story.runs["too large"]
    assert failed.rc != 0 and "llama@big: weights" in failed.stdout
    # Each unit that is protected says so to this killer.
    made = {"killer", "killer_settings", "engines", "load_guard", "system_protected"}
    assert {name for name, control in done.items() if control["state"] != "in_sync"} == made | {"budget"}
    assert story.drifted("left", **CHANGED) == {"budget"}
    assert not machine.ok("systemctl", "start", "llama@big.service")
    assert "not started: it needs 64" in story.log("spark-load-guard@llama@big.service")
    states = machine.run("systemctl", "is-active", "earlyoom.service", "systemd-oomd.service", check=False)
    assert states.split() == ["inactive", "active"]
    assert "/nusy.slice/nusy-engines.slice" in machine.run("oomctl")
