# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports are listened on at a host, by what roles publish and what the inventory adds, and do two of them meet?

A role publishes in ``meta/ports.yml``, as templates over its variables. ``spark_ports`` of the
inventory gives published services other values and adds services that no role knows.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import misfits, shown, unknown
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.documents import Unjudged, environment, unjudged
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.groups import running
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables

OWN = "spark_ports"
OPTIONS: dict[str, dict[str, Any]] = {
    "ports": {"type": "list", "elements": "str", "required": True},
    "protocol": {"choices": ["tcp", "udp"]},
    "bind": {},
    "peers": {"type": "list", "elements": "str"},
    "reason": {"required": True},
}
DEFAULTS: dict[str, Any] = {"protocol": "tcp", "bind": "loopback", "peers": []}
BINDS = ("loopback", "fabric", "any")
PEERS = ("fabric", "any")
MOST = 65535
# A service of a role is named <role>/<service>, one of the inventory has a name without a slash.
NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclasses.dataclass(frozen=True)
class Service:
    """``source``: the variables that decide about it, as words for an error. ``ports``: first and last of ranges."""

    service: str
    ports: tuple[tuple[int, int], ...]
    protocol: str
    bind: str
    peers: tuple[str, ...]
    reason: str
    role: str
    source: str

    @property
    def id(self) -> str:
        return f"{self.role}/{self.service}" if self.role else self.service

    def public(self) -> dict[str, Any]:
        """As the lookup returns it: ports as texts, ``8000`` or ``6381-6386``."""
        return {
            "service": self.service,
            "ports": [_written(one) for one in self.ports],
            "protocol": self.protocol,
            "bind": self.bind,
            "peers": list(self.peers),
            "reason": self.reason,
            "role": self.role,
        }


def published(
    owners: Mapping[str, Path], host: Variables, loader: DataLoader, templar: Templar, *, computable: bool = False
) -> Iterator[Service | Problem | Unjudged]:
    """Every service of the host, and what is wrong with how it is written.

    ``computable``: name what cannot be computed before its role runs, instead of failing.
    """
    try:
        own = host.value(OWN, {})
    except AnsibleError as error:
        if not computable:
            raise
        yield unjudged("access", OWN, error)
        own = {}
    if not isinstance(own, Mapping):
        problem = _refused(f"{OWN}: a mapping of services", shown(own), "nothing could be opened for it").problem
        yield dataclasses.replace(problem, found=f"{problem.found} on {host.host}{host.place(OWN)}")
        return
    known = []
    here = running(owners, host, loader)
    for role, folder in owners.items():
        path = folder / "meta" / "ports.yml"
        entries = loader.load_from_file(str(path), trusted_as_template=True)["ports"] if path.is_file() else ()
        there = environment(folder, host, loader, templar) if entries else templar
        for entry in entries:
            name = f"{role}/{entry['service']}"
            known.append(name)
            if role not in here:
                continue
            other = own.get(name, {})
            try:
                if not there.template(entry.get("when", True)):
                    continue
                values = {key: there.template(entry[key]) for key in OPTIONS if key in entry}
            except AnsibleError as error:
                if not computable:
                    raise
                yield unjudged(role, f"the port of {entry['service']}", error)
                continue
            source = f"{OWN}{host.place(OWN)}" if name in own else _source(entry, folder, host, loader)
            values = {**values, **other} if isinstance(other, Mapping) else other
            yield from _service(entry["service"], role, values, source, host)
    for name, entry in own.items():
        if "/" not in name:
            yield from _service(name, "", entry, f"{OWN}{host.place(OWN)}", host)
        elif name not in known:
            where = f"{name} on {host.host}{host.place(OWN)}"
            yield unknown(f"{OWN}.{name}", name, known, found=where, otherwise="a service of your own has no slash")


def misplaced(
    owners: Mapping[str, Path], host: Variables, loader: DataLoader, templar: Templar
) -> Iterator[Problem | Unjudged]:
    """What is wrong with the ports of a host, as far as it can be told before its roles run."""
    found = list(published(owners, host, loader, templar, computable=True))
    yield from (one for one in found if not isinstance(one, Service))
    yield from clashes([one for one in found if isinstance(one, Service)], host.host)


def clashes(services: Sequence[Service], host: str) -> Iterator[Problem]:
    """Every two services that want the same port of the same address."""
    for one, other in itertools.combinations(services, 2):
        if one.protocol != other.protocol or not _same_address(one.bind, other.bind):
            continue
        both = [
            _written((max(a[0], b[0]), min(a[1], b[1])))
            for a in one.ports
            for b in other.ports
            if max(a[0], b[0]) <= min(a[1], b[1])
        ]
        if both:
            yield Problem(
                "preflight.ports",
                wanted=f"One service for {one.protocol} port {', '.join(both)}",
                found=f"{_told(one)} and {_told(other)} on {host}",
                why="whichever starts second finds its port taken",
                fix=f"give one of them another port or address, or another value in {OWN}",
            )


def _service(name: str, role: str, entry: Any, source: str, host: Variables) -> Iterator[Service | Problem]:
    """One service or, where what is written cannot be meant, one problem for each reason."""
    at = f"{role}/{name}" if role else f"{OWN}.{name}"
    problems = [*_misshapen(name, entry, at)]
    if not problems:
        values = {**DEFAULTS, **entry}
        try:
            ports = tuple(_range(str(port), f"{at}.ports[{i}]") for i, port in enumerate(values["ports"]))
            bind = _bind(values["bind"], f"{at}.bind")
            peers = tuple(_peer(peer, f"{at}.peers[{i}]") for i, peer in enumerate(values["peers"]))
            if bind == "loopback" and peers:
                raise _refused(f"{at}.peers: none", f"{', '.join(peers)}", "nobody else reaches an address of loopback")
        except InputError as error:
            problems = [error.problem]
        else:
            if ports:  # an empty list takes a published service out
                yield Service(name, ports, values["protocol"], bind, peers, values["reason"], role, source)
    for problem in problems:
        yield dataclasses.replace(problem, found=f"{problem.found} on {host.host}, by {source}")


def _misshapen(name: str, entry: Any, at: str) -> Iterator[Problem]:
    if not NAME.fullmatch(name):
        yield _refused(f"{at}: a name of small letters, digits, - and _", repr(name), "it names a rule").problem
    elif not isinstance(entry, Mapping):
        yield _refused(f"{at}: a mapping with ports and reason", shown(entry), "nothing else says which port").problem
    else:
        yield from misfits(OPTIONS, entry, f"{at}.")


def _range(text: str, at: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= MOST:
        raise _refused(f"{at}: a port or first-last, from 1 to {MOST}", repr(text), "no service listens there")
    return first, last


def _bind(text: str, at: str) -> str:
    """Words are left as they are; an address becomes the word for it where there is one."""
    if text in BINDS:
        return text
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise _refused(f"{at}: {', '.join(BINDS)} or an address", repr(text), "no service listens there") from error
    return "any" if address.is_unspecified else "loopback" if address.is_loopback else str(address)


def _peer(text: str, at: str) -> str:
    if text in PEERS:
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        why = "a firewall would open the port to somebody else, or not at all"
        raise _refused(f"{at}: {', '.join(PEERS)}, an address or a network", f"{text!r} ({error})", why) from error


def _refused(wanted: str, found: str, why: str) -> InputError:
    return InputError("preflight.published", wanted=wanted, found=found, why=why, fix=f"correct {wanted.split(':')[0]}")


def _same_address(one: str, other: str) -> bool:
    """A wildcard meets every address. ``fabric`` is an address that is not known here: only another one meets it."""
    return one == other or "any" in (one, other)


def _source(entry: Mapping[str, Any], folder: Path, host: Variables, loader: DataLoader) -> str:
    """The written variables that an entry reads, also by way of a default of its role."""
    path = folder / "defaults" / "main.yml"
    defaults = (loader.load_from_file(str(path)) if path.is_file() else None) or {}
    words = set(re.findall(r"\w+", repr(dict(entry))))
    words |= {word for name in words & defaults.keys() for word in re.findall(r"\w+", repr(defaults[name]))}
    named = [f"{name}{host.place(name)}" for name in sorted(words & host.written.keys())]
    return " and ".join(named) or f"role {folder.name} as it is shipped"


def _written(ports: tuple[int, int]) -> str:
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def _told(one: Service) -> str:
    return f"{one.id} ({one.protocol} {', '.join(map(_written, one.ports))} of {one.bind}, by {one.source})"
