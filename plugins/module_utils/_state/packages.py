# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages and holds on dpkg systems.

Looking needs neither python3-apt nor root: dpkg is asked directly, and apt only simulates.
Nothing is removed as a by-product: what an installation would take away (docker.io for
docker-ce, chrony for timesyncd) is found by the simulation and must be named first.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, Value, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Completed, Reader, Unreadable, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Package, Sheet, Unknown, World

DPKG_QUERY = "/usr/bin/dpkg-query"
APT_GET = "/usr/bin/apt-get"
# Without these, a simulation by root rewrites apt's caches and its planner's log: a look would touch the node.
NO_TRACE = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Dir::Log::Planner=/dev/null")
# 600 s: unattended-upgrades and the DGX Dashboard hold the lock for minutes at boot.
LOCK_SECONDS = 600
LOCK_POLL_SECONDS = 3.0
# dpkg, apt-mark and "apt-get update" give up at once where "apt-get install" can wait.
LOCKED = re.compile(r"lock (?:was|is) locked by|Could not get lock")
INSTALL_SECONDS = 3600.0
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "APT_LISTCHANGES_FRONTEND": "none"}
FORMAT = r"${Package}\t${Architecture}\t${Version}\t${db:Status-Abbrev}\t${Provides}\n"


@dataclass(frozen=True)
class Installed:
    version: str
    held: bool
    configured: bool


@dataclass(frozen=True)
class Seen:
    """What dpkg knows, and what apt would do about the missing ones, by control."""

    installed: Mapping[str, Installed]
    provided: frozenset[str] = frozenset()
    interrupted: bool = False
    simulations: Mapping[str, Simulation] = field(default_factory=dict)


@dataclass(frozen=True)
class Simulation:
    """``apt-get --simulate``: the packages that would go, and why it cannot work (yet)."""

    removes: tuple[str, ...] = ()
    problem: str = ""


def parse_dpkg(text: str) -> tuple[dict[str, Installed], frozenset[str]]:
    """Installed packages by name and by name:arch, and the virtual names they provide."""
    installed: dict[str, Installed] = {}
    provided: set[str] = set()
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) != 5:
            continue
        name, architecture, version, status, provides = fields
        # Status-Abbrev is "<want><status><error>": "ii ", "hi ", "iU ", "rc ". Third letter R: reinstall required.
        if len(status) < 2 or status[1] in "nc":
            continue
        found = Installed(version, held=status[0] == "h", configured=status[1] in "iWt" and not status.endswith("R"))
        installed.setdefault(name, found)
        installed[f"{name}:{architecture}"] = found
        if found.configured:
            provided.update(entry.split("(")[0].strip() for entry in provides.split(",") if entry.strip())
    return installed, frozenset(provided)


def parse_simulation(done: Completed) -> Simulation:
    removes = tuple(re.findall(r"^(?:Remv|Purg) (\S+)", done.out, re.MULTILINE))
    return Simulation(removes, "" if done.ok else one_line(done.said(2)))


def observe(reader: Reader, wanted: Mapping[str, Sequence[Package]], *, recommends: bool) -> Seen | Unknown:
    """``wanted`` by control: what apt would do is asked for each, since each is installed alone."""
    if not any(wanted.values()):
        return Seen({})
    listing = reader.run([DPKG_QUERY, "--show", f"--showformat={FORMAT}"], timeout=30)
    if not listing.ok:
        if listing.rc is None:
            return Unknown(f"unsupported platform: packages are looked up with dpkg ({listing.problem})")
        return Unknown(f"dpkg-query: {one_line(listing.said())}")
    installed, provided = parse_dpkg(listing.out)
    try:
        interrupted = bool(reader.listdir("/var/lib/dpkg/updates"))
    except Unreadable as error:
        return Unknown(str(error))
    interrupted = interrupted or any(not found.configured for found in installed.values())
    seen = Seen(installed, provided, interrupted)
    simulations = {}
    for control, packages in wanted.items():
        asked = [spec(package) for package in packages if package.present and not satisfied(package, seen)]
        if asked:
            simulations[control] = simulate(reader, asked, recommends=recommends)
    return replace(seen, simulations=simulations)


def simulate(reader: Reader, asked: Sequence[str], *, recommends: bool) -> Simulation:
    argv = [APT_GET, "--simulate", "--yes", *NO_TRACE, *options(recommends), "install", "--", *asked]
    return parse_simulation(reader.run(argv, timeout=60, env=ENVIRONMENT))


def options(recommends: bool) -> tuple[str, ...]:
    return ("--allow-downgrades", "--allow-change-held-packages") + (() if recommends else ("--no-install-recommends",))


def spec(package: Package) -> str:
    return package.name if package.version is None else f"{package.name}={package.version}"


def satisfied(package: Package, seen: Seen) -> bool:
    if any(satisfied(Package(name), seen) for name in package.alternatives):
        return True
    found = seen.installed.get(package.name)
    if found is None:
        return package.version is None and package.name in seen.provided
    return found.configured and package.version in (None, found.version)


def plan(wanted: Sequence[Package], seen: Seen | Unknown, world: World, sheet: Sheet) -> None:
    if isinstance(seen, Unknown):
        if wanted:
            sheet.cannot_see(seen.reason)
        return
    missing: list[Package] = []
    for package in wanted:
        found = seen.installed.get(package.name)
        before: Value = "absent" if found is None else found.version if found.configured else "half-installed"
        if not package.present:
            if found is not None:
                sheet.differs(f"package {package.name}", before, "absent")
                if world.allows(sheet, package.name):
                    sheet.will("remove_packages", package.name)
            continue
        if not satisfied(package, seen):
            sheet.differs(f"package {package.name}", before, package.version or "installed")
            missing.append(package)
            if found is not None and found.held and not package.hold:
                sheet.reasons.append(f"somebody holds {package.name} at {found.version}")
                world.allows(sheet, package.name)
        if package.hold and not (found is not None and found.held):
            sheet.differs(f"package {package.name}: hold", False, True)
    if missing:
        _plan_install(missing, seen, world, sheet)
    # Installing another version of a held package drops its hold.
    held = [p.name for p in wanted if (p in missing if _is_held(p, seen) else p.hold)]
    if held and not (missing and sheet.victims):
        sheet.will("hold_packages", " ".join(held), tuple(held))


def _is_held(package: Package, seen: Seen) -> bool:
    found = seen.installed.get(package.name)
    return found is not None and found.held


def _plan_install(missing: Sequence[Package], seen: Seen, world: World, sheet: Sheet) -> None:
    simulation = seen.simulations.get(sheet.control, Simulation())
    for victim in simulation.removes:
        sheet.differs(f"package {victim}", "installed", "absent", f"installing would remove {victim}")
        world.allows(sheet, victim)
    if sheet.victims:
        return
    if seen.interrupted:
        sheet.will("repair_dpkg", "dpkg")
    if simulation.problem and not world.sources_change:
        sheet.reasons.append(f"not in the package lists as they are now, apply refreshes them: {simulation.problem}")
    if (simulation.problem or world.sources_change) and not world.lists_fresh:
        sheet.will("refresh_lists", "package lists")
        world.lists_fresh = True
    names = tuple(spec(package) for package in missing)
    sheet.will("install_packages", " ".join(names), names)
    world.installing = True


# --- doing: the distribution's own tools, each repeatable ---------------------------------


def repair_dpkg(_step: Step, _reader: Reader, writer: Writer) -> None:
    argv = ["/usr/bin/dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
    _check(_in_turn(argv, writer, timeout=INSTALL_SECONDS), "finish what an interrupted dpkg left")


def refresh_lists(_step: Step, _reader: Reader, writer: Writer) -> None:
    _check(_in_turn([APT_GET, "update"], writer, timeout=900.0), "refresh the package lists")


def install_packages(
    step: Step, reader: Reader, writer: Writer, *, recommends: bool, confirmed: frozenset[str]
) -> None:
    """Install, after looking again: fresh lists may have changed what would be removed."""
    names = step.names()
    _nothing_unnamed(simulate(reader, names, recommends=recommends), f"install {' '.join(names)}", confirmed)
    argv = [
        APT_GET, "--yes", "--quiet", *options(recommends),
        "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}",
        "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
        "install", "--", *names,
    ]  # fmt: skip
    _check(writer.run(argv, timeout=INSTALL_SECONDS, env=ENVIRONMENT), f"install {' '.join(names)}")


def _nothing_unnamed(again: Simulation, doing: str, confirmed: frozenset[str]) -> None:
    """What cannot be foreseen is not done: an empty answer of a failed simulation is no answer."""
    unnamed = [victim for victim in again.removes if victim not in confirmed]
    if unnamed or again.problem:
        raise NodeError(
            "packages.would_remove" if unnamed else "packages.failed",
            wanted=f"To {doing}, removing nothing that is not named",
            found=f"apt would also remove {' '.join(unnamed)}"
            if unnamed
            else f"apt cannot foresee it: {again.problem}",
            why="a package that somebody relies on could vanish as a by-product",
            fix=f"name {', '.join(unnamed)} in the role's confirm variable, or declare other packages"
            if unnamed
            else "run apt-get --simulate for it on the node; if a name is unknown, check the sources in /etc/apt",
        )


def remove_packages(step: Step, reader: Reader, writer: Writer, *, confirmed: frozenset[str]) -> None:
    """The packages that need it would go too: they are victims of their own."""
    argv = [APT_GET, "--simulate", "--yes", *NO_TRACE, "remove", "--", step.target]
    again = parse_simulation(reader.run(argv, timeout=60, env=ENVIRONMENT))
    _nothing_unnamed(again, f"remove {step.target}", confirmed)
    argv = [APT_GET, "--yes", "--quiet", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}", "remove", "--", step.target]
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
