# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controls of one document say of one thing, and that they do not contradict each other.

Two that do would undo each other's work for ever, or break half-way: found here, before anything
is looked at.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import kernel, sysfs, units
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    UNIT_DIRECTORY,
    ControlSpec,
    File,
    Package,
    Unit,
)

# What a second declaration cannot repeat, even word for word: each would make it.
ONCE = ""


def files_of(control: ControlSpec, role: str) -> list[File]:
    """All files a control owns: declared ones, unit files and the persisted kernel values."""
    kernels = (*kernel.files_of(control, role), *sysfs.files_of(control, role))
    return [*control.files, *kernels, *(f for u in control.units for f in units.files_of(u))]


def check(controls: Iterable[ControlSpec], role: str) -> None:
    """Raises InputError, naming both controls, where two of them say different things of one."""
    made: dict[str, tuple[str, str]] = {}
    for control in controls:
        for thing, says in _claims(control, role):
            claim = (control.id, says)
            earlier = made.setdefault(thing, claim)
            if earlier is claim or (says == earlier[1] != ONCE):
                continue
            raise InputError(
                "state.declared_twice",
                wanted=f"{thing} declared once" + ("" if says == ONCE else ", or the same each time"),
                found=" and ".join(
                    f"{by} declares it" + (f" ({said})" if said else "") for by, said in (earlier, claim)
                ),
                why="the two would undo each other on every run, or break it half-way",
                fix=f"drop {thing} from one of them, or make them agree",
            )


def _claims(control: ControlSpec, role: str) -> Iterator[tuple[str, str]]:
    """The table: each thing that the control declares, by kind and name, and what it says of it."""
    owned = files_of(control, role)
    for package in control.packages:
        yield from _of_package(package)
    yield from ((f"group {group.name}", ONCE) for group in control.groups)
    yield from ((f"user {user.name}", ONCE) for user in control.users)
    yield from ((f"path {d.path}", "a directory") for d in control.directories)
    yield from ((f"directory {d.path}", f"{d.owner}:{d.group} {d.mode:04o}") for d in control.directories)
    yield from ((f"path {file.path}", "a file" if file.present else "absent") for file in owned)
    yield from ((f"file {file.path}", _share(file)) for file in owned)
    yield from ((f"path {link.path}", f"a link to {link.target}") for link in control.links)
    yield from ((f"path {s.path}", "a file") for s in control.settings)
    yield from (
        (f"file {path}", "lines among those of others") for path in dict.fromkeys(s.path for s in control.settings)
    )
    yield from ((f"setting {s.name} in {s.path}", s.value) for s in control.settings)
    yield from ((f"probe {probe.name}", ONCE) for probe in control.probes)
    yield from ((f"kernel module {m.name.replace('-', '_')}", _yes(m.loaded)) for m in control.kernel_modules)
    yield from ((f"kernel value {kernel.dotted(s.name)}", kernel.normal(s.value)) for s in control.sysctls)
    yield from ((f"value {value.path}", value.value) for value in control.sysfs)
    yield from ((f"path {mount.path}", "a directory") for mount in control.mounts)
    yield from ((f"mount {mount.path}", ONCE) for mount in control.mounts)
    for unit in control.units:
        yield from _of_unit(unit)


def _of_package(package: Package) -> Iterator[tuple[str, str]]:
    """What would do must not be what has to go. Any version, and then another one, would be installed in turn."""
    for name in (package.name, *package.alternatives):
        yield f"package {name}", "present" if package.present else "absent"
    if package.present:
        yield f"version of package {package.name}", package.version or "any"


def _of_unit(unit: Unit) -> Iterator[tuple[str, str]]:
    """Several controls may each declare some of its state; what is not declared says nothing."""
    if unit.masked:
        # The mask is a link in the place of its file, and what is masked neither runs nor starts at a boot.
        yield f"path {UNIT_DIRECTORY}/{unit.name}", "a mask"
    for name, value in (("enabled", unit.enabled), ("active", unit.active), ("masked", unit.masked)):
        if value is not None or (unit.masked and name != "masked"):
            yield f"unit {unit.name}: {name}", _yes(bool(value))


def _share(file: File) -> str:
    """Parts of one file go together if they agree on everything around their lines."""
    if not file.fragment:
        return ONCE
    reader = f", validated by {' '.join(file.validate)}" if file.validate else ""
    return f"part of a file, {file.owner}:{file.group} {file.mode:04o}{reader}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
