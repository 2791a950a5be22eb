# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from a look, judged and applied on a node in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard import load_guard, pressure_watch
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.model import CONTROLS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.subject import ensure_memory, restart_engine
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.texts import LOAD_GUARD, PRESSURE_WATCH
from guard_node import MAIN, SSH, node, params

UNITS = "/etc/systemd/system"
NAMES = [name.partition("/")[2] for name in CONTROLS]


def states(plan):
    return {control.id.partition("/")[2]: control.state for control in plan.controls}


def control(plan, name):
    (found,) = [control for control in plan.controls if control.id == f"memory_guard/{name}"]
    return found


def declared(**given):
    return ensure_memory(params(**given))


def applied(there, **given):
    subject = declared(**given)
    converge(subject, subject.plan(there), there, there)
    return subject


def text(there, path):
    return there.files[path].text


def test_a_bare_node_is_drifted_in_all_that_is_asked_for_and_then_in_sync():
    there = node()
    before = declared().plan(there)
    assert list(states(before)) == NAMES
    assert states(before) == {
        **dict.fromkeys(NAMES, "drifted"),
        **dict.fromkeys(("budget", "swap"), "not_selected"),
        "file_extra": "in_sync",
    }
    subject = applied(there)
    after = subject.plan(there)
    assert after.steps == ()
    assert {state for name, state in states(after).items() if name not in ("budget", "swap")} == {"in_sync"}


def test_the_early_killer_finds_its_settings_when_its_package_starts_it():
    """By its own it kills at 10 %, which a planned engine may leave."""
    there = node()
    applied(there, prefer="^(vllm)$", avoid="^sshd")
    dropin = f"{UNITS}/earlyoom.service.d/50-nusy-memory_guard.conf"
    assert there.effects.index(f"write {dropin}") < there.effects.index("configure earlyoom")
    assert 'ExecStart=/usr/bin/earlyoom -r 3600 -m 4,2 -s 100 --prefer "^(vllm)$$" --avoid "^sshd"\n' in text(
        there, dropin
    )


def test_there_is_one_killer_and_never_both():
    there = node()
    there.packages["systemd-oomd"] = ("installed", "257")
    there.runs("systemd-oomd.service", 40)
    there.runs("systemd-oomd.socket")
    applied(there)
    assert [there.units[f"systemd-oomd.{kind}"]["ActiveState"] for kind in ("service", "socket")] == ["inactive"] * 2
    assert there.units["earlyoom.service"]["ActiveState"] == "active"
    other = node()
    other.packages["earlyoom"] = ("installed", "1")
    other.runs("earlyoom.service", 40)
    applied(other, killer="systemd-oomd")
    assert other.units["earlyoom.service"]["ActiveState"] == "inactive"
    assert other.units["systemd-oomd.service"]["ActiveState"] == "active"
    assert "ManagedOOMMemoryPressure=kill" in text(other, f"{UNITS}/nusy-engines.slice")
    assert "ManagedOOMPreference=avoid" in text(other, f"{UNITS}/ssh.service.d/50-nusy-memory_guard.conf")


def test_a_killer_whose_memory_is_not_locked_is_started_again():
    there = node()
    applied(there)
    there.runs("earlyoom.service", 40, score=-1000, locked=0)
    there.put("/sys/fs/cgroup/system.slice/earlyoom.service/memory.min", "16777216\n")
    plan = declared().plan(there)
    assert control(plan, "killer_settings").changes[0].after == "locked"
    assert [step.text() for step in plan.steps] == ["restart_unit earlyoom.service"]
    there.put("/proc/40/status", "Name: x\n")
    assert states(declared().plan(there))["killer_settings"] == "unknown"
    there.put("/proc/40/status", "VmLck:\t2048 kB\n")
    assert states(declared().plan(there))["killer_settings"] == "in_sync"


def test_no_service_is_restarted_to_be_protected():
    there = node()
    before = {name: there.units[name]["InvocationID"] for name in ("ssh.service", "systemd-logind.service")}
    applied(there)
    assert {name: there.units[name]["InvocationID"] for name in before} == before
    assert text(there, "/proc/500/oom_score_adj") == "-900\n"
    assert text(there, "/sys/fs/cgroup/system.slice/ssh.service/memory.min") == f"{32 << 20}\n"
    assert "OOMScoreAdjust=-900" in text(there, f"{UNITS}/systemd-logind.service.d/50-nusy-memory_guard.conf")


def test_logins_do_not_inherit_that_sshd_is_not_killed():
    there = node()
    applied(there)
    assert "OOMScoreAdjust" not in text(there, f"{UNITS}/ssh.service.d/50-nusy-memory_guard.conf")
    there.put("/proc/700/oom_score_adj", "0\n")
    plan = declared().plan(there)
    assert control(plan, "system_protected").changes[0].key == "unit ssh.service: oom_score_adj"
    assert [step.target for step in plan.steps] == ["/proc/700/oom_score_adj"]


def test_the_slice_has_what_its_services_ask_for():
    """A cgroup gets no more of what is kept than the one around it."""
    there = node()
    applied(there)
    assert f"[Slice]\nMemoryMin={(32 + 16 + 16) << 20}\n" in text(
        there, f"{UNITS}/system.slice.d/50-nusy-memory_guard.conf"
    )
    assert f"[Slice]\nMemoryMin={128 << 20}\n" in text(there, f"{UNITS}/user.slice.d/50-nusy-memory_guard.conf")


def test_what_is_not_there_is_not_protected():
    there = node()
    applied(there, protected=[SSH, {"unit": "NetworkManager.service", "memory_min_mib": 64, "oom_score_adjust": -900}])
    assert not [path for path in there.files if "NetworkManager" in path]


def test_an_engine_goes_first_and_starts_only_where_it_fits():
    there = node()
    applied(there, engines=[MAIN])
    engine = f"{UNITS}/vllm.service.d"
    assert text(there, f"{engine}/50-nusy-memory_guard.conf").endswith(
        "[Service]\nSlice=nusy-engines.slice\nOOMScoreAdjust=500\nOOMPolicy=kill\n"
    )
    assert text(there, f"{engine}/51-nusy-memory_guard_load.conf").endswith(
        "[Unit]\nRequires=spark-load-guard@vllm.service\nAfter=spark-load-guard@vllm.service\n"
    )
    options = text(there, f"{UNITS}/spark-load-guard@vllm.service.d/50-nusy-memory_guard.conf")
    assert f'"NUSY_LOAD_GUARD=--need {43 << 30} --health http://127.0.0.1:8000/health"' in options
    assert "--unit %i.service $NUSY_LOAD_GUARD\n" in text(there, f"{UNITS}/spark-load-guard@.service")
    assert "MemorySwapMax=0" in text(there, f"{UNITS}/nusy-engines.slice")


def test_a_running_engine_is_restarted_only_when_it_is_named():
    there = node()
    applied(there, engines=[MAIN])
    there.runs("vllm.service", 900)
    plan = declared(engines=[MAIN]).plan(there)
    found = control(plan, "engines")
    assert found.blocked_by == "memory_guard_confirm: [vllm.service]"
    # What needs no restart is done all the same.
    assert [step.target for step in plan.steps] == ["/proc/900/oom_score_adj"]
    named = declared(engines=[MAIN], confirm=["vllm.service"])
    assert "restart_engine vllm.service" in [step.text() for step in named.plan(there).steps]
    # A manager that has not read the new files would start it in the old slice.
    before = len(there.effects)
    restart_engine(Step("restart_engine", "vllm.service"), there, there)
    assert there.effects[before:] == ["daemon-reload", "systemctl restart vllm.service"]
    there.runs("vllm.service", 900, score=500, cgroup="/nusy.slice/nusy-engines.slice/vllm.service")
    assert states(declared(engines=[MAIN]).plan(there))["engines"] == "in_sync"


def test_engines_that_do_not_fit_fail_the_run_with_the_sum_and_what_would():
    there = node()
    small = {**MAIN, "kv_cache_gib": 110}
    found = control(declared(engines=[small]).plan(there), "budget")
    assert found.state == "drifted" and found.changes[0].after == "at most 121.69 GiB, which the machine has"
    with pytest.raises(NodeError) as failed:
        applied(there, engines=[small])
    assert "-110.00 GiB  main: what is kept of tokens" in failed.value.problem.found
    assert failed.value.problem.fix == "main: kv_cache_gib of at most 81.99"
    # All else is done: the machine is safer than before.
    assert states(declared(engines=[small]).plan(there))["killer"] == "in_sync"


def test_an_engine_that_nobody_sized_makes_the_budget_unknown_and_keeps_its_marks():
    there = node()
    dark = {"name": "llama@dark", "unit": "llama@dark.service", "program": "llama.cpp", "kv_cache_gib": 1,
            "unknown": ["weights_gib"]}  # fmt: skip
    found = control(declared(published=[dark]).plan(there), "budget")
    assert found.state == "unknown" and "llama@dark: weights" in found.reason
    after = applied(there, published=[dark]).plan(there)
    assert states(after)["budget"] == "unknown" and states(after)["engines"] == "in_sync"
    # What is known waits for its room; what is too much without the rest is too much.
    guard = text(there, f"{UNITS}/spark-load-guard@llama@dark.service.d/50-nusy-memory_guard.conf")
    assert f'--need {3 << 30}"' in guard
    assert control(declared(published=[{**dark, "kv_cache_gib": 200}]).plan(there), "budget").state == "drifted"


SWAPS = "Filename Type Size Used Priority\n/swap.img file 16777216 {used} -2\n"


def swapping(used=1048576, **given):
    there = node(**given)
    applied(there)
    there.put("/proc/swaps", SWAPS.format(used=used))
    there.swap_units = (
        "Id=swap.img.swap\nWhat=/swap.img\nActiveState=active\n\nId=b.swap\nWhat=/b\nActiveState=active\n"
    )
    there.units["swap.img.swap"] = there.unit(active="active", state="generated")
    return there


def test_swap_is_taken_away_only_by_its_path():
    there = swapping()
    assert states(declared().plan(there))["swap"] == "not_selected"
    blocked = declared(swap="off").plan(there)
    assert control(blocked, "swap").blocked_by == "memory_guard_confirm: [/swap.img]" and blocked.steps == ()
    assert control(blocked, "swap").changes[0].before == "16.00 GiB, 1.00 GiB used"
    steps = [step.text() for step in declared(swap="off", confirm=["/swap.img"]).plan(there).steps]
    assert steps == ["stop_unit swap.img.swap", "mask_unit swap.img.swap"]
    there.put("/proc/swaps", SWAPS.splitlines()[0] + "\n")
    assert states(declared(swap="off").plan(there))["swap"] == "in_sync"


def test_swap_that_would_not_fit_into_memory_stays():
    there = swapping(used=12_000_000, available=11_000_000)
    plan = declared(swap="off", confirm=["/swap.img"]).plan(there)
    assert plan.steps == () and "only 10.49 GiB are available" in control(plan, "swap").reason
    assert control(plan, "swap").unmet


def test_swap_that_no_unit_brings_is_left_to_its_owner():
    there = swapping()
    there.swap_units = ""
    plan = declared(swap="off", confirm=["/swap.img"]).plan(there)
    assert plan.steps == () and control(plan, "swap").unmet == ("no unit of systemd brings /swap.img",)


@pytest.mark.parametrize(
    ("path", "there"),
    [("/etc/os-release", "ID=arch\n"), ("/etc/os-release", ""), ("/sys/fs/cgroup/cgroup.controllers", "hugetlb\n")],
)
def test_another_system_is_unknown_to_a_check_and_refused_by_a_run(path, there):
    other = node()
    other.put(path, there)
    assert set(states(declared().plan(other)).values()) == {"unknown"}
    with pytest.raises(NodeError, match="nothing was changed"):
        applied(other)
    assert not [effect for effect in other.effects if not effect.startswith("set")]


def test_a_manager_that_does_not_answer_is_unknown():
    other = node()
    other.systemd = False
    assert set(states(declared().plan(other)).values()) == {"unknown"}


DAMAGE = {
    "killer_settings": (f"{UNITS}/earlyoom.service.d/50-nusy-memory_guard.conf", "-m 4,2", "-m 1,1"),
    "engines": (f"{UNITS}/nusy-engines.slice", "MemorySwapMax=0", "MemorySwapMax=infinity"),
    "load_guard": (LOAD_GUARD, "PAUSE = 5.0", "PAUSE = 0.0"),
    "pressure": (PRESSURE_WATCH, "LARGEST = 3", "LARGEST = 0"),
    "system_protected": ("/sys/fs/cgroup/user.slice/memory.min", "134217728", "0"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_changed_by_hand_is_named_alone_and_mended(name):
    there = node()
    applied(there)
    path, good, bad = DAMAGE[name]
    assert good in text(there, path)
    there.put(path, text(there, path).replace(good, bad), mode=there.files[path].mode)
    assert [name for name, state in states(declared().plan(there)).items() if state == "drifted"] == [name]
    applied(there)
    assert good in text(there, path)


def test_a_killer_that_was_stopped_is_named_alone():
    there = node()
    applied(there)
    there.units["earlyoom.service"]["ActiveState"] = "inactive"
    assert [name for name, state in states(declared().plan(there)).items() if state == "drifted"] == ["killer"]


def test_programs_are_our_own_modules_word_for_word():
    there = node()
    applied(there)
    for path, module in ((LOAD_GUARD, load_guard), (PRESSURE_WATCH, pressure_watch)):
        assert text(there, path) == Path(module.__file__).read_text()
        # Alone: what they import is Python's own.
        assert "ansible_collections" not in text(there, path)
