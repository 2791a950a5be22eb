# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups and users: what a run could not do is said before it begins."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge, result_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from declare import subject
from fake_node import FakeNode


@pytest.fixture
def node():
    node = FakeNode()
    node.groups |= {"bob": [4700, []], "ops": [4701, []]}
    node.users["bob"] = [4600, 4700, "", "/home/bob", "/bin/sh"]
    return node


FILE = {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]}


@pytest.mark.parametrize(
    ("control", "confirm", "reason"),
    [
        ({"groups": [{"name": "new", "gid": 4700}]}, [], "gid 4700 belongs to bob"),
        ({"users": [{"name": "new", "uid": 4600}]}, [], "uid 4600 belongs to bob"),
        ({"groups": [{"name": "ops", "gid": 4700}]}, ["ops"], "gid 4700 belongs to bob"),
        ({"users": [{"name": "root", "uid": 4600}]}, ["root"], "uid 4600 belongs to bob"),
        ({"groups": [{"name": "one", "gid": 5}, {"name": "two", "gid": 5}]}, [], "gid 5 belongs to one"),
    ],
)
def test_a_number_that_somebody_has_is_refused_before_anything_is_done(node, control, confirm, reason):
    ensured = subject(FILE, {"id": "demo/account", **control}, confirm=confirm)
    plan = ensured.plan(node)
    found = plan.controls[1]
    assert (found.state, found.reason) == ("drifted", f"{reason}: a run stops before its first step")
    assert result_of(plan, "demo")["refused"] == [f"demo/account: {reason}"]
    with pytest.raises(NodeError) as error:
        converge(ensured, plan, node, node)
    assert error.value.problem.key == "state.refused" and reason in error.value.problem.found
    assert not [effect for effect in node.effects if "/run" not in effect]


def test_a_number_that_the_same_document_sets_free_can_be_taken(node):
    groups = [{"name": "ops", "gid": 4800}, {"name": "new", "gid": 4701}]
    ensured = subject({"id": "demo/groups", "groups": groups}, confirm=["ops"])
    converge(ensured, ensured.plan(node), node, node)
    assert (node.groups["ops"][0], node.groups["new"][0]) == (4800, 4701)


def test_a_taken_number_of_an_account_that_is_not_named_is_only_blocked(node):
    control = {"id": "demo/account", "groups": [{"name": "ops", "gid": 4700}]}
    plan = subject(control).plan(node)
    assert plan.controls[0].blocked_by == "demo_confirm: [ops]" and "refused" not in plan.facts


def busy(node):
    node.put("/proc/77/status", "Name:\tsleep\nUid:\t0\t4600\t0\t0\n")
    node.put("/proc/78/status", "Name:\tother\nUid:\t1\t1\t1\t1\n")
    node.put("/proc/self/status", "Name:\tpython\nUid:\t4600\t4600\t4600\t4600\n")


@pytest.mark.parametrize("change", [{"uid": 4601}, {"home": "/opt/bob"}])
def test_what_usermod_refuses_while_processes_run_is_said_and_not_tried(node, change):
    busy(node)
    ensured = subject({"id": "demo/user", "users": [{"name": "bob", **change}]}, FILE, confirm=["bob"])
    plan = ensured.plan(node)
    assert plan.controls[0].reason == "usermod refuses while bob runs sleep (77)"
    assert "modify_user" not in {step.action for step in plan.steps}
    with pytest.raises(NodeError) as error:
        converge(ensured, plan, node, node)
    assert "usermod refuses while bob runs sleep (77)" in error.value.problem.found
    assert "/etc/demo.conf" in node.files
    del node.files["/proc/77/status"]
    converge(ensured, ensured.plan(node), node, node)
    assert not ensured.plan(node).changed


def test_processes_do_not_stand_in_the_way_of_other_changes(node):
    busy(node)
    ensured = subject({"id": "demo/user", "users": [{"name": "bob", "shell": "/bin/bash"}]}, confirm=["bob"])
    converge(ensured, ensured.plan(node), node, node)
    assert node.users["bob"][4] == "/bin/bash"


@pytest.mark.parametrize("declared", [True, False])
def test_a_new_user_joins_a_group_of_its_name_that_is_there(node, declared):
    # useradd --user-group fails then: "group ops exists - if you want to add this user to that group, use -g".
    name, groups = ("vllm", [{"name": "vllm"}]) if declared else ("ops", [])
    ensured = subject({"id": "demo/user", "groups": groups, "users": [{"name": name}]})
    converge(ensured, ensured.plan(node), node, node)
    assert node.users[name][1] == node.groups[name][0]


def test_a_new_user_brings_its_group_along(node):
    owned = {"id": "demo/home", "directories": [{"path": "/opt/vllm", "owner": "vllm", "group": "vllm"}]}
    ensured = subject({"id": "demo/user", "users": [{"name": "vllm"}]}, owned)
    plan = ensured.plan(node)
    assert plan.assumptions == () and plan.controls[1].reason == ""
    node.put("/opt", kind="directory", mode=0o755)
    converge(ensured, plan, node, node)
    assert node.users["vllm"][1] == node.groups["vllm"][0] == node.files["/opt/vllm"].gid


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        ({"users": [{"name": "new", "group": "gone"}]}, "group gone of user new is made by a package or another role"),
        (
            {"files": [{"path": "/etc/x", "owner": "gone"}]},
            "user gone (of /etc/x) is made by a package or another role",
        ),
        (
            {"directories": [{"path": "/opt/x", "group": "gone"}]},
            "group gone (of /opt/x) is made by a package or another role",
        ),
        (
            {"units": [{"name": "gone.service", "active": True}]},
            "unit gone.service is brought by a package or another role",
        ),
    ],
)
def test_what_a_control_relies_on_and_nobody_can_see_is_its_reason(node, control, sentence):
    plan = subject({"id": "demo/it", **control}).plan(node)
    assert plan.assumptions == (sentence,)
    assert (plan.controls[0].state, plan.controls[0].reason) == ("drifted", f"only if {sentence}")


def test_an_account_without_a_home_of_its_own_has_the_root_directory(node):
    ensured = subject({"id": "demo/user", "users": [{"name": "sys", "home": "/", "system": True}]})
    converge(ensured, ensured.plan(node), node, node)
    assert node.users["sys"][3] == "/" and not ensured.plan(node).changed
    with pytest.raises(InputError):
        subject({"id": "demo/user", "users": [{"name": "sys", "home": "//"}]})


@pytest.mark.parametrize("wanted", [{"shell": "/usr/sbin/nologin"}, {"home": "/srv/root"}, {"group": "ops"}])
def test_the_account_that_runs_everything_is_touched_only_by_its_name(node, wanted):
    declared = {"id": "demo/user", "users": [{"name": "root", **wanted}]}
    plan = subject(declared).plan(node)
    assert plan.controls[0].blocked_by == "demo_confirm: [root]" and plan.steps == ()
    assert subject(declared, confirm=["root"]).plan(node).steps


@pytest.mark.parametrize(
    ("shell", "waits"),
    [("/bin/bash", True), ("", True), ("/usr/sbin/nologin", False), ("/bin/false", False)],
)
def test_a_system_account_that_somebody_logs_in_by_waits_for_its_name(node, shell, waits):
    node.users["postgres"] = [107, node.groups["ops"][0], "", "/var/lib/postgresql", shell]
    declared = {"id": "demo/user", "users": [{"name": "postgres", "home": "/opt/nusy"}]}
    plan = subject(declared).plan(node)
    assert plan.controls[0].blocked_by == ("demo_confirm: [postgres]" if waits else "")
    assert bool(plan.steps) is not waits
    assert subject(declared, confirm=["postgres"]).plan(node).steps


def test_a_system_account_that_this_role_made_is_repaired_unasked(node):
    declared = {"id": "demo/user", "users": [{"name": "nusy", "shell": "/usr/sbin/nologin", "system": True}]}
    ensured = subject(declared)
    converge(ensured, ensured.plan(node), node, node)
    node.users["nusy"][4] = "/bin/bash"
    plan = subject(declared).plan(node)
    assert not plan.controls[0].blocked_by and [step.action for step in plan.steps] == ["modify_user"]
