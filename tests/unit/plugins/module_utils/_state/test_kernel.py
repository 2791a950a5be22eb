# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel values and mounts."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import kernel
from declare import subject
from fake_node import Entry, FakeNode


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vm.swappiness", "/proc/sys/vm/swappiness"),
        ("vm/swappiness", "/proc/sys/vm/swappiness"),
        ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_the_separator_that_comes_first_is_the_separator(name, path):
    assert kernel.sysctl_path(name) == path


class Mounting(FakeNode):
    """Mounts what its fstab says; the root of every file system is root:root 1777, like a tmpfs."""

    def tool_mount(self, args):
        path = args[-1]
        (line,) = [entry for entry in self.files["/etc/fstab"].text.splitlines() if kernel.fstab_point(entry) == path]
        if path not in self.files:
            return 32, "", "mount: mount point does not exist.\n"
        source, _path, fstype, options, *_rest = line.split()
        self.effect(f"mount {path}")
        self.files[path] = Entry("directory", 0o1777)
        self.put("/proc/self/mountinfo", f"1 1 0:1 / {path} rw,{options} - {fstype} {source} rw\n")
        return 0, "", ""


MOUNT = {"path": "/srv/models", "source": "store:/models", "fstype": "nfs"}


def test_a_missing_mount_point_is_made():
    node, ensured = Mounting(), subject({"id": "demo/m", "mounts": [MOUNT]})
    converge(ensured, ensured.plan(node), node, node)
    assert "mount /srv/models" in node.effects and not ensured.plan(node).changed


def test_a_directory_that_is_mounted_over_means_what_is_mounted_there():
    node = Mounting()
    node.groups["nusy"] = [990, []]
    directory = {"path": "/srv/models", "group": "nusy", "mode": "2775"}
    ensured = subject({"id": "demo/d", "directories": [directory]}, {"id": "demo/m", "mounts": [MOUNT]})
    converge(ensured, ensured.plan(node), node, node)
    found = node.files["/srv/models"]
    assert (found.gid, found.mode) == (990, 0o2775) and not ensured.plan(node).changed


def test_a_bound_folder_shows_the_type_it_comes_from():
    node = Mounting()
    mount = {"path": "/srv/here", "source": "/srv/there", "fstype": "none", "options": ["bind"]}
    ensured = subject({"id": "demo/m", "mounts": [mount]})
    converge(ensured, ensured.plan(node), node, node)
    node.put("/proc/self/mountinfo", "1 1 0:1 /srv/there /srv/here rw - ext4 /dev/nvme0n1p2 rw\n")
    assert ensured.plan(node).controls[0].state == "in_sync"
