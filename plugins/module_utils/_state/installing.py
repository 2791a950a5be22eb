# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing, removing and holding packages: the distribution's own tools, each step repeatable.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Package, confirms
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.packages import (
    APT_GET,
    ENVIRONMENT,
    LITERALLY,
    Seen,
    Simulation,
    look,
    options,
    serving,
    simulate,
    simulate_removal,
)

# 600 s: unattended-upgrades and the DGX Dashboard hold the lock for minutes at boot.
LOCK_SECONDS = 600
LOCK_POLL_SECONDS = 3.0
# dpkg, apt-mark and "apt-get update" give up at once where "apt-get install" can wait.
LOCKED = re.compile(r"lock (?:was|is) locked by|Could not get lock")
INSTALL_SECONDS = 3600.0
# Wait for the lock; the administrator's version of a configuration file stays.
PATIENTLY = (
    *("-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}"),
    *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
)
CAREFULLY = (*LITERALLY, *PATIENTLY)


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


def refresh_lists(_step: Step, _reader: Reader, writer: Writer, *, whole: bool = False) -> None:
    """whole: a source that does not answer is an error. By itself apt-get only warns, and keeps the lists it had."""
    strictly = ("-o", "APT::Update::Error-Mode=any") if whole else ()
    _check(_in_turn([APT_GET, *strictly, "update"], writer, timeout=900.0), "refresh the package lists")


def install_packages(
    step: Step, reader: Reader, writer: Writer, *, recommends: bool, confirmed: frozenset[str]
) -> None:
    """Install, after looking again: fresh lists may have changed what would be removed.

    What several controls need is one transaction. Where apt cannot do it, or does not come to its end, each control's
    share is installed alone, in order: a control gets what it would get without the others, and the error is its own.
    """
    given = options(recommends, bool(step.args[1]))
    shares = [step.names(index) for index in range(2, len(step.args))]
    if shares and not _unforeseen(simulate(reader, step.names(), given), confirmed):
        whole = _install(step.names(), given, writer, INSTALL_SECONDS * len(shares))
        shares = [] if whole.ok else [names for names in shares if not _installed(names, reader)]
        if not shares or LOCKED.search(whole.err):
            _check(whole, f"install {step.target}")
            return
    for names in shares or [step.names()]:
        _nothing_unnamed(simulate(reader, names, given), f"install {' '.join(names)}", confirmed)
        _check(_install(names, given, writer, INSTALL_SECONDS), f"install {' '.join(names)}")


def _install(names: Sequence[str], given: Sequence[str], writer: Writer, timeout: float) -> Completed:
    argv = [APT_GET, "--yes", "--quiet", *given, *CAREFULLY, "install", "--", *names]
    return writer.run(argv, timeout=timeout, env=ENVIRONMENT)


def _installed(specs: Sequence[str], reader: Reader) -> bool:
    seen = look(reader)
    pairs = (text.partition("=") for text in specs)
    return isinstance(seen, Seen) and all(serving(Package(name, to or None), seen) for name, _equals, to in pairs)


def _unforeseen(again: Simulation, confirmed: frozenset[str]) -> list[str]:
    """What stands against it: why apt cannot, or what would go with it that nobody has named."""
    gone = (*again.removes, *again.downgrades)
    return [again.problem] if again.problem else [name for name in gone if not confirms(confirmed, "package", name)]


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
    unnamed = _unforeseen(again, confirmed)
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
    _nothing_unnamed(simulate_removal(reader, step.target), f"remove {step.target}", confirmed)
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
