# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true now of SSH and firewall, and what would be: asked of sshd and of the kernel, changing nothing.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access import firewall, keys, running, ssh
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.guard import Login
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.model import Declared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.running import Running
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.ssh import Setting
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Stat

SSHD = "/usr/sbin/sshd"
SSH = "/usr/bin/ssh"
SYSTEMCTL = "/usr/bin/systemctl"
# A network of its own, in which nobody is and nothing is lost when its only process ends.
ALONE = ("/usr/bin/unshare", "--net", "--", "/bin/sh", "-c")
LOOPBACK = "127.0.0.1"
# sshd answers only where it has this folder, which comes and goes with its units: by a socket it may not be there.
EMPTY = "/run/sshd"
SEEN_ALONE = (
    *("/usr/bin/unshare", "--mount", "--", "/bin/sh", "-c"),
    f'mount -t tmpfs none /run && mkdir {EMPTY} && exec "$@"',
    "sh",
)
# Whoever is not named: what holds for them holds for all that no Match block is about.
ANYBODY = "nobody"


@dataclass(frozen=True)
class SeenSsh:
    """problem: why nothing can be said. now, then: user → keyword → value, today and with our drop-in.

    text: of the drop-in that is to be. found, stat: of the one that is there.
    unread: files that changed after the server that runs has read them. ahead: those that changed in the future.
    locked_out: user → why they would not get in with a key.
    """

    problem: str = ""
    settings: tuple[Setting, ...] = ()
    now: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    then: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    text: str = ""
    found: str | None = None
    stat: Stat | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    unread: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    locked_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenFirewall:
    """wanted, live: control → rules as the kernel shows them; live None: there is no such table.

    shut_out: why these rules would not let this very login in again.
    """

    problem: str = ""
    shut_out: str = ""
    installed: bool = True
    wanted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    live: Mapping[str, Sequence[str]] | None = None
    text: str = ""
    rules: str | None = None
    unit: str | None = None
    enabled: str = ""


def look_at_ssh(wanted: Declared, here: Login | None, skipped: Sequence[str], reader: Reader) -> SeenSsh:
    try:
        if not reader.is_root():
            return SeenSsh("needs root: only who may read the host keys can ask sshd")
        if reader.stat(SSHD) is None:
            return SeenSsh("no SSH server is installed")
        return _ssh(wanted, here, skipped, reader)
    except Unreadable as error:
        return SeenSsh(str(error))


def _ssh(wanted: Declared, here: Login | None, skipped: Sequence[str], reader: Reader) -> SeenSsh:
    supported = {}
    for query in ssh.QUERIES:
        done = reader.run([SSH, "-Q", query])
        if not done.ok:
            return SeenSsh(f"ssh -Q {query} {done.ending}: {one_line(done.said())}")
        supported[query] = frozenset(done.out.split())
    users = list(dict.fromkeys((*([here.user] if here and here.user else []), *wanted.admins, "root", ANYBODY)))
    live = running.observe(reader)
    if live.problem:
        return SeenSsh(live.problem)
    now = {}
    for user in users:
        found = _effective(user, here, live, reader)
        if isinstance(found, str):
            return SeenSsh(found)
        now[user] = found
    factors = ssh.factors(now.values())
    every = ssh.settings(wanted, supported, frozenset(now[ANYBODY]), factors)
    lines = tuple(one for one in every if one.control not in skipped)
    left = {one.name for one in every if one.control in skipped}
    names = reader.listdir(ssh.FOLDER) or ()
    files = {f"{ssh.FOLDER}/{name}": reader.read(f"{ssh.FOLDER}/{name}") or "" for name in names if _counts(name)}
    there = reader.file(ssh.DROPIN) if reader.stat(ssh.DROPIN) is not None else None
    stat, text = there or (None, None)
    kept = [line for line in (text or "").splitlines() if ssh.keyword_of(line) in left]
    main = reader.read(ssh.MAIN) or ""
    planned = ssh.text_of(lines, kept)
    then = {}
    for user in users:
        found = _effective(user, here, live, reader, ssh.candidate(main, planned, names))
        if isinstance(found, str):
            where = ssh.places({**files, ssh.MAIN: main}, "AuthenticationMethods")
            asked = f"; AuthenticationMethods is set at {', '.join(where)}" if where else ""
            return SeenSsh(f"with the drop-in of this role {found}{asked}")
        then[user] = found
    owners = [user for user in users if user in wanted.admins or (here is not None and user == here.user)]
    locked_out = {user: why for user in owners for why in [keys.problem(user, then[user], reader)] if why}
    if ssh.takes_passwords(now[ANYBODY]) or ssh.has_conditions({**files, ssh.MAIN: main}):
        for user in keys.with_password(reader):
            if user not in users:
                before = _effective(user, here, live, reader)
                after = _effective(user, here, live, reader, ssh.candidate(main, planned, names))
                locked_out |= _losing(user, before, after, reader)
    unread, ahead = running.unread(live, _judged(files, text == planned), reader)
    return SeenSsh(
        settings=lines,
        now=now,
        then=then,
        text=planned,
        found=text,
        stat=stat,
        files={**files, ssh.MAIN: main, running.COMMAND_LINE: live.said},
        ports=running.ports(live, now[ANYBODY]),
        unread=unread,
        ahead=ahead,
        locked_out=locked_out,
    )


def _losing(user: str, before: dict[str, str] | str, after: dict[str, str] | str, reader: Reader) -> dict[str, str]:
    """Who gets in by a password today and would not tomorrow, with why no key helps; by name only, like all the rest
    that cuts access."""
    if isinstance(before, str) or isinstance(after, str):
        raise Unreadable(f"what holds for {user} cannot be asked: {before if isinstance(before, str) else after}")
    if not ssh.takes_passwords(before) or ssh.takes_passwords(after) or keys.not_allowed(user, before, reader):
        return {}
    why = keys.problem(user, after, reader)
    return {user: f"only a password lets {user} in today, and {why}"} if why else {}


def sshd(reader: Reader) -> list[str]:
    """How to ask it. The folder that it lacks is made for itself alone."""
    return [*(SEEN_ALONE if reader.stat(EMPTY) is None else ()), SSHD]


def _counts(name: str) -> bool:
    return name.endswith(".conf")


def _effective(user: str, here: Login | None, live: Running, reader: Reader, text: str = "") -> dict[str, str] | str:
    """What counts for a login of ``user`` from where this one comes from; or why nobody knows."""
    address = here.address if here else LOOPBACK
    local = here.local if here else LOOPBACK
    port = here.port if here else 22
    who = f"user={user},host={address},addr={address},laddr={local},lport={port}"
    files = ["-f", "/dev/stdin"] if text else []
    done = reader.run([*sshd(reader), "-T", *files, *live.options, "-C", who], stdin=text)
    if not done.ok:
        return f"sshd -T {done.ending}: {one_line(done.said())}"
    return ssh.effective(done.out)


def _judged(files: Mapping[str, str], ours_is_right: bool) -> list[str]:
    """What the server has to have read. A drop-in of ours that is another one is told by its settings."""
    ours = [ssh.FOLDER, ssh.DROPIN] if ours_is_right else []
    return [ssh.MAIN, *ours, *(path for path in files if path != ssh.DROPIN)]


def look_at_firewall(
    wanted: Declared, here: Login | None, ports: Sequence[int], skipped: Sequence[str], reader: Reader
) -> SeenFirewall:
    try:
        if not reader.is_root():
            return SeenFirewall("needs root: the kernel shows its packet filter to nobody else")
        return _firewall(wanted, here, ports, skipped, reader)
    except Unreadable as error:
        return SeenFirewall(str(error))


def _firewall(
    wanted: Declared, here: Login | None, ports: Sequence[int], skipped: Sequence[str], reader: Reader
) -> SeenFirewall:
    other = _other_filter(reader)
    if other:
        return SeenFirewall(f"{other} is active and its owner's: set access_firewall: false, or disable {other}")
    text = firewall.rules(wanted, ports, skipped)
    shut_out = firewall.shut_out(wanted, ports, here.address, here.port) if here else ""
    files = (reader.read(firewall.RULES), reader.read(firewall.UNIT_FILE))
    if reader.stat(firewall.NFT) is None:
        return SeenFirewall(shut_out=shut_out, installed=False, text=text, rules=files[0], unit=files[1])
    listing = [firewall.NFT, "list", "table", "inet", firewall.TABLE]
    # As the kernel itself would show it: nobody else knows how it writes a rule down.
    alone = reader.run([*ALONE, f"{firewall.NFT} -f - && exec {' '.join(listing)}"], stdin=text)
    if not alone.ok:
        return SeenFirewall(f"nft does not take the rules: {one_line(alone.said())}")
    live = reader.run(listing)
    if not live.ok and "No such file or directory" not in live.err:
        return SeenFirewall(f"nft {live.ending}: {one_line(live.said())}")
    return SeenFirewall(
        shut_out=shut_out,
        wanted=firewall.shown(alone.out),
        live=firewall.shown(live.out) if live.ok else None,
        text=text,
        rules=files[0],
        unit=files[1],
        enabled=reader.run([SYSTEMCTL, "is-enabled", firewall.UNIT]).out.strip(),
    )


def _other_filter(reader: Reader) -> str:
    """Who else decides what is dropped. The settings of ufw outlive its package."""
    text = reader.read("/etc/ufw/ufw.conf") or ""
    enabled = any(line.replace('"', "").strip().lower() == "enabled=yes" for line in text.splitlines())
    if enabled and reader.stat("/usr/sbin/ufw") is not None:
        return "ufw"
    if reader.stat("/usr/sbin/firewalld") is not None and reader.run([SYSTEMCTL, "is-active", "firewalld.service"]).ok:
        return "firewalld"
    return ""
