# SPDX-License-Identifier: GPL-3.0-or-later
"""One value in a file that is somebody else's: login.defs, auditd.conf, and whatever has no folder for parts.

Every other line stays as it is. Where a name is set twice, its last line counts, as it does for those who read them.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Setting, Sheet, Unknown, World
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.wholes import lines_of

# Path → its text; None where there is no such file.
Seen: TypeAlias = "dict[str, str | Unknown | None]"


def observe(reader: Reader, settings: Iterable[Setting]) -> Seen:
    return {path: _text(reader, path) for path in dict.fromkeys(setting.path for setting in settings)}


def _text(reader: Reader, path: str) -> str | Unknown | None:
    try:
        found = reader.file(path)
    except Unreadable as error:
        return Unknown(str(error))
    return None if found is None else found[1]


def _places(text: str, name: str) -> list[tuple[int, str]]:
    """(number of the line, value) of every line that sets ``name``. A name ends at a blank or an equals sign."""
    line = re.compile(rf"\s*{re.escape(name)}(?:\s*=\s*|\s+)(?P<value>.*?)\s*")
    matches = ((number, line.fullmatch(text)) for number, text in enumerate(lines_of(text)))
    return [(number, match["value"]) for number, match in matches if match]


def plan(wanted: Setting, seen: Seen, world: World, sheet: Sheet) -> None:
    key, text = f"setting {wanted.path}: {wanted.name}", seen[wanted.path]
    if isinstance(text, Unknown):
        sheet.cannot_see(text.reason)
        return
    if text is None:
        sheet.differs(key, "absent", wanted.value)
        if world.installing:
            world.relies(sheet, f"a package brings {wanted.path}")
            sheet.will("change_setting", wanted.path, wanted.name, wanted.separator, wanted.value)
        else:
            sheet.cannot_mend(f"there is no {wanted.path}")
        return
    places = _places(text, wanted.name)
    found = places[-1][1] if places else "absent"
    if found != wanted.value:
        sheet.differs(key, found, wanted.value)
        sheet.will("change_setting", wanted.path, wanted.name, wanted.separator, wanted.value)


def change(step: Step, reader: Reader, writer: Writer) -> None:
    """In the place of the line that counts; at the end where there is none."""
    name, separator, value = (str(arg) for arg in step.args)
    found = reader.file(step.target)
    if found is None:
        raise NodeError(
            "settings.no_file",
            wanted=f"{name} set in {step.target}",
            found="there is no such file",
            why="whoever would read it is not installed, or reads another file",
            fix="install what brings the file, or skip this control on this host",
        )
    stat, text = found
    lines, places = list(lines_of(text)), _places(text, name)
    at = places[-1][0] if places else len(lines)
    lines[at : at + 1] = [f"{name}{separator}{value}"]
    writer.write(step.target, "\n".join(lines) + "\n", mode=stat.mode, uid=stat.uid, gid=stat.gid)
