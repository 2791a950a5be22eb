# SPDX-License-Identifier: GPL-3.0-or-later
"""Text files: whose line differs, and what is done about it. What a file must be is in ``wholes``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, Value, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import HIDDEN
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Stat, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import paths
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    UNIT_DIRECTORY,
    File,
    Sheet,
    Unknown,
    World,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.wholes import (
    SECRET,
    Whole,
    divide,
    lines_of,
    opcodes,
)

# A diff in a report is for reading; the file itself is on the node.
SHOWN_LINES = 40


def hides(whole: Whole, found: Stat | None, *, closed: bool) -> bool:
    """Must nobody see lines of this file, neither what was declared nor what was found?

    The role may say so, or vouch for the opposite. If it does not, the file and its folders tell: what
    others may not read, as declared or as found, may hold secrets that nobody declares any more.
    """
    if any(SECRET.search(line) for line in (*whole.lines, *whole.skipped)):
        return True
    if whole.file.sensitive is not None:
        return whole.file.sensitive
    closed_now = found is not None and found.kind == "file" and not found.mode & 0o004
    return closed or closed_now or not whole.file.mode & 0o004


def _cannot_see(owners: Sequence[Sheet], extra: Sheet | None, reason: str) -> None:
    for sheet in owners:
        sheet.cannot_see(reason)
    if extra is not None:
        extra.is_unknown(reason)  # its owners fail the run already


def plan_file(
    whole: Whole,
    seen: Mapping[str, paths.Seen | Unknown],
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
        _cannot_see(owners, extra, found.reason)
        return
    if not file.present:
        _plan_absent(file, found, world, first)
        return
    # One after the other: each owner has to hear what blocks it.
    blocked = [paths.blocked(file.path, world, sheet) for sheet in owners]
    if blocked[0]:
        for sheet in owners:
            sheet.differs(key, "absent" if found.stat is None else "present", "present")
        return
    paths.expect_accounts(file, world, first)
    what, before = "", "absent"
    if found.stat is not None and found.stat.kind != "file":
        before = f"link to {found.target}" if found.stat.kind == "link" else found.stat.kind
        what = f"a {before} is in the place of the file"
        if not _clears_the_way(file.path, found, world, owners):
            for sheet in owners:
                sheet.differs(key, before, "file", what)
            return
        found = paths.Seen(None, closed=found.closed)
    if isinstance(found.content, Unknown):
        _cannot_see(owners, extra, found.content.reason)
        return
    filled = whole.filled(secrets)
    closed = found.closed or not world.closed.isdisjoint(paths.parents(file.path))
    hidden = hides(whole, found.stat, closed=closed)
    judging = [*owners, *(sheets[name] for name in _withdrawing(whole, sheets) if sheets[name] not in owners)]
    judging += [extra] if extra is not None else []
    known = [len(sheet.changes) for sheet in judging]
    action = "write_file"
    args: tuple[Value, ...] = ()
    if found.content is None:
        paths.plan_parents(file.path, seen, world, first)
        for part, sheet in zip(whole.parts, owners, strict=True):
            shown = (HIDDEN,) if hidden else part.lines
            sheet.differs(_part_key(key, whole), before, _shown(shown), what)
    elif found.content != filled.text(found.content):
        _judge_lines(filled, found.content, hidden, sheets, extra)
    else:
        action, args = "set_attributes", (file.mode, file.owner, file.group)
    paths.describe_attributes(key, file, found, first)
    concerned = [sheet for sheet, count in zip(judging, known, strict=True) if len(sheet.changes) > count]
    world.files.add(file.path)
    if not concerned:
        return
    if found.content:
        # One after the other: each has to hear what blocks it.
        allowed = [world.may_take(sheet, file.path) for sheet in (*owners, *(s for s in concerned if s is extra))]
        if not all(allowed):
            for sheet in owners:
                if sheet not in concerned:
                    # It has its lines, and still not its file.
                    sheet.differs(f"{key}: written by", "somebody else", "this role")
            return
    # Here and not with whoever differs: the order of the document is the order of its steps.
    first.will(action, file.path, *args)


def _clears_the_way(path: str, found: paths.Seen, world: World, owners: Sequence[Sheet]) -> bool:
    """Something that is no file is in its place: an administrator's link, or what may hold data. Only when named
    a link is replaced, and anything else is moved.

    A link to /dev/null is how an administrator says "never" to systemd and its kind. Of a unit it is the mask.
    """
    folder, name = os.path.split(path)
    victim = ("unit", name) if found.target == "/dev/null" and folder == UNIT_DIRECTORY else ("path", path)
    # One after the other: each owner has to hear what blocks it.
    allowed = [world.allows(sheet, *victim) for sheet in owners]
    if allowed[0] and found.target is None:
        owners[0].will("move_aside", path)
    return allowed[0]


def _plan_absent(file: File, found: paths.Seen, world: World, sheet: Sheet) -> None:
    if found.stat is None:
        return
    sheet.differs(f"file {file.path}", "present", "absent")
    if found.stat.kind == "directory":
        sheet.reasons.append(f"{file.path} is a directory; directories are never removed")
        world.allows(sheet, "path", file.path)
    elif world.allows(sheet, "path", file.path):
        sheet.will("remove_file", file.path)


def _judge_lines(whole: Whole, text: str, hidden: bool, sheets: Mapping[str, Sheet], extra: Sheet | None) -> None:
    """Attribute each difference: replaced or missing lines to their owner, the rest to nobody.

    ``whole`` with its secrets filled in: one of several lines is several lines.
    """
    key = f"file {whole.file.path}"
    owner_of = [part.control for part in whole.parts for _line in part.lines]
    divided, _left = divide(lines_of(text), whole)
    wanted = whole.lines
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    withdrawn = {line: control for control, lines in _withdrawing(whole, sheets).items() for line in lines}
    found = [line for line in divided if line not in withdrawn]
    for line in divided:
        if line in withdrawn:
            before.setdefault(withdrawn[line], []).append(line)
    foreign: list[str] = []
    for tag, i1, i2, j1, j2 in opcodes(found, wanted):
        if tag == "equal":
            continue
        if tag == "other":
            for control in dict.fromkeys(owner_of[j1:j2]):
                before[control] = [*before.get(control, ()), f"({i2 - i1} lines, too different to be compared)"]
        if tag != "delete":
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
    if whole.keeps:
        foreign = []
    part_key = _part_key(key, whole)
    for control in dict.fromkeys((*(part.control for part in whole.parts), *before)):
        if control in before or control in after:
            old, new = before.get(control, []), after.get(control, [])
            sheets[control].differs(
                part_key, _shown((HIDDEN,) if hidden else old), _shown((HIDDEN,) if hidden and new else new)
            )
    if foreign or not (before or after):
        # Nothing but white space at the end may differ: then it is nobody's line either.
        lines = (HIDDEN,) if hidden else tuple(foreign) or ("line ends or the end of the file differ",)
        (extra or sheets[whole.parts[0].control]).differs(
            key,
            _shown(lines),
            "absent",
            f"{whole.file.path} has {len(foreign)} lines that no control declares" if foreign else "",
        )


def _withdrawing(whole: Whole, sheets: Mapping[str, Sheet]) -> dict[str, list[str]]:
    """Control → the lines that must go because of it; those of a skipped one are left to the owner of the file."""
    found: dict[str, list[str]] = {}
    for line, control in whole.file.withdrawn:
        if line not in whole.lines:
            found.setdefault(control if control in sheets else whole.parts[0].control, []).append(line)
    return found


def _part_key(key: str, whole: Whole) -> str:
    return f"{key}: lines" if len(whole.parts) > 1 else key


def _shown(lines: Sequence[str]) -> Value:
    if not lines:
        return "absent"
    cut = [line if len(line) <= 400 else line[:399] + "…" for line in lines[:SHOWN_LINES]]
    return "\n".join([*cut, *([f"… and {len(lines) - SHOWN_LINES} more lines"] if len(lines) > SHOWN_LINES else [])])


# --- doing --------------------------------------------------------------------------------


def write_file(
    step: Step, reader: Reader, writer: Writer, *, wholes: Mapping[str, Whole], secrets: Mapping[str, str]
) -> None:
    whole = wholes[step.target]
    file = whole.file
    uid, gid = paths.ids(file.owner, file.group, reader, file.path)
    # A link is replaced, not read; and what else was in the way has been moved by an earlier step.
    stat = reader.stat(file.path)
    found = reader.read(file.path) if stat is not None and stat.kind == "file" else None
    content = whole.filled(secrets).text(found)
    if file.validate:
        hidden = hides(whole, stat, closed=paths.is_closed(reader, file.path))
        _validate(file, content, uid, gid, writer, hidden=hidden)
    writer.write(file.path, content, mode=file.mode, uid=uid, gid=gid)


def _validate(file: File, content: str, uid: int, gid: int, writer: Writer, *, hidden: bool) -> None:
    """Have the owner of the format read a copy first (sshd -t, visudo -c); the file stays as it was."""
    copy = writer.scratch(os.path.basename(file.path), content, uid=uid, gid=gid)
    try:
        argv = [part.replace("%s", copy) for part in file.validate]
        done = writer.run(argv)
    finally:
        writer.remove(copy)
    if not done.ok:
        # A validator quotes the line it does not like.
        said = "what it said is not shown, since it may quote a closed file" if hidden else one_line(done.said(4), 500)
        raise NodeError(
            "paths.validation_failed",
            wanted=f"{file.path} accepted by {' '.join(file.validate)}",
            found=f"it {done.ending}: {said}",
            why="the service would not start, or not let you in, with this file",
            fix="correct the variables this file is made from; the file on the node was left as it was",
        )


def remove_file(step: Step, _reader: Reader, writer: Writer) -> None:
    writer.remove(step.target)
