# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt would upgrade, asked of apt itself without touching anything, and the upgrade.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import upstream
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import installing, packages
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown, confirms
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Row, named

# Ubuntu hands an update to some machines first, chosen by their machine-id. A kernel and its modules are two such
# updates: a node that gets one of the two boots without its GPU. With this every node gets the same set.
TOGETHER = ("-o", "APT::Get::Always-Include-Phased-Updates=true")
# With --yes apt does not even simulate the first without the second.
WITHOUT_HOLDS = ("--ignore-hold", "--allow-change-held-packages")
# NVIDIA's update path (apt dist-upgrade): plain "upgrade" leaves a kernel back whose modules are new packages.
COMMAND = "dist-upgrade"
# Flashing a ConnectX-7 from a package's installation script has bricked cards: such a package is named, or held.
FLASHES = ("mlnx-fw-updater",)
# The package that brings what the version matrix judges, and its subject there. A kernel's release is in its name.
BRINGS = (
    (re.compile(r"linux-image-(?:unsigned-)?(?P<release>[0-9].*)"), "kernel"),
    (re.compile(r"libnvidia-compute-[0-9]+(?:-server)?"), "driver"),
    (re.compile(r"nvidia-container-toolkit-base"), "container_toolkit"),
    (re.compile(r"libnccl2"), "nccl"),
)
# "Inst name [old] (new Origin:version/suite, … [arch]) …"; without [old] it is new on this node.
INSTALLS = re.compile(r"^Inst (\S+) (?:\[([^\]]*)\] )?\((\S+) ([^\[)]*)", re.MULTILINE)
KEPT_BACK = re.compile(r"^The following packages have been kept back:\n((?:  .*\n)+)", re.MULTILINE)
LISTS = "/var/lib/apt/lists"
# update-notifier leaves the first after a refresh that brought something, and so does a run of this role. The second
# changes when a list comes. In partial below it apt works at every refresh, also one at which no server answered, and
# such a refresh ends with 0: neither says anything.
SUCCESS = "/var/lib/apt/periodic/update-success-stamp"
STAMPS = (SUCCESS, LISTS)
# A clock that was ahead has dated lists that would look fresh for years. Clocks that are kept differ by less.
CLOCK_SECONDS = 300.0


@dataclass(frozen=True)
class Upgrade:
    """One package. ``before`` empty: new on this node."""

    name: str
    before: str
    after: str
    security: bool


@dataclass(frozen=True)
class Pending:
    """refreshed: when the package lists were (seconds since the epoch); 0: never, or nobody knows.

    removes: packages that the upgrade would take away or make older. bad: package → why the version that it would
    bring is known to be bad. kept: left as they are, by a hold or for want of what they need. held: those that a hold
    alone keeps, as they would be without it. problem: why apt cannot tell.
    """

    upgrades: tuple[Upgrade, ...] = ()
    removes: tuple[str, ...] = ()
    bad: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    held: tuple[Upgrade, ...] = ()
    refreshed: float = 0.0
    problem: str = ""

    @property
    def victims(self) -> tuple[str, ...]:
        return unique((*self.removes, *(u.name for u in self.upgrades if u.name in FLASHES), *self.bad))


def parse(done: Completed, rows: Sequence[Row] = ()) -> Pending:
    simulated = packages.parse_simulation(done)
    upgrades = tuple(
        Upgrade(name, before, after, "security" in origin.lower())
        for name, before, after, origin in INSTALLS.findall(done.out)
    )
    kept = tuple(name for names in KEPT_BACK.findall(done.out) for name in names.split())
    removes = (*simulated.removes, *simulated.downgrades)
    return Pending(upgrades, removes, dict(_known_bad(upgrades, rows)), kept, problem=simulated.problem)


def _known_bad(upgrades: Sequence[Upgrade], rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for one in upgrades:
        for pattern, subject in BRINGS:
            found = pattern.fullmatch(one.name)
            if found:
                version = found.groupdict().get("release") or upstream(one.after)
                for row in judge.bad_anywhere(rows, subject, version):
                    yield one.name, f"{named(subject)} {version} is known to be bad: {row.why}; {row.remedy}"


def simulate(reader: Reader, rows: Sequence[Row], *more: str) -> Pending:
    argv = [packages.APT_GET, "--simulate", "--yes", *packages.NO_TRACE, *TOGETHER, *more, COMMAND]
    # Some hundreds of packages, on a machine that is busy.
    return parse(reader.run(argv, timeout=120, env=packages.ENVIRONMENT), rows)


def _held(found: Pending, reader: Reader) -> tuple[Upgrade, ...]:
    """What is kept back has no origin in apt's answer; without the holds it has."""
    free = simulate(reader, (), *WITHOUT_HOLDS).upgrades if found.kept else ()
    return tuple(one for one in free if one.name in found.kept)


def observe(reader: Reader, rows: Sequence[Row]) -> Pending | Unknown:
    try:
        if reader.stat(packages.APT_GET) is None:
            return Unknown(f"unsupported platform: updates are looked up with {packages.APT_GET}, which is not here")
        if not any("_Packages" in name for name in reader.listdir(LISTS) or ()):
            return Pending()
        stamps = [reader.stat(path) for path in STAMPS]
    except Unreadable as error:
        return Unknown(str(error))
    found = simulate(reader, rows)
    latest = time.time() + CLOCK_SECONDS
    written = [stamp.written for stamp in stamps if stamp and stamp.written <= latest]
    return replace(found, held=_held(found, reader), refreshed=max(written, default=0.0))


def refresh(step: Step, reader: Reader, writer: Writer) -> None:
    """All lists or none that count: of a kernel and its modules one could come from a source that did not answer."""
    installing.refresh_lists(step, reader, writer, whole=True)
    writer.run(["/usr/bin/touch", SUCCESS])


def upgrade(step: Step, reader: Reader, writer: Writer, *, confirmed: Sequence[str], rows: Sequence[Row]) -> None:
    """All that is pending, after looking again: fresh lists may have changed what would be removed."""
    again = simulate(reader, rows)
    unnamed = [name for name in again.victims if not confirms(confirmed, "package", name)]
    if again.problem or unnamed:
        raise NodeError(
            "updates.not_as_foreseen",
            wanted=f"the packages of {step.target} upgraded, losing none that is not named",
            found=again.problem
            or f"as the lists are now, apt would remove, flash or make known-bad {' '.join(unnamed)}",
            why="a driver or kernel that vanishes as a by-product is noticed at the next boot; nothing was upgraded",
            fix=f"name {', '.join(unnamed)} in updates_confirm, or hold what draws it in"
            if unnamed
            else "mend what apt says, then run the play again",
        )
    argv = [packages.APT_GET, "--yes", "--quiet", *TOGETHER, *installing.PATIENTLY, COMMAND]
    done = writer.run(argv, timeout=installing.INSTALL_SECONDS, env=packages.ENVIRONMENT)
    if not done.ok:
        raise NodeError(
            "updates.failed",
            wanted=f"the packages of {step.target} upgraded",
            found=f"{' '.join(argv)} {done.ending}: {one_line(done.said(5), 600)}",
            why="the node may be between two states: do not reboot it before apt is content",
            fix="run sudo dpkg --configure -a && sudo apt-get --fix-broken install on the node, then the play again",
        )
