# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a node is up to date, and how it becomes so, as a subject of ``_core.entry``.

An upgrade can replace the kernel and the driver under a running engine, so it is done only on a host that the
operator names. Everything else here is looking.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS, Action, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.look import Look as Sight
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import settle
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.subjects import system
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import kernels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import Kernel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import installing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Unknown,
    confirms,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates import images, pending
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates.scans import SCAN, Scan, scan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import Row

ROLE = "updates"
CONTROLS = (
    "updates/dpkg",
    "updates/lists",
    "updates/security",
    "updates/packages",
    "updates/booted",
    "updates/ota_level",
    "updates/firmware",
    "updates/images",
)
DPKG, LISTS, SECURITY, PACKAGES, BOOTED, OTA, FIRMWARE, IMAGES = CONTROLS
# Made by what asks for a reboot: kernels, libc, dbus, firmware.
REQUIRED = "/run/reboot-required"
# Facts of the machine are looked up within this time, each; a busy Dashboard answers late.
SIGHT_SECONDS = 30.0
POLL_SECONDS = 10.0
# fwupd says that a firmware takes up to 25 minutes on a Spark, in which it must not be cut off.
FIRMWARE_SECONDS = 2400.0

ARGUMENT_SPEC: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "lists_max_age_hours": {"type": "int", "default": 48},
    "firmware": {"type": "bool", "default": False},
    "dashboard_wait": {"type": "int", "default": 0},
    "images": {"type": "list", "elements": "dict", "default": [], "options": SCAN},
    "images_max_age_days": {"type": "int", "default": 14},
    **judge.OPTIONS,
    **OPTIONS,
}


@dataclass(frozen=True)
class Wish:
    host: str
    max_age: float
    firmware: bool
    patience: float
    rows: tuple[Row, ...]
    scans: tuple[Scan, ...]
    scans_max_age: float
    confirmed: frozenset[str]

    @property
    def allowed(self) -> bool:
        return confirms(self.confirmed, "host", self.host)


def ensure_updates(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    hours = int(params["lists_max_age_hours"])
    # A host may be called whatever an inventory calls it; here its name has to be a word that can be confirmed.
    if not re.fullmatch(r"[^\s,\[\]:]{1,253}", str(params["host"])):
        raise _refused(
            "host", "the name of this host in the inventory", str(params["host"]), "the upgrade needs its name"
        )
    if not 1 <= hours <= 8760:
        raise _refused("lists_max_age_hours", "1 to 8760", str(hours), "older lists say nothing about today")
    patience = int(params["dashboard_wait"])
    if not 0 <= patience <= 3600:
        raise _refused("dashboard_wait", "0 to 3600", str(patience), "nobody waits for longer")
    days = int(params["images_max_age_days"])
    if not 1 <= days <= 365:
        raise _refused("images_max_age_days", "1 to 365", str(days), "older scans say nothing about today")
    wish = Wish(
        str(params["host"]),
        hours * 3600.0,
        bool(params["firmware"]),
        patience,
        judge.matrix(params["version_matrix"]),
        _scans(params["images"]),
        days * 86400.0,
        frozenset(params["confirm"]),
    )
    return Composed(ROLE, CONTROLS, params, lambda reader: examined(wish, reader))


def _scans(given: Sequence[Mapping[str, Any]]) -> tuple[Scan, ...]:
    try:
        return tuple(scan(one, f"entry {number}") for number, one in enumerate(given))
    except ValueError as error:
        what, why = "scans as the filter trivy_images makes them", "an image would be judged by nothing"
        raise _refused("images", what, str(error), why) from error


def _refused(option: str, wanted: str, found: str, why: str) -> InputError:
    return InputError(
        f"updates.{option}",
        wanted=f"{option}: {wanted}",
        found=repr(found[:200]),
        why=why,
        fix=f"correct updates_{option}",
    )


def examined(wish: Wish, reader: Reader) -> Look:
    found = pending.observe(reader, wish.rows)
    if isinstance(found, Unknown):
        return Look(unsupported=found.reason)
    left_out = {}
    # What is pending follows from what others publish: nobody moved who declares the same.
    declared = json.dumps({"host": wish.host})
    controls = [
        ControlSpec(DPKG, assertions=(_whole(kernels.audit(reader)),)),
        ControlSpec(LISTS, assertions=(_lists(wish, found),)),
        ControlSpec(SECURITY, assertions=tuple(_upgrades(wish, found, security=True)), inputs=declared),
        ControlSpec(PACKAGES, assertions=tuple(_upgrades(wish, found, security=False)), inputs=declared),
    ]
    reboot = seen_reboot(reader, wish.rows)
    controls.append(ControlSpec(BOOTED, assertions=tuple(_booted(wish, reboot))))
    dgx = _answered(reader, wish.patience)
    if dgx[0]["is_dgx_os"]:
        controls.append(ControlSpec(OTA, assertions=(_level(wish, *dgx),)))
    else:
        left_out[OTA] = "this is not DGX OS"
    if wish.firmware:
        controls.append(ControlSpec(FIRMWARE, assertions=tuple(_firmware(reader))))
    else:
        left_out[FIRMWARE] = "not asked for: the look starts the fwupd daemon (updates_firmware: true)"
    if wish.scans:
        truths = images.judged(reader, wish.scans, wish.scans_max_age, time.time())
        if truths:
            controls.append(ControlSpec(IMAGES, assertions=truths, inputs=declared))
        else:
            left_out[IMAGES] = "neither Docker nor Podman is installed"
    else:
        left_out[IMAGES] = "not asked for: no scans of images are given (updates_images)"
    actions: dict[str, Action] = {
        "repair_dpkg": installing.repair_dpkg,
        "refresh_lists": pending.refresh,
        "upgrade_packages": partial(pending.upgrade, confirmed=tuple(wish.confirmed), rows=wish.rows),
        "flash": flash,
    }
    return Look(
        tuple(controls), actions, {"pending": _told(found), "reboot": reboot.as_dict(), "named": wish.allowed}, left_out
    )


def _whole(found: str) -> Assertion:
    name = "what dpkg has begun"
    if not found:
        return Assertion(name, "in_sync", "finished", "finished")
    steps = (Step("repair_dpkg", "dpkg", ((), False)),)
    return Assertion(name, "drifted", found, "finished", "an installation was interrupted", steps=steps)


def _lists(wish: Wish, found: pending.Pending) -> Assertion:
    """How old they are is no property that an apply could predict to the second, so it is told in words."""
    name, wanted = "package lists", f"refreshed within {wish.max_age / 3600:g} h"
    if _fresh(wish, found):
        return Assertion(name, "in_sync", wanted, wanted)
    was = "older" if found.refreshed else "none"
    steps = (Step("refresh_lists", "package lists"),)
    return Assertion(name, "drifted", was, wanted, _age(found), steps=steps, victim=("host", wish.host))


def _age(found: pending.Pending) -> str:
    if not found.refreshed:
        return "there are no package lists, or the clock was ahead when they came"
    return f"the package lists are of {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(found.refreshed))}"


def _fresh(wish: Wish, found: pending.Pending) -> bool:
    # Both are times of the node's own clock: of a file, and of now.
    return bool(found.refreshed) and time.time() - found.refreshed <= wish.max_age


def _upgrades(wish: Wish, found: pending.Pending, *, security: bool) -> Iterator[Assertion]:
    """Both kinds are done by one upgrade: a kernel is of one kind, and its modules may be of the other."""
    kind = "security updates" if security else "updates"
    if found.problem:
        yield Assertion(kind, "unknown", "", "none", f"apt cannot tell what is pending: {found.problem}")
        return
    if security:
        yield from _kept_back(found)
    stale, host = not _fresh(wish, found), ("host", wish.host)
    mine = [one for one in found.upgrades if one.security == security]
    # What goes, goes with whatever is upgraded.
    victims = found.victims if mine or not security else ()
    if not (mine or victims or (stale and wish.allowed)):
        reason = f"{_age(found)}: what is pending since is not known" if stale else _kept(found)
        yield Assertion(kind, "unknown" if stale else "in_sync", "none", "none", reason)
        return
    for name in victims:
        gone = name in found.removes
        why = f"{found.bad.get(name) or f'installing {name} flashes firmware'}; name it, or hold it"
        why = f"the upgrade would remove {name}" if gone else why
        wanted = "removed by the upgrade" if gone else "installed"
        yield Assertion(f"package {name}", "drifted", "as it is", wanted, why, victim=("package", name))
    reason = "; ".join(filter(None, (f"{len(mine)} pending", _kept(found))))
    for one in mine:
        if one.name not in found.victims:
            yield Assertion(f"package {one.name}", "drifted", one.before or "absent", one.after, reason, victim=host)
    named = all(confirms(wish.confirmed, "package", name) for name in found.victims)
    steps = (Step("upgrade_packages", wish.host),) if named else ()
    more = "none, after fresh lists" if stale else "none"
    yield Assertion(kind, "drifted", "pending" if mine else "not known", more, reason, steps=steps, victim=host)


def _kept_back(found: pending.Pending) -> Iterator[Assertion]:
    """A hold is somebody's decision, and what it costs is not hidden. Of other updates it is one to leave them out."""
    for one in found.held:
        if one.security:
            yield Assertion(
                f"package {one.name}", "drifted", one.before or "absent", one.after, "a hold keeps this update back",
                awaits="the hold to be taken away", blocked_by=f"a hold of apt on {one.name}",
            )  # fmt: skip
    unclear = [name for name in found.kept if name not in {one.name for one in found.held}]
    if unclear:
        why = f"kept back for want of what they need, for security or not: {one_line(' '.join(unclear), 200)}"
        yield Assertion("packages kept back", "unknown", "", "none", why)


def _kept(found: pending.Pending) -> str:
    return one_line(f"kept back: {' '.join(found.kept)}", 200) if found.kept else ""


def _told(found: pending.Pending) -> Mapping[str, object]:
    return {
        "upgrades": [
            {"name": one.name, "before": one.before, "after": one.after, "security": one.security}
            for one in found.upgrades
        ],
        "kept_back": list(found.kept),
        "would_go": list(found.removes),
    }


@dataclass(frozen=True)
class Reboot:
    """owed: why the node does not run what its next boot would run. gaps: what that boot would lack.

    problem: why the kernel of the next boot is not known.
    """

    owed: str = ""
    gaps: tuple[str, ...] = ()
    problem: str = ""

    def as_dict(self) -> Mapping[str, object]:
        return {"owed": self.owed, "gaps": list(self.gaps), "problem": self.problem}


def seen_reboot(reader: Reader, rows: Sequence[Row]) -> Reboot:
    try:
        asked = reader.stat(REQUIRED) is not None
        packages_asking = (reader.read(f"{REQUIRED}.pkgs") or "").split() if asked else []
    except Unreadable as error:
        return Reboot(problem=str(error))
    names = " ".join(unique(packages_asking))
    owed = [one_line(f"{REQUIRED} is there{f', for {names}' if names else ''}", 200)] if asked else []
    running, following = kernels.running_kernel(reader), kernels.next_kernel(reader)
    gate = kernels.gate(running, following, rows)
    if isinstance(gate, Unknown):
        return Reboot("; ".join(owed), problem=gate.reason)
    if isinstance(running, Kernel) and isinstance(following, Kernel) and running.release != following.release:
        owed.append(f"{running.release} runs, and the next boot takes {following.release}")
    return Reboot("; ".join(owed), gate)


def _booted(wish: Wish, found: Reboot) -> Iterator[Assertion]:
    runs, whole = "the running system", "what the next boot needs"
    if found.gaps:
        missing = ", ".join(found.gaps)
        fix = f"do not reboot {wish.host}: install what brings {missing}, then run the play again"
        victim: tuple[()] | tuple[str, str] = () if wish.allowed else ("host", wish.host)
        why = f"a reboot now would come up without {missing}"
        yield Assertion(whole, "drifted", f"without {missing}", "there", why, fix, victim=victim)
    if found.owed and not found.gaps:
        blocked = f"spark_reboot_confirm: [{wish.host}]"
        yield Assertion(
            runs, "drifted", "before the last changes", "what the next boot takes", found.owed,
            awaits="a reboot", blocked_by=blocked,
        )  # fmt: skip
    if found.problem:
        yield Assertion(whole, "unknown", "", "there", found.problem)
    else:
        yield Assertion(whole, "in_sync", "there", "there")


def _answered(reader: Reader, patience: float) -> tuple[Mapping[str, object], Mapping[str, str]]:
    """What DGX OS says of itself. After a boot its Dashboard needs minutes until it knows."""
    deadline = time.monotonic() + patience
    while True:
        facts, unknown = settle(system.dgx(Sight(reader, SIGHT_SECONDS)))
        ota = cast("Mapping[str, object]", facts.get("ota") or {})
        if not facts["is_dgx_os"] or ota.get("state") == "ready" or time.monotonic() >= deadline:
            return facts, unknown
        time.sleep(POLL_SECONDS)


def _level(wish: Wish, facts: Mapping[str, object], unknown: Mapping[str, str]) -> Assertion:
    """By the Dashboard's own answer: the stamp in /etc/dgx-release is no proof, and a count of packages neither."""
    name, wanted = "OTA", "the newest that NVIDIA offers this machine"
    if "ota" in unknown:
        return Assertion(name, "unknown", "", wanted, f"the DGX Dashboard does not answer: {unknown['ota']}")
    ota = cast("Mapping[str, object]", facts["ota"])
    if ota["update_available"]:
        offered = str(ota["available_name"] or "a newer one")
        fix = "upgrade the packages, then the firmware (updates_firmware: true), and look again after a reboot"
        # Unnamed, the host waits for the operator. Named, it has to be there at the end of the run.
        victim: tuple[()] | tuple[str, str] = () if wish.allowed else ("host", wish.host)
        return Assertion(name, "drifted", "behind", offered, f"{offered} is due", fix, victim=victim)
    if ota["state"] != "ready":
        return Assertion(name, "unknown", "", wanted, f"the DGX Dashboard is not ready: {ota['state']}")
    return Assertion(name, "in_sync", wanted, wanted)


def _firmware(reader: Reader) -> Iterator[Assertion]:
    facts, unknown = settle(system.firmware(Sight(reader, SIGHT_SECONDS), fwupd=True))
    if "fwupd_devices" in unknown:
        yield Assertion("fwupd", "unknown", "", "asked", f"fwupd does not answer: {unknown['fwupd_devices']}")
        return
    yield Assertion("fwupd", "in_sync", "asked", "asked")
    for device in cast("list[Mapping[str, Any]]", facts["fwupd_devices"]):
        newer, guid = device["upgrade_version"], next(iter(device["guids"]), "")
        if newer and guid:
            yield Assertion(
                f"firmware {device['name']} ({guid})",
                "drifted",
                str(device["version"]),
                str(newer),
                "flashed only when named, one after the other; it takes effect at the next boot",
                steps=(Step("flash", guid),),
                victim=("firmware", guid),
            )


def flash(step: Step, _reader: Reader, writer: Writer) -> None:
    """One device. What it needs to take effect, a reboot, is not begun here."""
    argv = ["/usr/bin/fwupdmgr", "update", step.target, "--assume-yes", "--no-reboot-check", "--no-unreported-check"]
    done = writer.run(argv, timeout=FIRMWARE_SECONDS)
    # 2 is "nothing to do": somebody else was faster.
    if done.rc not in (0, 2):
        raise NodeError(
            "updates.flash",
            wanted=f"the firmware of {step.target} updated",
            found=f"{' '.join(argv)} {done.ending}: {one_line(done.said(5), 600)}",
            why="no other firmware was tried; leave the machine powered until it is known what this one did",
            fix="sudo fwupdmgr get-history on the node says how far it came",
        )


MODULE = Ensuring("updates", ARGUMENT_SPEC, ensure_updates)
