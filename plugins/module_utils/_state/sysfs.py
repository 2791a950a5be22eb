# SPDX-License-Identifier: GPL-3.0-or-later
"""Values below /sys: what is live wins, and a line of tmpfiles.d(5) sets it at every boot.

Some files show a choice, ``always [madvise] never``; it is written and compared as the chosen word.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer, names_of, text_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    ControlSpec,
    File,
    Sheet,
    SysValue,
    Unknown,
)

# tmpfiles.d(5): a file in /etc hides its namesakes; then all sort by name, and the first line for a path counts.
FOLDERS = ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d")
CHOSEN = re.compile(r"\[([^\]\s]+)\]")


@dataclass(frozen=True)
class Seen:
    values: Mapping[str, str | Unknown | None]
    earlier: Mapping[str, tuple[tuple[str, str], ...]]  # path → (file, value) of lines that count before ours


def file_of(role: str) -> str:
    return f"/etc/tmpfiles.d/90-nusy-{role}.conf"


def files_of(control: ControlSpec, role: str) -> list[File]:
    """What sets the control's values at boot, as part of the role's file."""
    if not control.sysfs:
        return []
    # A kernel that lacks one of them says so in the journal and boots on: "-".
    text = "".join(f"w- {value.path} - - - - {value.value}\n" for value in control.sysfs)
    return [File(file_of(role), text, fragment=True)]


def observe(reader: Reader, role: str, controls: Sequence[ControlSpec]) -> Seen:
    wanted = [value for control in controls for value in control.sysfs]
    return Seen({v.path: _live(reader, v.path) for v in wanted}, _earlier(reader, role, wanted) if wanted else {})


def _live(reader: Reader, path: str) -> str | Unknown | None:
    try:
        text = reader.read(path)
    except Unreadable as error:
        return Unknown(str(error))
    return None if text is None else chosen(text)


def chosen(text: str) -> str:
    found = CHOSEN.search(text)
    return found[1] if found else " ".join(text.split())


def writes(text: str) -> Iterator[tuple[str, str]]:
    """(path or pattern, value) of each line that writes."""
    for line in text.splitlines():
        fields = line.split(None, 6)
        if len(fields) == 7 and re.fullmatch(r"w[-!+=~^$]*", fields[0]):
            yield fields[1], fields[6].strip()


def _earlier(reader: Reader, role: str, wanted: Sequence[SysValue]) -> dict[str, tuple[tuple[str, str], ...]]:
    ours = os.path.basename(file_of(role))
    files: dict[str, str] = {}
    for folder in FOLDERS:
        for name in names_of(reader, folder):
            if name.endswith(".conf") and name < ours:
                files.setdefault(name, f"{folder}/{name}")
    found: dict[str, list[tuple[str, str]]] = {}
    for _name, path in sorted(files.items()):
        for pattern, set_to in writes(text_of(reader, path)):
            for value in wanted:
                if fnmatch.fnmatchcase(value.path, pattern) and set_to != value.value:
                    found.setdefault(value.path, []).append((path, set_to))
    return {path: tuple(hits) for path, hits in found.items()}


def plan(wanted: SysValue, seen: Seen, sheet: Sheet) -> None:
    live = seen.values[wanted.path]
    if isinstance(live, Unknown):
        sheet.cannot_see(live.reason)
        return
    if live is None:
        sheet.differs(f"{wanted.path}: live", "absent", wanted.value)
        sheet.cannot_mend(f"this kernel has no {wanted.path}")
    elif live != wanted.value:
        sheet.differs(f"{wanted.path}: live", live, wanted.value)
        sheet.will("set_sysfs", wanted.path, wanted.value)
    for path, value in seen.earlier.get(wanted.path, ()):
        reason = f"{path} sets {wanted.path} to {value} at boot, and counts before ours"
        sheet.differs(f"{wanted.path}: at boot", value, wanted.value, reason)
        sheet.cannot_mend(reason)


def set_value(step: Step, _reader: Reader, writer: Writer) -> None:
    try:
        writer.set_kernel_value(step.target, str(step.args[0]))
    except OSError as error:
        raise NodeError(
            "sysfs.value_refused",
            wanted=f"{step.target} = {step.args[0]}",
            found=f"the kernel refused it: {error.strerror}",
            why="the value that is set at boot would differ from the one in force",
            fix="check what this kernel takes there; in a container /sys belongs to the host",
        ) from error
