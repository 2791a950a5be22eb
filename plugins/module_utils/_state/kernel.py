# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel values and kernel modules: what is live wins, what is persisted must agree.

Each has two sides. The live one is judged in /proc and /sys; the persisted one is a line
in a file of the role (``90-nusy-<role>.conf``), planned as a fragment like any other file.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.files import lines_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    ControlSpec,
    File,
    KernelModule,
    Sheet,
    Sysctl,
    Unknown,
    World,
)

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
    sysctls: Mapping[str, str | Unknown | None]
    overrides: Mapping[str, tuple[tuple[str, str], ...]]  # name → (file, value) that come after ours
    modules: frozenset[str] | Unknown
    lacking: Mapping[str, str]  # module that is wanted and cannot be loaded → why


def observe(reader: Reader, role: str, controls: Sequence[ControlSpec]) -> Seen:
    sysctls = [s for c in controls for s in c.sysctls]
    wanted = [m for c in controls for m in c.kernel_modules]
    modules = _modules(reader) if wanted else frozenset()
    missing = [] if isinstance(modules, Unknown) else [m.name for m in wanted if m.loaded and not _in(m.name, modules)]
    reasons = {name: _why_not(reader, name) for name in missing}
    return Seen(
        sysctls={s.name: _live(reader, s.name) for s in sysctls},
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


def _text(reader: Reader, path: str) -> str:
    try:
        return reader.read(path) or ""
    except Unreadable:
        return ""


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


def _overriding(reader: Reader, role: str, wanted: Sequence[Sysctl]) -> dict[str, tuple[tuple[str, str], ...]]:
    chosen: dict[str, str] = {}
    for folder in SYSCTL_FOLDERS:
        try:
            names = reader.listdir(folder) or ()
        except Unreadable:
            continue
        for name in names:
            if name.endswith(".conf"):
                chosen.setdefault(name, f"{folder}/{name}")
    ours = os.path.basename(sysctl_file(role))
    later = [chosen[name] for name in sorted(chosen) if name > ours]
    found: dict[str, list[tuple[str, str]]] = {}
    for path in later:
        values = parse_sysctl(_text(reader, path))
        for sysctl in wanted:
            value = values.get(dotted(sysctl.name))
            if value is not None and value != normal(sysctl.value):
                found.setdefault(sysctl.name, []).append((path, value))
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
    live = seen.sysctls[wanted.name]
    key = f"sysctl {wanted.name}"
    if isinstance(live, Unknown):
        sheet.cannot_see(live.reason)
        return
    if live is None and world.loading:
        sheet.differs(f"{key}: live", "absent", normal(wanted.value))
        sheet.will("set_sysctl", wanted.name, normal(wanted.value))
        world.relies(sheet, f"{wanted.name} comes with kernel module {' or '.join(world.loading)}")
    elif live is None:
        # No step: nothing that is declared could bring it.
        sheet.differs(f"{key}: live", "absent", normal(wanted.value))
        sheet.cannot_mend(f"this kernel has no {wanted.name}")
    elif live != normal(wanted.value):
        sheet.differs(f"{key}: live", live, normal(wanted.value))
        sheet.will("set_sysctl", wanted.name, normal(wanted.value))
    for path, value in seen.overrides.get(wanted.name, ()):
        sheet.differs(f"{key}: at boot", value, normal(wanted.value), f"{path} sets {wanted.name} = {value} after ours")
        if world.allows(sheet, "path", path):
            sheet.will("comment_out", path, wanted.name)


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


def set_sysctl(step: Step, _reader: Reader, writer: Writer) -> None:
    try:
        writer.set_kernel_value(sysctl_path(step.target), str(step.args[0]))
    except OSError as error:
        raise NodeError(
            "kernel.value_refused",
            wanted=f"{step.target} = {step.args[0]}",
            found=f"this kernel has no {step.target}"
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
