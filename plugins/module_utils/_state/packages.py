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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, Value, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Package,
    Sheet,
    Unknown,
    World,
    confirms,
)

DPKG_QUERY = "/usr/bin/dpkg-query"
APT_GET = "/usr/bin/apt-get"
# Without these, a simulation by root rewrites apt's caches and its planner's log: a look would touch the node.
NO_TRACE = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Dir::Log::Planner=/dev/null")
# A name that apt does not have and that holds a dot is a regular expression to it: "l.bc" would install 34 packages.
LITERALLY = ("-o", "APT::Cmd::Pattern-Only=true")
# 600 s: unattended-upgrades and the DGX Dashboard hold the lock for minutes at boot.
LOCK_SECONDS = 600
LOCK_POLL_SECONDS = 3.0
# What apt says of names it does not have, the same in apt 2.4 to 3.0.
NOT_THERE = re.compile(
    r"^E: (?:Unable to locate package (\S+)|Version '(.+)' for '(.+)' was not found"
    r"|Package '(.+)' has no installation candidate)",
    re.MULTILINE,
)
VIRTUAL = re.compile(r"^Package (\S+) is a virtual package provided by:\n((?:  .*\n)+)", re.MULTILINE)
UNMET = re.compile(r"^The following packages have unmet dependencies:\n((?: .*\n)+)", re.MULTILINE)
DOWNGRADED = re.compile(r"^The following packages will be DOWNGRADED:\n((?:  .*\n)+)", re.MULTILINE)
# dpkg, apt-mark and "apt-get update" give up at once where "apt-get install" can wait.
LOCKED = re.compile(r"lock (?:was|is) locked by|Could not get lock")
INSTALL_SECONDS = 3600.0
# Wait for the lock; the administrator's version of a configuration file stays.
PATIENTLY = (
    *("-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}"),
    *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
)
CAREFULLY = (*LITERALLY, *PATIENTLY)
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


def observe(reader: Reader, wanted: Mapping[str, Sequence[Package]], *, recommends: bool) -> Seen | Unknown:
    """``wanted`` by control: what apt would do is asked for each, since each is installed alone."""
    if not any(wanted.values()):
        return Seen({})
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
    seen = Seen(installed, provided, interrupted)
    simulations = {}
    for control, packages in wanted.items():
        asked = [package for package in packages if package.present and not serving(package, seen)]
        if asked:
            again = any(_broken(package, seen) for package in asked)
            simulations[control] = simulate(reader, [spec(p) for p in asked], options(recommends, again))
    try:
        lists = any("_Packages" in name for name in reader.listdir("/var/lib/apt/lists") or ())
    except Unreadable:
        lists = True
    gone = (p.name for packages in wanted.values() for p in packages if not p.present and find(p.name, seen))
    return replace(seen, simulations=simulations, removals={name: _removal(reader, name) for name in gone}, lists=lists)


def simulate(reader: Reader, asked: Sequence[str], given: Sequence[str]) -> Simulation:
    argv = [APT_GET, "--simulate", "--yes", *LITERALLY, *NO_TRACE, *given, "install", "--", *asked]
    return parse_simulation(reader.run(argv, timeout=60, env=ENVIRONMENT))


def _removal(reader: Reader, name: str) -> Simulation:
    argv = [APT_GET, "--simulate", "--yes", *LITERALLY, *NO_TRACE, "remove", "--", name]
    return parse_simulation(reader.run(argv, timeout=60, env=ENVIRONMENT))


def options(recommends: bool, again: bool) -> tuple[str, ...]:
    return (
        "--allow-downgrades",
        "--allow-change-held-packages",
        *(() if recommends else ("--no-install-recommends",)),
        *(("--reinstall",) if again else ()),
    )


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


# --- doing: the distribution's own tools, each repeatable ---------------------------------


def repair_dpkg(step: Step, _reader: Reader, writer: Writer) -> None:
    """dpkg refuses to configure what has to be unpacked again, so that comes after it."""
    again, some_broken = step.names(), bool(step.args[1])
    argv = ["/usr/bin/dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
    done = _in_turn(argv, writer, timeout=INSTALL_SECONDS)
    if not some_broken:
        _check(done, "finish what an interrupted dpkg left")
    if again:
        argv = [APT_GET, "--yes", "--quiet", "--reinstall", *CAREFULLY, "install", "--", *again]
        _check(writer.run(argv, timeout=INSTALL_SECONDS, env=ENVIRONMENT), f"unpack {' '.join(again)} again")


def refresh_lists(_step: Step, _reader: Reader, writer: Writer) -> None:
    _check(_in_turn([APT_GET, "update"], writer, timeout=900.0), "refresh the package lists")


def install_packages(
    step: Step, reader: Reader, writer: Writer, *, recommends: bool, confirmed: frozenset[str]
) -> None:
    """Install, after looking again: fresh lists may have changed what would be removed."""
    names, given = step.names(), options(recommends, bool(step.args[1]))
    _nothing_unnamed(simulate(reader, names, given), f"install {' '.join(names)}", confirmed)
    argv = [APT_GET, "--yes", "--quiet", *given, *CAREFULLY, "install", "--", *names]
    _check(writer.run(argv, timeout=INSTALL_SECONDS, env=ENVIRONMENT), f"install {' '.join(names)}")


def _nothing_unnamed(again: Simulation, doing: str, confirmed: frozenset[str]) -> None:
    """What cannot be foreseen is not done: an empty answer of a failed simulation is no answer."""
    if again.problem:
        raise NodeError(
            "packages.failed",
            wanted=f"To {doing}",
            found=f"apt cannot, with the package lists as they are now: {again.problem}",
            why="later steps rely on these packages, so nothing after this was tried",
            fix="correct the name or version in the declaration, or add the repository that has it to /etc/apt",
        )
    unnamed = [name for name in (*again.removes, *again.downgrades) if not confirms(confirmed, "package", name)]
    if unnamed:
        raise NodeError(
            "packages.would_remove",
            wanted=f"To {doing}, removing or downgrading nothing that is not named",
            found=f"apt would also remove or downgrade {' '.join(unnamed)}",
            why="a package that somebody relies on could vanish as a by-product",
            fix=f"name {', '.join(unnamed)} in the role's confirm variable, or declare other packages",
        )


def remove_packages(step: Step, reader: Reader, writer: Writer, *, confirmed: frozenset[str]) -> None:
    """The packages that need it would go too: they are victims of their own."""
    _nothing_unnamed(_removal(reader, step.target), f"remove {step.target}", confirmed)
    argv = [APT_GET, "--yes", "--quiet", *CAREFULLY, "remove", "--", step.target]
    _check(writer.run(argv, timeout=INSTALL_SECONDS, env=ENVIRONMENT), f"remove {step.target}")


def hold_packages(step: Step, _reader: Reader, writer: Writer) -> None:
    names = step.names()
    _check(_in_turn(["/usr/bin/apt-mark", "hold", "--", *names], writer, timeout=60.0), f"hold {' '.join(names)}")


def _in_turn(argv: Sequence[str], writer: Writer, *, timeout: float) -> Completed:
    """Run ``argv`` when whoever holds the lock is done: the timer of apt, or the run before this
    one, whose apt-get goes on after its controller was killed.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        done = writer.run(argv, timeout=timeout, env=ENVIRONMENT)
        if done.ok or not LOCKED.search(done.err) or time.monotonic() > deadline:
            return done
        time.sleep(LOCK_POLL_SECONDS)


def _check(done: Completed, doing: str) -> None:
    if done.ok:
        return
    raise NodeError(
        "packages.failed",
        wanted=f"To {doing}",
        found=f"{' '.join(done.argv)} {done.ending}: {one_line(done.said(5), 600)}",
        why="later steps rely on these packages, so nothing after this was tried",
        fix="run that command by hand on the node; if a name is unknown, check the sources in /etc/apt",
    )
