# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter as data: one table of nftables of our own, and what the kernel shows of it. Pure.

Every rule says in its comment which control it is for, so a rule that somebody takes away or adds by hand
has a name. No other table is touched: a packet has to pass all of them.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.model import FIREWALL, Declared, Service
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError

TABLE = "nusy"
RULES = "/etc/nusy/firewall.nft"
UNIT = "nusy-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
NFT = "/usr/sbin/nft"
# Networks that containers are in, by the names that Docker, Podman and libvirt give their bridges.
INSIDE = ("docker*", "br-*", "podman*", "cni*", "virbr*")
CHAINS = ("chain input", "chain forward")
HOOK = re.compile(r"type filter hook (?:input|forward) priority ")
COMMENT = re.compile(r' comment "([a-z_]+): [^"]*"$')
SERVICE = f"""\
# Made by role access of nusy.dgx_spark; what is added by hand is lost at its next run.
[Unit]
Description=Packet filter of nusy.dgx_spark (table inet {TABLE})
DefaultDependencies=no
Wants=network-pre.target
# nftables.service empties the whole rule set when it is started again: then this one follows.
PartOf=nftables.service
After=nftables.service local-fs.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={NFT} -f {RULES}
ExecReload={NFT} -f {RULES}
CapabilityBoundingSet=CAP_NET_ADMIN
DevicePolicy=closed
IPAddressDeny=any
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RestrictAddressFamilies=AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077

[Install]
WantedBy=sysinit.target
"""


def rules(wanted: Declared, ssh_ports: Sequence[int], skipped: Sequence[str] = ()) -> str:
    """The file for ``nft -f``: takes the place of the table that is there, in one transaction.

    From wherever it is made it is the same one.
    """
    chains = {"input": list(_input(wanted, ssh_ports)), "forward": list(_forward(wanted))}
    lines = [
        "# Made by role access of nusy.dgx_spark. A line that is added by hand is drift.",
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
    ]
    for name, policy in (("input", "drop"), ("forward", "accept")):
        lines += [f"\tchain {name} {{", f"\t\ttype filter hook {name} priority filter; policy {policy};"]
        lines += [f'\t\t{rule} comment "{mark}"' for mark, rule in chains[name] if mark.split(":")[0] not in skipped]
        lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def shut_out(wanted: Declared, ssh_ports: Sequence[int], address: str, port: int) -> str:
    """Why nobody could log in again from ``address`` to ``port``; empty when they could."""
    if port not in ssh_ports:
        return f"this login came by port {port}, where sshd is not configured to listen: log in by another one"
    named = (*wanted.ssh_from, *wanted.peers)
    if not wanted.ssh_from or any(_within(address, network) for network in named):
        return ""
    return (
        f"this login comes from {address}, which access_firewall_ssh_from does not name: add it, or log in from there"
    )


def _within(address: str, network: str) -> bool:
    found, named = ipaddress.ip_address(address), ipaddress.ip_network(network)
    # An IPv4 address that came by a socket of IPv6.
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found) in named


def _input(wanted: Declared, ssh_ports: Sequence[int]) -> Iterator[tuple[str, str]]:
    default = "firewall_default"
    yield f"{default}: loopback", 'iifname "lo" accept'
    yield f"{default}: answers", "ct state established,related accept"
    yield f"{default}: broken", "ct state invalid drop"
    # Without these IPv6 does not work at all (RFC 4890 4.4), and a wrong MTU is never found.
    kinds = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query"
    yield f"{default}: IPv6 itself", f"icmpv6 type {{ {kinds} }} accept"
    yield f"{default}: ping", "icmpv6 type echo-request limit rate 50/second accept"
    yield f"{default}: ping", "icmp type echo-request limit rate 50/second accept"
    yield f"{default}: DHCP", "udp sport 67 udp dport 68 accept"
    yield f"{default}: DHCPv6", "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept"
    if wanted.mdns:
        yield f"{default}: mDNS", "ip daddr 224.0.0.251 udp dport 5353 accept"
        yield f"{default}: mDNS", "ip6 daddr ff02::fb udp dport 5353 accept"
    ports = _set(str(port) for port in sorted(set(ssh_ports)))
    if wanted.ssh_from:
        for match in _sources(wanted.ssh_from):
            yield "firewall_ssh: ssh", f"{match} tcp dport {ports} accept"
    else:
        yield "firewall_ssh: ssh", f"tcp dport {ports} accept"
    interfaces = f"iifname {_set(_quoted(wanted.interfaces))} " if wanted.interfaces else ""
    for match in _sources(wanted.peers):
        yield "firewall_fabric: peers", f"{interfaces}{match} accept"
    for service in wanted.published:
        for match in openings(service):
            yield f"firewall_published: {service.name}", f"{match}{service.protocol} dport {_ports(service)} accept"


def _forward(wanted: Declared) -> Iterator[tuple[str, str]]:
    """What Docker and Podman publish is sent on before it comes to ``input``. Only that is judged here."""
    mark = "firewall_forwarded"
    yield f"{mark}: answers", "ct state established,related accept"
    yield f"{mark}: containers", f"iifname {_set(_quoted(INSIDE))} accept"
    for match in _sources(wanted.peers):
        interfaces = f"iifname {_set(_quoted(wanted.interfaces))} " if wanted.interfaces else ""
        yield f"{mark}: peers", f"ct status dnat {interfaces}{match} accept"
    for service in wanted.published:
        for match in openings(service, forwarded=True):
            words = f"{match}meta l4proto {service.protocol} ct status dnat ct original proto-dst {_ports(service)}"
            yield f"{mark}: {service.name}", f"{words} accept"
    yield f"{mark}: the rest", "ct status dnat drop"


def openings(service: Service, *, forwarded: bool = False) -> list[str]:
    """The conditions under which a published service is reached; its fabric peers may reach everything anyway."""
    if service.bind == "loopback":
        return []
    sources = [peer for peer in service.peers if peer not in ("any", "fabric")]
    found = [""] if "any" in service.peers else [f"{match} " for match in _sources(sources)]
    if service.bind in ("any", "fabric") or forwarded:
        return found
    family = "ip6" if ":" in service.bind else "ip"
    here = f"{family} daddr {service.bind} "
    return [f"{match}{here}" for match in found if not match or match.startswith(f"{family} ")]


def _sources(networks: Sequence[str]) -> list[str]:
    four = [one for one in networks if ":" not in one]
    six = [one for one in networks if ":" in one]
    return [f"{family} saddr {_set(some)}" for family, some in (("ip", four), ("ip6", six)) if some]


def _ports(service: Service) -> str:
    return _set(service.ports)


def _set(values: Iterable[str]) -> str:
    return f"{{ {', '.join(values)} }}"


def _quoted(names: Sequence[str]) -> list[str]:
    return [f'"{name}"' for name in names]


# --- what the kernel shows ------------------------------------------------------------------


def shown(printed: str) -> dict[str, list[str]]:
    """What ``nft list table`` prints, by control: each line with its chain, in their order.

    A rule that no control has made is ``firewall_extra``'s, and so is a set or a chain of somebody else.
    """
    lines = printed.splitlines()
    if not lines or lines[0].split() != ["table", "inet", TABLE, "{"] or lines[-1] != "}":
        raise ParseError("nft list table", printed, f"table inet {TABLE} {{ … }}")
    found: dict[str, list[str]] = {name: [] for name in FIREWALL}
    inside = ""
    for line in (line.strip() for line in lines[1:-1]):
        if line.endswith(" {"):
            inside = line.removesuffix(" {")
            continue
        if line in ("", "}"):
            continue
        mark = COMMENT.search(line)
        control = mark[1] if mark else "firewall_default" if HOOK.match(line) and inside in CHAINS else ""
        found[control if control in found else "firewall_extra"].append(f"{inside}: {line}")
    return found
