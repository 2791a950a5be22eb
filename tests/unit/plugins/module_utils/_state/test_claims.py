# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of one document that contradict each other are refused; those that agree are not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from declare import subject
from fake_node import bare

FILE = {"path": "/srv/x", "content": "a"}
PART = {**FILE, "fragment": True}
FOLDER = {"path": "/srv/x"}
LINK = {"path": "/srv/x", "target": "/srv/y"}
MOUNT = {"path": "/srv/x", "source": "nas:/x", "fstype": "nfs"}
UNIT = "x.service"
UNIT_FILE = {"path": "/etc/systemd/system/x.service", "content": "[Service]\n"}
SWAP = {"name": "vm.swappiness", "value": "10"}

# (what the first control declares, what the second declares, the thing they do not agree on)
CONTRADICTIONS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"packages": ["jq"]}, {"absent_packages": ["jq"]}, "package jq"),
    ({"packages": ["jq=1.6"]}, {"packages": ["jq=1.7"]}, "version of package jq"),
    ({"packages": ["jq"]}, {"packages": ["jq=1.7"]}, "version of package jq"),
    ({"packages": ["jq | gojq"]}, {"absent_packages": ["gojq"]}, "package gojq"),
    ({"groups": [{"name": "x"}]}, {"groups": [{"name": "x"}]}, "group x"),
    ({"users": [{"name": "x", "shell": "/bin/a"}]}, {"users": [{"name": "x", "shell": "/bin/b"}]}, "user x"),
    ({"users": [{"name": "x"}]}, {"users": [{"name": "x", "groups": ["y"]}]}, "user x"),
    ({"directories": [FOLDER]}, {"directories": [{**FOLDER, "mode": "0700"}]}, "directory /srv/x"),
    ({"directories": [FOLDER]}, {"files": [FILE]}, "path /srv/x"),
    ({"directories": [FOLDER]}, {"links": [LINK]}, "path /srv/x"),
    ({"files": [FILE]}, {"links": [LINK]}, "path /srv/x"),
    ({"files": [FILE]}, {"files": [{**FILE, "state": "absent"}]}, "path /srv/x"),
    ({"files": [FILE]}, {"files": [FILE]}, "file /srv/x"),
    ({"files": [PART]}, {"files": [FILE]}, "file /srv/x"),
    ({"files": [PART]}, {"files": [{**PART, "mode": "0600"}]}, "file /srv/x"),
    ({"files": [PART]}, {"files": [{**PART, "validate": ["/x", "%s"]}]}, "file /srv/x"),
    ({"links": [LINK]}, {"links": [{**LINK, "target": "/srv/z"}]}, "path /srv/x"),
    ({"mounts": [MOUNT]}, {"links": [LINK]}, "path /srv/x"),
    ({"mounts": [MOUNT]}, {"mounts": [MOUNT]}, "mount /srv/x"),
    (
        {"kernel_modules": [{"name": "nvme-tcp"}]},
        {"kernel_modules": [{"name": "nvme_tcp", "loaded": False}]},
        "kernel module nvme_tcp",
    ),
    ({"sysctls": [SWAP]}, {"sysctls": [{"name": "vm/swappiness", "value": "60"}]}, "kernel value vm.swappiness"),
    (
        {"sysctls": [SWAP]},
        {"files": [{"path": "/etc/sysctl.d/90-nusy-demo.conf", "content": ""}]},
        "file /etc/sysctl.d/90-nusy-demo.conf",
    ),
    (
        {"units": [{"name": UNIT, "enabled": True}]},
        {"units": [{"name": UNIT, "enabled": False}]},
        f"unit {UNIT}: enabled",
    ),
    ({"units": [{"name": UNIT, "active": True}]}, {"units": [{"name": UNIT, "masked": True}]}, f"unit {UNIT}: active"),
    (
        {"units": [{"name": UNIT, "masked": True}]},
        {"units": [{"name": UNIT, "content": "[Service]\n"}]},
        f"path {UNIT_FILE['path']}",
    ),
    ({"units": [{"name": UNIT, "masked": True}]}, {"files": [UNIT_FILE]}, f"path {UNIT_FILE['path']}"),
]

AGREEMENTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"packages": ["jq"]}, {"packages": ["jq"], "holds": ["jq"]}),
    ({"directories": [FOLDER]}, {"directories": [FOLDER]}),
    ({"files": [PART]}, {"files": [{**PART, "content": "b", "sensitive": True}]}),
    ({"links": [LINK]}, {"links": [LINK]}),
    ({"kernel_modules": [{"name": "nvme-tcp"}]}, {"kernel_modules": [{"name": "nvme_tcp"}]}),
    ({"sysctls": [SWAP]}, {"sysctls": [{"name": "vm/swappiness", "value": " 10 "}]}),
    ({"units": [{"name": UNIT, "content": "[Service]\n"}]}, {"units": [{"name": UNIT, "active": True}]}),
    ({"units": [{"name": UNIT, "enabled": True}]}, {"units": [{"name": UNIT, "dropins": {"a": "[Service]\n"}}]}),
]


@pytest.mark.parametrize(("one", "other", "thing"), CONTRADICTIONS)
def test_what_two_controls_contradict_each_other_on_is_refused_with_both_names(one, other, thing):
    for first, second in ((one, other), (other, one)):
        with pytest.raises(InputError) as error:
            subject({"id": "demo/a", **first}, {"id": "demo/b", **second})
        problem = error.value.problem
        assert problem.key == "state.declared_twice" and problem.wanted.startswith(f"{thing} declared once")
        assert "demo/a declares it" in problem.found and "demo/b declares it" in problem.found


@pytest.mark.parametrize(("one", "other"), AGREEMENTS)
def test_what_two_controls_agree_on_is_ensured(one, other):
    node = bare()
    node.available["jq"] = "1.7"
    node.put("/proc/sys/vm/swappiness", "60\n")
    node.units[UNIT] = node.unit()
    ensured = subject({"id": "demo/a", **one}, {"id": "demo/b", **other})
    left = converge(ensured, ensured.plan(node), node, node)
    assert {control.state for control in left.controls} == {"in_sync"}


def test_a_mount_and_the_directory_that_says_whose_its_root_is_go_together():
    subject({"id": "demo/a", "mounts": [MOUNT]}, {"id": "demo/b", "directories": [FOLDER]})


def test_one_control_can_contradict_itself():
    with pytest.raises(InputError) as error:
        subject({"id": "demo/a", "packages": ["jq"], "absent_packages": ["jq"]})
    assert error.value.problem.found == "demo/a declares it (present) and demo/a declares it (absent)"


def test_a_control_that_is_skipped_contradicts_nobody():
    subject({"id": "demo/a", "files": [FILE]}, {"id": "demo/b", "links": [LINK]}, skip_controls=["demo/b"])
