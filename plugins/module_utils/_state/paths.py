# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and links, and what they share with files: looking, parents, owners, modes.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Stat, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.way import MAX_LINKS, NOBODY, walk
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Directory,
    File,
    Link,
    Sheet,
    Unknown,
    World,
)


@dataclass(frozen=True)
class Seen:
    """One path as found; ``stat`` None: not there. ``closed``: in a folder that others cannot enter."""

    stat: Stat | None
    owner: str = ""
    group: str = ""
    content: str | Unknown | None = None
    target: str | None = None
    empty: bool | Unknown = True
    closed: bool = False


def observe(
    reader: Reader, paths: Iterable[str], *, read: frozenset[str], follow: frozenset[str] = frozenset()
) -> dict[str, Seen | Unknown]:
    """Every path as it is, content only of the ones in ``read``; and of their parents what they lead to.

    What a path leads to is under its name with a slash at the end: an administrator's link to a
    bigger disk is a fair way to have a directory. The ones in ``follow`` are judged by that too,
    and ``target`` is then where they are. Below what root does not follow nothing is looked at.
    """
    seen: dict[str, Seen | Unknown] = {}
    for path in paths:
        above: Seen | Unknown = Seen(None)
        for parent in reversed(parents(path)):
            if f"{parent}/" not in seen:
                seen[f"{parent}/"] = above if isinstance(above, Unknown) else _leads_to(reader, parent)
            above = seen[f"{parent}/"]
        if path not in seen:
            seen[path] = above if isinstance(above, Unknown) else _look(reader, path, content=path in read)
    for path in read:
        found = seen.get(path)
        if isinstance(found, Seen):
            seen[path] = replace(found, closed=is_closed(reader, path))
    for path in follow:
        found = seen.get(path)
        if isinstance(found, Seen) and found.target is not None:
            seen[path] = _leads_to(reader, path)
    return seen


def _leads_to(reader: Reader, path: str) -> Seen | Unknown:
    """As it is when it is no link, and what root follows to when it is one."""
    try:
        stat = reader.stat(path)
        if stat is None or stat.kind != "link":
            return Seen(stat)
        led = walk(path, reader)
    except Unreadable as error:
        return Unknown(str(error))
    if not led.is_open:
        if not led.decides:
            return Unknown(f"{path}: too many levels of links")
        who = "anybody" if led.decides == NOBODY else reader.user_name(led.decides)
        return Unknown(f"{led.end} is a link that {who} can set (by {led.by}), and root does not follow it")
    found = _look(reader, led.end, content=False)
    return found if isinstance(found, Unknown) else replace(found, target=led.end)


def parents(path: str) -> list[str]:
    found = []
    while (path := os.path.dirname(path)) not in ("/", ""):
        found.append(path)
    return found


def way(reader: Reader, path: str) -> list[Stat]:
    """Every folder and link on the way to a path, links followed, and what is at its end; as far as there is something.

    Unlike ``_core.way.walk`` it asks nobody's leave: it is for looking, not for trusting.
    """
    top = reader.stat("/")
    met = [top] if top is not None else []
    place, rest, links = "/", path.strip("/").split("/"), 0
    while rest:
        place = os.path.normpath(os.path.join(place, rest.pop(0)))
        stat = reader.stat(place)
        if stat is None:
            break
        met.append(stat)
        if stat.kind == "link":
            links += 1
            target = reader.readlink(place)
            if target is None or links > MAX_LINKS:
                break
            place, rest = (
                os.path.dirname(place),
                [*(["/"] if target.startswith("/") else []), *target.split("/"), *rest],
            )
    return met


def is_closed(reader: Reader, path: str) -> bool:
    """Can others not get at it, whatever its own mode says? A folder that only lets its group in is enough."""
    try:
        return any(stat.kind == "directory" and not stat.mode & 0o001 for stat in way(reader, os.path.dirname(path)))
    except Unreadable:
        return True


def _look(reader: Reader, path: str, *, content: bool) -> Seen | Unknown:
    try:
        stat = reader.stat(path)
    except Unreadable as error:
        return Unknown(str(error))
    if stat is None:
        return Seen(None)
    seen = Seen(stat, reader.user_name(stat.uid), reader.group_name(stat.gid))
    if stat.kind == "link":
        return replace(seen, target=reader.readlink(path))
    if stat.kind == "directory":
        try:
            return replace(seen, empty=is_empty(reader.listdir(path) or ()))
        except Unreadable as error:
            return replace(seen, empty=Unknown(str(error)))
    if stat.kind == "file" and content:
        return _read(reader, path, seen)
    return seen


def _read(reader: Reader, path: str, seen: Seen) -> Seen:
    """With the attributes of the very file that was read: they tell whether its text may be shown."""
    try:
        found = reader.file(path)
    except Unreadable as error:
        return replace(seen, content=Unknown(str(error)))
    if found is None:
        return Seen(None)
    stat, text = found
    return Seen(stat, reader.user_name(stat.uid), reader.group_name(stat.gid), content=text)


def is_empty(names: Sequence[str]) -> bool:
    """The root of a new file system has a folder of its own."""
    return not {*names} - {"lost+found"}


def plan_directory(wanted: Directory, seen: Mapping[str, Seen | Unknown], world: World, sheet: Sheet) -> None:
    found = seen[wanted.path]
    key = f"directory {wanted.path}"
    real = wanted if isinstance(found, Unknown) or found.target is None else replace(wanted, path=found.target)
    if isinstance(found, Unknown):
        sheet.cannot_see(found.reason)
        return
    if blocked(wanted.path, world, sheet):
        sheet.differs(key, "absent" if found.stat is None else "present", _attributes(wanted))
        return
    if found.target is not None and found.stat is None:
        sheet.cannot_see(f"{wanted.path} is a link to {found.target}, which is not there")
        return
    if found.stat is not None and found.stat.kind != "directory":
        sheet.differs(key, found.stat.kind, "directory", f"a {found.stat.kind} is in the place of the directory")
        if not world.allows(sheet, "path", wanted.path):
            world.blocked_paths.add(wanted.path)
            return
        sheet.will("move_aside", wanted.path)
        found = Seen(None)
    if found.stat is None:
        plan_parents(wanted.path, seen, world, sheet)
        sheet.differs(key, "absent", _attributes(wanted))
        sheet.will("make_directory", wanted.path, wanted.mode, wanted.owner, wanted.group)
    elif found.owner != wanted.owner and found.empty is not True:
        what = (
            found.empty.reason
            if isinstance(found.empty, Unknown)
            else f"{wanted.path} is not empty and belongs to {found.owner}"
        )
        sheet.differs(f"{key}: owner", found.owner, wanted.owner, what)
        if not world.allows(sheet, "path", wanted.path):
            world.blocked_paths.add(wanted.path)
            return
        describe_attributes(key, wanted, found, sheet, {"owner"})
        sheet.will("set_attributes", real.path, real.mode, real.owner, real.group)
    elif describe_attributes(key, wanted, found, sheet):
        if found.empty is not True and not world.may_take(sheet, wanted.path):
            world.blocked_paths.add(wanted.path)
            return
        sheet.will("set_attributes", real.path, real.mode, real.owner, real.group)
    expect_accounts(wanted, world, sheet)
    world.directories.add(wanted.path)


def plan_mount_point(path: str, seen: Mapping[str, Seen | Unknown], world: World, sheet: Sheet) -> bool:
    """Where something is to be mounted there must be a directory; a missing one is made, as parents are.

    Returns whether it can be told where that is: mount(8) follows any link.
    """
    found = seen[path]
    if isinstance(found, Unknown):
        sheet.cannot_see(found.reason)
        return False
    if found.stat is None and path not in world.directories:
        plan_parents(path, seen, world, sheet)
        sheet.will("make_parent", path)
        world.directories.add(path)
    return True


def plan_link(wanted: Link, seen: Mapping[str, Seen | Unknown], world: World, sheet: Sheet) -> None:
    found = seen[wanted.path]
    key = f"link {wanted.path}"
    if isinstance(found, Unknown):
        sheet.cannot_see(found.reason)
        return
    if found.stat is not None and found.target == wanted.target:
        return
    before = "absent" if found.stat is None else f"to {found.target}" if found.target else found.stat.kind
    sheet.differs(key, before, f"to {wanted.target}")
    if blocked(wanted.path, world, sheet):
        return
    if found.stat is None:
        plan_parents(wanted.path, seen, world, sheet)
    elif found.stat.kind == "link":
        if not world.may_take(sheet, wanted.path):
            return
    else:
        if not world.allows(sheet, "path", wanted.path):
            return
        sheet.will("move_aside", wanted.path)
    sheet.will("make_link", wanted.path, wanted.target)
    world.files.add(wanted.path)


def plan_parents(path: str, seen: Mapping[str, Seen | Unknown], world: World, sheet: Sheet) -> None:
    """Missing parents that nobody declares are made root:root 0755.

    A step, but no change of the control: an earlier role of the same run may declare the
    directory, and then a check of both could not predict which of them makes it.
    """
    for parent in reversed(parents(path)):
        found = seen.get(f"{parent}/")
        if parent in world.directories or parent in world.files or not isinstance(found, Seen):
            continue
        if found.stat is None and found.target is None:
            sheet.will("make_parent", parent)
            world.directories.add(parent)
        elif found.stat is None or found.stat.kind != "directory":
            what = f"a link to {found.target}, which is not there" if found.stat is None else f"a {found.stat.kind}"
            sheet.refuses(f"directory {parent}", what, "directory", f"{parent}, on the way to {path}, is {what}")
            return


def describe_attributes(
    key: str, wanted: Directory | File, found: Seen, sheet: Sheet, shown: set[str] | None = None
) -> bool:
    if found.stat is None:
        return False
    differing = False
    for name, before, after in (
        ("owner", found.owner, wanted.owner),
        ("group", found.group, wanted.group),
        ("mode", found.stat.octal, f"{wanted.mode:04o}"),
    ):
        if before != after:
            differing = True
            if name not in (shown or ()):
                sheet.differs(f"{key}: {name}", before, after)
    return differing


def expect_accounts(wanted: Directory | File, world: World, sheet: Sheet) -> None:
    for kind, name, known in (("user", wanted.owner, world.users), ("group", wanted.group, world.groups)):
        if name not in known:
            world.relies(sheet, f"{kind} {name} (of {wanted.path}) is made by a package or another role")


def blocked(path: str, world: World, sheet: Sheet) -> bool:
    for parent in parents(path):
        if parent in world.blocked_paths:
            world.allows(sheet, "path", parent)
            return True
    return False


def _attributes(wanted: Directory | File) -> str:
    return f"{wanted.owner}:{wanted.group} {wanted.mode:04o}"


# --- doing --------------------------------------------------------------------------------


def ids(owner: str, group: str, reader: Reader, path: str) -> tuple[int, int]:
    """Numbers of owner and group now: by this step the accounts must exist."""
    user, found = reader.user(owner), reader.group(group)
    if user is None or found is None:
        raise NodeError(
            "paths.no_such_account",
            wanted=f"{path} owned by {owner}:{group}",
            found=f"no {'user ' + owner if user is None else 'group ' + group} on the node",
            why="the file would be left with a wrong owner",
            fix="apply the role that makes the account first (prereqs makes nusy), or correct the owner",
        )
    return user.pw_uid, found.gr_gid


def make_directory(step: Step, reader: Reader, writer: Writer) -> None:
    mode, owner, group = step.number(), str(step.args[1]), str(step.args[2])
    uid, gid = ids(owner, group, reader, step.target)
    if reader.stat(step.target) is None:
        writer.mkdir(step.target, mode=mode, uid=uid, gid=gid)
    else:
        # A package of an earlier step brought it.
        writer.attributes(step.target, mode=mode, uid=uid, gid=gid)


def make_parent(step: Step, reader: Reader, writer: Writer) -> None:
    """Only where there is still none: one that a package brought keeps the owner it has from there."""
    if reader.stat(step.target) is None:
        writer.mkdir(step.target, mode=0o755, uid=0, gid=0)


def set_attributes(step: Step, reader: Reader, writer: Writer) -> None:
    mode, owner, group = step.number(), str(step.args[1]), str(step.args[2])
    uid, gid = ids(owner, group, reader, step.target)
    writer.attributes(step.target, mode=mode, uid=uid, gid=gid)


def make_link(step: Step, _reader: Reader, writer: Writer) -> None:
    writer.symlink(step.target, str(step.args[0]))


def move_aside(step: Step, reader: Reader, writer: Writer) -> None:
    """Nothing is deleted: what was in the way keeps its content under a free name beside it."""
    number = 1
    while reader.stat(aside := f"{step.target}.replaced.{number}") is not None:
        number += 1
    writer.rename(step.target, aside)
