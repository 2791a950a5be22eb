# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of sshd as data: what they are to be, the text of our drop-in, what ``sshd -T`` prints. Pure.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.model import Declared

MAIN = "/etc/ssh/sshd_config"
FOLDER = "/etc/ssh/sshd_config.d"
# The first value of a keyword counts (sshd_config(5)), and files are read by name.
NAME = "00-nusy.conf"
DROPIN = f"{FOLDER}/{NAME}"
HEAD = "# Made by role access of nusy.dgx_spark. Another line in here is drift.\n"

# The hardened server policies of ssh-audit 3.9.0: that for OpenSSH 10 where the node has its key exchange
# (which came with 9.9), else that for 9.6. Without diffie-hellman-group-exchange-sha256: with it, the strength
# depends on /etc/ssh/moduli, too.
NEWEST = "mlkem768x25519-sha256"
KEX_10 = (NEWEST, "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
KEX_9 = (
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)
CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-gcm@openssh.com",
    "aes128-ctr",
)
MACS = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "umac-128-etm@openssh.com")
KEYS = (
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "ssh-ed25519-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "ssh-ed25519",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
SIGNATURES = ("sk-ssh-ed25519@openssh.com", "ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
# BSI TR-02102-1 and NIST SP 800-57 ask for 3000 and 3072 bits.
RSA_BITS = 3072
# How ``ssh -Q`` calls what sshd may be told of each.
QUERIES = ("kex", "cipher", "mac", "HostKeyAlgorithms")
# What a key in authorized_keys is called → the algorithms it signs with.
SIGNS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")}
SPELLED = {"without-password": "prohibit-password"}


@dataclass(frozen=True)
class Setting:
    control: str
    keyword: str
    value: str

    @property
    def name(self) -> str:
        return self.keyword.lower()


# What a login may be asked for beside its key → the keyword without which it could not be.
FACTORS = {"password": "PasswordAuthentication", "keyboard-interactive": "KbdInteractiveAuthentication"}


def factors(every: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Keywords of what is asked for beside a key and never without one, by everybody's AuthenticationMethods.

    Two factors are more than a key alone: what they need is left as it is.
    """
    asked: set[str] = set()
    for conf in every:
        ways = [way.split(",") for way in conf.get("authenticationmethods", "any").split()]
        if not all("publickey" in way for way in ways):
            return frozenset()
        asked |= {method.partition(":")[0] for way in ways for method in way}
    return frozenset(keyword for method, keyword in FACTORS.items() if method in asked)


def takes_passwords(conf: Mapping[str, str]) -> bool:
    """Whether somebody may come in with nothing but a password."""
    on = {method for method, keyword in FACTORS.items() if conf.get(keyword.lower()) == "yes"}
    ways = conf.get("authenticationmethods", "any").split()
    return bool(on) and any(way == "any" or {one.partition(":")[0] for one in way.split(",")} <= on for way in ways)


def settings(
    wanted: Declared,
    supported: Mapping[str, Collection[str]],
    known: Collection[str],
    left: Collection[str] = (),
) -> list[Setting]:
    """supported: by query of ``ssh -Q``. known: keywords that this sshd prints; one that it lacks is left out.

    left: keywords that stay as they are.
    """

    def some(query: str, names: Sequence[str]) -> str:
        return ",".join(name for name in names if name in supported[query])

    kex = KEX_10 if NEWEST in supported["kex"] else KEX_9
    forwarding = "yes" if wanted.tcp_forwarding else "no"
    every = {
        "ssh_keys_only": {
            "PubkeyAuthentication": "yes",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "HostbasedAuthentication": "no",
            "GSSAPIAuthentication": "no",
            "PermitEmptyPasswords": "no",
            "StrictModes": "yes",
        },
        "ssh_root": {"PermitRootLogin": wanted.root_login},
        "ssh_algorithms": {
            "KexAlgorithms": some("kex", kex),
            "Ciphers": some("cipher", CIPHERS),
            "MACs": some("mac", MACS),
            "HostKeyAlgorithms": some("HostKeyAlgorithms", KEYS),
            "PubkeyAcceptedAlgorithms": some("HostKeyAlgorithms", KEYS),
            "CASignatureAlgorithms": some("HostKeyAlgorithms", SIGNATURES),
            "RequiredRSASize": str(RSA_BITS),
        },
        "ssh_limits": {
            "MaxAuthTries": str(wanted.max_auth_tries),
            "LoginGraceTime": str(wanted.login_grace_seconds),
            # CIS Ubuntu 24.04 5.1.17 and 5.1.18: many logins at once are refused at random, and all beyond 60.
            "MaxStartups": "10:30:60",
            "MaxSessions": "10",
            # A peer that is gone is noticed after 45 s, CIS 5.1.7; one that is there and idle stays.
            "ClientAliveInterval": "15",
            "ClientAliveCountMax": "3",
            # That of TCP says the same and can be forged by whoever is on the way.
            "TCPKeepAlive": "no",
        },
        # INFO tells which key let somebody in, VERBOSE also which ones were refused.
        "ssh_log": {"LogLevel": "VERBOSE"},
        "ssh_forwarding": {
            "X11Forwarding": "no",
            "AllowAgentForwarding": "yes" if wanted.agent_forwarding else "no",
            "AllowTcpForwarding": forwarding,
            "AllowStreamLocalForwarding": forwarding,
            "GatewayPorts": "no",
            "PermitTunnel": "no",
            "PermitUserEnvironment": "no",
        },
        "ssh_banner": {"Banner": wanted.banner} if wanted.banner else {},
    }
    return [
        Setting(control, keyword, value)
        for control, lines in every.items()
        for keyword, value in lines.items()
        if value and keyword.lower() in known and keyword not in left
    ]


def text_of(lines: Sequence[Setting], kept: Sequence[str] = ()) -> str:
    """``kept``: lines of a skipped control, as they are found in our drop-in."""
    return HEAD + "".join(f"{one.keyword} {one.value}\n" for one in lines) + "".join(f"{line}\n" for line in kept)


def keyword_of(line: str) -> str:
    """sshd takes ``Keyword value`` and ``Keyword=value``; empty for a comment or nothing."""
    match = re.match(r"\s*([A-Za-z][A-Za-z0-9]*)(?:\s|=|$)", line)
    return match[1].lower() if match else ""


def effective(printed: str) -> dict[str, str]:
    """What ``sshd -T`` prints, keyword → value; those that are printed several times by all of them."""
    found: dict[str, str] = {}
    for line in printed.splitlines():
        keyword, _blank, value = line.strip().partition(" ")
        value = SPELLED.get(value, value)
        found[keyword] = f"{found[keyword]} {value}" if keyword in found else value
    return found


def candidate(main: str, text: str, names: Sequence[str]) -> str:
    """The whole configuration with ``text`` as our drop-in, without writing it anywhere.

    names: the files that are in the folder. What is read before ours stays before it. Where the folder is not
    included there is no place for ours, and the configuration is as it is.
    """
    lines = main.splitlines()
    for number, line in enumerate(lines):
        if keyword_of(line) == "match":
            break
        if keyword_of(line) == "include" and any(_covers(word) for word in _words(line)[1:]):
            before = [f"Include {FOLDER}/{name}" for name in sorted(names) if name < NAME and name.endswith(".conf")]
            return "\n".join([*lines[:number], *before, text, *lines[number:]]) + "\n"
    return main


def _words(line: str) -> list[str]:
    return [word.strip('"') for word in re.split(r"[\s=]+", line.strip()) if word]


def _covers(pattern: str) -> bool:
    return fnmatch.fnmatch(DROPIN, pattern if pattern.startswith("/") else posixpath.join("/etc/ssh", pattern))


def places(files: Mapping[str, str], keyword: str) -> list[str]:
    """Where somebody else sets a keyword, as file:line, with the condition that it stands under."""
    return [place for place, _condition, _value in _set(files, keyword)]


def has_conditions(files: Mapping[str, str]) -> bool:
    return any(keyword_of(line) == "match" for text in files.values() for line in text.splitlines())


def conditional(files: Mapping[str, str], setting: Setting) -> list[str]:
    """Where a Match block sets another value: for whom it is about, whoever is asked about.

    One that asks for a key and something else may allow that something.
    """
    asking = {
        condition
        for _place, condition, value in _set(files, "AuthenticationMethods")
        if all("publickey" in way.split(",") for way in value.split())
    }
    return [
        place
        for place, condition, value in _set(files, setting.keyword)
        if condition
        and SPELLED.get(value.lower(), value.lower()) != setting.value
        and not (condition in asking and setting.keyword in FACTORS.values())
    ]


def _set(files: Mapping[str, str], keyword: str) -> Iterator[tuple[str, str, str]]:
    for path, text in files.items():
        if path != DROPIN:
            yield from _places(path, text, keyword.lower())


def _places(path: str, text: str, keyword: str) -> Iterator[tuple[str, str, str]]:
    """As file:line (condition), and condition and value alone."""
    condition = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = keyword_of(line)
        if found == "match":
            condition = " ".join(line.split())
        elif found == keyword:
            value = " ".join(_words(line)[1:])
            yield f"{path}:{number}" + (f" ({condition})" if condition else ""), condition, value
