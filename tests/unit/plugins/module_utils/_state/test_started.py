# SPDX-License-Identifier: GPL-3.0-or-later
"""A running unit and the files it was started with, whoever changes or starts what."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import started
from declare import apply, states, subject, verdict
from fake_node import FakeNode, Killed, bare

OTHER = "/etc/other.env"  # of another role
OWN = "/etc/systemd/system/demo.service"
TEXT = "[Service]\nExecStart=/bin/true"
NOTES = "/var/lib/nusy/started/demo.json"
RESTART = "systemctl restart demo.service"


def control(**unit) -> dict:
    return {
        "id": "demo/service",
        "units": [{"name": "demo.service", "content": TEXT, "active": True, "restart_on": [OTHER], **unit}],
    }


def running(*controls: dict) -> FakeNode:
    """A node on which everything is applied and the unit has its note."""
    node = bare()
    node.put(OTHER, "A=1\n")
    apply(node, *(controls or (control(),)))
    assert not subject(*(controls or (control(),))).plan(node).changed
    node.effects.clear()
    return node


def state(node: FakeNode, *controls: dict) -> str:
    return states(subject(*(controls or (control(),))).plan(node))["demo/service"]


def test_a_file_of_another_role_makes_the_running_unit_drift_until_it_is_restarted():
    node = running()
    node.put(OTHER, "A=2\n")
    checked = subject(control()).plan(node)
    found = verdict(checked, "demo/service")
    assert [(c.key, c.before) for c in found.changes] == [("unit demo.service: running", f"with an older {OTHER}")]
    assert found.cause == "corrective" and [step.text() for step in checked.steps] == ["restart_unit demo.service"]
    assert apply(node, control()) == checked and RESTART in node.effects
    assert state(node) == "in_sync"


def test_the_same_text_written_again_changes_nothing():
    node = running()
    node.put(OTHER, "A=1\n")
    assert state(node) == "in_sync"


@pytest.mark.parametrize(("gone", "comes"), [("A=1\n", None), (None, "A=1\n")])
def test_a_file_that_goes_or_comes_is_a_change(gone, comes):
    node = running()
    node.files.pop(OTHER)
    apply(node, control())
    if comes is None:
        node.put(OTHER, gone)
        apply(node, control())
        node.files.pop(OTHER)
    else:
        node.put(OTHER, comes)
    assert state(node) == "drifted"


def test_a_link_that_leads_elsewhere_is_a_change():
    node = running()
    node.put("/srv/one.env", "A=1\n")
    node.put(OTHER, "/srv/one.env", kind="link")
    assert state(node) == "in_sync"
    node.put("/srv/two.env", "A=2\n")
    node.put(OTHER, "/srv/two.env", kind="link")
    assert state(node) == "drifted"


def released() -> tuple[FakeNode, dict]:
    """The service reads a file of the release that a link leads to."""
    node = bare()
    node.put("/opt/rel/1/c", "A=1\n")
    node.put("/opt/rel/2/c", "A=2\n")
    node.put("/opt/rel/current", "1", kind="link")
    wanted = control(restart_on=["/opt/rel/current/c"])
    apply(node, wanted)
    return node, wanted


def test_a_link_above_that_leads_elsewhere_after_a_restart_by_hand_is_a_change_and_stays_one():
    node, wanted = released()
    node.begin("demo.service")
    assert state(node, wanted) == "in_sync"
    node.put("/opt/rel/current", "2", kind="link")
    node.root = False
    node.unreadable.add(NOTES)
    assert state(node, wanted) == "unknown"
    node.root = True
    node.unreadable.remove(NOTES)
    assert state(node, wanted) == "drifted"
    node.effects.clear()
    apply(node, wanted)
    assert RESTART in node.effects and state(node, wanted) == "in_sync"


def test_of_what_only_got_another_name_or_owner_since_a_start_by_hand_nobody_can_tell_and_the_debt_is_kept():
    """Renamed into its place, or chgrp after the unit has read it: both leave the same times."""
    for touch in (
        lambda node: node.attributes("/opt/rel/2/c", mode=None, uid=None, gid=4),
        lambda node: (node.rename("/opt/rel/2", "/opt/rel/3"), node.rename("/opt/rel/3", "/opt/rel/2")),
    ):
        node, wanted = released()
        node.put("/opt/rel/current", "2", kind="link")
        node.begin("demo.service")
        assert state(node, wanted) == "in_sync"
        node.effects.clear()
        touch(node)
        for _run in range(2):
            checked = subject(wanted).plan(node)
            assert states(checked)["demo/service"] == "unknown" and not checked.steps
            assert "a restart by hand settles it" in verdict(checked, "demo/service").reason
            with pytest.raises(NodeError, match="cannot tell whether demo"):
                apply(node, wanted)
        assert RESTART not in node.effects
        node.begin("demo.service")
        apply(node, wanted)
        assert state(node, wanted) == "in_sync" and RESTART not in node.effects


def test_what_happens_in_a_folder_on_the_way_is_no_change_of_what_is_below_it():
    node, wanted = released()
    node.put("/opt/rel/2/c", "A=3\n")
    node.put("/opt/rel/current", "2", kind="link")
    node.begin("demo.service")
    node.clock += 1
    node.files["/opt/rel/2"].changed = node.files["/opt/rel/2"].written = node.clock  # a file was made in it
    assert state(node, wanted) == "in_sync"


def test_a_file_that_may_have_gone_after_a_start_by_hand_may_be_missed():
    node = running()
    del node.files[OTHER]
    node.begin("demo.service")
    assert state(node) == "in_sync"
    node.clock += 1
    node.files["/etc"].changed = node.files["/etc"].written = node.clock
    assert state(node) == "unknown"


def test_whoever_restarts_it_after_the_change_has_repaired_it_and_before_has_not():
    node = running()
    node.put(OTHER, "A=2\n")
    node.begin("demo.service")  # by hand, or by a boot
    assert state(node) == "in_sync"
    apply(node, control())
    assert not [effect for effect in node.effects if "systemctl" in effect]
    # The run has taken the new instance over: now every difference is one.
    node.put(OTHER, "A=3\n")
    assert state(node) == "drifted"
    node = running()
    node.begin("demo.service")
    node.put(OTHER, "A=2\n")
    assert state(node) == "drifted"


def test_a_definition_that_systemd_has_not_loaded_is_older_however_late_the_unit_was_started():
    node = running()
    node.put(OWN, f"{TEXT}\nNice=5\n")
    node.units["demo.service"]["NeedDaemonReload"] = "yes"
    node.begin("demo.service")
    changed = {**control(), "units": [{**control()["units"][0], "content": f"{TEXT}\nNice=5"}]}
    plan = apply(node, changed)
    assert [step.text() for step in plan.steps] == ["reload_manager systemd", "restart_unit demo.service"]
    assert state(node, changed) == "in_sync"


def test_a_unit_that_is_met_for_the_first_time_is_taken_to_run_with_what_is_there():
    node = bare()
    node.units["demo.service"] = node.unit(active="active", state="enabled")
    node.put(OWN, TEXT + "\n")
    node.put(OTHER, "PASSWORD=hunter22\n", mode=0o600)
    assert not apply(node, control()).changed
    assert not [effect for effect in node.effects if "systemctl" in effect]
    entry = node.files[NOTES]
    assert (entry.mode, entry.uid) == (0o600, 0) and "hunter22" not in entry.text
    assert json.loads(entry.text)["units"]["demo.service"]["invocation"] == node.units["demo.service"]["InvocationID"]
    node.put(OTHER, "PASSWORD=hunter23\n", mode=0o600)
    assert state(node) == "drifted"


def test_a_check_writes_no_note():
    node = bare()
    node.put(OWN, TEXT + "\n")
    node.units["demo.service"] = node.unit(active="active", state="enabled")
    subject(control()).plan(node)
    assert node.effects == [] and NOTES not in node.files


def test_a_skipped_unit_keeps_its_note():
    node = running()
    node.put(OTHER, "A=2\n")
    more = {"id": "demo/more", "units": [{"name": "second.service", "content": TEXT, "active": True}]}
    apply(node, control(), more, skip_controls=["demo/service"])
    assert json.loads(node.files[NOTES].text)["units"].keys() == {"demo.service", "second.service"}
    assert state(node, control(), more) == "drifted"


def test_damaged_notes_are_no_notes():
    node = running()
    node.files[NOTES].text = '{"units": 7}'
    node.put(OTHER, "A=2\n")
    assert state(node) == "in_sync"
    apply(node, control())
    assert json.loads(node.files[NOTES].text)["units"].keys() == {"demo.service"}


def test_notes_in_a_folder_of_somebody_else_are_neither_read_nor_written():
    node = running()
    node.files[started.FOLDER].uid = 1234
    assert state(node) == "in_sync"
    node.put(OTHER, "A=2\n")
    assert state(node) == "unknown"
    before = node.files[NOTES].text
    apply(node, {"id": "demo/service", "units": [{"name": "demo.service", "enabled": True}]})
    assert node.files[NOTES].text == before


def test_who_may_not_read_the_notes_hears_of_files_that_changed_after_the_start_and_of_no_others():
    node = running()
    node.root = False
    node.unreadable |= {NOTES, "/var/lib/nusy/applied/.key"}
    assert state(node) == "in_sync"
    node.put(OTHER, "A=1\n")
    plan = subject(control()).plan(node)
    assert states(plan)["demo/service"] == "unknown" and not plan.steps
    assert "is for root only" in verdict(plan, "demo/service").reason
    node.unreadable.remove(NOTES)
    assert state(node) == "in_sync"


def test_who_may_not_read_the_notes_is_not_troubled_by_a_reload():
    reloading = control(on_change="reload")
    node = running(reloading)
    node.put(OTHER, "A=2\n")
    apply(node, reloading)
    node.unreadable.add(NOTES)
    assert state(node, reloading) == "in_sync"
    node.put(OTHER, "A=3\n")
    assert state(node, reloading) == "unknown"


def test_a_watched_file_that_cannot_be_read_is_unknown():
    node = running()
    node.unreadable.add(OTHER)
    assert state(node) == "unknown"


def test_a_reload_is_for_what_the_service_reads_and_a_restart_for_what_systemd_reads():
    reloading = control(on_change="reload", dropins={"nusy": "[Service]\nNice=5"})
    node = running(reloading)
    node.put(OTHER, "A=2\n")
    assert [step.text() for step in apply(node, reloading).steps] == ["reload_unit demo.service"]
    assert state(node, reloading) == "in_sync"
    nicer = control(on_change="reload", dropins={"nusy": "[Service]\nNice=6"})
    actions = [step.action for step in apply(node, nicer).steps]
    assert actions == ["write_file", "reload_manager", "restart_unit"]
    # Both at once, and the definition was changed by somebody else: one restart does both.
    node.put(OTHER, "A=3\n")
    even_nicer = control(on_change="reload", dropins={"nusy": "[Service]\nNice=7"})
    node.put(f"{OWN}.d/nusy.conf", "[Service]\nNice=7\n")
    assert [step.action for step in apply(node, even_nicer).steps] == ["restart_unit"]
    assert state(node, even_nicer) == "in_sync"


def test_a_unit_of_which_changes_are_nobodys_business_is_left_running():
    left = control(on_change="none")
    node = running(left)
    node.put(OTHER, "A=2\n")
    assert state(node, left) == "in_sync" and NOTES not in node.files
    apply(node, control(on_change="none", content=f"{TEXT}\nNice=5"))
    assert RESTART not in node.effects


def test_a_stopped_unit_is_started_also_where_changes_are_nobodys_business():
    node = running(control(on_change="none"))
    node.units["demo.service"]["ActiveState"] = "inactive"
    moved = control(on_change="none", content=f"{TEXT}\nNice=5")
    apply(node, moved)
    assert node.units["demo.service"]["ActiveState"] == "active"


def test_an_instance_runs_with_the_files_of_its_template():
    def controls(text: str) -> tuple[dict, ...]:
        return (
            {"id": "demo/service", "units": [{"name": "engine@main.service", "active": True}]},
            {"id": "demo/template", "units": [{"name": "engine@.service", "content": text}]},
        )

    node = bare()
    node.units["engine@main.service"] = node.unit(active="active")
    node.put("/etc/systemd/system/engine@.service", TEXT + "\n")
    apply(node, *controls(TEXT))
    node.effects.clear()
    apply(node, *controls(f"{TEXT}\nNice=5"))
    assert node.effects.count("systemctl restart engine@main.service") == 1
    assert node.effects.index("daemon-reload") < node.effects.index("systemctl restart engine@main.service")


def test_two_controls_that_declare_one_unit_restart_it_once():
    controls = (
        control(),
        {"id": "demo/between", "units": [{"name": "second.service", "content": TEXT, "active": True}]},
        {"id": "demo/nice", "units": [{"name": "demo.service", "restart_on": [OTHER]}]},
    )
    node = running(*controls)
    node.put(OTHER, "A=2\n")
    apply(node, *controls)
    assert [effect for effect in node.effects if "systemctl" in effect] == [RESTART]


def test_a_unit_whose_files_a_later_control_declares_is_started_after_them():
    controls = (
        {"id": "demo/service", "units": [{"name": "demo.service", "active": True}]},
        {"id": "demo/nice", "units": [{"name": "demo.service", "dropins": {"nusy": "[Service]\nNice=5"}}]},
    )
    node = bare()
    node.units["demo.service"] = node.unit()
    apply(node, *controls)
    assert node.effects.index(f"write {OWN}.d/nusy.conf") < node.effects.index(RESTART)
    assert [effect for effect in node.effects if "systemctl" in effect] == [RESTART]


def test_what_a_blocked_restart_owes_is_not_forgotten():
    node = running()
    node.put(OTHER, "A=2\n")
    node.units["demo.service"]["UnitFileState"] = "masked"
    assert verdict(apply(node, control()), "demo/service").blocked_by == "demo_confirm: [demo.service]"
    assert RESTART not in node.effects
    node.units["demo.service"]["UnitFileState"] = "enabled"
    assert state(node) == "drifted"


@pytest.mark.parametrize("lives", range(14))
def test_killed_anywhere_the_next_run_owes_the_restart_of_what_a_package_has_started(lives):
    """The package starts its service before its file is written, and there is no note of it from before."""
    documents = (
        {"id": "demo/package", "packages": ["chrony"]},
        {"id": "demo/file", "files": [{"path": "/etc/chrony.conf", "content": "pool a"}]},
        {
            "id": "demo/service",
            "units": [{"name": "chrony.service", "active": True, "restart_on": ["/etc/chrony.conf"]}],
        },
    )
    node = bare()
    node.lives = lives
    with pytest.raises(Killed):
        apply(node, *documents)
    node.lives = None
    apply(node, *documents)
    began = int(node.units["chrony.service"]["InactiveExitTimestampMonotonic"]) / 1e6
    assert began > node.files["/etc/chrony.conf"].changed
    assert not subject(*documents).plan(node).changed


# --- conditions ------------------------------------------------------------------------------


def idle(remembered: bool) -> FakeNode:
    node = bare()
    node.units["demo.service"] = node.unit()
    if remembered:
        node.units["demo.service"] |= {"ConditionResult": "no", "ConditionTimestampMonotonic": "123"}
    return node


ACTIVE = {"id": "demo/service", "units": [{"name": "demo.service", "active": True}]}


@pytest.mark.parametrize("remembered", [True, False])
def test_a_condition_that_fails_now_is_named_and_one_that_holds_again_lets_the_unit_start(remembered):
    node = idle(remembered)
    node.conditions["demo.service"] = "ConditionPathExists=/nowhere"
    plan = subject(ACTIVE).plan(node)
    assert states(plan)["demo/service"] == "unknown" and not plan.steps
    assert "ConditionPathExists=/nowhere failed" in verdict(plan, "demo/service").reason
    node.conditions["demo.service"] = ""
    assert [step.text() for step in apply(node, ACTIVE).steps] == ["start_unit demo.service"]


@pytest.mark.parametrize(("remembered", "expected"), [(True, "unknown"), (False, "drifted")])
def test_an_older_systemd_is_asked_for_its_memory(remembered, expected):
    assert states(subject(ACTIVE).plan(idle(remembered)))["demo/service"] == expected


def test_notes_in_a_folder_of_somebody_else_are_not_believed_and_root_is_told_whose_it_is():
    node, ensured = bare(), subject(control(restart_on=["/etc/demo.conf"], content=None))
    node.units["demo.service"] = node.unit(state="enabled")
    node.put("/etc/demo.conf", "old\n")
    node.put("/var/lib/nusy", kind="directory", mode=0o755, uid=990)
    node.users["bob"] = [990, 990, "", "/", "/bin/sh"]
    node.begin("demo.service")
    node.put("/etc/demo.conf", "new\n")
    reason = verdict(ensured.plan(node), "demo/service").reason
    assert "is not believed: /var/lib/nusy belongs to bob, not to root" in reason
