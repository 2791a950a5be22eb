# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts: the same source in other words, another source in its place, options, and fstab."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import mount_options, mounts
from declare import apply, states, subject, verdict
from fake_node import Entry, FakeNode

ROOT = "20 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
AT = "/srv/models"


class Node(FakeNode):
    """A node with two disks that mounts what its fstab says; new file systems are root:root 1777, like a tmpfs."""

    def __post_init__(self):
        super().__post_init__()
        self.mountinfo = ROOT
        self.roots = {}  # source → (uid, what is in it)
        self.put("/etc/fstab", "")
        for name, number in (("sdb1", "8:17"), ("sdc1", "8:33"), ("dm-0", "253:0"), ("nvme0n1p2", "259:2")):
            self.put(f"/dev/{name}")
            self.put(f"/sys/dev/block/{number}", f"../../devices/pci0/{name}", kind="link")
        self.put("/dev/disk/by-uuid/aaaa-bbbb", "../../sdb1", kind="link")
        self.put("/dev/disk/by-uuid/cccc-dddd", "../../sdc1", kind="link")
        self.put("/dev/disk/by-label/my\\x20disk", "../../sdb1", kind="link")
        self.put("/dev/disk/by-partuuid/1-2-3", "../../sdb1", kind="link")
        self.put("/dev/mapper/vg-data", "../dm-0", kind="link")

    def read(self, path):
        return self.mountinfo if path == "/proc/self/mountinfo" else super().read(path)

    def shows(self, fstype, source, *, device="0:50", options="rw,relatime", more="rw", root="/", at=AT):
        if at not in self.files:
            self.put(at, kind="directory", mode=0o755)
        number = 30 + self.mountinfo.count("\n")
        self.mountinfo += f"{number} 20 {device} {root} {at} {options} - {fstype} {source} {more}\n"

    def lines(self):
        return self.files["/etc/fstab"].text.splitlines()

    def tool_mount(self, args):
        path = args[-1]
        if args[0] == "-o":
            self.effect(f"mount {args[1]} {path}")
            return 0, "", ""
        (line,) = [entry for entry in self.lines() if mounts.fstab_point(entry) == path]
        if path not in self.files:
            return 32, "", "mount: mount point does not exist.\n"
        source, _path, fstype, options, *_rest = line.split()
        self.effect(f"mount {path}")
        uid, content = self.roots.get(source, (0, ()))
        self.files[path] = Entry("directory", 0o1777, uid)
        for name in content:
            self.put(f"{path}/{name}")
        self.shows(fstype, source, options=f"rw,{options}", device="8:17" if fstype == "ext4" else "0:50", at=path)
        return 0, "", ""

    def tool_umount(self, args):
        self.effect(f"umount {args[-1]}")
        kept = [line for line in self.mountinfo.splitlines(keepends=True) if f" {args[-1]} " not in line]
        self.mountinfo = "".join(kept)
        return 0, "", ""


@pytest.fixture
def node():
    return Node()


def declare(source="UUID=aaaa-bbbb", fstype="ext4", *options, **more):
    return {
        "id": "demo/m",
        "mounts": [{"path": AT, "source": source, "fstype": fstype, **({"options": [*options]} if options else {})}],
        **more,
    }


def written(node, source="UUID=aaaa-bbbb", fstype="ext4", *options):
    node.put(
        "/etc/fstab", f"{source.replace(' ', chr(92) + '040')} {AT} {fstype} {','.join(options) or 'defaults'} 0 0\n"
    )


# --- what is mounted, in other words ------------------------------------------------------------

NFS = "rw,vers=4.2,rsize=1048576,proto=tcp,hard,sec=sys,addr=10.0.0.5"
SAME = [
    ("/dev/sdb1", "ext4", ("ext4", "/dev/sdb1", "8:17"), ""),
    ("UUID=aaaa-bbbb", "ext4", ("ext4", "/dev/sdb1", "8:17"), ""),
    ('UUID="aaaa-bbbb"', "auto", ("ext4", "/dev/sdb1", "8:17"), ""),
    ("LABEL=my disk", "ext4", ("ext4", "/dev/sdb1", "8:17"), ""),
    ("PARTUUID=1-2-3", "ext4", ("ext4", "/dev/sdb1", "8:17"), ""),
    ("/dev/disk/by-uuid/aaaa-bbbb", "ext4", ("ext4", "/dev/sdb1", "8:17"), ""),
    ("/dev/sdb1", "ext4", ("ext4", "/dev/root", "8:17"), ""),
    ("/dev/mapper/vg-data", "xfs", ("xfs", "/dev/mapper/vg-data", "253:0"), ""),
    ("/dev/mapper/vg-data", "btrfs", ("btrfs", "/dev/mapper/vg-data", "0:44"), ""),
    ("/dev/sdb1", "btrfs", ("btrfs", "/dev/sdb1", "0:44"), "root=/@models"),
    ("tank/models", "zfs", ("zfs", "tank/models", "0:44"), ""),
    ("store:/models", "nfs", ("nfs4", "store:/models", "0:44"), ""),
    ("store:/models/", "nfs", ("nfs", "store:/models", "0:44"), ""),
    ("10.0.0.5:/models", "nfs", ("nfs4", "store:/models", "0:44"), ""),
    ("any", "tmpfs", ("tmpfs", "tmpfs", "0:44"), ""),
    ("me@store:/x", "sshfs", ("fuse.sshfs", "me@store:/x", "0:44"), ""),
    ("//store/models", "cifs", ("cifs", "//store/models", "0:44"), ""),
    ("/dev/gone", "ext4", ("ext4", "/dev/gone", "8:99"), ""),
]


@pytest.mark.parametrize(("source", "fstype", "live", "root"), SAME, ids=[f"{s}-{f}" for s, f, _l, _r in SAME])
def test_the_same_source_in_other_words_is_no_drift(node, source, fstype, live, root):
    node.shows(live[0], live[1], device=live[2], more=NFS if "nfs" in live[0] else "rw", root=root[5:] or "/")
    written(node, source, fstype)
    plan = subject(declare(source, fstype)).plan(node)
    assert (verdict(plan, "demo/m").state, plan.steps) == ("in_sync", ())


OTHER = [
    ("UUID=aaaa-bbbb", "ext4", ("ext4", "/dev/sdc1", "8:33", "/")),
    ("/dev/sdb1", "ext4", ("ext4", "/dev/sdb1", "8:17", "/backup")),  # a folder of it, bound
    ("/dev/sdb1", "auto", ("tmpfs", "tmpfs", "0:44", "/")),
    ("/dev/sdb1", "ext4", ("xfs", "/dev/sdb1", "8:17", "/")),
    ("store:/models", "nfs", ("nfs4", "old:/models", "0:44", "/")),
    ("store:/models", "nfs", ("nfs4", "store:/other", "0:44", "/")),
    ("tmpfs", "tmpfs", ("autofs", "systemd-1", "0:44", "/")),
]


@pytest.mark.parametrize(("source", "fstype", "live"), OTHER)
def test_another_source_is_drift_and_replaced_only_when_the_path_is_named(node, source, fstype, live):
    node.shows(live[0], live[1], device=live[2], root=live[3])
    before = node.mountinfo
    plan = apply(node, declare(source, fstype))
    found = verdict(plan, "demo/m")
    assert found.blocked_by == f"demo_confirm: [{AT}]"
    assert (f"mount {AT}: live", f"{live[1]} ({live[0]})") in {(c.key, c.before) for c in found.changes}
    assert node.lines() == [] and node.mountinfo == before, "what a boot would replace waits for the name, too"
    apply(node, declare(source, fstype if fstype != "auto" else "ext4"), confirm=[AT])
    assert f"umount {AT}" in node.effects and len(node.lines()) == 1


def test_what_cannot_be_told_is_unknown_and_nothing_is_done_about_it(node):
    node.shows("ext4", "/dev/sdc1", device="8:33")
    written(node, "UUID=gone")
    plan = subject(declare("UUID=gone")).plan(node)
    found = verdict(plan, "demo/m")
    assert (found.state, plan.steps) == ("unknown", ())
    assert found.reason == (f"cannot tell whether /dev/sdc1 at {AT} is UUID=gone: /dev/disk/by-uuid/gone is not there")


@pytest.mark.parametrize("mountinfo", ["", "30 20 0:5 / /srv rw - tmpfs tmpfs rw\n"])
def test_without_a_root_nothing_can_be_told(node, mountinfo):
    node.mountinfo = mountinfo
    assert verdict(subject(declare()).plan(node), "demo/m").state == "unknown"


def test_a_mount_whose_device_is_not_there_yet_relies_on_it(node):
    plan = subject(declare("LABEL=later")).plan(node)
    sentence = f"LABEL=later for {AT} is there by then"
    assert plan.assumptions == (sentence,) and verdict(plan, "demo/m").reason == f"only if {sentence}"


def test_an_image_is_known_by_the_file_behind_its_loop_device(node):
    node.put("/srv/disk.img", "x")
    node.put("/sys/devices/virtual/block/loop3/loop/backing_file", "/srv/disk.img\n")
    node.put("/sys/dev/block/7:3/loop/backing_file", "/srv/disk.img\n")
    node.files["/sys/dev/block/7:3"] = Entry("link", 0o777, text="../../devices/virtual/block/loop3")
    node.shows("ext4", "/dev/loop3", device="7:3")
    for source, state in (("/srv/disk.img", "in_sync"), ("/srv", "drifted")):
        written(node, source, "ext4", "loop")
        assert verdict(subject(declare(source, "ext4", "loop")).plan(node), "demo/m").state == state


@pytest.mark.parametrize(
    ("source", "live", "state"),
    [
        ("/srv/there", {"device": "259:2", "root": "/srv/there"}, "in_sync"),
        ("/srv/there", {"device": "259:2", "root": "/srv/elsewhere"}, "drifted"),
        ("/srv/there", {"device": "8:17", "root": "/srv/there"}, "drifted"),
        ("/mnt/disk/folder", {"device": "8:17", "root": "/folder"}, "in_sync"),
        ("/mnt/disk", {"device": "8:17", "root": "/"}, "in_sync"),
        ("/srv/link", {"device": "8:17", "root": "/folder"}, "in_sync"),
        ("/srv/gone", {"device": "8:17", "root": "/folder"}, "unknown"),
    ],
)
def test_a_bound_folder_is_known_by_its_place_on_its_file_system(node, source, live, state):
    node.shows("ext4", "/dev/sdb1", device="8:17", at="/mnt/disk")
    node.put("/mnt/disk/folder", kind="directory")
    node.put("/srv/there", kind="directory")
    node.put("/srv/link", "../mnt/disk/folder", kind="link")
    node.shows("ext4", "/dev/whatever", **live)
    written(node, source, "none", "bind")
    assert verdict(subject(declare(source, "none", "bind")).plan(node), "demo/m").state == state


def test_the_mount_that_shows_is_judged_and_not_one_below(node):
    node.shows("ext4", "/dev/sdc1", device="8:33")
    node.mountinfo += f"90 31 8:17 / {AT} rw - ext4 /dev/sdb1 rw\n"
    written(node)
    assert verdict(subject(declare()).plan(node), "demo/m").state == "in_sync"
    node.mountinfo += "91 20 0:60 / /srv rw - tmpfs tmpfs rw\n"  # hides both
    assert "not mounted" in {c.before for c in verdict(subject(declare()).plan(node), "demo/m").changes}


def test_a_mount_point_behind_a_link_is_found_where_it_leads(node):
    node.put("/data/models", kind="directory")
    node.put("/srv/models", "/data/models", kind="link")
    node.shows("ext4", "/dev/sdb1", device="8:17", at="/data/models")
    written(node)
    assert verdict(subject(declare()).plan(node), "demo/m").state == "in_sync"


def test_noauto_and_automount_are_mounted_when_somebody_looks(node):
    written(node, "UUID=aaaa-bbbb", "ext4", "noauto")
    assert verdict(subject(declare("UUID=aaaa-bbbb", "ext4", "noauto")).plan(node), "demo/m").state == "in_sync"
    node.shows("autofs", "systemd-1")
    written(node, "UUID=aaaa-bbbb", "ext4", "x-systemd.automount")
    control = declare("UUID=aaaa-bbbb", "ext4", "x-systemd.automount")
    assert verdict(subject(control).plan(node), "demo/m").state == "in_sync"


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fstype", "wanted", "live", "found"),
    [
        ("ext4", "defaults", "rw,relatime,nosuid", ""),
        ("ext4", "noatime,nodev", "rw,relatime", "noatime absent, nodev absent"),
        ("ext4", "exec,suid", "rw,noexec,nosuid", "exec noexec, suid nosuid"),
        ("ext4", "nofail,_netdev,x-systemd.device-timeout=9,user", "rw", ""),
        ("ext4", "errors=remount-ro,commit=30", "rw,errors=continue,commit=30", "errors continue"),
        ("ext4", "errors=remount-ro", "rw", ""),
        ("squashfs", "defaults", "ro", ""),
        ("tmpfs", "size=1g,nr_inodes=1k", "rw,size=1048576k,nr_inodes=1024", ""),
        ("tmpfs", "size=1g", "rw,size=2097152k", "size 2097152k"),
        ("tmpfs", "size=1000000", "rw,size=1024k", ""),
        ("tmpfs", "size=50%,mode=0700", "rw,size=9k,mode=755", ""),
        ("nfs4", "vers=4,proto=tcp,rsize=9,sec=sys", "rw,vers=4.2,proto=tcp6,rsize=8,sec=sys", ""),
        ("nfs", "nfsvers=4.1", "rw,vers=4.2", "vers 4.2"),
        ("nfs", "hard,sec=krb5", "rw,soft,sec=sys", "hard soft, sec sys"),
    ],
)
def test_options_that_the_kernel_shows_are_compared(fstype, wanted, live, found):
    differences = mount_options.compare(fstype, wanted.split(","), live.split(","))
    assert ", ".join(f"{d.option} {d.found}" for d in differences) == found


def test_a_flag_is_mended_by_a_remount(node):
    node.shows("ext4", "/dev/sdb1", device="8:17")
    written(node, "UUID=aaaa-bbbb", "ext4", "noatime")
    plan = subject(declare("UUID=aaaa-bbbb", "ext4", "noatime")).plan(node)
    assert [(s.action, s.args) for s in plan.steps] == [("remount", ("noatime",))]


@pytest.mark.parametrize(
    ("fstype", "source", "options", "live", "steps"),
    [
        ("ext4", "UUID=aaaa-bbbb", "defaults", {"device": "8:17", "more": "ro"}, ["remount"]),
        ("nfs", "store:/x", "vers=4.1", {"more": "rw,vers=4.2"}, ["unmount", "mount"]),
    ],
)
def test_what_only_an_operator_may_undo_waits_for_the_path(node, fstype, source, options, live, steps):
    node.shows(fstype, "/dev/sdb1" if fstype == "ext4" else source, **live)
    written(node, source, fstype, options)
    plan = subject(declare(source, fstype, options)).plan(node)
    assert verdict(plan, "demo/m").blocked_by and not plan.steps
    plan = subject(declare(source, fstype, options), confirm=[AT]).plan(node)
    assert [s.action for s in plan.steps] == steps
    assert plan.steps[0].args == (("defaults,rw",) if steps == ["remount"] else ())


# --- fstab and the root of what is mounted ----------------------------------------------------------

OURS = f"UUID=aaaa-bbbb {AT} ext4 defaults 0 0"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{OURS}\n"),
        ("# a\x0cb\n\n  #UUID=x /srv/models\ttail \n", f"# a\x0cb\n\n  #UUID=x /srv/models\ttail \n{OURS}\n"),
        ("proc /proc proc defaults 0 0", f"proc /proc proc defaults 0 0\n{OURS}\n"),
        (
            f"# one\nUUID=aaaa-bbbb {AT}/ ext4 noatime 0 2\n# two\n/dev/sdb1 {AT} auto noauto 0 0\n#",
            f"# one\n{OURS[:-1]}2\n# two\n#\n",
        ),
        (f"UUID=aaaa-bbbb {AT} ext4\n", f"{OURS}\n"),
        (f"{OURS[:-1]}2\n", f"{OURS[:-1]}2\n"),
        (f"{OURS[:-4]}\n", f"{OURS[:-4]}\n"),
    ],
)
def test_what_was_not_declared_of_fstab_stays_as_it_is(node, before, after):
    node.put("/etc/fstab", before, mode=0o640)
    node.shows("ext4", "/dev/sdb1", device="8:17")
    apply(node, declare())
    assert (node.files["/etc/fstab"].text, node.files["/etc/fstab"].mode) == (after, 0o640)
    assert states(subject(declare()).plan(node)) == {"demo/m": "in_sync"}


def test_a_new_fstab_can_be_read_by_all(node):
    del node.files["/etc/fstab"]
    apply(node, {"id": "demo/m", "mounts": [{"path": AT, "source": "tmpfs", "fstype": "tmpfs"}]})
    assert node.files["/etc/fstab"].mode == 0o644


def test_a_line_of_fstab_for_something_else_waits_for_the_path(node):
    line = f"UUID=cccc-dddd {AT} ext4 defaults 0 0"
    node.put("/etc/fstab", f"{line}\n")
    found = verdict(apply(node, declare()), "demo/m")
    assert found.blocked_by == f"demo_confirm: [{AT}]" and "names something else" in found.reason
    assert node.lines() == [line] and not [e for e in node.effects if e.startswith("mount")]
    apply(node, declare(), confirm=[AT])
    assert node.lines() == [OURS] and f"mount {AT}" in node.effects


def test_a_missing_mount_point_is_made_and_its_root_is_left_as_it_comes(node):
    node.roots["UUID=aaaa-bbbb"] = (77, ("data",))
    plan = apply(node, declare())
    assert f"mount {AT}" in node.effects and "own_root" not in {step.action for step in plan.steps}
    assert (node.files[AT].uid, node.files[AT].mode) == (77, 0o1777)


@pytest.mark.parametrize(
    ("uid", "content", "confirm", "taken"),
    [
        (0, ("data",), [], True),
        (77, (), [], True),
        (77, ("lost+found",), [], True),
        (77, ("data",), [], False),
        (77, ("data",), [AT], True),
    ],
)
def test_a_declared_root_is_taken_over_as_any_directory_is(node, uid, content, confirm, taken):
    node.groups["nusy"] = [990, []]
    node.roots["UUID=aaaa-bbbb"] = (uid, content)
    controls = ({"id": "demo/d", "directories": [{"path": AT, "group": "nusy", "mode": "2775"}]}, declare())
    apply(node, *controls, confirm=confirm)
    found = node.files[AT]
    assert ((found.uid, found.gid, found.mode) == (0, 990, 0o2775)) == taken
    again = subject(*controls, confirm=confirm).plan(node)
    assert not again.changed and bool(verdict(again, "demo/d").blocked_by) == (not taken)


def test_a_mount_that_fails_says_why(node):
    node.tool_mount = lambda _args: (32, "", "mount: /srv/models: wrong fs type, bad option, bad superblock.\n")
    with pytest.raises(NodeError) as error:
        apply(node, declare())
    assert "bad superblock" in error.value.problem.found
