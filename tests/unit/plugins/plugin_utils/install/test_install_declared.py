# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - one case a line
"""What cannot be meant is refused whole, before a file is written: with its place, and without its secrets."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.install import declared
from installs import DGX, KEY, PORT, UBUNTU, install

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"
OF_KEY = "authorized_keys[0]: the line of a public key"


def refused(given: Any, hostname: str = "spark-1", user: Any = "ana") -> list[tuple[str, str]]:
    parsed, problems = declared.parse(given, hostname, user)
    assert (parsed is None) == bool(problems)
    assert all(problem.why and problem.fix for problem in problems)
    return [(problem.wanted.removeprefix("spark_install."), problem.found) for problem in problems]


def test_what_is_left_out_has_its_default() -> None:
    found = install(DGX)
    assert (found.hostname, found.user, found.groups, found.locale) == (
        "spark-1",
        "ana",
        ("adm", "sudo"),
        "en_US.UTF-8",
    )
    assert install(DGX, hostname="other", user="bob").hostname == "other"


@pytest.mark.parametrize(
    ("given", "wanted", "found"),
    [
        (DGX | {"password": "hunter22"}, "password: a name that is documented", "password, which is none"),
        ({"authorized_keys": [KEY]}, "system: text", "nothing"),
        (DGX | {"system": "debian"}, "system: one of dgx_os, ubuntu", "'debian'"),
        (DGX | {"authorized_keys": []}, "authorized_keys: a public key", "an empty list"),
        (DGX | {"authorized_keys": [PRIVATE]}, OF_KEY, "a private key, which belongs nowhere"),
        (DGX | {"authorized_keys": ["hunter22"]}, OF_KEY, "text that does not begin with one of"),
        (DGX | {"authorized_keys": [KEY.replace("ssh-ed25519 ", "ssh-dss ")]}, OF_KEY, "text that does not begin"),
        (DGX | {"authorized_keys": [KEY.replace("ssh-ed25519 ", "ssh-rsa ")]}, OF_KEY, "of another kind"),
        (DGX | {"authorized_keys": [KEY[:60]]}, OF_KEY, "cut off"),
        (DGX | {"authorized_keys": [KEY.replace("1x7M ", " ")]}, OF_KEY, "cut off"),
        (DGX | {"authorized_keys": [f"{KEY}\n{KEY}"]}, OF_KEY, "text that does not begin"),
        (DGX | {"authorized_keys": [f'command="x" {KEY}']}, OF_KEY, "text that does not begin"),
        (DGX | {"hostname": "Spark_1"}, "hostname: a label", "'Spark_1'"),
        (DGX | {"user": "root"}, "user: an account other than root", "'root'"),
        (DGX | {"user": "an a"}, "user: an account", "'an a'"),
        (DGX | {"groups": ["sudo", "a b"]}, "groups[1]: a name", "'a b'"),
        (DGX | {"packages": ["jq; reboot"]}, "packages[0]: a name", "'jq; reboot'"),
        (DGX | {"locale": "en US"}, "locale: a locale", "'en US'"),
        (DGX | {"disk_serial": "S7XX"}, "disk_serial: nothing for dgx_os", "'S7XX'"),
        (DGX | {"apt_repository": "http://mirror/spark"}, "apt_key: a key for apt_repository", "one of the two"),
        (DGX | {"apt_key": "/nonexistent"}, "apt_key: a key for apt_repository", "one of the two"),
        (DGX | {"firmware_mirror": "file:///x"}, "firmware_mirror: an http or https URL", "'file:///x'"),
        (DGX | {"firmware_mirror": "http://u:hunter22@x/"}, "firmware_mirror: an http or https URL", "in it"),
        (UBUNTU | {"disk_serial": None}, "disk_serial: the serial of the disk that is erased", "nothing"),
        (UBUNTU | {"disk_serial": "SAMSUNG*"}, "disk_serial: one serial, without wildcards", "'SAMSUNG*'"),
        (UBUNTU | {"storage_layout": "zfs"}, "storage_layout: one of direct, lvm", "'zfs'"),
        (UBUNTU | {"firmware_mirror": "http://mirror/lvfs"}, "firmware_mirror: nothing for ubuntu", "a value"),
        (DGX | {"network": [{}]}, "network[0]: name or mac", "neither"),
        (DGX | {"network": [PORT | {"mac": "4C:BB"}]}, "network[0].mac: six pairs", "'4C:BB'"),
        (DGX | {"network": [PORT | {"name": "a/b"}]}, "network[0].name: the name of an interface", "'a/b'"),
        (DGX | {"network": [PORT | {"addresses": ["10.0.0.5"]}]}, "network[0].addresses: an address with", "'10.0.0.5'"),
        (DGX | {"network": [PORT | {"addresses": ["10.0.0.300/24"]}]}, "network[0].addresses: an address", "10.0.0.300"),
        (DGX | {"network": [PORT | {"addresses": ["10.0.0.0/24"]}]}, "network[0].addresses: the address of a host", "10.0.0.0"),
        (DGX | {"network": [PORT | {"addresses": ["10.0.0.255/24"]}]}, "network[0].addresses: the address of", "10.0.0.255"),
        (DGX | {"network": [PORT | {"gateway": "router"}]}, "network[0].gateway: an address", "'router'"),
        (DGX | {"network": [PORT | {"mtu": "large"}]}, "network[0].mtu: a whole number", "'large'"),
        (DGX | {"network": [PORT | {"mtu": -5}]}, "network[0].mtu: 1280 to 65535 bytes", "-5"),
        (DGX | {"network": [PORT | {"gateway": 1}]}, "network[0].gateway: an address", "'1'"),
        (DGX | {"network": [PORT | {"gateway": "192.168.9.1"}]}, "network[0].gateway: an address in 10.0.0.0/24 or", "192.168.9.1"),
        (DGX | {"network": [{"name": "a", "addresses": [167772161]}]}, "network[0].addresses: an address", "'167772161'"),
        (DGX | {"network": [{"name": "eth0"}, {"name": "eth0"}]}, "network[1]: an interface of its own", "eth0 once more"),
        (DGX | {"network": [PORT, PORT | {"name": "eth0"}]}, "network[1]: an interface of its own", "4c:bb:47:00:00:01 once"),
        (DGX | {"network": [{"name": "port1"}, PORT]}, "network[1]: an interface of its own", "port1 once more"),
        (DGX | {"firmware_mirror": "https://x/y?token=hunter22"}, "firmware_mirror: an http or https URL", "in it"),
        (DGX | {"debs": [{"path": "/nonexistent/a.deb", "sha256": 12}]}, "debs[0].sha256: that of", "No such file"),
        (DGX | {"debs": [{"path": "/x/a.deb"}]}, "debs[0].sha256: text", "nothing"),
        (DGX | {"debs": [{"path": "/nonexistent/a.deb", "sha256": "0"}]}, "debs[0].sha256: that of", "No such file"),
        (DGX | {"debs": [{"path": "/etc/passwd", "sha256": "0"}]}, "debs[0].path: a file of its own name", "/etc/passwd"),
        (DGX | {"firmware": [{"path": "/x/a.deb", "sha256": "0"}]}, "firmware[0].path: a file of its own", "a.deb"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(given: dict[str, Any], wanted: str, found: str) -> None:
    (problem, *more) = refused(given)
    assert problem[0].startswith(wanted) and found in problem[1] and not more
    assert "b3BlbnNz" not in str(problem) and "hunter22" not in str(problem), "a secret is in the error"


def test_a_host_without_an_account_to_log_in_with_is_refused() -> None:
    assert refused(DGX, user=None)[0][0].startswith("user: an account")
    assert refused(DGX, hostname="spark-1.example.org")[0][0].startswith("hostname: a label")


def test_every_problem_is_told_at_once() -> None:
    assert len(refused(UBUNTU | {"disk_serial": None, "authorized_keys": [], "user": "A"})) == 3


def test_a_file_that_is_not_the_declared_one_is_refused(tmp_path) -> None:
    deb = tmp_path / "a.deb"
    deb.write_bytes(b"one")
    right = {"path": str(deb), "sha256": hashlib.sha256(b"one").hexdigest().upper()}
    assert install(DGX, debs=[right]).debs[0].sha256 == hashlib.sha256(b"one").hexdigest()
    assert refused(DGX | {"debs": [right, right]})[0][0].startswith("debs[1].path: a file of its own name")
    deb.write_bytes(b"two")
    assert hashlib.sha256(b"two").hexdigest() in refused(DGX | {"debs": [right]})[0][1]


def test_the_key_of_a_repository_is_a_public_one(tmp_path) -> None:
    key = tmp_path / "key.asc"
    given = DGX | {"apt_repository": "http://mirror/spark", "apt_key": str(key)}
    assert refused(given)[0][0].startswith("apt_key: an armoured public key")
    key.write_text("-----BEGIN PGP PRIVATE KEY BLOCK-----\nx")
    assert refused(given)[0][0].startswith("apt_key: an armoured public key")
    key.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\nx")
    assert install(given).apt_key.endswith("x")
