# SPDX-License-Identifier: GPL-3.0-or-later
"""ensure_state as a whole, on a node in memory: prediction, convergence, kills, causes."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import subject as subject_module
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import confirms
from declare import apply, states, subject, verdict
from fake_node import FakeNode, Killed, bare

EVERYTHING = (
    {
        "id": "demo/packages",
        "packages": ["jq", "chrony"],
        "holds": ["jq"],
        "groups": [{"name": "nusy", "system": True}, {"name": "render"}],
        "users": [{"name": "nusy", "group": "nusy", "groups": ["render"], "home": "/opt/nusy", "system": True}],
    },
    {
        "id": "demo/roots",
        "directories": [{"path": "/opt/nusy", "owner": "nusy", "group": "nusy", "mode": "0750"}],
        "links": [{"path": "/opt/nusy/current", "target": "releases/1"}],
    },
    {
        "id": "demo/first_setting",
        "files": [{"path": "/etc/demo/app.conf", "content": "alpha = 1", "fragment": True}],
        "sysctls": [{"name": "vm.swappiness", "value": "10"}],
    },
    {
        "id": "demo/second_setting",
        "files": [{"path": "/etc/demo/app.conf", "content": "beta = 2\ngamma = 3", "fragment": True}],
        "kernel_modules": [{"name": "br_netfilter"}, {"name": "nouveau", "loaded": False}],
    },
    {
        "id": "demo/service",
        "units": [
            {"name": "demo.service", "content": "[Service]\nExecStart=/bin/true", "enabled": True, "active": True},
            {
                "name": "chrony.service",
                "enabled": True,
                "active": True,
                "dropins": {"nusy": "[Service]\nNice=5"},
                "restart_on": ["/etc/demo/app.conf"],
            },
        ],
    },
)


def test_check_on_a_bare_node_touches_nothing_and_predicts_every_control():
    node = bare()
    before = node.snapshot()
    plan = subject(*EVERYTHING).plan(node)
    assert node.effects == [] and node.snapshot() == before
    assert states(plan) == {control["id"]: "drifted" for control in EVERYTHING} | {"demo/file_extra": "in_sync"}


def test_check_and_apply_report_the_same_and_a_second_check_is_empty():
    node = bare()
    checked = subject(*EVERYTHING).plan(node)
    applied = apply(node, *EVERYTHING)
    assert applied == checked
    again = subject(*EVERYTHING).plan(node)
    assert not again.changed and set(states(again).values()) == {"in_sync"}
    assert node.packages["jq"] == ("held", "1.7")
    assert node.files["/etc/demo/app.conf"].text == "alpha = 1\nbeta = 2\ngamma = 3\n"
    assert node.files["/opt/nusy"].mode == 0o750 and node.user_name(node.files["/opt/nusy"].uid) == "nusy"
    assert node.files["/proc/sys/vm/swappiness"].text == "10\n"
    assert node.units["demo.service"]["ActiveState"] == "active" and "br_netfilter" in node.modules


def test_a_second_run_has_no_effect_at_all():
    node = bare()
    apply(node, *EVERYTHING)
    node.effects.clear()
    apply(node, *EVERYTHING)
    assert node.effects == []


def effects_of_a_full_run() -> int:
    node = bare()
    apply(node, *EVERYTHING)
    return len(node.effects)


@pytest.mark.parametrize("lives", range(effects_of_a_full_run()))
def test_killed_at_any_effect_the_next_run_converges_to_the_same_node(lives):
    unharmed = bare()
    apply(unharmed, *EVERYTHING)
    node = bare()
    node.lives = lives
    with pytest.raises(Killed):
        apply(node, *EVERYTHING)
    node.lives = None
    apply(node, *EVERYTHING)
    assert not subject(*EVERYTHING).plan(node).changed
    assert node.snapshot() == unharmed.snapshot()


def effects_of_a_changed_setting() -> int:
    node = bare()
    apply(node, *EVERYTHING)
    node.effects.clear()
    apply(node, *changed_setting())
    return len(node.effects)


def changed_setting() -> list[dict]:
    changed = [dict(control) for control in EVERYTHING]
    changed[2] = {**changed[2], "files": [{**changed[2]["files"][0], "content": "alpha = 7"}]}
    return changed


@pytest.mark.parametrize("lives", range(effects_of_a_changed_setting()))
def test_killed_while_changing_a_file_of_a_running_service_the_restart_is_still_owed(lives):
    node = bare()
    apply(node, *EVERYTHING)
    node.effects.clear()
    node.lives = lives
    with pytest.raises(Killed):
        apply(node, *changed_setting())
    node.lives = None
    apply(node, *changed_setting())
    assert [e for e in node.effects if e == "systemctl restart chrony.service"]
    assert node.files["/etc/demo/app.conf"].text.startswith("alpha = 7")


DAMAGE = {
    "demo/packages": lambda node: node.packages.pop("jq"),
    "demo/roots": lambda node: setattr(node.files["/opt/nusy"], "mode", 0o777),
    "demo/first_setting": lambda node: setattr(node.files["/proc/sys/vm/swappiness"], "text", "60\n"),
    "demo/second_setting": lambda node: setattr(
        node.files["/etc/demo/app.conf"], "text", "alpha = 1\nbeta = 2\ngamma = 4\n"
    ),
    "demo/service": lambda node: node.units["demo.service"].update(ActiveState="failed"),
    "demo/file_extra": lambda node: setattr(
        node.files["/etc/demo/app.conf"], "text", "alpha = 1\nrogue = 1\nbeta = 2\ngamma = 3\n"
    ),
}


@pytest.mark.parametrize("broken", DAMAGE)
def test_each_control_broken_by_hand_is_named_alone_and_repaired(broken):
    node = bare()
    apply(node, *EVERYTHING)
    DAMAGE[broken](node)
    plan = subject(*EVERYTHING).plan(node)
    assert [name for name, state in states(plan).items() if state != "in_sync"] == [broken]
    assert verdict(plan, broken).cause == "corrective"
    apply(node, *EVERYTHING)
    assert set(states(subject(*EVERYTHING).plan(node)).values()) == {"in_sync"}


def test_cause_tells_who_moved():
    node = bare()
    control = {"id": "demo/setting", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
    assert verdict(subject(control).plan(node), "demo/setting").cause == "never_applied"
    apply(node, control)
    moved = {"id": "demo/setting", "files": [{"path": "/etc/demo.conf", "content": "b"}]}
    assert verdict(subject(moved).plan(node), "demo/setting").cause == "intentional"
    node.files["/etc/demo.conf"].text = "c\n"
    assert verdict(subject(control).plan(node), "demo/setting").cause == "corrective"


def test_resources_that_follow_from_the_node_move_with_the_node():
    """A Triton upgraded by hand changes what its file has to say; nobody changed the declaration."""
    node = bare()

    def control(content: str, venv: str = "/opt/v") -> dict[str, Any]:
        file = {"path": "/etc/demo.conf", "content": content}
        return {"id": "demo/setting", "files": [file], "inputs": {"venv": venv, "more": ["x"]}}

    apply(node, control("for 3.5"))
    assert verdict(subject(control("for 3.6")).plan(node), "demo/setting").cause == "corrective"
    assert verdict(subject(control("for 3.5", "/opt/w")).plan(node), "demo/setting").cause == ""
    assert verdict(subject(control("for 3.6", "/opt/w")).plan(node), "demo/setting").cause == "intentional"


@pytest.mark.parametrize(
    ("confirm", "unused", "pointed_out"),
    [
        (["/srv/model"], ["/srv/model"], "demo_confirm has /srv/model: is /srv/models meant?"),
        (["/srv/models/"], ["/srv/models/"], "demo_confirm has /srv/models/: is /srv/models meant?"),
        (["docker-ce"], ["docker-ce"], ""),
        (["/srv/models", "docker-ce"], ["docker-ce"], None),
    ],
)
def test_a_confirmed_name_that_nothing_asked_for_is_told(confirm, unused, pointed_out):
    node = bare()
    node.put("/srv/models/precious", "data", uid=1234)
    node.files["/srv/models"].uid = 1234
    control = {"id": "demo/models", "directories": [{"path": "/srv/models"}]}
    plan = subject(control, confirm=confirm).plan(node)
    assert plan.facts == {"unused_confirm": unused}
    found = verdict(plan, "demo/models")
    if pointed_out is None:
        assert not found.blocked_by and "meant" not in found.reason
    else:
        assert found.blocked_by == "demo_confirm: [/srv/models]"
        assert ("meant?" in found.reason) == bool(pointed_out) and pointed_out in found.reason


def test_nothing_is_said_of_confirmed_names_where_there_are_none():
    assert subject({"id": "demo/file", "links": [{"path": "/a/b", "target": "c"}]}).plan(bare()).facts == {}


def test_in_sync_without_a_record_is_adopted_and_without_root_has_no_cause():
    node = bare()
    node.put("/etc/demo.conf", "a\n")
    control = {"id": "demo/setting", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
    assert verdict(subject(control).plan(node), "demo/setting").cause == "adopted"
    node.unreadable.add("/var/lib/nusy/applied/.key")
    assert verdict(subject(control).plan(node), "demo/setting").cause == ""


def test_an_installation_that_would_remove_a_package_is_blocked_until_that_is_named():
    node = bare()
    node.packages["docker-ce"] = ("installed", "29")
    node.available["docker.io"] = "26"
    node.conflicts["docker.io"] = "docker-ce"
    control = {"id": "demo/docker", "packages": ["docker.io"]}
    plan = apply(node, control)
    assert verdict(plan, "demo/docker").blocked_by == "demo_confirm: [docker-ce]"
    assert "docker-ce" in node.packages and "docker.io" not in node.packages
    apply(node, control, confirm=["docker-ce"])
    assert "docker-ce" not in node.packages and "docker.io" in node.packages


def test_lists_that_change_after_a_refresh_cannot_remove_anything_unnamed():
    node = bare()
    node.packages["docker-ce"] = ("installed", "29")
    node.upstream["docker.io"] = "26"
    node.conflicts["docker.io"] = "docker-ce"
    with pytest.raises(NodeError) as error:
        apply(node, {"id": "demo/docker", "packages": ["docker.io"]})
    assert error.value.problem.key == "packages.would_remove"
    assert "docker-ce" in node.packages


def test_a_package_that_the_lists_do_not_know_yet_is_installed_after_a_refresh():
    node = bare()
    node.upstream["nvtop"] = "3"
    control = {"id": "demo/top", "packages": ["nvtop"]}
    plan = subject(control).plan(node)
    assert [step.action for step in plan.steps] == ["refresh_lists", "install_packages"]
    assert "refreshes" in verdict(plan, "demo/top").reason
    apply(node, control)
    assert node.packages["nvtop"] == ("installed", "3")


def test_a_repository_file_of_an_earlier_control_makes_the_lists_stale():
    node = bare()
    node.upstream["tool"] = "1"
    controls = (
        {"id": "demo/repository", "files": [{"path": "/etc/apt/sources.list.d/x.sources", "content": "Types: deb"}]},
        {"id": "demo/tool", "packages": ["tool"]},
    )
    actions = [step.action for step in subject(*controls).plan(node).steps]
    assert actions.index("write_file") < actions.index("refresh_lists") < actions.index("install_packages")
    apply(node, *controls)
    assert "tool" in node.packages


def test_an_alternative_that_is_there_is_adopted():
    node = bare()
    node.packages["chrony"] = ("installed", "4.5")
    node.units["chrony.service"] = node.unit(active="active", state="enabled")
    control = {
        "id": "demo/time",
        "packages": ["systemd-timesyncd | chrony"],
        "units": [{"name": "systemd-timesyncd.service | chrony.service", "enabled": True, "active": True}],
    }
    assert states(subject(control).plan(node)) == {"demo/time": "in_sync"}


def test_unknown_is_not_fine_and_a_real_run_says_so_at_its_end():
    node = bare()
    node.systemd = False
    controls = (
        {"id": "demo/service", "units": [{"name": "chrony.service", "active": True}]},
        {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]},
    )
    plan = subject(*controls).plan(node)
    assert states(plan)["demo/service"] == "unknown"
    assert "not been booted with systemd" in verdict(plan, "demo/service").reason
    with pytest.raises(NodeError) as error:
        apply(node, *controls)
    assert error.value.problem.key == "state.not_ensured" and "demo/service" in error.value.problem.found
    assert node.files["/etc/demo.conf"].text == "a\n"
    assert json.loads(node.files["/var/lib/nusy/applied/demo.json"].text)["controls"] == {}


def test_a_drifted_assertion_fails_a_real_run_after_everything_else_is_applied():
    node = bare()
    controls = (
        {
            "id": "demo/truth",
            "assertions": [
                {
                    "name": "verdict",
                    "state": "drifted",
                    "found": "unrepairable",
                    "wanted": "ok",
                    "fix": "upgrade Triton",
                }
            ],
        },
        {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]},
    )
    with pytest.raises(NodeError) as error:
        apply(node, *controls)
    assert error.value.problem.fix == "upgrade Triton" and "/etc/demo.conf" in node.files
    unknown = {"id": "demo/truth", "assertions": [{"name": "verdict", "state": "unknown", "reason": "no Triton"}]}
    plan = apply(node, unknown)
    assert (verdict(plan, "demo/truth").state, verdict(plan, "demo/truth").reason) == ("unknown", "no Triton")


def test_skipped_controls_are_reported_and_left_alone():
    node = bare()
    control = {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
    plan = apply(node, control, skip_controls=["demo/file"])
    assert states(plan) == {"demo/file": "not_selected"} and "/etc/demo.conf" not in node.files


def test_without_root_a_real_run_stops_before_the_first_effect():
    node = bare()
    node.root = False
    with pytest.raises(NodeError) as error:
        apply(node, *EVERYTHING)
    assert error.value.problem.key == "core.needs_root" and node.effects == []


def test_secrets_reach_the_file_and_nothing_else():
    node = bare()
    control = {
        "id": "demo/token",
        "files": [{"path": "/etc/demo.token", "content": "token=${secret:token}", "mode": "0600"}],
    }
    plan = apply(node, control, secrets={"token": "hunter22"})
    assert node.files["/etc/demo.token"].text == "token=hunter22\n"
    node.files["/etc/demo.token"].text = "token=older-secret\n"
    again = subject(control, secrets={"token": "hunter22"}).plan(node)
    for result in (plan, again):
        assert "hunter22" not in repr(result) and "older-secret" not in repr(result)
    assert verdict(again, "demo/token").state == "drifted"
    assert "hunter22" not in node.files["/var/lib/nusy/applied/demo.json"].text


def test_a_later_dropin_that_overrides_ours_is_drift():
    node = bare()
    node.units["chrony.service"] = node.unit(active="active", state="enabled")
    control = {"id": "demo/nice", "units": [{"name": "chrony.service", "dropins": {"10-nusy": "[Service]\nNice=5"}}]}
    apply(node, control)
    node.put("/etc/systemd/system/chrony.service.d/99-other.conf", "[Service]\nNice=0\n")
    plan = subject(control).plan(node)
    assert verdict(plan, "demo/nice").state == "drifted" and "99-other.conf" in verdict(plan, "demo/nice").blocked_by
    node.put("/etc/systemd/system/chrony.service.d/99-other.conf", "[Service]\nRestart=always\n")
    assert states(subject(control).plan(node))["demo/nice"] == "in_sync"


def test_a_later_sysctl_file_that_sets_another_value_is_drift_even_if_the_live_value_is_right():
    node = bare()
    control = {"id": "demo/swap", "sysctls": [{"name": "vm.swappiness", "value": "10"}]}
    apply(node, control)
    node.put("/etc/sysctl.d/99-local.conf", "# mine\nvm/swappiness=60\nvm.other=1\n")
    plan = subject(control).plan(node)
    assert verdict(plan, "demo/swap").blocked_by == "demo_confirm: [/etc/sysctl.d/99-local.conf]"
    apply(node, control, confirm=["/etc/sysctl.d/99-local.conf"])
    assert node.files["/etc/sysctl.d/99-local.conf"].text == "# mine\n# vm/swappiness=60\nvm.other=1\n"


def test_unloading_a_module_needs_its_name():
    node = bare()
    node.modules.add("nouveau")
    control = {"id": "demo/nouveau", "kernel_modules": [{"name": "nouveau", "loaded": False}]}
    plan = apply(node, control)
    assert verdict(plan, "demo/nouveau").blocked_by == "demo_confirm: [nouveau]" and "nouveau" in node.modules
    assert node.files["/etc/modprobe.d/90-nusy-demo.conf"].text == "blacklist nouveau\ninstall nouveau /bin/false\n"


@pytest.mark.parametrize(
    ("control", "where"),
    [
        ({"id": "other/x"}, "controls[0].id"),
        ({"id": "demo/x", "packages": ["Bad Name"]}, "controls[0].packages[0]"),
        ({"id": "demo/x", "packages": ["--reinstall"]}, "controls[0].packages[0]"),
        ({"id": "demo/x", "holds": ["jq"]}, "controls[0].holds"),
        ({"id": "demo/x", "directories": [{"path": "relative"}]}, "controls[0].directories[0].path"),
        ({"id": "demo/x", "directories": [{"path": "/a/../b"}]}, "controls[0].directories[0].path"),
        ({"id": "demo/x", "files": [{"path": "/a", "mode": "rw"}]}, "controls[0].files[0].mode"),
        ({"id": "demo/x", "files": [{"path": "/a", "mode": 420}]}, "controls[0].files[0].mode"),
        ({"id": "demo/x", "files": [{"path": "/"}]}, "controls[0].files[0].path"),
        ({"id": "demo/x", "files": [{"path": "/a", "content": "${secret:bad-name}"}]}, "/a of demo/x"),
        ({"id": "demo/x", "sysctls": [{"name": "net/../../x", "value": "1"}]}, "controls[0].sysctls[0].name"),
        ({"id": "demo/x", "links": [{"path": "/a", "target": ""}]}, "controls[0].links[0].target"),
        ({"id": "demo/x", "absent_packages": ["jq=1.6"]}, "controls[0].absent_packages[0]"),
        ({"id": "demo/file_extra", "packages": ["jq"]}, "controls[0].id"),
        ({"id": "demo/x", "files": [{"path": "/a", "content": "${secret:gone}"}]}, "secrets.gone"),
        ({"id": "demo/x", "files": [{"path": "/a", "validate": ["sshd", "-t"]}]}, "controls[0].files[0].validate"),
        ({"id": "demo/x", "units": [{"name": "chrony"}]}, "controls[0].units[0].name"),
        (
            {"id": "demo/x", "units": [{"name": "a.service", "masked": True, "active": True}]},
            "controls[0].units[0].masked",
        ),
    ],
)
def test_bad_input_is_refused_with_its_path_before_anything_is_looked_at(control, where):
    with pytest.raises(InputError) as error:
        subject(control)
    assert where in error.value.problem.wanted


def test_a_misspelt_skip_is_refused():
    with pytest.raises(InputError):
        subject({"id": "demo/a"}, skip_controls=["demo/b"])


# --- found by review: each of these was wrong once ------------------------------------------


@pytest.mark.parametrize("reference", ["${secret:key}", "${secret:of-another-form}"])
def test_secrets_do_not_go_into_unit_files(reference):
    unit = {"name": "demo.service", "content": f"[Service]\nEnvironment=KEY={reference}"}
    with pytest.raises(InputError):
        subject({"id": "demo/x", "units": [unit]}, secrets={"key": "hunter22"})


def test_an_account_that_people_log_in_by_is_changed_only_when_named():
    node = bare()
    node.users["nvidia"] = [1000, 0, "", "/home/nvidia", "/bin/bash"]
    control = {"id": "demo/user", "users": [{"name": "nvidia", "shell": "/usr/sbin/nologin"}]}
    plan = apply(node, control)
    assert verdict(plan, "demo/user").blocked_by == "demo_confirm: [nvidia]"
    assert node.users["nvidia"][4] == "/bin/bash"


def test_a_blocked_installation_leaves_its_unit_alone_and_the_rest_converges():
    node = bare()
    node.packages["docker-ce"] = ("installed", "29")
    node.available["docker.io"] = "26"
    node.conflicts["docker.io"] = "docker-ce"
    controls = (
        {"id": "demo/docker", "packages": ["docker.io"], "units": [{"name": "docker.service", "active": True}]},
        {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]},
    )
    plan = apply(node, *controls)
    assert verdict(plan, "demo/docker").blocked_by == "demo_confirm: [docker-ce]"
    assert node.files["/etc/demo.conf"].text == "a\n"


def test_a_link_among_the_sysctl_files_stays_one_and_its_target_is_edited():
    node = bare()
    node.put("/etc/sysctl.conf", "vm.swappiness = 60\n", mode=0o644)
    node.put("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf", kind="link", mode=0o777)
    control = {"id": "demo/swap", "sysctls": [{"name": "vm.swappiness", "value": "10"}]}
    apply(node, control, confirm=["/etc/sysctl.d/99-sysctl.conf"])
    assert node.files["/etc/sysctl.d/99-sysctl.conf"].kind == "link"
    assert (node.files["/etc/sysctl.conf"].text, node.files["/etc/sysctl.conf"].mode) == (
        "# vm.swappiness = 60\n",
        0o644,
    )


def test_a_record_in_a_folder_of_somebody_else_is_neither_read_nor_written():
    node = bare()
    control = {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
    apply(node, control)
    node.files["/var/lib/nusy"].uid = 1234
    node.files["/etc/demo.conf"].text = "b\n"
    moved = verdict(subject(control).plan(node), "demo/file")
    assert moved.cause == "blocked" and moved.blocked_by == "demo_confirm: [/etc/demo.conf]"
    assert moved.reason.endswith("who moved cannot be told: /var/lib/nusy belongs to 1234, not to root")
    node.effects.clear()
    apply(node, control)
    assert not [effect for effect in node.effects if "/var/lib/nusy" in effect]


def test_what_an_assertion_found_is_no_declaration():
    node = bare()

    def control(found: str) -> dict:
        assertion = {"name": "Triton", "state": "in_sync", "found": found, "wanted": "ok", "reason": found}
        return {"id": "demo/truth", "assertions": [assertion]}

    apply(node, control("ok"))
    drifted = control("broken by hand")
    drifted["assertions"][0]["state"] = "drifted"
    assert verdict(subject(drifted).plan(node), "demo/truth").cause == "corrective"


def test_without_root_a_run_that_has_nothing_to_do_says_so():
    node = bare()
    control = {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
    apply(node, control)
    node.root = False
    assert not apply(node, control).changed


def test_a_package_that_another_one_needs_goes_only_if_both_are_named():
    node = bare()
    node.packages |= {"lib": ("installed", "1"), "user": ("installed", "1")}
    node.needs = {"user": "lib"}
    control = {"id": "demo/lib", "absent_packages": ["lib"]}
    plan = apply(node, control, confirm=["lib"])
    assert verdict(plan, "demo/lib").blocked_by == "demo_confirm: [user]"
    assert verdict(plan, "demo/lib").reason == "removing lib would remove user too"
    assert {"lib", "user"} <= {*node.packages}
    apply(node, control, confirm=["lib", "user"])
    assert "user" not in node.packages and "lib" not in node.packages


def test_a_secret_needs_a_closed_file_and_a_text():
    file = {"path": "/etc/demo.token", "content": "${secret:token}"}
    with pytest.raises(InputError):
        subject({"id": "demo/x", "files": [file]}, secrets={"token": "hunter22"})
    with pytest.raises(InputError):
        subject({"id": "demo/x", "files": [{**file, "mode": "0600"}]}, secrets={"token": None})


def test_everything_that_can_be_planned_can_be_done():
    """A step without its effect would be found on a node, half-way through a run."""
    source = Path(subject_module.__file__).parent
    calls = [
        node
        for path in source.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("will", "Step")
    ]
    named = {
        constant.value for call in calls for constant in ast.walk(call.args[0]) if isinstance(constant, ast.Constant)
    }
    assert named - {"_unit", "active", "restart"} <= set(subject()._actions())
    assert len(named) > 20


BROKEN = {
    "name": "gpu",
    "state": "drifted",
    "found": "no",
    "wanted": "yes",
    "reason": "the GPU is dead",
    "fix": "replace it",
}


def taken() -> FakeNode:
    """A node with a directory of somebody, with content, where one of root is declared."""
    node = bare()
    node.users["bob"] = [5000, 5000, "", "/", "/bin/sh"]
    node.put("/srv/d", kind="directory", mode=0o755, uid=5000)
    node.put("/srv/d/x")
    return node


def test_what_waits_for_the_operator_does_not_hide_what_no_run_can_ensure():
    control = {"id": "demo/both", "directories": [{"path": "/srv/d"}], "assertions": [BROKEN]}
    with pytest.raises(NodeError) as error:
        apply(taken(), control)
    problem = error.value.problem
    assert problem.key == "state.not_ensured" and problem.fix == "replace it"
    assert problem.found == "demo/both is drifted: the GPU is dead"


def test_nor_does_it_hide_what_is_refused():
    node = taken()
    node.groups["bob"] = [4700, []]
    control = {"id": "demo/both", "directories": [{"path": "/srv/d"}], "groups": [{"name": "y", "gid": 4700}]}
    with pytest.raises(NodeError) as error:
        apply(node, control)
    assert error.value.problem.found == "demo/both is drifted: gid 4700 belongs to bob"


def test_nor_does_it_hide_what_cannot_be_seen():
    node = taken()
    node.unreadable.add("/etc/demo.conf")
    node.put("/etc/demo.conf")
    control = {
        "id": "demo/both",
        "directories": [{"path": "/srv/d"}],
        "files": [{"path": "/etc/demo.conf", "content": "a"}],
    }
    with pytest.raises(NodeError) as error:
        apply(node, control)
    assert "/etc/demo.conf: Permission denied" in error.value.problem.found


def test_a_file_that_cannot_be_read_may_hold_lines_of_others():
    node = bare()
    node.unreadable.add("/etc/demo.conf")
    node.put("/etc/demo.conf")
    found = subject({"id": "demo/x", "files": [{"path": "/etc/demo.conf", "content": "a"}]}).plan(node)
    assert {c.id: c.state for c in found.controls} == {"demo/x": "unknown", "demo/file_extra": "unknown"}


def test_what_nothing_is_declared_for_is_not_fine_but_not_selected():
    node = bare()
    (control,) = subject({"id": "demo/x", "packages": []}).plan(node).controls
    assert (control.state, control.reason) == ("not_selected", "nothing is declared for it")
    apply(node, {"id": "demo/x"})
    assert json.loads(node.files["/var/lib/nusy/applied/demo.json"].text)["controls"] == {}


def test_what_somebody_else_could_not_judge_excuses_nothing_that_is_ours_to_see():
    node = bare()
    node.unreadable.add("/etc/demo.conf")
    node.put("/etc/demo.conf")
    unknown = {"id": "demo/x", "assertions": [{"name": "gpu", "state": "unknown", "reason": "no driver"}]}
    apply(node, unknown)
    with pytest.raises(NodeError) as error:
        apply(node, {**unknown, "files": [{"path": "/etc/demo.conf", "content": "a"}]})
    assert error.value.problem.found == "demo/x is unknown: /etc/demo.conf: Permission denied"


# --- one name, two things -------------------------------------------------------------------


def redis() -> tuple[FakeNode, dict]:
    node = bare()
    node.packages["redis"] = ("installed", "1")
    node.users["redis"] = [5000, 5000, "", "/", "/bin/sh"]
    node.groups["redis"] = [5000, []]
    control = {"users": [{"name": "redis", "shell": "/bin/false"}], "absent_packages": ["redis"]}
    return node, {"id": "demo/redis", **control}


def test_a_name_that_means_two_things_is_refused_and_nothing_is_done():
    node, control = redis()
    with pytest.raises(InputError) as error:
        apply(node, control, confirm=["redis"])
    problem = error.value.problem
    assert problem.key == "state.ambiguous_confirm" and not node.effects
    assert "package:redis or user:redis" in problem.fix


@pytest.mark.parametrize(
    ("confirm", "left", "shell", "package"),
    [
        ([], "demo_confirm: [package:redis, user:redis]", "/bin/sh", True),
        (["user:redis"], "demo_confirm: [package:redis]", "/bin/false", True),
        (["package:redis"], "demo_confirm: [user:redis]", "/bin/sh", False),
        (["package:redis", "user:redis"], "", "/bin/false", False),
    ],
)
def test_a_victim_can_be_named_with_its_kind(confirm, left, shell, package):
    node, control = redis()
    plan = apply(node, control, confirm=confirm)
    assert verdict(plan, "demo/redis").blocked_by == left
    assert (node.users["redis"][4], "redis" in node.packages) == (shell, package)
    assert "unused_confirm" not in plan.facts


def test_a_name_of_one_thing_needs_no_kind_and_may_have_one():
    node, control = redis()
    del control["users"]
    assert verdict(subject(control).plan(node), "demo/redis").blocked_by == "demo_confirm: [redis]"
    for confirm in (["redis"], ["package:redis"]):
        node, _control = redis()
        apply(node, control, confirm=confirm)
        assert "redis" not in node.packages


def test_the_root_of_a_new_mount_is_named_with_its_kind_as_well():
    assert confirms(["path:/srv"], "path", "/srv") and not confirms(["user:/srv"], "path", "/srv")
