# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units: their files, drop-ins and state, as the running manager sees them.

A unit is restarted when this run changes one of its files, and when it is found to run with an
older one than is on disk, whoever changed that (``started`` knows).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, Value, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import hazards, started
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.dropins import overrides, settings
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    UNIT_DIRECTORY,
    File,
    Sheet,
    Unit,
    Unknown,
    World,
)

SYSTEMCTL = "/usr/bin/systemctl"
ANALYZE = "/usr/bin/systemd-analyze"
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "Type",
    "RemainAfterExit",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "InvocationID",
    "InactiveExitTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "StateChangeTimestampMonotonic",
)
VERBS = ("enable_unit", "disable_unit", "mask_unit", "unmask_unit", "stop_unit")
STARTS = ("start_unit", "restart_unit", "reload_unit")
# Podman's generator makes a service of each file in it whenever systemd reads its files: podman-systemd.unit(5).
QUADLETS = "/etc/containers/systemd/"
TRUE = frozenset(("1", "yes", "y", "true", "t", "on"))  # systemd.syntax(7)
FAILED_CONDITION = re.compile(r": ((?:Condition|Assert)\w+=.*) failed\.$", re.MULTILINE)


@dataclass(frozen=True)
class SeenUnit:
    load: str
    active: str
    file_state: str
    needs_reload: bool
    sub: str = ""
    refusal: str = ""  # why systemd would skip a start: the Condition…= that does not hold here
    invocation: str = ""
    since: float = 0.0  # when this instance began, in seconds since the epoch
    reloaded: float = 0.0  # at the latest; whatever the state was about
    foreign: tuple[tuple[str, str], ...] = ()  # (drop-in that is not ours, directive of ours that it undoes)
    unclear: tuple[Unknown, ...] = ()  # drop-ins of which that cannot be told
    kind: str = ""  # Type= of a service
    remains: str = ""  # RemainAfterExit= of a service
    in_the_way: str = ""  # what is in the place of the mask, where one is wanted

    @property
    def is_active(self) -> bool:
        """A service that dies and is restarted for ever spends its time "activating (auto-restart)"."""
        return self.active in ("active", "reloading", "activating") and not self.sub.startswith("auto-restart")

    @property
    def is_stopped(self) -> bool:
        """Such a service is neither: it will be back in a moment."""
        return self.active in ("", "inactive", "failed")


@dataclass(frozen=True)
class Seen:
    units: Mapping[str, SeenUnit]
    declared: tuple[Unit, ...] = ()
    started: started.Seen = field(default_factory=started.Seen)


def files_of(unit: Unit) -> list[File]:
    """The unit file and drop-ins that this declaration owns."""
    files = []
    if unit.content is not None:
        files.append(File(f"{UNIT_DIRECTORY}/{unit.name}", unit.content))
    files += [File(f"{UNIT_DIRECTORY}/{unit.name}.d/{name}.conf", text) for name, text in unit.dropins]
    return files


def is_template(name: str) -> bool:
    return "@." in name


def own_files(unit: Unit, declared: Sequence[Unit]) -> tuple[str, ...]:
    """Paths of the unit file and drop-ins; an instance has those of its template, too."""
    return tuple(file.path for file in _own(unit, declared))


def _own(unit: Unit, declared: Sequence[Unit]) -> list[File]:
    template = re.sub("@.*[.]", "@.", unit.name)
    sources = [unit, *(other for other in declared if other.name == template != unit.name)]
    return [file for source in sources for file in files_of(source)]


def parse_show(text: str) -> list[dict[str, str]]:
    """Blocks of ``systemctl show``: Key=Value lines, one block a unit, blank lines between."""
    blocks: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if pairs:
            blocks.append(pairs)
    return blocks


def observe(reader: Reader, role: str, wanted: Sequence[Unit]) -> Seen | Unknown:
    if not wanted:
        return Seen({})
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
    boot = started.boot_time()
    declared = {file.path: file.content for unit in wanted for file in files_of(unit)}
    for name, block in zip(names, blocks, strict=True):
        # Of a template, an alias or a prefix of its name, too: systemd says which files make this unit.
        dropins = block.get("DropInPaths", "").split()
        made_of = {block.get("FragmentPath", ""), *dropins}
        made_of |= {path for unit in wanted if unit.name == name for path in own_files(unit, wanted)}
        ours = {path: text for path, text in declared.items() if path in made_of}
        foreign, unclear = overrides(reader, ours, dropins)
        units[name] = replace(_seen(block, boot), foreign=foreign, unclear=unclear)
    for name in dict.fromkeys(name for unit in wanted if unit.active for name in (unit.name, *unit.alternatives)):
        if units[name].load == "loaded" and not units[name].is_active:
            units[name] = replace(units[name], refusal=_refusal(reader, name, units[name].refusal))
    for name in dict.fromkeys(name for unit in wanted if unit.masked for name in (unit.name, *unit.alternatives)):
        units[name] = replace(units[name], in_the_way=_in_the_way(reader, name))
    watched = [path for unit in wanted for path in (*own_files(unit, wanted), *unit.restart_on)]
    return Seen(units, tuple(wanted), started.observe(reader, role, watched))


def _seen(block: Mapping[str, str], boot: float) -> SeenUnit:
    def at(name: str) -> float:
        """Counted in µs since the boot."""
        return int(block.get(f"{name}TimestampMonotonic") or 0) / 1e6

    skipped = block.get("ConditionResult") == "no" and at("Condition") > 0
    return SeenUnit(
        load=block.get("LoadState", ""),
        active=block.get("ActiveState", ""),
        file_state=block.get("UnitFileState", ""),
        needs_reload=block.get("NeedDaemonReload") == "yes",
        sub=block.get("SubState", ""),
        refusal="a condition of the unit did not hold when it was last tried" if skipped else "",
        invocation=block.get("InvocationID", ""),
        # A service that systemd starts again by itself has not always been inactive in between.
        since=boot + (at("ExecMainStart") or at("InactiveExit")),
        reloaded=boot + at("StateChange"),
        kind=block.get("Type", ""),
        remains=block.get("RemainAfterExit", ""),
    )


def _in_the_way(reader: Reader, name: str) -> str:
    """systemctl makes a mask where there is nothing, and replaces neither a file nor another link."""
    path = f"{UNIT_DIRECTORY}/{name}"
    try:
        return path if reader.stat(path) is not None and reader.readlink(path) != "/dev/null" else ""
    except Unreadable:
        return ""


def _refusal(reader: Reader, name: str, remembered: str) -> str:
    """What keeps it from starting now. systemd itself only remembers its last attempt."""
    done = reader.run([ANALYZE, "condition", f"--unit={name}"], timeout=30)
    failed = FAILED_CONDITION.findall(done.err + done.out)
    if done.ok:
        return ""
    # Before systemd 250 it does not know --unit and says nothing of conditions.
    return f"{', '.join(failed)} failed" if failed else remembered


def plan(unit: Unit, seen: Seen | Unknown, world: World, sheet: Sheet, *, changing: Collection[str]) -> list[Step]:
    """Judge one unit. Returns the steps that wait for the end of the document (restarts).

    ``changing``: paths that the steps planned so far write, or take away.
    """
    if isinstance(seen, Unknown):
        sheet.cannot_see(seen.reason)
        return []
    name, before = _present(unit, seen), list(sheet.steps)
    ending = _judge(unit, seen, world, sheet, changing)
    hazard = hazards.of((*sheet.steps[len(before) :], *ending), running=seen.units[name].is_active)
    if hazard and not world.allows(sheet, "unit", name):
        sheet.reasons.append(hazard)
        sheet.steps = before
        return []
    return ending


def _judge(unit: Unit, seen: Seen, world: World, sheet: Sheet, changing: Collection[str]) -> list[Step]:
    own = own_files(unit, seen.declared)
    # Another control may declare the files of the same unit: one start, and it comes after them.
    every = [file for other in seen.declared if other.name == unit.name for file in _own(other, seen.declared)]
    read = [path for other in seen.declared if other.name == unit.name for path in other.restart_on]
    unit = replace(unit, name=_present(unit, seen))
    found = seen.units[unit.name]
    key = f"unit {unit.name}"
    quadlets = {path for path in unit.restart_on if path.startswith(QUADLETS)}
    redefined = not quadlets.union(file.path for file in every).isdisjoint(changing)
    for path, directive in found.foreign:
        sheet.differs(f"{key}: {directive}", f"overridden by {path}", "as declared", f"{path} overrides {directive}")
        if world.allows(sheet, "path", path):
            sheet.will("move_aside", path)
            redefined = True
    for doubt in found.unclear:
        sheet.cannot_see(doubt.reason)
    there = found.load not in ("not-found", "") or unit.content is not None or not quadlets.isdisjoint(changing)
    if not there and not world.installing and (unit.enabled or unit.active):
        world.relies(sheet, f"unit {unit.name} is brought by a package or another role")
    if redefined or found.needs_reload:
        sheet.will("reload_manager", "systemd")
    if found.needs_reload and not redefined:
        sheet.differs(f"{key}: files", "newer than what systemd has loaded", "loaded")
    if sheet.victims and found.load == "not-found":
        # The installation that would bring it is blocked: named as drift, and nothing to do yet.
        for name, value in (("enabled", unit.enabled), ("active", unit.active)):
            if value:
                sheet.differs(f"{key}: {name}", "absent", name)
        return []
    state = found.file_state or ("absent" if not there or found.load == "not-found" else "unknown")
    masked: Value = state == "masked" or ("until the next boot" if state == "masked-runtime" else False)
    if unit.masked and masked is not True and found.in_the_way:
        reason = f"{found.in_the_way} is in the place of the mask, which systemctl does not replace; move it away first"
        sheet.refuses(f"{key}: masked", masked, True, reason)
        return []
    if unit.masked is not None and masked != unit.masked:
        sheet.differs(f"{key}: masked", masked, unit.masked)
        sheet.will("mask_unit" if unit.masked else "unmask_unit", unit.name)
    elif masked and unit.masked is None and (unit.enabled or unit.active):
        # Somebody masked it on purpose: nothing of it works until that is undone, by name.
        sheet.differs(f"{key}: masked", masked, False, f"{unit.name} is masked")
        if not world.allows(sheet, "unit", unit.name):
            return []
        sheet.will("unmask_unit", unit.name)
    if unit.enabled is not None and not _as_wanted(state, enabled=unit.enabled):
        sheet.differs(f"{key}: enabled", state, "enabled" if unit.enabled else "disabled")
        sheet.will("enable_unit" if unit.enabled else "disable_unit", unit.name)
    if unit.active and not found.is_active and _ends(found, every if redefined else ()):
        sheet.differs(f"{key}: active", found.active or "inactive", "active")
        sheet.cannot_mend(f"{unit.name} is a oneshot service without RemainAfterExit=yes: it cannot stay active")
        return []
    if unit.active and not found.is_active and found.refusal and not redefined:
        # A start "succeeds" and starts nothing: neither drift that can be mended nor fine.
        sheet.cannot_see(f"systemd would not start {unit.name} on this machine: {found.refusal}")
        return []
    changed = redefined or not set(read).isdisjoint(changing)
    if (unit.active is True and not found.is_active) or (unit.active is False and not found.is_stopped):
        sheet.differs(f"{key}: active", found.active or "inactive", "active" if unit.active else "inactive")
        if not unit.active:
            sheet.will("stop_unit", unit.name)
        elif not changed or unit.on_change == "none":
            sheet.will("start_unit", unit.name)
    older, unclear = debts(unit, own, seen, changing)
    if older:
        sheet.differs(f"{key}: running", f"with an older {', '.join(older)}", "with the one on disk")
    # Restart also where a start would do: installing the package may start it with its own configuration.
    wanted = unit.active or (unit.active is None and found.is_active)
    if not wanted or unit.on_change == "none" or not (changed or older):
        for reason in unclear:
            sheet.cannot_see(reason)
        return []
    # A reload applies what the service reads, never what systemd reads of it.
    reload = unit.on_change == "reload" and found.is_active and not redefined and set(older).isdisjoint(own)
    return [Step("reload_unit" if reload else "restart_unit", unit.name, (), sheet.control)]


def _ends(found: SeenUnit, written: Sequence[File]) -> bool:
    """A service that is done when its command is. ``written``: its files, where systemd has yet to read them."""
    kind, remains = found.kind, found.remains
    for file in sorted(written, key=lambda file: file.path.endswith(".conf")):
        if not file.path.endswith(".conf"):
            kind, remains = "", ""
        values = {name: value for section, name, value in settings(file.content) if section == "Service"}
        kind, remains = values.get("Type", kind), values.get("RemainAfterExit", remains)
    return kind == "oneshot" and remains.lower() not in TRUE


def debts(
    unit: Unit, own: Sequence[str], seen: Seen, changing: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files that are newer on disk than in the running unit, but for those this run changes anyway;
    and why of others that cannot be told."""
    found, notes = seen.units[unit.name], seen.started.notes
    if not found.is_active or unit.active is False or unit.on_change == "none":
        return (), ()
    note = notes.units.get(unit.name)
    older, unclear = [], []
    for path in dict.fromkeys((*own, *unit.restart_on)):
        if path in changing:
            continue
        digest, changed, ours = seen.started.digests[path], seen.started.changed[path], path in own
        read = found.since if ours or unit.on_change == "restart" else max(found.since, found.reloaded)
        # What systemd has not loaded nobody runs with, however late it was started.
        surely = changed.surely >= read or (ours and found.needs_reload)
        maybe = surely or changed.maybe >= read
        if notes.hidden:
            if maybe:
                unclear.append(
                    f"{path} changed after {unit.name} was started, and {started.FOLDER}, "
                    f"which tells whether it runs with an older one, {notes.hidden}"
                )
        elif note is None:
            continue
        elif isinstance(digest, Unknown):
            unclear.append(f"cannot tell whether {unit.name} runs with an older one: {digest.reason}")
        elif note.files.get(path, digest) == digest:
            continue
        elif note.invocation == found.invocation or surely:
            older.append(path)
        elif maybe:
            unclear.append(
                f"cannot tell whether {unit.name} runs with an older {path}: since its start by somebody else the "
                "file or a folder on its way got another name, owner or mode; a restart by hand settles it"
            )
    return tuple(older), tuple(unclear)


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
