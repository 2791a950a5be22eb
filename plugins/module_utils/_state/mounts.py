# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts: what is mounted now, and the line of fstab that mounts it at boot.

A source has many spellings (UUID=…, /dev/disk/by-label/…, /dev/mapper/…, a folder to bind), and the
kernel shows none of them. So both sides are brought to what they mean on this node, and compared.
What cannot be told is unknown: neither drift nor fine.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import kernel, mount_options, paths
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Directory,
    Mount,
    Sheet,
    Unknown,
    World,
    confirms,
)

FSTAB = "/etc/fstab"
# fstab(5): tag → folder of links that udev keeps below /dev/disk.
TAGS = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel", "ID": "by-id"}
# Their source is a word for people.
SOURCELESS = frozenset(
    (
        *("tmpfs", "ramfs", "overlay", "hugetlbfs", "devtmpfs", "devpts", "proc", "sysfs", "mqueue", "bpf", "debugfs"),
        *("tracefs", "securityfs", "configfs", "fusectl", "cgroup2", "efivarfs", "binfmt_misc", "pstore", "rpc_pipefs"),
    )
)
BIND = frozenset(("bind", "rbind"))
MAX_LINKS = 40


@dataclass(frozen=True)
class Mounted:
    """One line of /proc/self/mountinfo. device: "major:minor"; root: the folder of it that is shown."""

    id: str
    parent: str
    device: str
    root: str
    point: str
    fstype: str
    source: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """One declared mount point as found. ``others``: lines of fstab for it that name something else.

    ``same``: is what is mounted what was declared? ``there``: is the declared source on this node?
    """

    live: Mounted | None = None
    same: bool | Unknown = True
    there: bool = True
    lines: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    places: Mapping[str, Place | Unknown] = field(default_factory=dict)


# --- looking ------------------------------------------------------------------------------


def observe(reader: Reader, wanted: Sequence[Mount]) -> Seen:
    if not wanted:
        return Seen()
    try:
        mounted = parse_mountinfo(reader.read("/proc/self/mountinfo") or "")
        fstab = (reader.read(FSTAB) or "").split("\n")
    except Unreadable as error:
        return Seen({mount.path: Unknown(str(error)) for mount in wanted})
    if holding(mounted, "/") is None:
        return Seen({mount.path: Unknown("/proc/self/mountinfo shows no root") for mount in wanted})
    return Seen({mount.path: _place(reader, mount, mounted, fstab) for mount in wanted})


def _place(reader: Reader, wanted: Mount, mounted: Sequence[Mounted], fstab: Sequence[str]) -> Place | Unknown:
    try:
        point = real(reader, wanted.path)
    except Unreadable as error:
        return Unknown(str(error))
    holder = holding(mounted, point)
    live = holder if holder is not None and holder.point == point else None
    meant = meaning(reader, wanted, mounted)
    lines = tuple(line for line in fstab if fstab_point(line) == wanted.path)
    return Place(
        live,
        live is None or _same(reader, wanted, meant, live),
        not isinstance(meant, Unknown),
        lines,
        tuple(line for line in lines if not _equal(wanted, meant, _declared(line), reader, mounted)),
    )


def _same(reader: Reader, wanted: Mount, meant: str | Unknown, live: Mounted) -> bool | Unknown:
    if live.fstype == "autofs":  # systemd's place holder, until somebody looks
        return "x-systemd.automount" in wanted.options
    if not mount_options.same_type(wanted.fstype, live.fstype):
        return False
    if isinstance(meant, Unknown):
        if (live.source, live.root) == (wanted.source, "/"):
            return True
        return Unknown(f"cannot tell whether {live.source} at {wanted.path} is {wanted.source}: {meant.reason}")
    try:
        return meant in _shown(reader, wanted, live)
    except Unreadable as error:
        return Unknown(str(error))


def _shown(reader: Reader, wanted: Mount, live: Mounted) -> tuple[str, ...]:
    """What is mounted, in the spellings of ``meaning``."""
    if live.fstype in SOURCELESS and not BIND.intersection(wanted.options):
        return (live.fstype,)
    if BIND.intersection(wanted.options):
        return (f"{live.device}{live.root}",)
    # Device numbers and not the source: the kernel may say /dev/root.
    block = reader.readlink(f"/sys/dev/block/{live.device}")
    if block is None:
        plain = real(reader, live.source) if live.source.startswith("/dev/") else live.source.rstrip("/")
        host, colon, export = plain.partition(":/")
        address = next((o.removeprefix("addr=") for o in live.options if o.startswith("addr=")), host)
        return (plain, f"{address}{colon}{export}", f"[{address}]{colon}{export}")
    if live.root != "/" and live.fstype != "btrfs":  # a folder of it; on btrfs it may be a subvolume
        return (f"{live.device}{live.root}",)
    image = reader.read(f"/sys/dev/block/{live.device}/loop/backing_file") or ""
    return (f"/dev/{os.path.basename(block)}", image.strip())


def _equal(wanted: Mount, meant: str | Unknown, line: Mount, reader: Reader, mounted: Sequence[Mounted]) -> bool:
    if (line.source, line.fstype) == (wanted.source, wanted.fstype):
        return True
    other = meaning(reader, line, mounted)
    return not isinstance(other, Unknown) and other == meant


def meaning(reader: Reader, mount: Mount, mounted: Sequence[Mounted]) -> str | Unknown:
    """One spelling for what a source names on this node now."""
    source = mount.source
    try:
        if BIND.intersection(mount.options):
            folder = real(reader, source)
            under = holding(mounted, folder)
            if under is None or reader.stat(folder) is None:
                return Unknown(f"{source} is not there")
            inside = os.path.join(under.root, os.path.relpath(folder, under.point))
            return f"{under.device}{os.path.normpath(inside)}"
        if mount.fstype in SOURCELESS:
            return mount.fstype
        tag, _equals, value = source.partition("=")
        if tag in TAGS:
            source = f"/dev/disk/{TAGS[tag]}/{_as_udev(value.strip(chr(34)))}"
        if not source.startswith("/") or source.startswith("//"):
            return source.rstrip("/")
        found = real(reader, source)
        return found if reader.stat(found) is not None else Unknown(f"{source} is not there")
    except Unreadable as error:
        return Unknown(str(error))


def _as_udev(value: str) -> str:
    """How udev writes a label as the name of a link."""
    return "".join(c if c.isalnum() or c in "#+-.:=@_" or ord(c) > 127 else f"\\x{ord(c):02x}" for c in value)


def real(reader: Reader, path: str) -> str:
    """``path`` without links. Raises Unreadable."""
    done, ahead, links = "/", path.split("/"), 0
    while ahead:
        part = ahead.pop(0)
        if part in ("", ".", ".."):
            done = os.path.dirname(done) if part == ".." else done
            continue
        target = reader.readlink(os.path.join(done, part))
        if target is None:
            done = os.path.join(done, part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise Unreadable(f"{path}: too many levels of links")
        done = "/" if target.startswith("/") else done
        ahead = [*target.split("/"), *ahead]
    return done


def holding(mounted: Sequence[Mounted], path: str) -> Mounted | None:
    """The mount that shows at ``path``. One may hide another: they are walked from the root, as paths are."""
    ids = {mount.id for mount in mounted}
    roots = (m for m in mounted if m.point == "/" and (m.parent not in ids or m.parent == m.id))
    here = next(roots, None)
    for prefix in ("/", *reversed(paths.parents(path)), path):
        above = here
        while above is not None:
            here = above
            above = next((m for m in mounted if (m.parent, m.point) == (here.id, prefix) and m is not here), None)
    return here


def parse_mountinfo(text: str) -> tuple[Mounted, ...]:
    """proc(5): id, parent, device, root, point, options, any number of fields, "-", type, source, more options."""
    found = []
    for line in text.splitlines():
        left, _dash, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) >= 6 and len(tail) >= 3:
            given = (*fields[5].split(","), *tail[2].split(","))
            number, parent, device, root, point = fields[:5]
            found.append(
                Mounted(number, parent, device, unescape(root), unescape(point), tail[0], unescape(tail[1]), given)
            )
    return tuple(found)


# --- planning -----------------------------------------------------------------------------


def plan(wanted: Mount, root: Directory | None, seen: Seen, world: World, sheet: Sheet) -> None:
    """``root``: what the document declares of the mount point, which then means the root of what is
    mounted there. Nobody can see that before it is mounted, so it is set right after.
    """
    place = seen.places[wanted.path]
    key = f"mount {wanted.path}"
    if isinstance(place, Unknown):
        sheet.cannot_see(place.reason)
        return
    world.directories.add(wanted.path)
    kept = next((entry for entry in place.lines if entry not in place.others), "")
    line, live = fstab_line(wanted, kept), place.live
    stale = [_padded(entry) for entry in place.lines] != [line.split()]
    if stale:
        why = f"{FSTAB} names something else for {wanted.path}" if place.others else ""
        sheet.differs(f"{key}: fstab", "\n".join(place.lines) or "absent", line, why)
    absent = live is None and "noauto" not in wanted.options
    if absent:
        sheet.differs(f"{key}: live", "not mounted", f"{wanted.source} ({wanted.fstype})")
    if isinstance(place.same, Unknown):
        sheet.cannot_see(place.same.reason)
    wrong = live is not None and place.same is False
    if live is not None and wrong:
        sheet.differs(f"{key}: live", f"{live.source} ({live.fstype})", f"{wanted.source} ({wanted.fstype})")
    differences: tuple[mount_options.Difference, ...] = ()
    if live is not None and place.same is True and live.fstype != "autofs":
        differences = mount_options.compare(live.fstype, wanted.options, live.options)
    for one in differences:
        sheet.differs(f"{key}: option {one.option}", one.found, one.meant)
    hows = {one.how for one in differences}
    # What is replaced at the next boot is replaced all the same: fstab waits for the name as well.
    if (place.others or wrong or hows & {"anew", "writable"}) and not world.allows(sheet, "path", wanted.path):
        return
    if stale:
        sheet.will("write_fstab", wanted.path, line)
        sheet.will("reload_manager", "systemd")
    if wrong or "anew" in hows:
        sheet.will("unmount", wanted.path)
    elif hows:
        sheet.will("remount", wanted.path, ",".join((*wanted.options, *(("rw",) if "writable" in hows else ()))))
    if absent or wrong or "anew" in hows:
        if not place.there:
            world.relies(sheet, f"{wanted.source} for {wanted.path} is there by then")
        sheet.will("mount", wanted.path)
        if root is not None:
            sheet.will("own_root", wanted.path, root.mode, root.owner, root.group)


def fstab_line(mount: Mount, kept: str = "") -> str:
    """``kept``: the line that is there for the same mount. When to check it at boot is not declared, and stays."""
    unsaid = " ".join(_padded(kept)[4:])
    return f"{escape(mount.source)} {escape(mount.path)} {mount.fstype} {','.join(mount.options)} {unsaid}"


def _padded(line: str) -> list[str]:
    """Its fields, the last two also where they are left out (fstab(5): then they are 0)."""
    fields = line.split()
    return [*fields, *["-"] * (4 - len(fields)), *["0"] * (6 - max(len(fields), 4))]


def fstab_point(line: str) -> str | None:
    fields = line.split()
    return os.path.normpath(unescape(fields[1])) if len(fields) >= 2 and not fields[0].startswith("#") else None


def _declared(line: str) -> Mount:
    """A line of fstab; ``fstab_point`` has found that it is one."""
    source, point, *rest = (unescape(part) for part in line.split())
    return Mount(point, source, rest[0] if rest else "auto", tuple(rest[1].split(",")) if len(rest) > 1 else ())


def unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def escape(text: str) -> str:
    return text.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


# --- doing --------------------------------------------------------------------------------


def write_fstab(step: Step, reader: Reader, writer: Writer) -> None:
    """One line for one mount point; every other line of the file stays as it is, in its place."""
    stat, text = reader.stat(FSTAB), reader.read(FSTAB) or ""
    lines = text.removesuffix("\n").split("\n") if text else []
    at = [index for index, line in enumerate(lines) if fstab_point(line) == step.target]
    kept = [line for index, line in enumerate(lines) if index not in at]
    kept.insert(at[0] if at else len(kept), str(step.args[0]))
    writer.write(FSTAB, "\n".join(kept) + "\n", mode=stat.mode if stat else 0o644, uid=0, gid=0)


def mount(step: Step, _reader: Reader, writer: Writer) -> None:
    kernel.run_tool(["/usr/bin/mount", "--", step.target], writer, why="data would go to the disk below")


def unmount(step: Step, _reader: Reader, writer: Writer) -> None:
    kernel.run_tool(["/usr/bin/umount", "--", step.target], writer, why="the other file system stays")


def remount(step: Step, _reader: Reader, writer: Writer) -> None:
    argv = ["/usr/bin/mount", "-o", f"remount,{step.args[0]}", "--", step.target]
    kernel.run_tool(argv, writer, why="the options stay as they were")


def own_root(step: Step, reader: Reader, writer: Writer, *, confirmed: frozenset[str]) -> None:
    """What was just mounted is taken over as any directory is: not from somebody, with content, unnamed.

    What is left alone here, the look after this run reports as blocked.
    """
    uid, _gid = paths.ids(str(step.args[1]), str(step.args[2]), reader, step.target)
    try:
        stat, content = reader.stat(step.target), reader.listdir(step.target)
    except Unreadable:
        return
    named = confirms(confirmed, "path", step.target)
    if stat is None or (stat.uid != uid and not paths.is_empty(content or ()) and not named):
        return
    paths.set_attributes(step, reader, writer)
