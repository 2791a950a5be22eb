# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories, files and links.

A file is owned whole by one role. Several controls may each own a fragment of it, so that
forty settings in one file are forty verdicts; a line that nobody declared is drift of
``<role>/file_extra``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, Value, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import HIDDEN
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Stat, Unreadable, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Directory,
    File,
    Link,
    Sheet,
    Unknown,
    World,
)

SECRET = re.compile(r"\$\{secret:([A-Za-z0-9_]+)\}")
# A diff in a report is for reading; the file itself is on the node.
SHOWN_LINES = 40


@dataclass(frozen=True)
class Seen:
    """One path as found; ``stat`` None: not there."""

    stat: Stat | None
    owner: str = ""
    group: str = ""
    content: str | Unknown | None = None
    target: str | None = None
    empty: bool | Unknown = True


@dataclass(frozen=True)
class Part:
    """One control's share of a file: the lines it declared."""

    control: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Whole:
    """A file with all its parts, as it must be on the node (secrets still as references)."""

    file: File
    parts: tuple[Part, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(line for part in self.parts for line in part.lines)

    @property
    def text(self) -> str:
        return "".join(line + "\n" for line in self.lines)


def lines_of(text: str) -> tuple[str, ...]:
    """Only a line feed ends a line here: str.splitlines would drop the \\r, \\f or U+2028 of a file."""
    return tuple(text.removesuffix("\n").split("\n")) if text else ()


def assemble(declared: Iterable[tuple[str, File]]) -> dict[str, Whole]:
    """Put the fragments of each path together, in document order.

    Raises InputError when two controls claim one file whole or disagree on its attributes.
    """
    wholes: dict[str, Whole] = {}
    for control, file in declared:
        part = Part(control, lines_of(file.content))
        earlier = wholes.get(file.path)
        if earlier is None:
            wholes[file.path] = Whole(file, (part,))
            continue
        same = replace(file, content="", sensitive=False) == replace(earlier.file, content="", sensitive=False)
        if not (file.fragment and earlier.file.fragment and same):
            raise InputError(
                "state.file_declared_twice",
                wanted=f"{file.path} declared once, or as fragments with the same owner, group and mode",
                found=f"declared by {earlier.parts[0].control} and by {control}",
                why="the two declarations would overwrite each other on every run",
                fix="set fragment: true on both and give them the same attributes, or drop one",
            )
        merged = replace(earlier.file, sensitive=earlier.file.sensitive or file.sensitive)
        wholes[file.path] = Whole(merged, (*earlier.parts, part))
    return wholes


def observe(
    reader: Reader, paths: Iterable[str], *, read: frozenset[str], follow: frozenset[str] = frozenset()
) -> dict[str, Seen | Unknown]:
    """Every path and its parents; content only of the ones in ``read``.

    Where a path in ``follow`` is a link, what it leads to is judged, and ``target`` is its path:
    an administrator's link to a bigger disk is a fair way to have a directory.
    """
    seen: dict[str, Seen | Unknown] = {}
    for path in paths:
        for one in (path, *parents(path)):
            if one not in seen:
                seen[one] = _look(reader, one, content=one in read)
    for path in follow:
        found = seen.get(path)
        if isinstance(found, Seen) and found.target is not None:
            seen[path] = _follow(reader, path, found.target)
    return seen


def _follow(reader: Reader, path: str, target: str) -> Seen | Unknown:
    for _hop in range(8):
        # A link that somebody else can set would have root change whatever it is pointed at.
        for part in (path, *parents(path)):
            try:
                stat = reader.stat(part)
            except Unreadable as error:
                return Unknown(str(error))
            if stat is not None and stat.uid != 0:
                return Unknown(f"{path} is a link to {target}, and {part} belongs to {reader.user_name(stat.uid)}")
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        found = _look(reader, path, content=False)
        if isinstance(found, Unknown) or found.target is None:
            return found if isinstance(found, Unknown) else replace(found, target=path)
        target = found.target
    return Unknown(f"{path}: too many levels of links")


def parents(path: str) -> list[str]:
    found = []
    while (path := os.path.dirname(path)) not in ("/", ""):
        found.append(path)
    return found


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
            return replace(seen, empty=not reader.listdir(path))
        except Unreadable as error:
            return replace(seen, empty=Unknown(str(error)))
    if stat.kind == "file" and content:
        try:
            return replace(seen, content=reader.read(path))
        except Unreadable as error:
            return replace(seen, content=Unknown(str(error)))
    return seen


def plan_directory(wanted: Directory, seen: Mapping[str, Seen | Unknown], world: World, sheet: Sheet) -> None:
    found = seen[wanted.path]
    key = f"directory {wanted.path}"
    real = wanted if isinstance(found, Unknown) or found.target is None else replace(wanted, path=found.target)
    if isinstance(found, Unknown):
        sheet.cannot_see(found.reason)
        return
    if _blocked(wanted.path, world, sheet):
        sheet.differs(key, "absent" if found.stat is None else "present", _attributes(wanted))
        return
    if found.target is not None and found.stat is None:
        sheet.cannot_see(f"{wanted.path} is a link to {found.target}, which is not there")
        return
    if found.stat is not None and found.stat.kind != "directory":
        sheet.differs(key, found.stat.kind, "directory", f"a {found.stat.kind} is in the place of the directory")
        if not world.allows(sheet, wanted.path):
            world.blocked_paths.add(wanted.path)
            return
        sheet.will("move_aside", wanted.path)
        found = Seen(None)
    if found.stat is None:
        _plan_parents(wanted.path, seen, world, sheet)
        sheet.differs(key, "absent", _attributes(wanted))
        sheet.will("make_directory", wanted.path, wanted.mode, wanted.owner, wanted.group)
    elif found.owner != wanted.owner and found.empty is not True:
        what = (
            found.empty.reason
            if isinstance(found.empty, Unknown)
            else f"{wanted.path} is not empty and belongs to {found.owner}"
        )
        sheet.differs(f"{key}: owner", found.owner, wanted.owner, what)
        if not world.allows(sheet, wanted.path):
            world.blocked_paths.add(wanted.path)
            return
        _plan_attributes(key, real, found, sheet, shown={"owner"})
    else:
        _plan_attributes(key, real, found, sheet)
    _expect_accounts(wanted, world)
    world.directories.add(wanted.path)


def plan_mount_point(path: str, seen: Mapping[str, Seen | Unknown], world: World, sheet: Sheet) -> None:
    """Where something is to be mounted there must be a directory; a missing one is made, as parents are."""
    found = seen[path]
    if isinstance(found, Seen) and found.stat is None and path not in world.directories:
        _plan_parents(f"{path}/.", seen, world, sheet)


def plan_file(
    whole: Whole,
    seen: Mapping[str, Seen | Unknown],
    world: World,
    sheets: Mapping[str, Sheet],
    extra: Sheet | None,
    secrets: Mapping[str, str],
) -> None:
    """Judge a file for all its owners at once; the step belongs to the first of them."""
    file = whole.file
    first = sheets[whole.parts[0].control]
    owners = [sheets[part.control] for part in whole.parts]
    found = seen[file.path]
    key = f"file {file.path}"
    if isinstance(found, Unknown):
        for sheet in owners:
            sheet.cannot_see(found.reason)
        return
    if not file.present:
        _plan_absent(file, found, world, first)
        return
    # One after the other: each owner has to hear what blocks it.
    blocked = [_blocked(file.path, world, sheet) for sheet in owners]
    if blocked[0]:
        for sheet in owners:
            sheet.differs(key, "absent" if found.stat is None else "present", "present")
        return
    _expect_accounts(file, world)
    if found.stat is not None and found.stat.kind in ("directory", "other"):
        first.differs(key, found.stat.kind, "file", f"a {found.stat.kind} is in the place of the file")
        for sheet in owners[1:]:
            sheet.differs(key, found.stat.kind, "file")
            world.allows(sheet, file.path)
        if not world.allows(first, file.path):
            return
        first.will("move_aside", file.path)
        found = Seen(None)
    elif found.stat is not None and found.stat.kind == "link":
        first.differs(key, f"link to {found.target}", "file")
        found = Seen(None)
    if isinstance(found.content, Unknown):
        for sheet in owners:
            sheet.cannot_see(found.content.reason)
        return
    desired = substitute(whole.text, secrets)
    sensitive = file.sensitive or SECRET.search(whole.text) is not None
    if found.content is None:
        _plan_parents(file.path, seen, world, first)
        for part, sheet in zip(whole.parts, owners, strict=True):
            shown = (HIDDEN,) if sensitive else part.lines
            sheet.differs(_part_key(key, whole), "absent", _shown(shown))
    elif found.content != desired:
        filled = tuple(
            replace(part, lines=lines_of(substitute("\n".join(part.lines), secrets))) for part in whole.parts
        )
        _judge_lines(replace(whole, parts=filled), found.content, sensitive, sheets, extra)
    else:
        _plan_attributes(key, file, found, first)
        world.files.add(file.path)
        return
    if found.stat is not None:
        _describe_attributes(key, file, found, first)
    # Here and not with whoever differs: the order of the document is the order of its steps.
    first.will("write_file", file.path)
    world.files.add(file.path)


def _judge_lines(whole: Whole, text: str, sensitive: bool, sheets: Mapping[str, Sheet], extra: Sheet | None) -> None:
    """Attribute each difference: replaced or missing lines to their owner, the rest to nobody.

    ``whole`` with its secrets filled in: one of several lines is several lines.
    """
    key = f"file {whole.file.path}"
    owner_of = [part.control for part in whole.parts for _line in part.lines]
    found, wanted = lines_of(text), whole.lines
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    foreign: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, found, wanted, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if tag == "insert" or tag == "replace":
            for line, control in zip(wanted[j1:j2], owner_of[j1:j2], strict=False):
                after.setdefault(control, []).append(line)
        if tag == "delete":
            foreign += found[i1:i2]
        if tag == "replace":
            # One line for one line is an edit; what is left over was added by somebody.
            for index, line in enumerate(found[i1:i2]):
                if j1 + index < j2:
                    before.setdefault(owner_of[j1 + index], []).append(line)
                else:
                    foreign.append(line)
    part_key = _part_key(key, whole)
    for control in dict.fromkeys(part.control for part in whole.parts):
        if control in after:
            old, new = before.get(control, []), after[control]
            sheets[control].differs(
                part_key, _shown((HIDDEN,) if sensitive else old), _shown((HIDDEN,) if sensitive else new)
            )
    if foreign or not (before or after):
        # Nothing but white space at the end may differ: then it is nobody's line either.
        lines = (HIDDEN,) if sensitive else tuple(foreign) or ("line ends or the end of the file differ",)
        (extra or sheets[whole.parts[0].control]).differs(
            key,
            _shown(lines),
            "absent",
            f"{whole.file.path} has {len(foreign)} lines that no control declares" if foreign else "",
        )


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
    if _blocked(wanted.path, world, sheet):
        return
    if found.stat is None:
        _plan_parents(wanted.path, seen, world, sheet)
    elif found.stat.kind != "link":
        if not world.allows(sheet, wanted.path):
            return
        sheet.will("move_aside", wanted.path)
    sheet.will("make_link", wanted.path, wanted.target)
    world.files.add(wanted.path)


def _plan_absent(file: File, found: Seen, world: World, sheet: Sheet) -> None:
    if found.stat is None:
        return
    sheet.differs(f"file {file.path}", "present", "absent")
    if found.stat.kind == "directory":
        sheet.reasons.append(f"{file.path} is a directory; directories are never removed")
        world.allows(sheet, file.path)
    elif world.allows(sheet, file.path):
        sheet.will("remove_file", file.path)


def _plan_parents(path: str, seen: Mapping[str, Seen | Unknown], world: World, sheet: Sheet) -> None:
    """Missing parents that nobody declares are made root:root 0755.

    A step, but no change of the control: an earlier role of the same run may declare the
    directory, and then a check of both could not predict which of them makes it.
    """
    for parent in reversed(parents(path)):
        found = seen.get(parent)
        if isinstance(found, Seen) and found.stat is None and parent not in world.directories:
            sheet.will("make_parent", parent)
            world.directories.add(parent)


def _plan_attributes(key: str, wanted: Directory | File, found: Seen, sheet: Sheet, shown: Iterable[str] = ()) -> None:
    if _describe_attributes(key, wanted, found, sheet, set(shown)) or shown:
        sheet.will("set_attributes", wanted.path, wanted.mode, wanted.owner, wanted.group)


def _describe_attributes(
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


def _expect_accounts(wanted: Directory | File, world: World) -> None:
    for kind, name, known in (("user", wanted.owner, world.users), ("group", wanted.group, world.groups)):
        if name not in known:
            world.assume(f"{kind} {name} (of {wanted.path}) is made by a package or another role")


def _blocked(path: str, world: World, sheet: Sheet) -> bool:
    for parent in parents(path):
        if parent in world.blocked_paths:
            world.allows(sheet, parent)
            return True
    return False


def _attributes(wanted: Directory | File) -> str:
    return f"{wanted.owner}:{wanted.group} {wanted.mode:04o}"


def _part_key(key: str, whole: Whole) -> str:
    return f"{key}: lines" if len(whole.parts) > 1 else key


def _shown(lines: Sequence[str]) -> Value:
    if not lines:
        return "absent"
    cut = [line if len(line) <= 400 else line[:399] + "…" for line in lines[:SHOWN_LINES]]
    return "\n".join([*cut, *([f"… and {len(lines) - SHOWN_LINES} more lines"] if len(lines) > SHOWN_LINES else [])])


def substitute(text: str, secrets: Mapping[str, str]) -> str:
    return SECRET.sub(lambda match: secrets[match.group(1)], text)


# --- doing --------------------------------------------------------------------------------


def ids(owner: str, group: str, reader: Reader, path: str) -> tuple[int, int]:
    """Numbers of owner and group now: by this step the accounts must exist."""
    user, found = reader.user(owner), reader.group(group)
    uid = user.pw_uid if user else int(owner) if owner.isdigit() else None
    gid = found.gr_gid if found else int(group) if group.isdigit() else None
    if uid is None or gid is None:
        raise NodeError(
            "paths.no_such_account",
            wanted=f"{path} owned by {owner}:{group}",
            found=f"no {'user ' + owner if uid is None else 'group ' + group} on the node",
            why="the file would be left with a wrong owner",
            fix="apply the role that makes the account first (prereqs makes nusy), or correct the owner",
        )
    return uid, gid


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


def write_file(whole: Whole, secrets: Mapping[str, str], reader: Reader, writer: Writer) -> None:
    file = whole.file
    uid, gid = ids(file.owner, file.group, reader, file.path)
    content = substitute(whole.text, secrets)
    if file.validate:
        _validate(file, content, uid, gid, writer)
    writer.write(file.path, content, mode=file.mode, uid=uid, gid=gid)


def _validate(file: File, content: str, uid: int, gid: int, writer: Writer) -> None:
    """Have the owner of the format read a copy first (sshd -t, visudo -c); the file stays as it was."""
    copy = writer.scratch(os.path.basename(file.path), content, uid=uid, gid=gid)
    try:
        argv = [part.replace("%s", copy) for part in file.validate]
        done = writer.run(argv)
    finally:
        writer.remove(copy)
    if not done.ok:
        # A validator quotes the line it does not like.
        hidden = file.sensitive or SECRET.search(file.content) is not None
        said = "what it said is not shown, since the file is sensitive" if hidden else one_line(done.said(4), 500)
        raise NodeError(
            "paths.validation_failed",
            wanted=f"{file.path} accepted by {' '.join(file.validate)}",
            found=f"it {done.ending}: {said}",
            why="the service would not start, or not let you in, with this file",
            fix="correct the variables this file is made from; the file on the node was left as it was",
        )


def make_link(step: Step, _reader: Reader, writer: Writer) -> None:
    writer.symlink(step.target, str(step.args[0]))


def move_aside(step: Step, reader: Reader, writer: Writer) -> None:
    """Nothing is deleted: what was in the way keeps its content under a free name beside it."""
    number = 1
    while reader.stat(aside := f"{step.target}.replaced.{number}") is not None:
        number += 1
    writer.rename(step.target, aside)


def remove_file(step: Step, _reader: Reader, writer: Writer) -> None:
    writer.remove(step.target)
