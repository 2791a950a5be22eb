# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages and holds on dpkg systems.

Looking needs neither python3-apt nor root: dpkg is asked directly, and apt only simulates.
Nothing is removed or downgraded as a by-product: what an installation would take away (docker.io
for docker-ce, chrony for timesyncd) is found by the simulation and must be named first.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, Value, one_line, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Document,
    File,
    Package,
    Sheet,
    Unknown,
    World,
)

DPKG_QUERY = "/usr/bin/dpkg-query"
APT_GET = "/usr/bin/apt-get"
# Without these, a simulation by root rewrites apt's caches and its planner's log: a look would touch the node.
NO_TRACE = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Dir::Log::Planner=/dev/null")
# A name that apt does not have and that holds a dot is a regular expression to it: "l.bc" would install 34 packages.
LITERALLY = ("-o", "APT::Cmd::Pattern-Only=true")
# What apt says of names it does not have, the same in apt 2.4 to 3.0.
NOT_THERE = re.compile(
    r"^E: (?:Unable to locate package (\S+)|Version '(.+)' for '(.+)' was not found"
    r"|Package '(.+)' has no installation candidate)",
    re.MULTILINE,
)
VIRTUAL = re.compile(r"^Package (\S+) is a virtual package provided by:\n((?:  .*\n)+)", re.MULTILINE)
UNMET = re.compile(r"^The following packages have unmet dependencies:\n((?: .*\n)+)", re.MULTILINE)
DOWNGRADED = re.compile(r"^The following packages will be DOWNGRADED:\n((?:  .*\n)+)", re.MULTILINE)
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "APT_LISTCHANGES_FRONTEND": "none"}
FORMAT = r"${Package}\t${Architecture}\t${Version}\t${db:Status-Abbrev}\t${Provides}\n"


@dataclass(frozen=True)
class Installed:
    """``broken``: its unpacking was interrupted, which only unpacking it again mends."""

    version: str
    held: bool
    configured: bool
    broken: bool = False


@dataclass(frozen=True)
class Seen:
    """What dpkg knows, and what apt would do about the missing ones, by control.

    provided: virtual name → a package that provides it. lists: apt has package lists.
    """

    installed: Mapping[str, Installed]
    provided: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    lists: bool = True
    simulations: Mapping[str, Simulation] = field(default_factory=dict)
    removals: Mapping[str, Simulation] = field(default_factory=dict)


@dataclass(frozen=True)
class Simulation:
    """``apt-get --simulate``: the packages that would go or get older, and why it cannot work (yet)."""

    removes: tuple[str, ...] = ()
    downgrades: tuple[str, ...] = ()
    problem: str = ""


def parse_dpkg(text: str) -> tuple[dict[str, Installed], dict[str, str]]:
    """Installed packages by name and by name:arch, and the virtual names they provide.

    A name without architecture means the node's own one, as it does to apt: dpkg's package tells which.
    """
    rows = [fields for fields in (line.split("\t") for line in text.splitlines()) if len(fields) == 5]
    own = ("all", *(architecture for name, architecture, *_rest in rows if name == "dpkg"))
    installed: dict[str, Installed] = {}
    provided: dict[str, str] = {}
    for name, architecture, version, status, provides in rows:
        # Status-Abbrev is "<want><status><error>": "ii ", "hi ", "iU ", "rc ". Third letter R: reinstall required.
        if len(status) < 2 or status[1] in "nc":
            continue
        broken = status[1] == "H" or status.endswith("R")
        found = Installed(version, held=status[0] == "h", configured=status[1] in "iWt" and not broken, broken=broken)
        if architecture in own or len(own) == 1:
            installed.setdefault(name, found)
        installed[f"{name}:{architecture}"] = found
        if found.configured:
            provided.update((entry.split("(")[0].strip(), name) for entry in provides.split(",") if entry.strip())
    return installed, provided


def as_shipped(reader: Reader, contents: Mapping[str, str]) -> frozenset[str]:
    """Which of these files are conffiles that are still as their package brought them: path → text."""
    if not contents:
        return frozenset()
    listing = reader.run([DPKG_QUERY, "--show", "--showformat=${Conffiles}\\n"], timeout=30)
    shipped = dict(words[:2] for words in (line.split() for line in listing.out.splitlines()) if len(words) > 1)
    return frozenset(path for path, text in contents.items() if shipped.get(path) == _md5(text))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def parse_simulation(done: Completed) -> Simulation:
    removes = tuple(re.findall(r"^(?:Remv|Purg) (\S+)", done.out, re.MULTILINE))
    downgrades = tuple(name for names in DOWNGRADED.findall(done.out) for name in names.split())
    return Simulation(removes, downgrades, "" if done.ok else explain(done))


def explain(done: Completed) -> str:
    """Why apt cannot, in one line: its own words are about six, and the last ones say least."""
    if done.rc is None:  # what it had printed by then is no reason
        return f"{done.argv[0]} {done.ending}"
    said = f"{done.err}\n{done.out}"
    virtual = {name: re.findall(r"^  (\S+)", text, re.MULTILINE) for name, text in VIRTUAL.findall(said)}
    reasons = []
    for located, version, of, candidate in NOT_THERE.findall(said):
        name = located or candidate or f"{of}={version}"
        offers = f"{name} is a virtual name; declare what provides it: {', '.join(virtual.get(name, ()))}"
        reasons.append(offers if name in virtual else f"no repository has {name}")
    reasons += [line.strip() for text in UNMET.findall(said) for line in text.splitlines()]
    return one_line("; ".join(reasons)) or one_line(done.said(2))


def look(reader: Reader) -> Seen | Unknown:
    """What dpkg knows; nothing is asked of apt."""
    listing = reader.run([DPKG_QUERY, "--show", f"--showformat={FORMAT}"], timeout=30)
    if not listing.ok:
        if listing.problem == os.strerror(errno.ENOENT):
            return Unknown(f"unsupported platform: packages are looked up with {DPKG_QUERY}, which is not here")
        return Unknown(f"{DPKG_QUERY} {listing.ending}: {one_line(listing.said())}")
    installed, provided = parse_dpkg(listing.out)
    try:
        interrupted = bool(reader.listdir("/var/lib/dpkg/updates"))
    except Unreadable as error:
        return Unknown(str(error))
    interrupted = interrupted or any(not found.configured for found in installed.values())
    return Seen(installed, provided, interrupted)


def observe(
    reader: Reader, wanted: Mapping[str, Sequence[Package]], together: Mapping[str, str], *, recommends: bool
) -> Seen | Unknown:
    """``wanted`` by control. together: control → the transaction that its packages are part of."""
    if not any(wanted.values()):
        return Seen({})
    seen = look(reader)
    if isinstance(seen, Unknown):
        return seen
    asked = {
        control: [package for package in packages if package.present and not serving(package, seen)]
        for control, packages in wanted.items()
    }
    simulations = _simulations(reader, asked, together, seen, recommends)
    try:
        lists = any("_Packages" in name for name in reader.listdir("/var/lib/apt/lists") or ())
    except Unreadable:
        lists = True
    gone = (p.name for packages in wanted.values() for p in packages if not p.present and find(p.name, seen))
    return replace(
        seen, simulations=simulations, removals={name: simulate_removal(reader, name) for name in gone}, lists=lists
    )


def _simulations(
    reader: Reader,
    asked: Mapping[str, Sequence[Package]],
    together: Mapping[str, str],
    seen: Seen,
    recommends: bool,
) -> dict[str, Simulation]:
    """What apt would do about the packages of each control. A transaction is asked about as a whole: only where that
    meets something each control is asked about alone, to know whose it is.
    """
    found: dict[str, Simulation] = {}
    for transaction in unique(together[control] for control, packages in asked.items() if packages):
        shares = {c: packages for c, packages in asked.items() if packages and together[c] == transaction}
        whole = unique(spec(package) for packages in shares.values() for package in packages)
        if len(shares) > 1 and simulate(reader, whole, options(recommends, False)) == Simulation():
            found |= dict.fromkeys(shares, Simulation())
            continue
        for control, packages in shares.items():
            again = any(_broken(package, seen) for package in packages)
            found[control] = simulate(reader, [spec(package) for package in packages], options(recommends, again))
    return found


def simulate(reader: Reader, asked: Sequence[str], given: Sequence[str]) -> Simulation:
    argv = [APT_GET, "--simulate", "--yes", *LITERALLY, *NO_TRACE, *given, "install", "--", *asked]
    return parse_simulation(reader.run(argv, timeout=60, env=ENVIRONMENT))


def simulate_removal(reader: Reader, name: str) -> Simulation:
    argv = [APT_GET, "--simulate", "--yes", *LITERALLY, *NO_TRACE, "remove", "--", name]
    return parse_simulation(reader.run(argv, timeout=60, env=ENVIRONMENT))


def options(recommends: bool, again: bool) -> tuple[str, ...]:
    return (
        "--allow-downgrades",
        "--allow-change-held-packages",
        *(() if recommends else ("--no-install-recommends",)),
        *(("--reinstall",) if again else ()),
    )


def transactions(document: Document, files: Mapping[str, Sequence[File]]) -> dict[str, str]:
    """Control → the first control of the transaction that its packages are part of. Those of the next one join where
    there is nothing to be done between the two. ``files``: of each control, with those that its other resources need.
    """
    found: dict[str, str] = {}
    first = ""
    for control in document.selected:
        found[control.id] = first = first or control.id
        alone = replace(control, packages=(), inputs="").asks_nothing and not files[control.id]
        kept = any(package.hold or not package.present for package in control.packages)
        if not document.packages_first and (kept or not alone):
            first = ""
    return found


def joined(steps: Iterable[Step], together: Mapping[str, str]) -> list[Step]:
    """Installations of one transaction that follow each other, as one step: first all names, and behind them the share
    of each control. Where dpkg was interrupted none does: each has its repair before it.
    """
    found: list[Step] = []
    for step in steps:
        last = found[-1] if found else None
        if (
            last is not None
            and last.action == step.action == "install_packages"
            and together[last.control] == together[step.control]
        ):
            shares = (*(last.args[2:] or last.args[:1]), step.names())
            names = unique((*last.names(), *step.names()))
            found[-1] = replace(last, target=" ".join(names), args=(names, False, *shares))
        else:
            found.append(step)
    return found


def spec(package: Package) -> str:
    return package.name if package.version is None else f"{package.name}={package.version}"


def find(name: str, seen: Seen) -> Installed | None:
    """By name or name:arch. What is for all architectures serves each of them."""
    return seen.installed.get(name) or seen.installed.get(f"{name.partition(':')[0]}:all")


def serving(package: Package, seen: Seen) -> str:
    """The installed package that does: itself, an alternative, or one that provides it. Empty: none."""
    for name in (package.name, *package.alternatives):
        version = package.version if name == package.name else None
        found = find(name, seen)
        if found is not None and found.configured and version in (None, found.version):
            return name
        if found is None and version is None and name in seen.provided:
            return seen.provided[name]
    return ""


def _broken(package: Package, seen: Seen) -> bool:
    found = find(package.name, seen)
    return found is not None and found.broken


def plan(wanted: Sequence[Package], seen: Seen | Unknown, world: World, sheet: Sheet) -> None:
    if isinstance(seen, Unknown):
        if wanted:
            sheet.cannot_see(seen.reason)
        return
    missing: list[Package] = []
    holds: list[str] = []
    for package in wanted:
        found = find(package.name, seen)
        before: Value = "absent" if found is None else found.version if found.configured else "half-installed"
        if not package.present:
            if found is not None:
                sheet.differs(f"package {package.name}", before, "absent")
                _plan_removal(package.name, seen, world, sheet)
            continue
        name = serving(package, seen)
        if not name:
            name = package.name
            sheet.differs(f"package {name}", before, package.version or "installed")
            missing.append(package)
            if found is not None and found.held and not package.hold:
                sheet.reasons.append(f"somebody holds {name} at {found.version}")
                world.allows(sheet, "package", name)
        held = find(name, seen)
        if held is not None and held.held:
            # Installing another version of a held package drops its hold.
            holds += [name] if package in missing else []
        elif package.hold:
            sheet.differs(f"package {name}: hold", False, True)
            holds.append(name)
    if missing:
        _plan_install(missing, seen, world, sheet)
    if holds and not (missing and sheet.victims):
        sheet.will("hold_packages", " ".join(holds), tuple(holds))


def _plan_removal(name: str, seen: Seen, world: World, sheet: Sheet) -> None:
    allowed = world.allows(sheet, "package", name)
    for victim in seen.removals.get(name, Simulation()).removes:
        if victim != name:
            sheet.differs(f"package {victim}", "installed", "absent", f"removing {name} would remove {victim} too")
            allowed = world.allows(sheet, "package", victim) and allowed
    if allowed:
        sheet.will("remove_packages", name)


def _plan_install(missing: Sequence[Package], seen: Seen, world: World, sheet: Sheet) -> None:
    simulation = seen.simulations.get(sheet.control, Simulation())
    for victim in simulation.removes:
        sheet.differs(f"package {victim}", "installed", "absent", f"installing would remove {victim}")
        world.allows(sheet, "package", victim)
    for victim in simulation.downgrades:
        if victim in (package.name for package in missing):
            sheet.reasons.append(f"{victim} would be downgraded")
        else:
            sheet.differs(f"package {victim}", "installed", "older", f"installing would downgrade {victim}")
        world.allows(sheet, "package", victim)
    if sheet.victims:
        return
    if seen.interrupted:
        names = {package.name for package in missing}
        # Foreign ones by their full name, which every package has here.
        broken = [n for n, p in seen.installed.items() if p.broken and ":" in n and n.partition(":")[0] not in names]
        sheet.will("repair_dpkg", "dpkg", tuple(broken), any(p.broken for p in seen.installed.values()))
    if simulation.problem:
        unseen = "this role changes the sources" if world.sources_change else "" if seen.lists else "there are none yet"
        sheet.reasons.append(
            f"cannot be predicted before the package lists are refreshed: {unseen}"
            if unseen
            else f"{simulation.problem}; a run refreshes the package lists first, and fails if that does not help"
        )
    if (simulation.problem or world.sources_change) and not world.lists_fresh:
        sheet.will("refresh_lists", "package lists")
        world.lists_fresh = True
    specs = tuple(spec(package) for package in missing)
    sheet.will("install_packages", " ".join(specs), specs, any(_broken(package, seen) for package in missing))
    world.installing = True
