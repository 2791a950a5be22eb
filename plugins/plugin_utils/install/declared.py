# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be installed on a host, judged before a file is written.

Its shape is that of ``spark_install`` in ``meta/argument_specs.yml``, the one description of it.
There is no option for a password, so that none can be written down.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import value_misfits
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text import public_key
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import ROOT, options

NAME = "spark_install"
DGX_OS, UBUNTU = "dgx_os", "ubuntu"
# What only the volume OEMDATA can bring.
OF_OEMDATA = ("apt_repository", "apt_key", "firmware_mirror", "debs", "firmware")
# What Ubuntu's adduser takes by default, and a label of a host name (RFC 1123).
ACCOUNT = re.compile(r"[a-z][a-z0-9_-]{0,30}")
HOSTNAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+")
URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~%+=&-]*)?", re.ASCII)
PLAIN = re.compile(r"[\w./@+-]+", re.ASCII)
SERIAL = re.compile(r"[\w.:+-]+", re.ASCII)
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# The least that IPv6 goes through (RFC 8200, 5), and the most that the length of an IP packet can say.
MTU = range(1280, 65536)
FILES = {"debs": (".deb",), "firmware": (".cab", ".cap")}


@dataclasses.dataclass(frozen=True)
class File:
    path: Path
    sha256: str


@dataclasses.dataclass(frozen=True)
class Port:
    name: str
    mac: str
    addresses: tuple[str, ...]
    gateway: str
    nameservers: tuple[str, ...]
    mtu: int


@dataclasses.dataclass(frozen=True)
class Install:
    """``apt_key``: the text of the key itself."""

    system: str
    hostname: str
    user: str
    groups: tuple[str, ...]
    authorized_keys: tuple[str, ...]
    locale: str
    keyboard: str
    timezone: str
    disk_serial: str
    storage_layout: str
    network: tuple[Port, ...]
    packages: tuple[str, ...]
    apt_repository: str
    apt_key: str
    firmware_mirror: str
    debs: tuple[File, ...]
    firmware: tuple[File, ...]


def parse(declared: Any, hostname: str, user: str) -> tuple[Install | None, list[Problem]]:
    """``hostname`` and ``user`` stand for what is left out."""
    option = options(ROOT)[NAME]
    problems = list(value_misfits(option, declared, NAME))
    if problems:
        return None, problems
    # With defaults, and every value as what it is documented to be: YAML reads some names and sums as numbers.
    given = ArgumentSpecValidator(option["options"]).validate(dict(declared)).validated_parameters
    for name, value in (("hostname", hostname), ("user", user)):
        given[name] = value if given[name] is None else given[name]
    problems = [*_texts(given), *_keys(given), *_network(given), *_of_system(given), *_files(given)]
    if problems:
        return None, problems
    # Plain text: that of Ansible carries where it came from, and YAML does not write it.
    texts = {name: str(given[name] or "") for name in _TEXTS}
    lists = {name: tuple(map(str, given[name])) for name in ("groups", "packages")}
    key = given["apt_key"]
    return Install(
        **texts,
        **lists,
        apt_key=Path(key).read_text("utf-8") if key else "",
        authorized_keys=tuple(" ".join(key.split()) for key in given["authorized_keys"]),
        network=tuple(_port(item) for item in given["network"]),
        debs=tuple(File(Path(item["path"]), item["sha256"].lower()) for item in given["debs"]),
        firmware=tuple(File(Path(item["path"]), item["sha256"].lower()) for item in given["firmware"]),
    ), []


_TEXTS = {
    "system": None,
    "hostname": (HOSTNAME, "a label of small letters, digits and -", "the installer refuses it in the middle"),
    "user": (ACCOUNT, "an account of small letters, digits, _ and -", "the account would not be made"),
    "locale": (PLAIN, "a locale", "the installer stops and asks"),
    "keyboard": (PLAIN, "a layout", "the installer stops and asks"),
    "timezone": (PLAIN, "a time zone", "the installer stops and asks"),
    "disk_serial": (SERIAL, "one serial, without wildcards", "a pattern can match another disk, which would be erased"),
    "storage_layout": None,
    "apt_repository": (URL, "an http or https URL", "apt would be given something else"),
    "firmware_mirror": (URL, "an http or https URL", "fwupd would be given something else"),
}


def _wrong(at: str, wanted: str, found: str, why: str, fix: str = "") -> Problem:
    return Problem("install.input", f"{NAME}.{at}: {wanted}", found, why, fix or f"correct {NAME}.{at}")


def _texts(given: Mapping[str, Any]) -> Iterator[Problem]:
    for name, rule in _TEXTS.items():
        value = given[name]
        if name == "user" and value is None:
            why, fix = "nobody could log in", f"set ansible_user of the host, or {NAME}.user"
            yield _wrong(name, "an account", "nothing, and no ansible_user", why, fix)
        elif rule and value is not None and not rule[0].fullmatch(value):
            secret = "://" in value and ("@" in value or "?" in value)
            yield _wrong(name, rule[1], "one with a password or a query in it" if secret else repr(value), rule[2])
    if given["user"] == "root":
        yield _wrong(
            "user", "an account other than root", "'root'", "root has no key, and sshd lets it in nowhere here"
        )
    for name, pattern in (("groups", ACCOUNT), ("packages", PACKAGE)):
        for number, value in enumerate(given[name]):
            if not pattern.fullmatch(value):
                yield _wrong(f"{name}[{number}]", "a name", repr(value), "there is no such thing to install or join")


def _keys(given: Mapping[str, Any]) -> Iterator[Problem]:
    why = "nobody could log in: there is no password"
    if not given["authorized_keys"]:
        yield _wrong("authorized_keys", "a public key", "an empty list", why, "add the line of a .pub file")
    for number, text in enumerate(given["authorized_keys"]):
        # What was found is not repeated: it may be the other half of the pair.
        if problem := _key(text):
            fix = "take the one line of the .pub file"
            yield _wrong(f"authorized_keys[{number}]", "the line of a public key", problem, why, fix)


def _key(text: str) -> str:
    if "PRIVATE KEY" in text:
        return "a private key, which belongs nowhere but where it was made"
    words = text.split()
    if "\n" in text.strip() or len(words) < 2 or words[0] not in public_key.FIELDS:
        return f"text that does not begin with one of {', '.join(public_key.FIELDS)}"
    if not public_key.whole(words[0], words[1]):
        return f"{words[0]} with a key that is cut off, altered or of another kind"
    return ""


def _network(given: Mapping[str, Any]) -> Iterator[Problem]:
    why = "the host would not be reached after its installation"
    taken: set[str] = set()
    for number, item in enumerate(given["network"]):
        at = f"network[{number}]"
        own = {label(item["name"], number), *([item["mac"].lower()] if item["mac"] else [])}
        if again := sorted(own & taken):
            yield _wrong(at, "an interface of its own", f"{again[0]} once more", "the last one would be the only one")
        taken |= own
        if not item["name"] and not item["mac"]:
            yield _wrong(at, "name or mac", "neither", why)
        if item["name"] and not re.fullmatch(r"[\w.-]{1,15}", item["name"], re.ASCII):
            yield _wrong(f"{at}.name", "the name of an interface", repr(item["name"]), why)
        if item["mac"] and not MAC.fullmatch(item["mac"].lower()):
            yield _wrong(f"{at}.mac", "six pairs of hexadecimal digits", repr(item["mac"]), why)
        if item["mtu"] is not None and item["mtu"] not in MTU:
            yield _wrong(f"{at}.mtu", f"{MTU[0]} to {MTU[-1]} bytes", str(item["mtu"]), why)
        judged = [("addresses", one, ipaddress.ip_interface) for one in item["addresses"]]
        judged += [("nameservers", one, ipaddress.ip_address) for one in item["nameservers"]]
        judged += [("gateway", item["gateway"], ipaddress.ip_address)] if item["gateway"] else []
        networks, gateway = [], None
        for name, value, kind in judged:
            try:
                address = kind(value)
            except ValueError as error:
                yield _wrong(f"{at}.{name}", "an address", str(error), why)
                continue
            if name == "gateway":
                gateway = address
            elif name == "addresses" and "/" in value:
                networks.append(address.network)
                if _of_nobody(address):
                    yield _wrong(f"{at}.{name}", f"the address of a host in {address.network}", repr(value), why)
            elif name == "addresses":
                yield _wrong(f"{at}.{name}", "an address with the length of its network", repr(value), why)
        # Without addresses of its own it asks for them, and nothing is known of its networks.
        if gateway and networks and not gateway.is_link_local and not any(gateway in one for one in networks):
            wanted = f"an address in {' or '.join(map(str, networks))}"
            yield _wrong(f"{at}.gateway", wanted, str(gateway), why)


def _of_nobody(address: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> bool:
    """The address of a network itself, or that by which all of its hosts are called. A pair has neither (RFC 3021)."""
    network = address.network
    return (
        address.version == 4
        and network.prefixlen < 31
        and address.ip in (network.network_address, network.broadcast_address)
    )


def label(name: str | None, number: int) -> str:
    """What netplan calls an interface that is found by its address."""
    return name or f"port{number}"


def _of_system(given: Mapping[str, Any]) -> Iterator[Problem]:
    if given["system"] == UBUNTU:
        if not given["disk_serial"]:
            found, why = "nothing", "the installer would take the largest disk, and erase it"
            yield _wrong("disk_serial", "the serial of the disk that is erased", found, why)
        for name in OF_OEMDATA:
            if given[name]:
                yield _wrong(name, f"nothing for {UBUNTU}", "a value", "only the volume OEMDATA of dgx_os brings it")
    elif given["disk_serial"]:
        why = "the image of DGX OS chooses the disk itself, and nothing would be done about it"
        yield _wrong("disk_serial", f"nothing for {DGX_OS}", repr(given["disk_serial"]), why)
    if bool(given["apt_repository"]) != bool(given["apt_key"]):
        why = "packages of a repository that nobody signed are not installed"
        yield _wrong("apt_key", "a key for apt_repository, or neither", "one of the two", why)


def _files(given: Mapping[str, Any]) -> Iterator[Problem]:
    """Bytes are compared here, so that a wrong file is found before there is a stick."""
    if given["apt_repository"] and given["apt_key"]:
        try:
            text = Path(given["apt_key"]).read_text("utf-8")
        except (OSError, UnicodeError) as error:
            text = f"({error})"
        if not text.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----"):
            yield _wrong("apt_key", "an armoured public key", given["apt_key"], "apt could not verify anything with it")
    for kind, endings in FILES.items():
        seen: set[str] = set()
        for number, item in enumerate(given[kind]):
            path, at = Path(item["path"]), f"{kind}[{number}]"
            if not path.name.endswith(endings) or not PLAIN.fullmatch(path.name) or path.name in seen:
                why = "it would be left aside, or take the place of another"
                yield _wrong(f"{at}.path", f"a file of its own name, {' or '.join(endings)}", repr(str(path)), why)
                continue
            seen.add(path.name)
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                found = f"{error.strerror} ({path})"
            if found != item["sha256"].lower():
                why = "it is not the file that was meant, or it was altered"
                yield _wrong(f"{at}.sha256", f"that of {path}, {item['sha256']}", found, why)


def _port(item: Mapping[str, Any]) -> Port:
    return Port(
        name=str(item["name"] or ""),
        mac=(item["mac"] or "").lower(),
        addresses=tuple(map(str, item["addresses"])),
        gateway=str(item["gateway"] or ""),
        nameservers=tuple(map(str, item["nameservers"])),
        mtu=item["mtu"] or 0,
    )
