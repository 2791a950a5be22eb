# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel values, kernel modules and mounts, held against the tools that read the same files.

ansible-core has no modules for these, so no stock word can be compared: the judges are sysctl,
modprobe, findmnt and mount themselves, which read at the end what a boot would read. In these
nodes only net.* belongs to the node, no module can be loaded, and mounts stay inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import differential
import pytest


@dataclass(frozen=True)
class Case(differential.Case):
    """live: shell that shows what is in force. boot: shell that shows what the tool that reads the
    files at boot makes of them. Together they must print ``ours_ends``.
    """

    live: str = "true"
    boot: str = "true"


LO = "net.ipv4.conf.lo"
PORTS = "net.ipv4.ip_local_port_range"
# The operator's files; every case is a role of its own, with a key and a file of its own.
LATER, EARLIER = "/etc/sysctl.d/99-d-local.conf", "/etc/sysctl.d/10-d-vendor.conf"


def sysctl(name: str, key: str, prepare: str, ends: str, *, value: str = "1", **options: Any) -> Case:
    role = f"case_{key.rsplit('.', 1)[-1].rsplit('/', 1)[-1]}"
    prepare = prepare.replace("OURS", f"/etc/sysctl.d/90-nusy-{role}.conf").replace("KEY", key)
    return Case(
        name=f"sysctl: {name}",
        role=role,
        ours={"sysctls": [{"name": key, "value": value}]},
        stock=(),
        prepare=prepare,
        look=f"sysctl -n {key}; grep -hF {key.split('.')[-1]} /etc/sysctl.d/*",
        live=f"sysctl -n {key}",
        boot=f"sysctl -n {key}",  # after systemd-sysctl, see ``seen``
        ours_ends=ends,
        **options,
    )


def module(name: str, number: int, module: str, loaded: bool, prepare: str, ends: str, **options: Any) -> Case:
    role = f"case_module_{number}"
    place = "modules-load.d" if loaded else "modprobe.d"
    return Case(
        name=f"module: {name}",
        role=role,
        ours={"kernel_modules": [{"name": module, "loaded": loaded}]},
        stock=(),
        prepare=prepare.replace("OURS", f"/etc/{place}/90-nusy-{role}.conf"),
        look=f"cat /etc/{place}/90-nusy-{role}.conf",
        live=f"cat /etc/{place}/90-nusy-{role}.conf",
        boot=f"modprobe --showconfig | grep -w {module}",
        ours_ends=ends,
        **options,
    )


def mount(name: str, at: str, prepare: str, ends: str, *, given: dict[str, Any] | None = None, **options: Any) -> Case:
    path = f"/mnt/{at}"
    directories = [{"path": path, **options.pop("directory")}] if "directory" in options else []
    declared = {"path": path, "source": "tmpfs", "fstype": "tmpfs", "options": ["defaults", "noatime"], **(given or {})}
    return Case(
        name=f"mount: {name}",
        ours={"mounts": [declared], "directories": directories},
        stock=(),
        prepare=prepare if prepare == "true" else f"mkdir -p '{path}'; {prepare}",
        look=f"findmnt -n -o FSTYPE,OPTIONS '{path}'; grep -F {at[:6]} /etc/fstab",
        live=f"findmnt -no FSTYPE '{path}'; findmnt -no OPTIONS '{path}' | grep -ow noatime; stat -c %U:%a '{path}'",
        boot=f"umount '{path}' && mount '{path}' && findmnt -n -o FSTYPE '{path}'",
        ours_ends=ends,
        **options,
    )


CASES = (
    sysctl("neither live nor at boot", f"{LO}.rp_filter", "true", "1 1"),
    sysctl("live and not at boot", f"{LO}.log_martians", "sysctl -qw KEY=1", "1 1"),
    sysctl("at boot and not live", f"{LO}.arp_filter", "echo KEY = 1 > OURS", "1 1"),
    sysctl("as declared", f"{LO}.arp_ignore", "echo KEY = 1 > OURS; sysctl -qw KEY=1", "1 1", says="ok"),
    sysctl("another value in an earlier file", f"{LO}.arp_announce", f"echo KEY=2 >> {EARLIER}", "1 1"),
    sysctl("the same value in a later file", f"{LO}.proxy_arp", f"echo KEY = 1 >> {LATER}", "1 1"),
    sysctl("another value in a later file", f"{LO}.accept_local", f"echo KEY=0 >> {LATER}; echo KEY = 1 > OURS; "
           "sysctl -qw KEY=1", "1 0", blocked=True),
    sysctl("another value in a later file, confirmed", f"{LO}.tag",
           "echo net/ipv4/conf/lo/tag=7 > /etc/sysctl.d/99-d-x.conf",
           "1 1", confirm=("/etc/sysctl.d/99-d-x.conf",)),
    sysctl("another value in a later file of a package", f"{LO}.route_localnet", "echo KEY=0 >> "
           "/usr/lib/sysctl.d/99-d-package.conf; echo KEY = 1 > OURS; sysctl -qw KEY=1", "1 0", blocked=True),
    sysctl("another value in a later file of a package, confirmed", f"{LO}.src_valid_mark",
           "echo KEY=0 > /usr/lib/sysctl.d/99-d-other.conf", "1 1", confirm=("/usr/lib/sysctl.d/99-d-other.conf",)),
    sysctl("a name with the other separator", "net/ipv4/conf/lo/forwarding", "true", "1 1"),
    sysctl("blanks where the kernel has tabs", PORTS, f"printf '{PORTS} = 20000  50000\\n' > OURS; "
           f"sysctl -qw {PORTS}='20000 50000'", "20000 50000 20000 50000", value="20000  50000", says="ok"),
    sysctl("a value that this kernel does not have", f"{LO}.no_such_value", "true", "",
           ours_says=("changed", "failed", "failed"), state="drifted"),
    sysctl("a value that the kernel refuses", "net.ipv4.ip_unprivileged_port_start", "true", "1024 1024", value="99999",
           ours_says=("changed", "failed", "failed")),
    module("barred, and not loaded", 1, "nouveau", False, "true",
           "blacklist nouveau install nouveau /bin/false blacklist nouveau install nouveau /bin/false"),
    module("barred already", 2, "floppy", False, "printf 'blacklist floppy\\ninstall floppy /bin/false\\n' > OURS",
           "blacklist floppy install floppy /bin/false blacklist floppy install floppy /bin/false", says="ok"),
    module("part of this kernel, and not named for boot", 3, "tcp_cubic", True, "true", "tcp_cubic"),
    module("with a dash in its name", 4, "tcp-cubic", True, "echo tcp-cubic > OURS", "tcp-cubic", says="ok"),
    module("that this kernel does not have", 5, "no_such_module", True, "true", "no_such_module",
           ours_says=("changed", "failed", "failed")),
    mount("neither live nor at boot", "d-none", "true", "tmpfs noatime root:1777 tmpfs"),
    mount("live and not at boot", "d-live", "mount -t tmpfs -o noatime tmpfs /mnt/d-live",
          "tmpfs noatime root:1777 tmpfs"),
    mount("at boot and not live", "d-boot", "echo 'tmpfs /mnt/d-boot tmpfs defaults,noatime 0 0' >> /etc/fstab",
          "tmpfs noatime root:1777 tmpfs"),
    mount("as declared, in other columns", "d-same",
          "printf 'tmpfs\\t/mnt/d-same  tmpfs defaults,noatime 0 0\\n' >> /etc/fstab;"
          " mount /mnt/d-same", "tmpfs noatime root:1777 tmpfs", says="ok"),
    mount("other options live", "d-opts", "mount -t tmpfs tmpfs /mnt/d-opts", "tmpfs root:1777 tmpfs",
          given={"options": ["nodev", "noexec"]}),
    mount("written twice in fstab", "d-twice",
          "for i in 1 2; do echo 'tmpfs /mnt/d-twice tmpfs defaults 0 0' >> /etc/fstab; done",
          "tmpfs noatime root:1777 tmpfs"),
    mount("another file system in its place", "d-other", "mount -t ramfs ramfs /mnt/d-other", "ramfs root:755",
          blocked=True),
    mount("another file system in its place, confirmed", "d-change", "mount -t ramfs ramfs /mnt/d-change",
          "tmpfs noatime root:1777 tmpfs", confirm=("/mnt/d-change",)),
    mount("a blank in its path", "d-bl ank", "true", "tmpfs noatime root:1777 tmpfs"),
    mount("a directory of somebody, mounted over", "d-owned", "true", "tmpfs noatime ops:750 tmpfs",
          directory={"owner": "ops", "group": "ops", "mode": "0750"}),
    mount("a folder bound to another place", "d-bind", "mkdir -p /srv/d-bind", "overlay root:755 overlay",
          given={"source": "/srv/d-bind", "fstype": "none", "options": ["bind"]}),
    mount("a folder bound already", "d-tied", "mkdir -p /srv/d-tied; mount --bind /srv/d-tied /mnt/d-tied; "
          "echo '/srv/d-tied /mnt/d-tied none bind 0 0' >> /etc/fstab", "overlay root:755 overlay", says="ok",
          given={"source": "/srv/d-tied", "fstype": "none", "options": ["bind"]}),
    mount("another folder bound there", "d-swap", "mkdir -p -m 700 /srv/d-swap /srv/d-swap2; "
          "mount --bind /srv/d-swap2 /mnt/d-swap", "overlay root:700", blocked=True,
          given={"source": "/srv/d-swap", "fstype": "none", "options": ["bind"]}),
    mount("another folder bound there, confirmed", "d-turn", "mkdir -p /srv/d-turn; mkdir -p -m 700 /srv/d-turn2; "
          "mount --bind /srv/d-turn2 /mnt/d-turn", "overlay root:755 overlay", confirm=("/mnt/d-turn",),
          given={"source": "/srv/d-turn", "fstype": "none", "options": ["bind"]}),
    mount("something else in fstab", "d-line", "echo '/srv /mnt/d-line none bind,noauto 0 0' >> /etc/fstab",
          "root:755", blocked=True),
    mount("another size", "d-size", "mount -t tmpfs -o noatime,size=1m tmpfs /mnt/d-size",
          "tmpfs noatime root:1777 tmpfs", given={"options": ["noatime", "size=2m"]}),
    mount("the size that was declared", "d-full",
          "echo 'tmpfs /mnt/d-full tmpfs noatime,size=2048k 0 0' >> /etc/fstab; mount /mnt/d-full",
          "tmpfs noatime root:1777 tmpfs", says="ok",
          given={"options": ["noatime", "size=2048k"]}),
    mount("made read-only by somebody", "d-fixed", "mount -t tmpfs -o noatime,ro tmpfs /mnt/d-fixed; "
          "echo 'tmpfs /mnt/d-fixed tmpfs defaults,noatime 0 0' >> /etc/fstab", "tmpfs noatime root:1777 tmpfs",
          blocked=True),
    mount("made read-only by somebody, confirmed", "d-loose", "mount -t tmpfs -o noatime,ro tmpfs /mnt/d-loose; "
          "echo 'tmpfs /mnt/d-loose tmpfs defaults,noatime 0 0' >> /etc/fstab", "tmpfs noatime root:1777 tmpfs",
          confirm=("/mnt/d-loose",)),
    mount("behind a link", "d-link", "rmdir /mnt/d-link; mkdir /srv/d-link; ln -s /srv/d-link /mnt/d-link",
          "tmpfs noatime root:777 tmpfs"),
)  # fmt: skip


@pytest.fixture(scope="module")
def seen(make_node, tmp_path_factory):
    machine = differential.pair(make_node)[0]
    machine.run("apt-get", "install", "-q", "-y", "kmod")  # a container has none; a DGX Spark has
    outcomes = differential.run(CASES, [machine], tmp_path_factory.mktemp("runs"))
    live = machine.shell(differential.script(case.live for case in CASES), check=False)
    machine.run("/usr/lib/systemd/systemd-sysctl", check=False)  # as at boot
    boot = machine.shell(differential.script(case.boot for case in CASES), check=False)
    shown = [differential.parts(text) for text in (live, boot)]
    return {case.name: (outcomes[case.name], f"{a} {b}".split()) for case, a, b in zip(CASES, *shown, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_was_said_is_what_the_tools_do(case, seen):
    outcome, shown = seen[case.name]
    differential.judge_ours(case, outcome)
    assert shown == case.ours_ends.split(), outcome.said


def test_mount_itself_finds_no_fault_with_the_fstab(seen, make_node):
    assert seen
    said = differential.pair(make_node)[0].shell("findmnt --verify 2>&1", check=False)
    assert "0 parse errors, 0 errors" in said or "Success" in said, said
