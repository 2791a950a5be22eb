# SPDX-License-Identifier: GPL-3.0-or-later
"""Has somebody a key that sshd would take?

Asked before passwords are refused. What cannot be judged from the file alone (``from=``, a command that
hands out keys) counts as a key: the second login is the proof, and this only spares one that must fail.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.ssh import FACTORS, SIGNS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.public_key import rsa_bits

# [options] type base64 [comment]; a blank inside quotes does not end the options.
LINE = re.compile(
    r'(?:(?P<options>(?:[^\s"]|"(?:[^"\\]|\\.)*")+)\s+)??(?P<type>[a-z][a-z0-9@.-]+)\s+(?P<key>AAAA[\w+/=]+)'
)
NO_SHELL = ("nologin", "false")
COMMAND = re.compile(r"(^|,)(command=|cert-authority(,|$))", re.IGNORECASE)


def problem(user: str, conf: Mapping[str, str], reader: Reader) -> str:
    """Why nobody could log in as ``user`` with a key under ``conf``; empty when somebody can."""
    account = reader.user(user)
    if account is None:
        return f"there is no account {user}"
    if account.pw_shell and os.path.basename(account.pw_shell) in NO_SHELL:
        return f"{user} has {account.pw_shell} for a shell"
    if user == "root" and conf.get("permitrootlogin") == "no":
        return "PermitRootLogin no"
    closed = not_allowed(user, conf, reader) or _too_much_asked(conf)
    if closed:
        return closed
    if conf.get("authorizedkeyscommand", "none") != "none" or conf.get("trustedusercakeys", "none") != "none":
        return ""
    problems = []
    for pattern in conf.get("authorizedkeysfile", ".ssh/authorized_keys").split():
        path = os.path.join(account.pw_dir, _expanded(pattern, user, account.pw_dir, account.pw_uid))
        try:
            why = _loose(path, account.pw_dir, account.pw_uid, reader) or _useless(path, conf, reader)
        except Unreadable as error:
            why = str(error)
        if not why:
            return ""
        problems.append(why)
    return "; ".join(problems) or "AuthorizedKeysFile none"


def with_password(reader: Reader) -> list[str]:
    """Accounts with a shell that have a password. Those of a directory service are listed nowhere."""
    rows = [line.split(":") for line in (reader.read("/etc/shadow") or "").splitlines()]
    names = [row[0] for row in rows if len(row) > 1 and row[1][:1] not in ("", "!", "*")]
    found = [(name, reader.user(name)) for name in names]
    return [name for name, account in found if account and os.path.basename(account.pw_shell) not in NO_SHELL]


def not_allowed(user: str, conf: Mapping[str, str], reader: Reader) -> str:
    """sshd_config(5) asks these four, and one that is dormant would wake up when sshd reads its files again.

    Of ``user@host`` only the user is compared, and groups by their members in /etc/group: the login proves the rest.
    """
    account = reader.user(user)
    groups = {reader.group_name(account.pw_gid)} if account else set()
    for keyword, allows, names in (
        ("denyusers", False, {user}),
        ("allowusers", True, {user}),
        ("denygroups", False, groups),
        ("allowgroups", True, groups),
    ):
        patterns = [pattern.partition("@")[0] for pattern in conf.get(keyword, "").split()]
        if keyword.endswith("groups"):
            found = [reader.group(pattern) for pattern in patterns]
            names = names | {group.gr_name for group in found if group is not None and user in group.gr_mem}
        hit = any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)
        if patterns and hit != allows:
            return f"{keyword} {conf[keyword]}"
    return ""


def _too_much_asked(conf: Mapping[str, str]) -> str:
    """sshd_config(5): one of the lists has to be gone through, and a method that is off ends it."""
    asked = conf.get("authenticationmethods", "any")
    on = {"any", "publickey", *(method for method, keyword in FACTORS.items() if conf.get(keyword.lower()) == "yes")}
    ways = [{method.partition(":")[0] for method in way.split(",")} for way in asked.split()]
    return "" if any(way <= on for way in ways) else f"AuthenticationMethods {asked} asks for what is switched off"


def _expanded(pattern: str, user: str, home: str, uid: int) -> str:
    values = {"%%": "%", "%u": user, "%h": home, "%U": str(uid)}
    return re.sub("%.", lambda match: values.get(match[0], match[0]), pattern)


def _loose(path: str, home: str, uid: int, reader: Reader) -> str:
    """StrictModes: the file and its folders, up to the home, of the user or root, and written by nobody else."""
    place = os.path.normpath(path)
    while place != "/":
        stat = reader.stat(place)
        if stat is None:
            return f"{path} does not exist"
        # sshd looks at what a link leads to; one is rare here, and followed by the proof.
        if stat.kind != "link" and (stat.uid not in (0, uid) or stat.mode & 0o022):
            return f"StrictModes refuses {path}, since {place} has mode {stat.octal} and owner {stat.uid}"
        if place == os.path.normpath(home):
            break
        place = os.path.dirname(place)
    return ""


def _useless(path: str, conf: Mapping[str, str], reader: Reader) -> str:
    """Why sshd would take no key of this file; empty when it would take one."""
    accepted = conf.get("pubkeyacceptedalgorithms", "").split(",")
    bits = int(conf.get("requiredrsasize", "1024"))
    whys = []
    for line in (reader.read(path) or "").splitlines():
        match = LINE.match(line.strip())
        if match is None or line.lstrip().startswith("#") or COMMAND.search(match["options"] or ""):
            continue
        kind = match["type"]
        size = rsa_bits(match["key"]) if kind == "ssh-rsa" else 0
        if not set(SIGNS.get(kind, (kind,))) & set(accepted):
            whys.append(f"a key of type {kind} is not accepted any more")
        elif size and size < bits:
            whys.append(f"an RSA key of {size} bits is too short")
        else:
            return ""
    return f"{path}: {', '.join(dict.fromkeys(whys)) or 'holds no key for a login'}"
