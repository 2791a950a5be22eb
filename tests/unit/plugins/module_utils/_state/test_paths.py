# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and links: whose they are, and what they lead to."""

from __future__ import annotations

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from declare import apply, subject, verdict
from fake_node import bare


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
