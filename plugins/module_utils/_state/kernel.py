# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel values, kernel modules and mounts: what is live wins, what is persisted must agree.

Each has two sides. The live one is judged in /proc and /sys; the persisted one is a line
in a file of the role (``90-nusy-<role>.conf``), planned as a fragment like any other file.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Unreadable, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    ControlSpec,
    Directory,
    File,
    KernelModule,
    Mount,
    Sheet,
    Sysctl,
    Unknown,
    World,
)

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
    mounts: Mapping[str, tuple[str, str, tuple[str, ...]]]  # mount point → source, type, options
    fstab: tuple[str, ...] | Unknown


def observe(reader: Reader, role: str, controls: Sequence[ControlSpec]) -> Seen:
    sysctls = [s for c in controls for s in c.sysctls]
    modules = any(c.kernel_modules for c in controls)
    mounts = any(c.mounts for c in controls)
    return Seen(
        sysctls={s.name: _live(reader, s.name) for s in sysctls},
        overrides=_overriding(reader, role, sysctls) if sysctls else {},
        modules=_modules(reader) if modules else frozenset(),
        mounts=parse_mountinfo(_text(reader, "/proc/self/mountinfo")) if mounts else {},
        fstab=_fstab(reader) if mounts else (),
    )


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


def _fstab(reader: Reader) -> tuple[str, ...] | Unknown:
    try:
        return tuple((reader.read("/etc/fstab") or "").splitlines())
    except Unreadable as error:
        return Unknown(str(error))


def parse_mountinfo(text: str) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """proc(5): fields up to " - ", then type, source and super options; blanks are octal escapes."""
    found = {}
    for line in text.splitlines():
        left, _dash, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) >= 6 and len(tail) >= 2:
            options = (*fields[5].split(","), *(tail[2].split(",") if len(tail) > 2 else ()))
            found[unescape(fields[4])] = (unescape(tail[1]), tail[0], options)
    return found


def unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def escape(text: str) -> str:
    return text.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


def plan_sysctl(wanted: Sysctl, seen: Seen, world: World, sheet: Sheet) -> None:
    live = seen.sysctls[wanted.name]
    key = f"sysctl {wanted.name}"
    if isinstance(live, Unknown):
        sheet.cannot_see(live.reason)
        return
    if live is None:
        sheet.cannot_see(f"this kernel has no {wanted.name}")
        return
    if live != normal(wanted.value):
        sheet.differs(f"{key}: live", live, normal(wanted.value))
        sheet.will("set_sysctl", wanted.name, normal(wanted.value))
    for path, value in seen.overrides.get(wanted.name, ()):
        sheet.differs(f"{key}: at boot", value, normal(wanted.value), f"{path} sets {wanted.name} = {value} after ours")
        if world.allows(sheet, path):
            sheet.will("comment_out", path, wanted.name)


def plan_module(wanted: KernelModule, seen: Seen, world: World, sheet: Sheet) -> None:
    key = f"kernel module {wanted.name}: live"
    if isinstance(seen.modules, Unknown):
        sheet.cannot_see(seen.modules.reason)
        return
    # The kernel lists modules with underscores, whatever the file is called.
    present = wanted.name.replace("-", "_") in seen.modules
    if wanted.loaded and not present:
        sheet.differs(key, "not loaded", "loaded")
        sheet.will("load_module", wanted.name)
    elif not wanted.loaded and present:
        sheet.differs(key, "loaded", "not loaded", "unloading a module can stop what uses it")
        if world.allows(sheet, wanted.name):
            sheet.will("unload_module", wanted.name)


def plan_mount(wanted: Mount, root: Directory | None, seen: Seen, world: World, sheet: Sheet) -> None:
    """``root``: what the document declares of the mount point, which then means the root of what is
    mounted there. Nobody can see that before it is mounted, so it is set right after.
    """
    key = f"mount {wanted.path}"
    live = seen.mounts.get(wanted.path)
    if isinstance(seen.fstab, Unknown):
        sheet.cannot_see(seen.fstab.reason)
        return
    line = fstab_line(wanted)
    lines = [entry for entry in seen.fstab if fstab_point(entry) == wanted.path]
    if [entry.split() for entry in lines] != [line.split()]:
        sheet.differs(f"{key}: fstab", "\n".join(lines) or "absent", line)
        sheet.will("write_fstab", wanted.path, line)
        sheet.will("reload_manager", "systemd")
    if live is None:
        sheet.differs(f"{key}: live", "not mounted", f"{wanted.source} ({wanted.fstype})")
        _will_mount(wanted, root, sheet)
    elif live[1] != wanted.fstype and wanted.fstype != "none":  # bound folders show the type they come from
        sheet.differs(f"{key}: live", f"{live[0]} ({live[1]})", f"{wanted.source} ({wanted.fstype})")
        if world.allows(sheet, wanted.path):
            sheet.will("unmount", wanted.path)
            _will_mount(wanted, root, sheet)
    else:
        missing = tuple(o for o in wanted.options if o in LIVE_FLAGS and o not in live[2])
        if missing:
            sheet.differs(f"{key}: live options", ",".join(live[2]), ",".join((*live[2], *missing)))
            sheet.will("remount", wanted.path, ",".join(wanted.options))
    world.directories.add(wanted.path)


def _will_mount(wanted: Mount, root: Directory | None, sheet: Sheet) -> None:
    sheet.will("mount", wanted.path)
    if root is not None:
        sheet.will("set_attributes", wanted.path, root.mode, root.owner, root.group)


# Options that the kernel shows as they were given; the others are consumed by mount(8) or systemd.
LIVE_FLAGS = frozenset({"ro", "noatime", "nodiratime", "nodev", "nosuid", "noexec", "sync", "dirsync"})


def fstab_line(mount: Mount) -> str:
    return f"{escape(mount.source)} {escape(mount.path)} {mount.fstype} {','.join(mount.options)} 0 0"


def fstab_point(line: str) -> str | None:
    fields = line.split()
    return unescape(fields[1]) if len(fields) >= 2 and not line.lstrip().startswith("#") else None


# --- doing --------------------------------------------------------------------------------


def set_sysctl(step: Step, _reader: Reader, writer: Writer) -> None:
    try:
        writer.set_kernel_value(sysctl_path(step.target), str(step.args[0]))
    except OSError as error:
        raise NodeError(
            "kernel.value_refused",
            wanted=f"{step.target} = {step.args[0]}",
            found=f"the kernel refused it: {error.strerror}",
            why="the value in the file would then differ from the one in force",
            fix="check the range of the value for this kernel; in a container most kernel values belong to the host",
        ) from error


def comment_out(step: Step, reader: Reader, writer: Writer) -> None:
    path = _resolved(reader, step.target)
    stat, text = reader.stat(path), reader.read(path)
    if stat is None or text is None:
        return
    name = str(step.args[0])
    lines = [f"# {line}" if dotted(name) in parse_sysctl(line) else line for line in text.splitlines()]
    writer.write(path, "\n".join(lines) + "\n", mode=stat.mode, uid=stat.uid, gid=stat.gid)


def _resolved(reader: Reader, path: str) -> str:
    """Where a link leads: Debian's /etc/sysctl.d/99-sysctl.conf is one, and it stays one."""
    for _hop in range(8):
        target = reader.readlink(path)
        if target is None:
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return path


def write_fstab(step: Step, reader: Reader, writer: Writer) -> None:
    """One line for one mount point; every other line of the file stays as it is, in its place."""
    stat, text = reader.stat("/etc/fstab"), reader.read("/etc/fstab") or ""
    lines = text.splitlines()
    at = [index for index, line in enumerate(lines) if fstab_point(line) == step.target]
    kept = [line for index, line in enumerate(lines) if index not in at]
    kept.insert(at[0] if at else len(kept), str(step.args[0]))
    writer.write("/etc/fstab", "\n".join(kept) + "\n", mode=stat.mode if stat else 0o644, uid=0, gid=0)


def load_module(step: Step, _reader: Reader, writer: Writer) -> None:
    _run(["/usr/sbin/modprobe", "--", step.target], writer, why="the role needs this module")


def unload_module(step: Step, _reader: Reader, writer: Writer) -> None:
    _run(["/usr/sbin/modprobe", "--remove", "--", step.target], writer, why="it stays loaded")


def mount(step: Step, _reader: Reader, writer: Writer) -> None:
    _run(["/usr/bin/mount", "--", step.target], writer, why="data would go to the disk below")


def unmount(step: Step, _reader: Reader, writer: Writer) -> None:
    _run(["/usr/bin/umount", "--", step.target], writer, why="the other file system stays")


def remount(step: Step, _reader: Reader, writer: Writer) -> None:
    argv = ["/usr/bin/mount", "-o", f"remount,{step.args[0]}", "--", step.target]
    _run(argv, writer, why="the options stay as they were")


def _run(argv: Sequence[str], writer: Writer, *, why: str) -> None:
    done = writer.run(argv, timeout=120)
    if not done.ok:
        raise NodeError(
            "kernel.tool_failed",
            wanted=f"{' '.join(argv)} to succeed",
            found=f"it {done.ending}: {one_line(done.said())}",
            why=why,
            fix="run that command by hand on the node and look at the end of the kernel log (journalctl -k)",
        )
