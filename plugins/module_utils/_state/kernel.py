# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel values and kernel modules: what is live wins, what is persisted must agree.

Each has two sides. The live one is judged in /proc and /sys; the persisted one is a line
in a file of the role (``90-nusy-<role>.conf``), planned as a fragment like any other file.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer, names_of, text_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    ControlSpec,
    File,
    KernelModule,
    Sheet,
    Sysctl,
    Unknown,
    World,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.wholes import lines_of

MODPROBE = "/usr/sbin/modprobe"
# sysctl.d(5): a file in /etc hides its namesake in /run and /usr; then all sort by name.
SYSCTL_FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")


def files_of(control: ControlSpec, role: str) -> list[File]:
    """The persisted side of a control's kernel values and modules, as file fragments."""
    files = []
    if control.sysctls:
        text = "".join(f"{s.name} = {s.value}\n" for s in control.sysctls)
        files.append(File(sysctl_file(role), text, fragment=True))
    loaded = [m.name for m in control.kernel_modules if m.loaded]
    if loaded:
        files.append(File(f"/etc/modules-load.d/90-nusy-{role}.conf", "".join(f"{n}\n" for n in loaded), fragment=True))
    barred = [m.name for m in control.kernel_modules if not m.loaded]
    if barred:
        # "blacklist" stops loading by alias only; "install … false" stops modprobe by name too.
        text = "".join(f"blacklist {n}\ninstall {n} /bin/false\n" for n in barred)
        files.append(File(f"/etc/modprobe.d/90-nusy-{role}.conf", text, fragment=True))
    return files


def sysctl_file(role: str) -> str:
    return f"/etc/sysctl.d/90-nusy-{role}.conf"


def sysctl_path(name: str) -> str:
    """``net.ipv4.conf.eth0/1.forwarding`` → /proc/sys/net/ipv4/conf/eth0.1/forwarding, as sysctl(8) does."""
    return "/proc/sys/" + dotted(name).translate(str.maketrans("./", "/."))


@dataclass(frozen=True)
class Seen:
    sysctls: Mapping[str, Mapping[str, str | Unknown | None]]  # name → what it means here → value
    overrides: Mapping[str, tuple[tuple[str, str, str], ...]]  # name → (file, name, value) that count instead of ours
    modules: frozenset[str] | Unknown
    lacking: Mapping[str, str]  # module that is wanted and cannot be loaded → why


def observe(reader: Reader, role: str, controls: Sequence[ControlSpec]) -> Seen:
    sysctls = [s for c in controls for s in c.sysctls]
    wanted = [m for c in controls for m in c.kernel_modules]
    modules = _modules(reader) if wanted else frozenset()
    missing = [] if isinstance(modules, Unknown) else [m.name for m in wanted if m.loaded and not _in(m.name, modules)]
    reasons = {name: _why_not(reader, name) for name in missing}
    return Seen(
        sysctls={s.name: _values(reader, s.name) for s in sysctls},
        overrides=_overriding(reader, role, sysctls) if sysctls else {},
        modules=modules,
        lacking={name: reason for name, reason in reasons.items() if reason},
    )


def _in(name: str, modules: frozenset[str]) -> bool:
    """The kernel lists modules with underscores, whatever the file is called."""
    return name.replace("-", "_") in modules


def _why_not(reader: Reader, name: str) -> str:
    """Why modprobe could not load it; empty if it could."""
    done = reader.run([MODPROBE, "--dry-run", "--", name])
    if done.ok:
        return ""
    if done.rc is None:
        return f"kernel module {name} cannot be loaded: {MODPROBE}: {done.problem}"
    return f"this kernel has no module {name}" if "not found" in done.err else one_line(done.said())


def _meant(reader: Reader, name: str) -> list[str]:
    """The values that a name means here: one with ``*`` those of every interface there is, "all" and "default" as well.

    Only the live side is looked up. In the file the pattern stands: systemd-sysctl knows it (sysctl.d(5)), and
    what comes later is as "default".
    """
    folder, star, key = dotted(name).partition(".*.")
    if not star:
        return [name]
    found = names_of(reader, sysctl_path(folder))
    return [f"{folder}.{one.replace('.', '/')}.{key}" for one in sorted(found)]


def _values(reader: Reader, name: str) -> dict[str, str | Unknown | None]:
    """Interfaces come and go while one looks. What is not there at all is told by the name that was declared."""
    found = {one: _live(reader, one) for one in _meant(reader, name)}
    return {one: value for one, value in found.items() if value is not None} or {name: None}


def _live(reader: Reader, name: str) -> str | Unknown | None:
    try:
        text = reader.read(sysctl_path(name))
    except Unreadable as error:
        return Unknown(str(error))
    return None if text is None else normal(text)


def normal(value: str) -> str:
    """The kernel separates fields with tabs; people write blanks."""
    return " ".join(value.split())


def parse_sysctl(text: str) -> dict[str, str]:
    found = {}
    for line in (raw.strip() for raw in text.splitlines()):
        if line and line[0] not in "#;" and "=" in line:
            name, value = line.split("=", 1)
            # A leading "-" means "ignore errors"; slashes may stand for dots.
            found[dotted(name.strip().lstrip("-").strip())] = normal(value)
    return found


def dotted(name: str) -> str:
    """One spelling for comparison: the separator that comes first is the separator."""
    first = next((c for c in name if c in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def _overriding(reader: Reader, role: str, wanted: Sequence[Sysctl]) -> dict[str, tuple[tuple[str, str, str], ...]]:
    """Of one name the last file counts; a name counts more than a pattern that it fits, wherever it stands."""
    chosen: dict[str, str] = {}
    for folder in SYSCTL_FOLDERS:
        for name in names_of(reader, folder):
            if name.endswith(".conf"):
                chosen.setdefault(name, f"{folder}/{name}")
    ours = os.path.basename(sysctl_file(role))
    patterns = {s.name: re.compile(re.escape(dotted(s.name)).replace(r"\*", "[^.*]+")) for s in wanted if "*" in s.name}
    found: dict[str, list[tuple[str, str, str]]] = {}
    for file in sorted(set(chosen) - {ours}):
        if file < ours and not patterns:
            continue
        for name, value in parse_sysctl(text_of(reader, chosen[file])).items():
            for sysctl in wanted:
                fits = sysctl.name in patterns and patterns[sysctl.name].fullmatch(name)
                if (fits or (file > ours and name == dotted(sysctl.name))) and value != normal(sysctl.value):
                    found.setdefault(sysctl.name, []).append((chosen[file], name, value))
    return {name: tuple(hits) for name, hits in found.items()}


def _modules(reader: Reader) -> frozenset[str] | Unknown:
    """Loaded and built-in modules; a kernel without module support has no /proc/modules."""
    try:
        loaded = reader.read("/proc/modules")
        present = reader.listdir("/sys/module") or ()
    except Unreadable as error:
        return Unknown(str(error))
    if loaded is None and not present:
        return Unknown("neither /proc/modules nor /sys/module is there")
    names = {line.split()[0] for line in (loaded or "").splitlines() if line.strip()}
    return frozenset(names | set(present))


def plan_sysctl(wanted: Sysctl, seen: Seen, world: World, sheet: Sheet) -> None:
    value, differs = normal(wanted.value), False
    for name, live in seen.sysctls[wanted.name].items():
        if isinstance(live, Unknown):
            sheet.cannot_see(live.reason)
        elif live is None and not world.loading:
            # No step: nothing that is declared could bring it.
            sheet.differs(f"sysctl {name}: live", "absent", value)
            sheet.cannot_mend(f"this kernel has no {name}")
        elif live != value:
            differs = True
            sheet.differs(f"sysctl {name}: live", "absent" if live is None else live, value)
            if live is None:
                world.relies(sheet, f"{name} comes with kernel module {' or '.join(world.loading)}")
    if differs:
        sheet.will("set_sysctl", wanted.name, value)
    for path, name, other in seen.overrides.get(wanted.name, ()):
        counts = "after ours" if name == dotted(wanted.name) else f"and a name counts more than our {wanted.name}"
        sheet.differs(f"sysctl {name}: at boot", other, value, f"{path} sets {name} = {other} {counts}")
        if world.allows(sheet, "path", path):
            sheet.will("comment_out", path, name)


def plan_module(wanted: KernelModule, seen: Seen, world: World, sheet: Sheet) -> None:
    key = f"kernel module {wanted.name}: live"
    if isinstance(seen.modules, Unknown):
        sheet.cannot_see(seen.modules.reason)
        return
    present = _in(wanted.name, seen.modules)
    if wanted.loaded and not present:
        why = seen.lacking.get(wanted.name, "")
        if why and not world.installing:
            sheet.differs(key, "not loaded", "loaded")
            sheet.cannot_mend(why)
            return
        sheet.differs(key, "not loaded", "loaded")
        if why:
            world.relies(sheet, f"a package brings kernel module {wanted.name}")
        sheet.will("load_module", wanted.name)
        world.loading.append(wanted.name)
    elif not wanted.loaded and present:
        sheet.differs(key, "loaded", "not loaded", "unloading a module can stop what uses it")
        if world.allows(sheet, "module", wanted.name):
            sheet.will("unload_module", wanted.name)


# --- doing --------------------------------------------------------------------------------


def set_sysctl(step: Step, reader: Reader, writer: Writer) -> None:
    value = str(step.args[0])
    for name in _meant(reader, step.target):
        if "*" in step.target and _live(reader, name) in (None, value):
            continue  # An interface that went meanwhile, or one that is as declared.
        _set(name, value, writer)


def _set(name: str, value: str, writer: Writer) -> None:
    try:
        writer.set_kernel_value(sysctl_path(name), value)
    except OSError as error:
        raise NodeError(
            "kernel.value_refused",
            wanted=f"{name} = {value}",
            found=f"this kernel has no {name}"
            if isinstance(error, FileNotFoundError)
            else f"the kernel refused it: {error.strerror}",
            why="the value in the file would then differ from the one in force",
            fix="check the range of the value for this kernel; in a container most kernel values belong to the host",
        ) from error


def comment_out(step: Step, reader: Reader, writer: Writer) -> None:
    """In place below /etc. What is elsewhere belongs to a package: a copy in /etc of the same name hides it."""
    path = _resolved(reader, step.target)
    stat, text = reader.stat(path), reader.read(path)
    if stat is None or text is None:
        return
    name = str(step.args[0])
    lines = [f"# {line}" if dotted(name) in parse_sysctl(line) else line for line in lines_of(text)]
    if path.startswith("/etc/"):
        writer.write(path, "\n".join(lines) + "\n", mode=stat.mode, uid=stat.uid, gid=stat.gid)
        return
    head = f"# A copy of {path}, which this file hides: see sysctl.d(5). Only {name} was taken out."
    own = f"{SYSCTL_FOLDERS[0]}/{os.path.basename(step.target)}"
    writer.write(own, "\n".join([head, *lines]) + "\n", mode=0o644, uid=0, gid=0)


def _resolved(reader: Reader, path: str) -> str:
    """Where a link leads: Debian's /etc/sysctl.d/99-sysctl.conf is one, and it stays one."""
    for _hop in range(8):
        target = reader.readlink(path)
        if target is None:
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return path


def load_module(step: Step, _reader: Reader, writer: Writer) -> None:
    run_tool([MODPROBE, "--", step.target], writer, why="the role needs this module")


def unload_module(step: Step, _reader: Reader, writer: Writer) -> None:
    run_tool([MODPROBE, "--remove", "--", step.target], writer, why="it stays loaded")


def run_tool(argv: Sequence[str], writer: Writer, *, why: str) -> None:
    done = writer.run(argv, timeout=120)
    if not done.ok:
        raise NodeError(
            "kernel.tool_failed",
            wanted=f"{' '.join(argv)} to succeed",
            found=f"it {done.ending}: {one_line(done.said())}",
            why=why,
            fix="run that command by hand on the node and look at the end of the kernel log (journalctl -k)",
        )
