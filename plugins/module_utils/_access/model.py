# SPDX-License-Identifier: GPL-3.0-or-later
"""What can cut access: its controls, and what is declared about it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError

ROLE = "access"
CONTROLS = (
    "access/ssh_keys_only",
    "access/ssh_root",
    "access/ssh_algorithms",
    "access/ssh_limits",
    "access/ssh_log",
    "access/ssh_forwarding",
    "access/ssh_banner",
    "access/ssh_extra",
    "access/ssh_running",
    "access/firewall_default",
    "access/firewall_ssh",
    "access/firewall_fabric",
    "access/firewall_published",
    "access/firewall_forwarded",
    "access/firewall_boot",
    "access/firewall_extra",
)
SSH = tuple(name.removeprefix("access/") for name in CONTROLS if name.startswith("access/ssh_"))
FIREWALL = tuple(name.removeprefix("access/") for name in CONTROLS if name.startswith("access/firewall_"))

# Without these the others are no packet filter, but a wall.
WHOLE = {"firewall_default", "firewall_ssh"}
# A range is written as nft does: 8000-8019.
PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\*?")
SERVICE = re.compile(r"[A-Za-z0-9_./-]{1,64}")
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
MOST_PORT = 65535


@dataclass(frozen=True)
class Service:
    """One published service. ``peers``: any, fabric, addresses and networks."""

    name: str
    ports: tuple[str, ...]
    protocol: str
    bind: str
    peers: tuple[str, ...]


@dataclass(frozen=True)
class Declared:
    """``admins``: accounts that must not lose their way in, beside whoever is logged in."""

    root_login: str
    tcp_forwarding: bool
    agent_forwarding: bool
    max_auth_tries: int
    login_grace_seconds: int
    banner: str
    admins: tuple[str, ...]
    firewall: bool
    ssh_from: tuple[str, ...]
    mdns: bool
    interfaces: tuple[str, ...]
    peers: tuple[str, ...]
    published: tuple[Service, ...]
    proof_seconds: int


SSH_OPTIONS: dict[str, Any] = {
    "root_login": {"type": "str", "choices": ["no", "prohibit-password"], "default": "no"},
    "tcp_forwarding": {"type": "bool", "default": True},
    "agent_forwarding": {"type": "bool", "default": False},
    "max_auth_tries": {"type": "int", "default": 4},
    "login_grace_seconds": {"type": "int", "default": 60},
    "banner": {"type": "str", "default": ""},
    "admins": {"type": "list", "elements": "str", "default": []},
}
FIREWALL_OPTIONS: dict[str, Any] = {
    "enabled": {"type": "bool", "default": True},
    "ssh_from": {"type": "list", "elements": "str", "default": []},
    "mdns": {"type": "bool", "default": True},
    "fabric_interfaces": {"type": "list", "elements": "str", "default": []},
    "fabric_peers": {"type": "list", "elements": "str", "default": []},
}
PUBLISHED_OPTIONS: dict[str, Any] = {
    "service": {"type": "str", "required": True},
    "ports": {"type": "list", "elements": "str", "required": True},
    "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
    "bind": {"type": "str", "default": "loopback"},
    "peers": {"type": "list", "elements": "str", "default": []},
    "reason": {"type": "str", "default": ""},
    "role": {"type": "str", "default": ""},
}
OWN_OPTIONS: dict[str, Any] = {
    "ssh": {"type": "dict", "options": SSH_OPTIONS, "apply_defaults": True},
    "firewall": {"type": "dict", "options": FIREWALL_OPTIONS, "apply_defaults": True},
    "published": {"type": "list", "elements": "dict", "default": [], "options": PUBLISHED_OPTIONS},
    "proof_seconds": {"type": "int", "default": 60},
    "proving": {"type": "bool", "default": False},
}


def declared(params: Mapping[str, Any]) -> Declared:
    """Raises InputError, with the path of the wrong value."""
    ssh, firewall = params["ssh"], params["firewall"]
    _between("ssh.max_auth_tries", ssh["max_auth_tries"], 1, 10)
    # The kernel of the proof is a login: a second of grace would refuse it.
    _between("ssh.login_grace_seconds", ssh["login_grace_seconds"], 10, 600)
    # The controller has to come back and log in; a node that waits for an hour is open for an hour.
    _between("proof_seconds", params["proof_seconds"], 5, 600)
    banner = ssh["banner"]
    if banner and (not banner.startswith("/") or re.search(r"[\s\"']", banner)):
        raise _wrong("ssh.banner", "an absolute path without blanks or quotes", banner, "sshd would read another file")
    for i, name in enumerate(ssh["admins"]):
        if ACCOUNT.fullmatch(name) is None:
            raise _wrong(f"ssh.admins[{i}]", "an account name", name, "nobody could be asked about it")
    for i, name in enumerate(firewall["fabric_interfaces"]):
        if INTERFACE.fullmatch(name) is None:
            raise _wrong(f"firewall.fabric_interfaces[{i}]", "an interface name", name, "no interface has that name")
    if firewall["fabric_interfaces"] and not firewall["fabric_peers"]:
        found, why = "interfaces and no peers", "whoever is plugged in there would be trusted"
        raise _wrong("firewall.fabric_peers", "the addresses of the named peers", found, why)
    left = {name for name in FIREWALL if f"{ROLE}/{name}" in params["skip_controls"]}
    if firewall["enabled"] and left & WHOLE and left != {*FIREWALL}:
        found = ", ".join(f"{ROLE}/{name}" for name in sorted(left & WHOLE))
        why = "the rest of the rules would cut the node off: they drop what is not named, and nothing else names these"
        raise InputError(
            "access.bad_input", wanted="skip_controls: controls that can be left alone", found=found, why=why,
            fix="set access_firewall: false to leave the packet filter alone",
        )  # fmt: skip
    published = tuple(_service(one, f"published[{i}]") for i, one in enumerate(params["published"]))
    return Declared(
        root_login=ssh["root_login"],
        tcp_forwarding=ssh["tcp_forwarding"],
        agent_forwarding=ssh["agent_forwarding"],
        max_auth_tries=ssh["max_auth_tries"],
        login_grace_seconds=ssh["login_grace_seconds"],
        banner=banner,
        admins=tuple(dict.fromkeys(ssh["admins"])),
        firewall=firewall["enabled"],
        ssh_from=_networks(firewall["ssh_from"], "firewall.ssh_from"),
        mdns=firewall["mdns"],
        interfaces=tuple(firewall["fabric_interfaces"]),
        peers=_nodes(firewall["fabric_peers"], "firewall.fabric_peers"),
        published=published,
        proof_seconds=params["proof_seconds"],
    )


def _service(entry: Mapping[str, Any], at: str) -> Service:
    name = f"{entry['role']}/{entry['service']}" if entry["role"] else entry["service"]
    if SERVICE.fullmatch(name) is None:
        raise _wrong(f"{at}.service", "a short name of letters, digits, _, -, . and /", name, "it labels a rule")
    for i, text in enumerate(entry["ports"]):
        match = PORTS.fullmatch(text)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if not 0 < first <= last <= MOST_PORT:
            raise _wrong(
                f"{at}.ports[{i}]", "a port such as 8000, or a range such as 8000-8019", text, "nft refuses it"
            )
    if not entry["ports"]:
        raise _wrong(f"{at}.ports", "at least one port", [], "nothing would be opened")
    bind = entry["bind"]
    if bind not in ("loopback", "fabric", "any"):
        _networks([bind], f"{at}.bind")
    named = [peer for peer in entry["peers"] if peer in ("any", "fabric")]
    peers = _networks([peer for peer in entry["peers"] if peer not in named], f"{at}.peers")
    return Service(name, tuple(entry["ports"]), entry["protocol"], bind, (*named, *peers))


def _networks(texts: Sequence[str], at: str) -> tuple[str, ...]:
    """As nft prints them: an address without its length, a network by its first address."""
    found = []
    for i, text in enumerate(texts):
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            expected = "an address or a network such as 10.0.0.0/24"
            raise _wrong(f"{at}[{i}]", expected, text, "nft would look the name up, or refuse it") from None
        alone = network.prefixlen == network.max_prefixlen
        found.append(str(network.network_address if alone else network))
    return tuple(dict.fromkeys(found))


def _nodes(texts: Sequence[str], at: str) -> tuple[str, ...]:
    for i, network in enumerate(found := _networks(texts, at)):
        if network.endswith("/0"):
            why = "they may reach every port: the packet filter would be one that drops nothing"
            raise _wrong(f"{at}[{i}]", "the addresses of the named peers", network, why)
    return found


def _between(at: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise _wrong(at, f"{least} to {most}", value, "outside of it nobody gets in, or nothing is protected")


def _wrong(at: str, expected: str, found: object, why: str) -> InputError:
    return InputError(
        "access.bad_input", wanted=f"{at}: {expected}", found=repr(found), why=why, fix=f"correct what is given as {at}"
    )
