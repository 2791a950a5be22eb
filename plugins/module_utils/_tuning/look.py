# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the boot loader, systemd's manager, drivers and desktop is there. Nothing here needs root.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, names_of, text_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.kernels import gate, next_kernel, running_kernel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.model import (
    DROPIN,
    MANAGER_FILE,
    MEMLOCK_LIMIT,
    REPLACED_BY,
    ROLE,
    WATCHDOG_TIME,
    Boot,
    Found,
    Tuning,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Row

SYSTEMCTL = "/usr/bin/systemctl"
BUSCTL = "/usr/bin/busctl"
MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
PROPERTIES = ("DefaultLimitMEMLOCK", "RuntimeWatchdogUSec")
GRUB = "/etc/default/grub"
MENU = "/boot/grub/grub.cfg"
UPDATE_GRUB = "/usr/sbin/update-grub"
MODPROBE_FOLDERS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d")
SYSTEM_CONF_FOLDERS = (
    *("/etc/systemd/system.conf.d", "/run/systemd/system.conf.d"),
    *("/usr/local/lib/systemd/system.conf.d", "/usr/lib/systemd/system.conf.d"),
)
THP = "/sys/kernel/mm/transparent_hugepage"
# The parameter of NVIDIA's kernels, else what every kernel with the driver shows for each policy.
CPPC = "/sys/module/cppc_cpufreq/parameters/auto_sel_mode"
POLICIES = "/sys/devices/system/cpu/cpufreq"
NET = "/sys/class/net"
# A bond of VLANs of ports is three deep.
DEPTH = 4


def found(wanted: Tuning, reader: Reader) -> Found:
    return Found(
        boot=boot(reader, wanted.matrix),
        barred=_barred(reader),
        route=_route(reader),
        present=frozenset(name for name in REPLACED_BY.values() if reader.stat(f"/sys/module/{name}")),
        manager=_manager(reader) if wanted.memlock or wanted.watchdog_seconds else {},
        later=_later(reader),
        desktop=_desktop(reader) if wanted.headless else "",
        target=_target(reader) if wanted.headless else "",
        cppc=_cppc(reader),
        thp=reader.stat(THP) is not None,
        watchdogs={
            name: text(reader, f"/sys/class/watchdog/{name}/identity")
            for name in names_of(reader, "/sys/class/watchdog")
        },
    )


def text(reader: Reader, path: str) -> str:
    return text_of(reader, path).strip()


def boot(reader: Reader, rows: Sequence[Row] = ()) -> Boot:
    kernels = [text(reader, "/proc/sys/kernel/osrelease")]
    kernels += [name.partition("-")[2] for name in names_of(reader, "/boot") if name.startswith("vmlinuz-")]
    menu, problem = _menu(reader)
    size = text(reader, "/sys/kernel/kexec_crash_size")
    return Boot(
        running=tuple(text(reader, "/proc/cmdline").split()),
        kernels=tuple(kernels),
        menu=menu,
        ours=parse.dropin(text(reader, DROPIN)) if reader.stat(DROPIN) else None,
        others=frozenset(word for path in _other_settings(reader) for word in parse.dropin(text(reader, path))),
        stale=_stale(reader),
        crash_bytes=int(size) if size.isdigit() else 0,
        unified=reader.stat("/sys/fs/cgroup/cgroup.controllers") is not None,
        problem=problem,
        gate=_gate(reader, kernels[0], rows),
    )


def _gate(reader: Reader, release: str, rows: Sequence[Row]) -> str:
    found = gate(running_kernel(reader, release), next_kernel(reader), rows)
    if isinstance(found, Unknown):
        return f"nobody can tell what the next boot would lack: {found.reason}"
    return f"the next boot would lack {', '.join(found)}" if found else ""


def _menu(reader: Reader) -> tuple[tuple[tuple[str, ...], ...], str]:
    try:
        content = reader.read(MENU)
        if content is None or reader.stat(UPDATE_GRUB) is None:
            return (), "this node does not boot by GRUB as Debian and Ubuntu set it up"
    except Unreadable as error:
        return (), str(error)
    lines = parse.menu(content)
    return lines, "" if lines else f"{MENU} boots no kernel"


def _other_settings(reader: Reader) -> list[str]:
    folder = os.path.dirname(DROPIN)
    return [GRUB, *(path for path in (f"{folder}/{name}" for name in names_of(reader, folder)) if path != DROPIN)]


def _stale(reader: Reader) -> bool:
    """A file came, changed or went since the menu was made. One that is replaced changes its folder."""
    made = reader.stat(MENU)
    sources = [reader.stat(path) for path in (GRUB, os.path.dirname(DROPIN))]
    return made is not None and any(source is not None and source.written > made.written for source in sources)


def _barred(reader: Reader) -> dict[str, str]:
    barred: dict[str, str] = {}
    for folder in MODPROBE_FOLDERS:
        for name in names_of(reader, folder):
            if name.endswith(".conf") and name != f"90-nusy-{ROLE}.conf":
                for module in parse.barring(text(reader, f"{folder}/{name}")):
                    barred.setdefault(module, f"{folder}/{name}")
    return barred


def _route(reader: Reader) -> dict[str, str]:
    carrying = {}
    for interface in _default_interfaces(reader):
        for port in _ports(reader, interface, DEPTH):
            module = _link(reader, f"{NET}/{port}/device/driver/module")
            if module:
                carrying[os.path.basename(module).replace("-", "_")] = interface
    return carrying


def _default_interfaces(reader: Reader) -> Iterator[str]:
    for line in text(reader, "/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            yield fields[0]
    for line in text(reader, "/proc/net/ipv6_route").splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            yield fields[9]


def _ports(reader: Reader, interface: str, depth: int) -> Iterator[str]:
    """The interface, and those that a bond, bridge or VLAN is made of."""
    yield interface
    lower = [name for name in names_of(reader, f"{NET}/{interface}") if name.startswith("lower_")] if depth else []
    for name in lower:
        yield from _ports(reader, name.partition("_")[2], depth - 1)


def _link(reader: Reader, path: str) -> str:
    try:
        return reader.readlink(path) or ""
    except Unreadable:
        return ""


def _manager(reader: Reader) -> Mapping[str, str] | Unknown:
    """By systemd's own bus, where numbers are numbers: ``systemctl show`` says 1min."""
    done = reader.run([BUSCTL, "get-property", *MANAGER, *PROPERTIES])
    values = [line.split()[-1] for line in done.out.splitlines() if line.strip()]
    if not done.ok or len(values) != len(PROPERTIES):
        return Unknown(f"systemd does not answer {BUSCTL}: {one_line(done.said()) or done.problem}")
    return {name: values[number] for number, name in enumerate(PROPERTIES)}


def _later(reader: Reader) -> dict[str, tuple[str, ...]]:
    """A file of the same name in /etc hides those of the other folders."""
    paths: dict[str, str] = {}
    for folder in SYSTEM_CONF_FOLDERS:
        for name in names_of(reader, folder):
            if name.endswith(".conf") and name > MANAGER_FILE.format("\uffff"):
                paths.setdefault(name, f"{folder}/{name}")
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(paths):
        for setting in (MEMLOCK_LIMIT, WATCHDOG_TIME):
            if re.search(rf"(?m)^\s*{setting}\s*=", text(reader, paths[name])):
                found[setting] = (*found.get(setting, ()), paths[name])
    return found


def _desktop(reader: Reader) -> str:
    done = reader.run([SYSTEMCTL, "show", "--property=Id,ActiveState", "display-manager.service"])
    fields = dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)
    return fields.get("Id", "") if fields.get("ActiveState") in ("active", "activating", "reloading") else ""


def _target(reader: Reader) -> str | Unknown:
    done = reader.run([SYSTEMCTL, "get-default"])
    return done.out.strip() if done.ok else Unknown(f"systemctl get-default: {one_line(done.said()) or done.problem}")


def _cppc(reader: Reader) -> dict[str, str]:
    if reader.stat(CPPC):
        return {CPPC: text(reader, CPPC)}
    places = [f"{POLICIES}/{name}/auto_select" for name in names_of(reader, POLICIES) if name.startswith("policy")]
    return {place: text(reader, place) for place in places if reader.stat(place)}
