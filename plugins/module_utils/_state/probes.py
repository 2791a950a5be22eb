# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in force, as the tool that knows it says: ``auditctl -l``, ``sudo -l``, ``apt-config dump``.

A file says what somebody wants. Whether it counts, a later file, a running daemon or the kernel decides.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Probe, Sheet, Unknown, World

# A look at every file of the root file system, the longest that is asked for here, takes seconds on a quiet node.
LOOK_SECONDS = 60.0
MEND_SECONDS = 120.0
# Of what a probe prints that has to print nothing. The rest is on the node.
SHOWN = 10

# (command, whether only root is answered) → its answer.
Seen: TypeAlias = "dict[tuple[tuple[str, ...], bool], Completed | Unknown]"


def observe(reader: Reader, probes: Iterable[Probe]) -> Seen:
    """Each command once, whoever asks for its answer."""
    asked = dict.fromkeys((probe.command, probe.root) for probe in probes)
    return {(command, root): _ask(reader, command, root=root) for command, root in asked}


def _ask(reader: Reader, command: tuple[str, ...], *, root: bool) -> Completed | Unknown:
    if root and not reader.is_root():
        return Unknown(f"{command[0]} answers only to root")
    return reader.run(command, timeout=LOOK_SECONDS)


def plan(wanted: Probe, seen: Seen, world: World, sheet: Sheet, said: Mapping[tuple[str, ...], str]) -> None:
    """said: commands that this run has mended with before it looked again, and what they printed."""
    key, answer = f"probe {wanted.name}", seen[wanted.command, wanted.root]
    if isinstance(answer, Unknown):
        sheet.cannot_see(answer.reason)
        return
    known = len(sheet.changes)
    if answer.ok:
        _judge(wanted, answer.out, key, sheet)
    elif answer.rc is None and world.installing:
        sheet.differs(key, f"no {wanted.command[0]}", "as declared")
        world.relies(sheet, f"a package brings {wanted.command[0]}")
    else:
        sheet.cannot_see(one_line(f"{' '.join(wanted.command)} {answer.ending}: {answer.said()}"))
        return
    if len(sheet.changes) == known:
        return
    if wanted.mend in said:
        # It ends well also where it leaves alone what somebody has edited (pam-auth-update).
        sheet.cannot_mend(f"{' '.join(wanted.mend)} ended well and mended nothing: {said[wanted.mend]}")
    elif wanted.mend:
        # By its words: neighbours that need the same are mended by one run of it.
        sheet.will("mend", " ".join(wanted.mend), wanted.mend)
    elif not known:
        # Where more of the control differs, that is about to change, and the look that follows tells.
        sheet.cannot_mend(wanted.otherwise or f"something else decides what {wanted.command[0]} says")


def _judge(wanted: Probe, out: str, key: str, sheet: Sheet) -> None:
    items = [" ".join(item.split()) for item in re.split(f"[\n{re.escape(wanted.separator)}]", out)]
    if wanted.silent:
        printed = [item for item in items if item]
        rest = (f"and {len(printed) - SHOWN} more",) if len(printed) > SHOWN else ()
        if printed:
            sheet.differs(key, (*printed[:SHOWN], *rest), "nothing")
    for item in wanted.has:
        found = _found(item, items, last=wanted.last)
        if found != item:
            sheet.differs(f"{key}: {item}", found or "absent", "present")
    for pattern in wanted.lacks:
        for item in (item for item in items if fnmatchcase(item.lower(), pattern.lower())):
            sheet.differs(f"{key}: {item}", "present", "absent")


def _found(item: str, items: list[str], *, last: bool) -> str:
    """The item itself, or with ``last`` the last one that sets the same name, which is the one that counts."""
    if not last:
        return item if item in items else ""
    name = item.partition("=")[0].strip()
    return next((one for one in reversed(items) if one.partition("=")[0].strip() == name), "")


def mend(step: Step, _reader: Reader, writer: Writer, *, said: MutableMapping[tuple[str, ...], str]) -> None:
    argv = step.names()
    done = writer.run(argv, timeout=MEND_SECONDS, env={"DEBIAN_FRONTEND": "noninteractive"})
    if not done.ok:
        raise NodeError(
            "probes.not_mended",
            wanted=f"{step.target} to succeed",
            found=f"it {done.ending}: {one_line(done.said())}",
            why="what is in force is still not what is declared",
            fix="run that command by hand on the node and mend what it complains about",
        )
    said[argv] = one_line(done.said())
