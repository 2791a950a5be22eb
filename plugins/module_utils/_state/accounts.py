# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups and users. Looked up as the node sees them (NSS), changed with shadow's tools.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, Value, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Group, Sheet, User, World

# UID_MIN of login.defs on Debian and Ubuntu: from here on accounts are people's.
FIRST_LOGIN_UID = 1000
# What nologin(8), false(1) and Debian's base-passwd give to accounts that nobody logs in by.
NO_LOGIN = frozenset(("nologin", "false", "sync"))


@dataclass(frozen=True)
class SeenUser:
    """``busy``: its processes, looked up only where they are in the way of a change."""

    uid: int
    group: str
    home: str
    shell: str
    comment: str
    member_of: frozenset[str]
    busy: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """``owners``: those accounts, of the ones that files and directories want, that exist.
    ``holders``: who has the declared numbers now, by ("uid" or "gid", number).
    """

    groups: Mapping[str, int | None]
    users: Mapping[str, SeenUser | None]
    owners: frozenset[tuple[str, str]] = frozenset()
    holders: Mapping[tuple[str, int], str] = field(default_factory=dict)


def observe(
    reader: Reader, groups: Sequence[Group], users: Sequence[User], owners: Iterable[tuple[str, str]] = ()
) -> Seen:
    """``owners``: ("user" or "group", name) of everything that the document's paths belong to."""
    names = {g.name for g in groups} | {n for u in users for n in (*u.groups, u.group or u.name)}
    found = {name: reader.group(name) for name in sorted(names)}
    seen_users: dict[str, SeenUser | None] = {}
    for user in users:
        entry = reader.user(user.name)
        seen_users[user.name] = entry and SeenUser(
            uid=entry.pw_uid,
            group=reader.group_name(entry.pw_gid),
            home=entry.pw_dir,
            shell=entry.pw_shell,
            comment=entry.pw_gecos,
            member_of=frozenset(n for n, g in found.items() if g is not None and user.name in g.gr_mem),
            busy=()
            if user.uid in (None, entry.pw_uid) and user.home in (None, entry.pw_dir)
            else _processes(reader, entry.pw_uid),
        )
    there = frozenset(
        (kind, name)
        for kind, name in set(owners)
        if (reader.user(name) if kind == "user" else reader.group(name)) is not None
    )
    holders = {("gid", g.gid): reader.group_name(g.gid) for g in groups if g.gid is not None}
    holders |= {("uid", u.uid): reader.user_name(u.uid) for u in users if u.uid is not None}
    # A number without a name is nobody's.
    held = {key: name for key, name in holders.items() if name != str(key[1])}
    return Seen({name: group and group.gr_gid for name, group in found.items()}, seen_users, there, held)


def _processes(reader: Reader, uid: int) -> tuple[str, ...]:
    """What usermod looks at: processes with this number as real, effective or saved one."""
    found = []
    for pid in filter(str.isdigit, reader.listdir("/proc") or ()):
        try:
            status = reader.read(f"/proc/{pid}/status") or ""
        except Unreadable:  # it has ended
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if str(uid) in fields.get("Uid", "").split():
            found.append(f"{fields.get('Name', '').strip()} ({pid})")
    return tuple(found)


def plan_group(group: Group, seen: Seen, world: World, sheet: Sheet) -> None:
    gid = seen.groups[group.name]
    key = f"group {group.name}"
    if gid is None:
        if group.gid is None:
            sheet.differs(key, "absent", "present")
        elif not _number(key, "absent", "gid", group.gid, group.name, seen, world, sheet):
            return
        sheet.will("add_group", group.name, group.gid, group.system)
    elif group.gid is not None and gid != group.gid:
        # Files keep the old number: whoever gets it next owns them. Hence a named victim.
        if not world.allows(sheet, "group", group.name):
            sheet.differs(f"{key}: gid", gid, group.gid)
        elif _number(f"{key}: gid", gid, "gid", group.gid, group.name, seen, world, sheet):
            world.holders["gid", gid] = ""
            sheet.will("set_gid", group.name, group.gid)
    world.groups.add(group.name)


def _number(key: str, before: Value, kind: str, number: int, name: str, seen: Seen, world: World, sheet: Sheet) -> bool:
    """Note that ``name`` gets this number, unless it is somebody else's: the tools refuse a second holder."""
    holder = world.holders.get((kind, number), seen.holders.get((kind, number), ""))
    after: Value = f"{kind} {number}" if before == "absent" else number
    if holder not in ("", name):
        sheet.refuses(key, before, after, f"{kind} {number} belongs to {holder}")
        return False
    sheet.differs(key, before, after)
    world.holders[kind, number] = name
    return True


def plan_user(user: User, seen: Seen, world: World, sheet: Sheet) -> None:
    found = seen.users[user.name]
    key = f"user {user.name}"
    for name in (*user.groups, *([user.group] if user.group else [])):
        if seen.groups[name] is None and name not in world.groups:
            world.relies(sheet, f"group {name} of user {user.name} is made by a package or another role")
    if found is None:
        _plan_new(user, seen, world, sheet)
        return
    world.users.add(user.name)
    if user.uid is not None and found.uid != user.uid:
        if not world.allows(sheet, "user", user.name):
            sheet.differs(f"{key}: uid", found.uid, user.uid)
        elif _number(f"{key}: uid", found.uid, "uid", user.uid, user.name, seen, world, sheet):
            world.holders["uid", found.uid] = ""
            if _idle(user, found, sheet):
                sheet.will("modify_user", user.name, "--uid", str(user.uid))
    for option, name, before, after in (
        ("--gid", "group", found.group, user.group),
        ("--home", "home", found.home, user.home),
        ("--shell", "shell", found.shell, user.shell),
        ("--comment", "comment", found.comment, user.comment),
    ):
        if after is not None and before != after:
            sheet.differs(f"{key}: {name}", before, after)
            allowed = not _somebodys(user.name, found, world) or world.allows(sheet, "user", user.name)
            if allowed and (name != "home" or _idle(user, found, sheet)):
                sheet.will("modify_user", user.name, option, after)
    missing = tuple(g for g in user.groups if g not in found.member_of and g != found.group)
    if missing:
        sheet.differs(f"{key}: groups", tuple(sorted(found.member_of)), tuple(sorted({*found.member_of, *missing})))
        sheet.will("join_groups", user.name, missing)


def owned(name: str) -> str:
    """An account among what a role has taken."""
    return f"user:{name}"


def _somebodys(name: str, found: SeenUser, world: World) -> bool:
    """Where people log in, root above all, another shell or home can lock them out. A system account
    with a shell is somebody's, too (an administrator of a database), unless this role made it.
    """
    if not 0 < found.uid < FIRST_LOGIN_UID:
        return True
    return os.path.basename(found.shell) not in NO_LOGIN and owned(name) not in world.taken


def _plan_new(user: User, seen: Seen, world: World, sheet: Sheet) -> None:
    key = f"user {user.name}"
    if user.uid is None:
        sheet.differs(key, "absent", "present")
    elif not _number(key, "absent", "uid", user.uid, user.name, seen, world, sheet):
        return
    # Without a declared group it gets one of its own name, which useradd makes only if there is none.
    there = user.group is None and (seen.groups[user.name] is not None or user.name in world.groups)
    group = user.name if there else user.group
    sheet.will("add_user", user.name, user.uid, group, user.groups, user.home, user.shell, user.comment, user.system)
    world.users.add(user.name)
    if group is None:
        world.groups.add(user.name)


def _idle(user: User, found: SeenUser, sheet: Sheet) -> bool:
    """usermod changes neither number nor home of an account whose processes run."""
    if not found.busy:
        return True
    more = f" and {len(found.busy) - 3} more" if len(found.busy) > 3 else ""
    sheet.cannot_mend(f"usermod refuses while {user.name} runs {', '.join(found.busy[:3])}{more}")
    return False


def add_group(step: Step, _reader: Reader, writer: Writer) -> None:
    gid, system = step.args
    extra = ["--gid", str(gid)] if gid is not None else []
    _check(writer.run(["/usr/sbin/groupadd", *extra, *(["--system"] if system else []), "--", step.target]))


def set_gid(step: Step, _reader: Reader, writer: Writer) -> None:
    _check(writer.run(["/usr/sbin/groupmod", "--gid", str(step.args[0]), "--", step.target]))


def add_user(step: Step, _reader: Reader, writer: Writer) -> None:
    """The home folder is not made here: a control that wants it declares it as a directory."""
    uid, group, _groups, home, shell, comment, system = step.args
    groups = step.names(2)
    argv = ["/usr/sbin/useradd", "--no-create-home"]
    for option, value in (
        ("--uid", uid),
        ("--gid", group),
        ("--home-dir", home),
        ("--shell", shell),
        ("--comment", comment),
    ):
        if value is not None:
            argv += [option, str(value)]
    if groups:
        argv += ["--groups", ",".join(groups)]
    if system:
        argv.append("--system")
    if group is None:
        argv.append("--user-group")
    _check(writer.run([*argv, "--", step.target]))


def modify_user(step: Step, _reader: Reader, writer: Writer) -> None:
    option, value = step.args
    _check(writer.run(["/usr/sbin/usermod", str(option), str(value), "--", step.target]))


def join_groups(step: Step, _reader: Reader, writer: Writer) -> None:
    _check(writer.run(["/usr/sbin/usermod", "--append", "--groups", ",".join(step.names()), "--", step.target]))


def _check(done: Completed) -> None:
    if done.ok:
        return
    raise NodeError(
        "accounts.failed",
        wanted=f"{done.argv[0]} to succeed",
        found=f"{' '.join(done.argv)} {done.ending}: {one_line(done.said())}",
        why="files and services of this role belong to this account",
        fix="run that command by hand on the node; if the account database is remote, create the account there",
    )
