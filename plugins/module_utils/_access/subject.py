# SPDX-License-Identifier: GPL-3.0-or-later
"""What can cut access, SSH and the packet filter, as a subject of ``_core.entry``.

A run that has changed SSH or firewall is not done before somebody has logged in anew: it ends with
``access.pending`` and without a record. The run that comes next, by another login, is the proof; the
action plugin makes it at once. If none comes, the node undoes the change by itself (``guard``).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access import firewall, guard, ssh
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.guard import Login
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.look import (
    SYSTEMCTL,
    SeenFirewall,
    SeenSsh,
    look_at_firewall,
    look_at_ssh,
    sshd,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.model import (
    CONTROLS,
    FIREWALL,
    OWN_OPTIONS,
    ROLE,
    SSH,
    Declared,
    declared,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan, Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import systems
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Package,
    confirms,
)

ARGUMENT_SPEC: dict[str, Any] = {
    **OWN_OPTIONS,
    **OPTIONS,
}
# A change that nobody can prove: there is no login over SSH that could be made anew.
UNPROVEN = "unproven_login"
MODE = 0o600
# What these say holds for everybody, or it does not hold.
DOORS = ("ssh_keys_only", "ssh_root")


class Access(Composed):
    """Proves before it records."""

    def settle(self, left: Plan, reader: Reader, writer: Writer) -> None:
        changed_by = guard.armed_by(reader) if reader.is_root() else None
        if changed_by is not None:
            if not _proven(guard.login(reader), changed_by):
                return
            guard.disarm(writer)
        super().settle(left, reader, writer)


def _proven(here: Login | None, changed_by: str) -> bool:
    return here is not None and changed_by not in ("", here.connection)


def ensure_access(params: Mapping[str, Any]) -> Access:
    """Raises InputError."""
    wanted = declared(params)
    skipped = [name.partition("/")[2] for name in params["skip_controls"]]

    looked: list[bool] = []

    def look(reader: Reader) -> Look:
        problem = systems.unfit(systems.SUPPORTED, reader)
        if problem:
            return Look(unsupported=problem)
        armed = guard.armed_by(reader) if reader.is_root() else None
        proves_nothing = params["proving"] and armed is None and not looked
        looked.append(True)
        here = guard.login(reader)
        seen = look_at_ssh(wanted, here, skipped, reader)
        pending = armed is not None and not _proven(here, armed)
        controls = _ssh_controls(wanted, here, seen, params["confirm"])
        filtering = SeenFirewall()
        left_out = {}
        if wanted.firewall:
            filtering = look_at_firewall(wanted, here, seen.ports, skipped, reader)
            controls += _firewall_controls(wanted, here, seen, filtering, params["confirm"])
        else:
            left_out = {f"{ROLE}/{name}": "access_firewall is false" for name in FIREWALL}
        if proves_nothing and any(one.steps and not one.victim for control in controls for one in control.assertions):
            # Who comes to prove a change does not make it again. Where nothing is to do another run has proven it.
            raise guard.undone()
        actions = {
            "apply_ssh": partial(apply_ssh, seen=seen, here=here, seconds=wanted.proof_seconds),
            "apply_firewall": partial(apply_firewall, seen=filtering, here=here, seconds=wanted.proof_seconds),
        }
        return Look(tuple(controls), actions, {"access": {"pending": pending}}, left_out)

    return Access(ROLE, CONTROLS, params, look)


def _inputs(wanted: Declared, *names: str) -> str:
    """For the report: who moved, the node or the declaration."""
    return json.dumps({name: repr(getattr(wanted, name)) for name in names}, sort_keys=True)


# --- SSH ------------------------------------------------------------------------------------


def _ssh_controls(wanted: Declared, here: Login | None, seen: SeenSsh, confirm: Sequence[str]) -> list[ControlSpec]:
    def inputs(name: str) -> str:
        return _inputs(wanted, "root_login", "tcp_forwarding", "agent_forwarding", "max_auth_tries",
                       "login_grace_seconds", "banner") + name  # fmt: skip

    if seen.problem:
        unknown = (Assertion("sshd", "unknown", "", "", seen.problem),)
        return [ControlSpec(f"{ROLE}/{name}", assertions=unknown) for name in SSH]
    victim = _victim(here, seen, confirm)
    found = []
    for name in SSH[:-2]:
        lines = [one for one in seen.settings if one.control == name]
        assertions = tuple(_setting(one, seen, victim) for one in lines)
        found.append(ControlSpec(f"{ROLE}/{name}", assertions=assertions, inputs=inputs(name) if lines else ""))
    found.append(ControlSpec(f"{ROLE}/ssh_extra", assertions=(_extra(seen, victim),), inputs=inputs("ssh_extra")))
    found.append(ControlSpec(f"{ROLE}/ssh_running", assertions=(_read(seen, victim),), inputs=inputs("ssh_running")))
    return found


def _victim(here: Login | None, seen: SeenSsh | None, confirm: Sequence[str]) -> tuple[()] | tuple[str, str]:
    """Whom the change could lock out, so that they have to be named first; the first of them who is not."""
    if here is None and not confirms(confirm, "login", UNPROVEN):
        return ("login", UNPROVEN)
    for user in seen.locked_out if seen else ():
        if not confirms(confirm, "login", user):
            return ("login", user)
    return ()


def _locked(victim: tuple[()] | tuple[str, str], seen: SeenSsh | None) -> str:
    if not victim:
        return ""
    if victim[1] == UNPROVEN:
        return "this run did not come by SSH, so no new login can prove that there is still a way in"
    if seen is None:
        return ""
    others = [user for user in seen.locked_out if user != victim[1]]
    return f"{victim[1]} would be locked out: {seen.locked_out[victim[1]]}" + (
        f" (and so would {', '.join(others)})" if others else ""
    )


def _setting(one: ssh.Setting, seen: SeenSsh, victim: tuple[()] | tuple[str, str]) -> Assertion:
    values = {user: conf.get(one.name, "") for user, conf in seen.now.items()}
    wrong = {user: value for user, value in values.items() if value != one.value}
    if not wrong:
        return _for_everybody(one, seen)
    every = set(values.values())
    found = every.pop() if len(every) == 1 else ", ".join(f"{value} for {user}" for user, value in wrong.items())
    where = ssh.places(seen.files, one.keyword)
    set_at = f", set at {', '.join(where)}" if where else ""
    stubborn = [user for user, conf in seen.then.items() if conf.get(one.name, "") != one.value]
    if stubborn:
        why = f"{one.keyword} stays as it is for {', '.join(stubborn)} whatever {ssh.DROPIN} says{set_at}"
        fix = f"take {one.keyword} out of {', '.join(where) or ssh.MAIN}, or see that {ssh.MAIN} includes {ssh.FOLDER}"
        return Assertion(one.keyword, "drifted", found, one.value, why, fix)
    reason = _locked(victim, seen) or (f"{one.keyword} is {found}{set_at}" if where else "")
    return Assertion(
        one.keyword, "drifted", found, one.value, reason, steps=(Step("apply_ssh", ssh.DROPIN),), victim=victim
    )


def _for_everybody(one: ssh.Setting, seen: SeenSsh) -> Assertion:
    """It holds for whom it was asked. A Match block may be about somebody else: another account, another address."""
    where = ssh.conditional(seen.files, one) if one.control in DOORS else []
    if not where:
        return Assertion(one.keyword, "in_sync", one.value, one.value)
    why = f"{one.keyword} is another one for whom a Match block is about: {', '.join(where)}"
    fix = f"take {one.keyword} out of {', '.join(where)}"
    return Assertion(one.keyword, "drifted", f"not for everybody {one.value}", one.value, why, fix)


def _extra(seen: SeenSsh, victim: tuple[()] | tuple[str, str]) -> Assertion:
    """A line in our file that no control declares, and who may write to it."""
    ours = set(seen.text.splitlines())
    keywords = {ssh.keyword_of(line) for line in ours} - {""}
    lines = (seen.found or "").splitlines()
    foreign = [line for line in lines if line.strip() and line not in ours and ssh.keyword_of(line) not in keywords]
    stat = seen.stat
    if stat is not None and (stat.kind, stat.mode, stat.uid, stat.gid) != ("file", MODE, 0, 0):
        foreign.append(f"{stat.kind}, mode {stat.octal}, owner {stat.uid}:{stat.gid}")
    if not foreign:
        return Assertion(f"file {ssh.DROPIN}", "in_sync", "", "")
    reason = _locked(victim, seen) or f"{ssh.DROPIN} has what no control declares"
    steps = (Step("apply_ssh", ssh.DROPIN),)
    return Assertion(
        f"file {ssh.DROPIN}", "drifted", "\n".join(foreign), "as declared", reason, steps=steps, victim=victim
    )


def _read(seen: SeenSsh, victim: tuple[()] | tuple[str, str]) -> Assertion:
    name, wanted = "files of sshd", "read by the server that runs"
    if not seen.unread and seen.ahead:
        # No reload would ever be late enough.
        why = f"the clock was ahead when {', '.join(seen.ahead)} changed: whether the server has read it is not known"
        return Assertion(name, "unknown", "", wanted, why, f"touch {' '.join(seen.ahead)}, and run the play again")
    if not seen.unread:
        return Assertion(name, "in_sync", wanted, wanted)
    paths = ", ".join(seen.unread)
    reason = _locked(victim, seen) or f"changed after the server was started or reloaded: {paths}"
    steps = (Step("apply_ssh", ssh.DROPIN),)
    return Assertion(name, "drifted", f"not read: {paths}", wanted, reason, steps=steps, victim=victim)


def apply_ssh(_step: Step, reader: Reader, writer: Writer, *, seen: SeenSsh, here: Login | None, seconds: int) -> None:
    """New logins meet the new configuration; whoever is in stays in."""
    reload = f"! {SYSTEMCTL} --quiet is-active ssh.service || {SYSTEMCTL} %s reload ssh.service"
    if here is not None:
        # The unit that undoes comes before ssh.service at a boot: to wait for this would be to wait for itself.
        guard.arm(here, seconds, "ssh", [reload % "--no-block"], [ssh.DROPIN], reader, writer)
    writer.write(ssh.DROPIN, seen.text, mode=MODE, uid=0, gid=0)
    for argv in ([*sshd(reader), "-t"], ["/bin/sh", "-c", reload % "--quiet"]):
        done = writer.run(argv)
        if not done.ok:
            _undo(writer, here)
            _fail(ssh.DROPIN, f"{' '.join(argv)} {done.ending}: {one_line(done.said())}")


# --- firewall -------------------------------------------------------------------------------


def _firewall_controls(
    wanted: Declared, here: Login | None, ssh_seen: SeenSsh, seen: SeenFirewall, confirm: Sequence[str]
) -> list[ControlSpec]:
    problem = seen.problem
    if not ssh_seen.ports and not problem:
        problem = f"where SSH listens is unknown: {ssh_seen.problem}"
    if problem:
        unknown = (Assertion("packet filter", "unknown", "", "", problem),)
        return [ControlSpec(f"{ROLE}/{name}", assertions=unknown) for name in FIREWALL]
    victim = _victim(here, None, confirm)
    if seen.live is None and not confirms(confirm, "feature", "firewall"):
        victim = ("feature", "firewall")
    # What the proof would take back is not done at all.
    steps = () if seen.shut_out else (Step("apply_firewall", f"table inet {firewall.TABLE}"),)
    victim = () if seen.shut_out else victim
    inputs = _inputs(wanted, "ssh_from", "mdns", "interfaces", "peers", "published")

    def control(name: str, *assertions: Assertion) -> ControlSpec:
        packages = (Package("nftables"),) if name == "firewall_default" and not victim else ()
        return ControlSpec(f"{ROLE}/{name}", packages=packages, assertions=assertions, inputs=inputs)

    found = []
    for name in FIREWALL:
        if name in ("firewall_fabric", "firewall_published") and not _asked(name, wanted, seen):
            # Nothing is declared and nothing is there.
            found.append(ControlSpec(f"{ROLE}/{name}"))
        elif name == "firewall_boot":
            found.append(control(name, _stopped(_boot(seen, steps, victim), seen)))
        elif name == "firewall_extra" and (seen.live is None or not seen.live[name]):
            found.append(control(name, Assertion("rules that no control declares", "in_sync", "", "")))
        else:
            found.append(control(name, _stopped(_rules(name, seen, steps, victim), seen)))
    return found


def _stopped(found: Assertion, seen: SeenFirewall) -> Assertion:
    return replace(found, fix=seen.shut_out) if found.state == "drifted" and seen.shut_out else found


def _asked(name: str, wanted: Declared, seen: SeenFirewall) -> bool:
    declared_for = wanted.peers if name == "firewall_fabric" else [s for s in wanted.published if firewall.openings(s)]
    return bool(declared_for or (seen.live and seen.live[name]))


def _rules(
    name: str,
    seen: SeenFirewall,
    steps: tuple[Step, ...],
    victim: tuple[()] | tuple[str, str],
) -> Assertion:
    key = f"rules of {name}"
    if not seen.installed:
        return Assertion(key, "drifted", "nftables is not installed", "loaded", steps=steps, victim=victim)
    live = None if seen.live is None else list(seen.live[name])
    wanted = list(seen.wanted[name])
    if live == wanted:
        return Assertion(key, "in_sync", "", "")
    gone = [rule for rule in wanted if rule not in (live or [])]
    more = [rule for rule in live or [] if rule not in wanted]
    before = "absent" if live is None else "\n".join(more) or "incomplete, or in another order"
    reason = f"{len(gone)} rules are missing, {len(more)} are not declared"
    if live is None:
        reason = "the kernel does not have this table"
    return Assertion(key, "drifted", before, "\n".join(gone) or "as declared", reason, steps=steps, victim=victim)


def _boot(seen: SeenFirewall, steps: tuple[Step, ...], victim: tuple[()] | tuple[str, str]) -> Assertion:
    wrong = []
    if seen.rules != seen.text:
        wrong.append(f"{firewall.RULES} is {'absent' if seen.rules is None else 'another one'}")
    if seen.unit != firewall.SERVICE:
        wrong.append(f"{firewall.UNIT_FILE} is {'absent' if seen.unit is None else 'another one'}")
    if seen.enabled != "enabled":
        wrong.append(f"{firewall.UNIT} is {seen.enabled or 'not enabled'}")
    key = "rules at the next boot"
    if not wrong:
        return Assertion(key, "in_sync", "", "")
    return Assertion(key, "drifted", "; ".join(wrong), "as declared", "; ".join(wrong), steps=steps, victim=victim)


def apply_firewall(
    _step: Step, reader: Reader, writer: Writer, *, seen: SeenFirewall, here: Login | None, seconds: int
) -> None:
    """The kernel takes the table as a whole or not at all; what other tables say stays."""
    if here is not None:
        first = reader.stat(f"{guard.ARMED}/firewall.sh") is None
        listing = reader.run([firewall.NFT, "list", "table", "inet", firewall.TABLE])
        undo = [
            f"{firewall.NFT} delete table inet {firewall.TABLE} 2>/dev/null",
            f"{SYSTEMCTL} daemon-reload",
            f"test ! -e {guard.UNDOING}/table || {firewall.NFT} -f {guard.UNDOING}/table",
        ]
        if seen.enabled != "enabled":
            undo.insert(0, f"{SYSTEMCTL} --quiet disable {firewall.UNIT}")
        guard.arm(here, seconds, "firewall", undo, [firewall.RULES, firewall.UNIT_FILE], reader, writer)
        if first and listing.ok:
            writer.write(f"{guard.ARMED}/table", listing.out, mode=0o600, uid=0, gid=0)
    if reader.stat("/etc/nusy") is None:
        writer.mkdir("/etc/nusy", mode=0o755, uid=0, gid=0)
    writer.write(firewall.RULES, seen.text, mode=0o644, uid=0, gid=0)
    writer.write(firewall.UNIT_FILE, firewall.SERVICE, mode=0o644, uid=0, gid=0)
    for argv in (
        [firewall.NFT, "-c", "-f", firewall.RULES],
        [SYSTEMCTL, "daemon-reload"],
        [SYSTEMCTL, "--quiet", "enable", firewall.UNIT],
        [SYSTEMCTL, "restart", firewall.UNIT],
    ):
        done = writer.run(argv)
        if not done.ok:
            _undo(writer, here)
            _fail(f"table inet {firewall.TABLE}", f"{' '.join(argv)} {done.ending}: {one_line(done.said())}")


def _undo(writer: Writer, here: Login | None) -> None:
    if here is not None:
        guard.back(writer)


def _fail(what: str, found: str) -> None:
    raise NodeError(
        "access.refused",
        wanted=f"{what} as declared",
        found=found,
        why="with it nobody might get in; what was there before was put back",
        fix="correct the variables it is made from, or what is said to be wrong, and run the play again",
    )


MODULE = Ensuring("access", ARGUMENT_SPEC, ensure_access)
