# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units: their files, drop-ins and state, as the running manager sees them.

A restart that a change makes necessary is *owed* before the change is made (a marker in
/run) and paid at the end. A run killed in between leaves the marker, and the next run,
or check, knows. No clock is involved, and a reboot pays every debt by itself.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Completed, Reader, Unreadable, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import File, Sheet, Unit, Unknown, World

SYSTEMCTL = "/usr/bin/systemctl"
UNIT_DIRECTORY = "/etc/systemd/system"
OWED = "/run/nusy/owed"
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "DropInPaths",
    "NeedDaemonReload",
    "ConditionResult",
    "ConditionTimestampMonotonic",
)
# Directives that a later drop-in adds to and does not replace: systemd.unit(5), .exec(5), .service(5).
ADDITIVE = frozenset(
    (
        *("After", "Before", "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds", "Conflicts"),
        *("OnFailure", "OnSuccess", "Documentation", "Environment", "EnvironmentFile", "PassEnvironment"),
        *("UnsetEnvironment", "ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost"),
        *("ExecReload", "SupplementaryGroups", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths"),
        *("BindPaths", "BindReadOnlyPaths", "LoadCredential", "SetCredential", "WantedBy", "RequiredBy"),
        *("Alias", "Also"),
    )
)
VERBS = ("enable_unit", "disable_unit", "mask_unit", "unmask_unit", "start_unit", "stop_unit")
# A stop may take TimeoutStopSec (90 s) and a start TimeoutStartSec (90 s) by systemd's defaults.
CHANGE_SECONDS = 300.0
# systemd calls a simple service started before its program has run: time to fail in.
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class SeenUnit:
    load: str
    active: str
    file_state: str
    needs_reload: bool
    sub: str = ""
    refused: bool = False  # systemd was asked to start it and skipped it: a Condition…= does not hold here
    foreign: tuple[tuple[str, str], ...] = ()  # (drop-in that is not ours, directive of ours that it sets)

    @property
    def is_active(self) -> bool:
        """A service that dies and is restarted for ever spends its time "activating (auto-restart)"."""
        return self.active in ("active", "reloading", "activating") and not self.sub.startswith("auto-restart")


@dataclass(frozen=True)
class Seen:
    units: Mapping[str, SeenUnit]
    owed: frozenset[str]


def files_of(unit: Unit) -> list[File]:
    """The unit file and drop-ins that this declaration owns."""
    files = []
    if unit.content is not None:
        files.append(File(f"{UNIT_DIRECTORY}/{unit.name}", unit.content))
    files += [File(f"{UNIT_DIRECTORY}/{unit.name}.d/{name}.conf", text) for name, text in unit.dropins]
    return files


def is_template(name: str) -> bool:
    return "@." in name


def parse_show(text: str) -> list[dict[str, str]]:
    """Blocks of ``systemctl show``: Key=Value lines, one block a unit, blank lines between."""
    blocks: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if pairs:
            blocks.append(pairs)
    return blocks


def observe(reader: Reader, wanted: Sequence[Unit]) -> Seen | Unknown:
    if not wanted:
        return Seen({}, frozenset())
    every = dict.fromkeys(name for unit in wanted for name in (unit.name, *unit.alternatives))
    names = [name for name in every if not is_template(name)]
    # A template has files and no state; systemctl refuses to show one.
    units = {name: SeenUnit("", "", "", needs_reload=False) for name in every if is_template(name)}
    argv = [SYSTEMCTL, "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--", *names]
    blocks: list[dict[str, str]] = []
    if names:
        done = reader.run(argv, timeout=30)
        blocks = parse_show(done.out)
        if not done.ok or len(blocks) != len(names):
            return Unknown(f"systemd does not answer: {one_line(done.said(1))}")
    for name, block in zip(names, blocks, strict=True):
        declared = [unit for unit in wanted if unit.name == name]
        units[name] = SeenUnit(
            load=block.get("LoadState", ""),
            active=block.get("ActiveState", ""),
            file_state=block.get("UnitFileState", ""),
            needs_reload=block.get("NeedDaemonReload") == "yes",
            sub=block.get("SubState", ""),
            refused=block.get("ConditionResult") == "no" and block.get("ConditionTimestampMonotonic", "0") != "0",
            foreign=_overrides(reader, declared, block.get("DropInPaths", "").split()),
        )
    try:
        owed = frozenset(reader.listdir(OWED) or ())
    except Unreadable:
        owed = frozenset()
    return Seen(units, owed)


def directives(text: str) -> set[str]:
    """``Section/Directive`` names that a unit file sets."""
    found, section = set(), ""
    for line in (raw.strip() for raw in text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith(("#", ";")):
            found.add(f"{section}/{line.split('=', 1)[0].strip()}")
    return found


def _overrides(reader: Reader, declared: Sequence[Unit], dropins: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Drop-ins of somebody else that set, after ours, what ours set. systemd lists them in order."""
    ours = {file.path: file.content for unit in declared for file in files_of(unit)}
    if not ours:
        return ()
    set_so_far = {d for path, text in ours.items() if path not in dropins for d in directives(text)}
    found = []
    for path in dropins:
        if path in ours:
            set_so_far |= directives(ours[path])
            continue
        try:
            text = reader.read(path) or ""
        except Unreadable:
            continue
        found += [
            (path, directive)
            for directive in sorted(directives(text) & set_so_far)
            if directive.partition("/")[2] not in ADDITIVE
        ]
    return tuple(found)


def plan(unit: Unit, seen: Seen | Unknown, world: World, sheet: Sheet, *, files_change: bool) -> list[Step]:
    """Judge one unit. Returns the steps that wait for the end of the document (restarts)."""
    if isinstance(seen, Unknown):
        sheet.cannot_see(seen.reason)
        return []
    unit = replace(unit, name=_present(unit, seen))
    found = seen.units[unit.name]
    key = f"unit {unit.name}"
    for path, directive in found.foreign:
        sheet.differs(f"{key}: {directive}", f"overridden by {path}", "as declared", f"{path} overrides {directive}")
        if world.allows(sheet, path):
            sheet.will("move_aside", path)
            files_change = True
    there = found.load not in ("not-found", "") or unit.content is not None
    if not there and not world.installing and (unit.enabled or unit.active):
        world.relies(sheet, f"unit {unit.name} is brought by a package or another role")
    if files_change or found.needs_reload:
        sheet.will("reload_manager", "systemd")
    if found.needs_reload and not files_change:
        sheet.differs(f"{key}: files", "newer than what systemd has loaded", "loaded")
    if sheet.victims and found.load == "not-found":
        # The installation that would bring it is blocked: named as drift, and nothing to do yet.
        for name, value in (("enabled", unit.enabled), ("active", unit.active)):
            if value:
                sheet.differs(f"{key}: {name}", "absent", name)
        return []
    state = found.file_state or ("absent" if not there or found.load == "not-found" else "unknown")
    if unit.masked is not None and (state == "masked") != unit.masked:
        sheet.differs(f"{key}: masked", state == "masked", unit.masked)
        sheet.will("mask_unit" if unit.masked else "unmask_unit", unit.name)
    elif unit.masked is None and state == "masked" and (unit.enabled or unit.active):
        # Somebody masked it on purpose: nothing of it works until that is undone, by name.
        sheet.differs(f"{key}: masked", True, False, f"{unit.name} is masked")
        if not world.allows(sheet, unit.name):
            return []
        sheet.will("unmask_unit", unit.name)
    if unit.enabled is not None and not _as_wanted(state, enabled=unit.enabled):
        sheet.differs(f"{key}: enabled", state, "enabled" if unit.enabled else "disabled")
        sheet.will("enable_unit" if unit.enabled else "disable_unit", unit.name)
    stale = files_change or unit.name in seen.owed
    if unit.active and not found.is_active and found.refused and not stale:
        # A start "succeeds" and starts nothing: neither drift that can be mended nor fine.
        sheet.cannot_see(f"systemd skips {unit.name} on this machine: a condition of the unit does not hold")
    elif unit.active is not None and unit.active != found.is_active:
        sheet.differs(f"{key}: active", found.active or "inactive", "active" if unit.active else "inactive")
        if not unit.active:
            sheet.will("stop_unit", unit.name)
        elif not stale:
            sheet.will("start_unit", unit.name)
    elif unit.name in seen.owed and found.is_active and not files_change and unit.on_change != "none":
        sheet.differs(f"{key}: running", "with an older configuration", "with the one on disk")
    # Restart also where a start would do: installing the package may start it with its own configuration.
    if stale and unit.on_change != "none" and (unit.active or (unit.active is None and found.is_active)):
        return [Step(f"{unit.on_change if found.is_active else 'restart'}_unit", unit.name, (), sheet.control)]
    return []


def _present(unit: Unit, seen: Seen) -> str:
    """Of the alternatives the one that runs, else the one that is installed, else the first."""
    names = (unit.name, *unit.alternatives)
    running = (name for name in names if seen.units[name].is_active)
    installed = (name for name in names if seen.units[name].load == "loaded")
    return next(running, next(installed, unit.name))


def _as_wanted(state: str, *, enabled: bool) -> bool:
    """Static, alias and generated units have nothing to enable or disable; ``enabled-runtime`` ends at a boot."""
    if not enabled:
        return state not in ("enabled", "enabled-runtime", "linked", "linked-runtime")
    return state in ("enabled", "static", "alias", "generated", "indirect")


# --- doing --------------------------------------------------------------------------------


def change(step: Step, _reader: Reader, writer: Writer) -> None:
    """``<verb>_unit`` is systemctl's verb."""
    verb = step.action.removesuffix("_unit")
    _check(writer.run([SYSTEMCTL, verb, "--", step.target], timeout=CHANGE_SECONDS), step.target, writer)


def reload_manager(_step: Step, _reader: Reader, writer: Writer) -> None:
    _check(writer.run([SYSTEMCTL, "daemon-reload"], timeout=CHANGE_SECONDS), "", writer)


def owe(step: Step, reader: Reader, writer: Writer) -> None:
    for folder in (os.path.dirname(OWED), OWED):
        if reader.stat(folder) is None:
            writer.mkdir(folder, mode=0o755, uid=0, gid=0)
    writer.write(f"{OWED}/{step.target}", "", mode=0o644, uid=0, gid=0)


def pay(step: Step, reader: Reader, writer: Writer) -> None:
    change(step, reader, writer)
    writer.remove(f"{OWED}/{step.target}")


def survived(started: Sequence[str], writer: Writer) -> None:
    """After all starts: none of them died at once. Raises NodeError with the end of its log."""
    if not started:
        return
    time.sleep(SETTLE_SECONDS)
    done = writer.run([SYSTEMCTL, "show", "--no-pager", "--property=ActiveState,SubState", "--", *started], timeout=30)
    for name, block in zip(started, parse_show(done.out), strict=False):
        if block.get("ActiveState") == "failed" or block.get("SubState", "").startswith("auto-restart"):
            _fail(f"{name} to keep running", "it ended right after its start", name, writer)


def _check(done: Completed, unit: str, writer: Writer) -> None:
    if not done.ok:
        _fail(f"{' '.join(done.argv[1:])} to succeed", f"it {done.ending}: {one_line(done.said())}", unit, writer)


def _fail(wanted: str, found: str, unit: str, writer: Writer) -> NoReturn:
    log = (
        writer.run(["/usr/bin/journalctl", "--no-pager", "--quiet", "--lines=5", "--output=cat", f"--unit={unit}"])
        if unit
        else None
    )
    raise NodeError(
        "units.failed",
        wanted=wanted,
        found=found + (f"; its log ends: {one_line(log.out, 600)}" if log and log.out.strip() else ""),
        why="the service is not in the declared state",
        fix=f"look at: systemctl status {unit}; journalctl -u {unit}" if unit else "look at: systemctl status",
    )
