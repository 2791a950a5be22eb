# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and links: whose they are, and what they lead to."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from declare import apply, subject, verdict
from fake_node import FakeNode, bare


def test_a_directory_of_somebody_else_is_blocked_until_named_and_the_rest_converges():
    node = bare()
    node.put("/opt/nusy/precious", "data", uid=1234)
    node.files["/opt/nusy"].uid = 1234
    controls = (
        {"id": "demo/user", "groups": [{"name": "nusy"}], "users": [{"name": "nusy", "group": "nusy"}]},
        {"id": "demo/roots", "directories": [{"path": "/opt/nusy", "owner": "nusy", "group": "nusy"}]},
        {"id": "demo/inside", "files": [{"path": "/opt/nusy/app.env", "content": "A=1"}]},
        {"id": "demo/other", "files": [{"path": "/etc/demo.conf", "content": "a"}]},
    )
    plan = apply(node, *controls)
    assert verdict(plan, "demo/roots").blocked_by == "demo_confirm: [/opt/nusy]"
    assert verdict(plan, "demo/inside").blocked_by == "demo_confirm: [/opt/nusy]"
    assert node.files["/opt/nusy"].uid == 1234 and "/opt/nusy/app.env" not in node.files
    assert node.files["/etc/demo.conf"].text == "a\n" and "nusy" in node.users
    assert verdict(subject(*controls).plan(node), "demo/roots").cause == "blocked"
    apply(node, *controls, confirm=["/opt/nusy"])
    assert node.user_name(node.files["/opt/nusy"].uid) == "nusy" and node.files["/opt/nusy/precious"].text == "data"


def test_only_accounts_that_nobody_declared_and_nobody_has_are_assumed():
    node = bare()
    control = {
        "id": "demo/roots",
        "groups": [{"name": "nusy"}],
        "directories": [
            {"path": "/opt/a", "group": "nusy"},
            {"path": "/opt/b", "owner": "other"},
        ],
    }
    assert subject(control).plan(node).assumptions == ("user other (of /opt/b) is made by a package or another role",)


def test_a_link_to_a_directory_is_a_directory_and_its_target_is_judged():
    node = bare()
    node.put("/mnt/big/models", kind="directory", mode=0o700)
    node.put("/srv/models", "../mnt/big/models", kind="link", mode=0o777)
    control = {"id": "demo/models", "directories": [{"path": "/srv/models"}]}
    plan = apply(node, control)
    assert verdict(plan, "demo/models").as_dict()["before"] == {"directory /srv/models: mode": "0700"}
    assert node.files["/mnt/big/models"].mode == 0o755 and node.files["/srv/models"].kind == "link"
    node.put("/srv/lost", "/nowhere", kind="link")
    lost = {"id": "demo/lost", "directories": [{"path": "/srv/lost"}]}
    assert verdict(subject(lost).plan(node), "demo/lost").state == "unknown"
    node.put("/srv/loop", "/srv/loop", kind="link")
    loop = {"id": "demo/loop", "directories": [{"path": "/srv/loop"}]}
    assert "too many levels" in verdict(subject(loop).plan(node), "demo/loop").reason


@pytest.mark.parametrize(
    ("there", "before"),
    [("", "absent"), ("link", "to /opt/other"), ("file", "file"), ("directory", "directory")],
)
def test_what_is_in_the_place_of_a_link_is_said(there, before):
    node = bare()
    if there:
        node.put("/opt/current", "/opt/other", kind=there)
    control = {"id": "demo/link", "links": [{"path": "/opt/current", "target": "releases/1"}]}
    found = verdict(subject(control).plan(node), "demo/link").as_dict()
    assert (found["state"], found["before"]) == ("drifted", {"link /opt/current": before})
    assert found["after"] == {"link /opt/current": "to releases/1"}


def test_a_parent_that_a_package_brings_keeps_its_owner():
    node = bare()
    control = {"id": "demo/conf", "files": [{"path": "/etc/redis/demo.conf", "content": "a"}]}
    ensured = subject(control)
    plan = ensured.plan(node)
    node.put("/etc/redis", kind="directory", mode=0o2770, uid=111)
    converge(ensured, plan, node, node)
    assert (node.files["/etc/redis"].uid, node.files["/etc/redis"].mode) == (111, 0o2770)


def test_a_directory_link_that_somebody_else_owns_is_not_followed():
    node = bare()
    node.users["nusy"] = [990, 990, "", "/opt/nusy", "/usr/sbin/nologin"]
    node.groups["nusy"] = [990, []]
    node.put("/etc/profile.d", kind="directory", mode=0o755)
    node.put("/opt/nusy", kind="directory", mode=0o755, uid=990, gid=990)
    node.put("/opt/nusy/cache", "/etc/profile.d", kind="link", uid=990)
    control = {"id": "demo/cache", "directories": [{"path": "/opt/nusy/cache", "owner": "nusy", "group": "nusy"}]}
    plan = subject(control).plan(node)
    assert verdict(plan, "demo/cache").state == "unknown" and not plan.steps


def eve() -> FakeNode:
    """A service account with a folder in which it has put a link to a folder of root."""
    node = bare()
    node.users["eve"] = [990, 990, "", "/srv/app", "/usr/sbin/nologin"]
    node.groups["eve"] = [990, []]
    node.put("/etc/victim.d", kind="directory", mode=0o755)
    node.put("/srv/app", kind="directory", mode=0o755, uid=990, gid=990)
    node.put("/srv/app/conf", "/etc/victim.d", kind="link", uid=990)
    return node


BELOW = [
    {"files": [{"path": "/srv/app/conf/x", "content": "x"}]},
    {"files": [{"path": "/srv/app/conf/deep/x", "content": "x"}]},
    {"files": [{"path": "/srv/app/conf/x", "state": "absent"}]},
    {"links": [{"path": "/srv/app/conf/x", "target": "y"}]},
    {"directories": [{"path": "/srv/app/conf/x"}]},
]


@pytest.mark.parametrize("below", BELOW)
@pytest.mark.parametrize("declared", [True, False])
def test_nothing_below_a_link_that_somebody_else_can_set_is_planned(below, declared):
    node = eve()
    node.put("/etc/victim.d/x", "precious")
    folder = {"id": "demo/conf", "directories": [{"path": "/srv/app/conf", "owner": "eve", "group": "eve"}]}
    plan = subject(*([folder] if declared else []), {"id": "demo/below", **below}).plan(node)
    assert plan.steps == () and verdict(plan, "demo/below").state == "unknown"
    assert "/srv/app/conf is a link that eve can set" in verdict(plan, "demo/below").reason


def test_roots_link_in_a_folder_of_root_is_followed_on_the_way():
    node = bare()
    node.put("/mnt/big", kind="directory", mode=0o755)
    node.put("/srv/models", "/mnt/big", kind="link")
    plan = subject({"id": "demo/a", "files": [{"path": "/srv/models/new/x", "content": "x"}]}).plan(node)
    assert [step.text() for step in plan.steps] == ["make_parent /srv/models/new", "write_file /srv/models/new/x"]


@pytest.mark.parametrize("kind", ["file", "dangling link"])
@pytest.mark.parametrize("thing", ["files", "links", "directories"])
def test_what_is_in_the_way_on_the_way_stops_a_run_before_its_first_step(kind, thing):
    node = bare()
    if kind == "file":
        node.put("/srv/f", "x")
    else:
        node.put("/srv/f", "/nowhere", kind="link")
    more = {"files": {"content": "x"}, "links": {"target": "y"}, "directories": {}}[thing]
    first = {"id": "demo/first", "files": [{"path": "/srv/first", "content": "1"}]}
    second = {"id": "demo/second", thing: [{"path": "/srv/f/deep/x", **more}]}
    plan = subject(first, second).plan(node)
    assert verdict(plan, "demo/second").state == "drifted" and "/srv/f, on the way" in plan.facts["refused"][0]
    with pytest.raises(NodeError, match="nothing was changed"):
        apply(node, first, second)
    assert "/srv/first" not in node.files


def test_what_is_in_the_way_and_named_is_moved_and_what_is_below_it_is_made():
    node = bare()
    node.put("/srv/f", "data")
    control = {
        "id": "demo/a",
        "directories": [{"path": "/srv/f"}],
        "files": [{"path": "/srv/f/x", "content": "x"}],
    }
    assert "refused" not in subject(control).plan(node).facts
    apply(node, control, confirm=["/srv/f"])
    assert node.files["/srv/f/x"].text == "x\n" and node.files["/srv/f.replaced.1"].text == "data"


def test_a_file_is_shown_by_the_mode_of_the_file_that_was_read():
    """Between two looks its folder's owner can put a closed file of root in the place of an open one."""
    node = eve()
    node.put("/srv/app/c.conf", "open\n", uid=990)
    whole = node.file

    def swapped(path: str):
        node.put("/srv/app/c.conf", "root:hash\n", mode=0o600)
        return whole(path)

    node.file = swapped
    plan = subject({"id": "demo/a", "files": [{"path": "/srv/app/c.conf", "content": "b"}]}).plan(node)
    assert "hash" not in str(plan.controls)


def test_nothing_is_mounted_where_somebody_else_can_have_it_mounted():
    node = eve()
    mount = {"path": "/srv/app/conf", "source": "tmpfs", "fstype": "tmpfs"}
    plan = subject({"id": "demo/a", "mounts": [mount]}).plan(node)
    assert plan.steps == () and verdict(plan, "demo/a").state == "unknown"
