# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts that sshd and nft read and print: what is made of them, and what they are made of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access import firewall, ssh
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.model import OWN_OPTIONS, Declared, declared
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError

SERVICE = {"service": "gw", "ports": ["443", "8000-8019"], "protocol": "tcp", "bind": "any", "peers": [], "role": "r"}


def wanted(published: list[dict[str, Any]] | None = None, **given: Any) -> Declared:
    values: dict[str, Any] = {"published": published or [], "proof_seconds": 60, "skip_controls": []}
    for part in ("ssh", "firewall"):
        values[part] = {name: given.get(name, one["default"]) for name, one in OWN_OPTIONS[part]["options"].items()}
    return declared(values)


def rules_for(mark: str, text: str) -> list[str]:
    return [line.strip().partition(" comment ")[0] for line in text.splitlines() if f'comment "{mark}' in line]


# --- sshd ---


def test_an_older_sshd_gets_what_it_knows() -> None:
    """As OpenSSH 9.6 of Ubuntu 24.04 lists it: no ML-KEM. A keyword that it does not print is not written."""
    supported = {"kex": {*ssh.KEX_9, "diffie-hellman-group14-sha1"}, "cipher": {*ssh.CIPHERS, "aes128-cbc"},
                 "mac": {*ssh.MACS}, "HostKeyAlgorithms": {"ssh-ed25519", "ssh-rsa"}}  # fmt: skip
    known = {"kexalgorithms", "ciphers", "hostkeyalgorithms"}
    found = {one.keyword: one.value for one in ssh.settings(wanted(), supported, known)}
    assert found == {
        "KexAlgorithms": ",".join(ssh.KEX_9),
        "Ciphers": ",".join(ssh.CIPHERS),
        "HostKeyAlgorithms": "ssh-ed25519",
    }


def test_a_newer_sshd_gets_nothing_that_a_quantum_computer_breaks() -> None:
    supported = {
        "kex": {*ssh.KEX_9, *ssh.KEX_10},
        "cipher": ssh.CIPHERS,
        "mac": ssh.MACS,
        "HostKeyAlgorithms": ssh.KEYS,
    }
    (found,) = ssh.settings(wanted(), supported, {"kexalgorithms"})
    assert found.value == ",".join(ssh.KEX_10)


def test_what_is_printed_several_times_is_read_whole() -> None:
    found = ssh.effective("port 22\nport 2222\npermitrootlogin without-password\nbanner none\n")
    assert found == {"port": "22 2222", "permitrootlogin": "prohibit-password", "banner": "none"}


@pytest.mark.parametrize(
    ("main", "place"),
    [
        ("Include /etc/ssh/sshd_config.d/*.conf\nX no\n", 0),
        ("# c\nX no\ninclude sshd_config.d/*.conf\n", 2),
        ('Include=/etc/ssh/other "/etc/ssh/sshd_config.d/*.conf"\n', 0),
        ("X no\n", None),
        ("Match all\nInclude /etc/ssh/sshd_config.d/*.conf\n", None),
        ("Include /etc/ssh/sshd_config.d/[1-9]*.conf\n", None),
    ],
)
def test_the_drop_in_stands_where_sshd_would_read_it(main: str, place: int | None) -> None:
    found = ssh.candidate(main, "OURS", ("00-a.conf", "50-b.conf", "00-a.txt", "00-nusy.conf"))
    if place is None:
        assert found == main
        return
    lines = main.splitlines()
    ours = ["Include /etc/ssh/sshd_config.d/00-a.conf", "OURS"]
    assert found.splitlines() == [*lines[:place], *ours, *lines[place:]]


def test_whoever_else_sets_a_keyword_is_found_with_its_condition() -> None:
    files = {
        ssh.DROPIN: "MaxSessions 1\n",
        "/a": "maxsessions=2\n#MaxSessions 3\n",
        "/b": "Match  User x\n  MaxSessions 4\nMatch all\nMaxSessions 5\n",
    }
    assert ssh.places(files, "MaxSessions") == ["/a:1", "/b:2 (Match User x)", "/b:4 (Match all)"]


# --- nft ---


@pytest.mark.parametrize(
    ("bind", "peers", "rules"),
    [
        ("loopback", ["any"], []),
        ("any", [], []),
        ("any", ["fabric"], []),
        ("any", ["any"], ["tcp dport { 443, 8000-8019 } accept"]),
        ("any", ["any", "10.0.0.1"], ["tcp dport { 443, 8000-8019 } accept"]),
        ("fabric", ["10.0.0.7/24", "fd00::1"], ["ip saddr { 10.0.0.0/24 } tcp dport { 443, 8000-8019 } accept",
                                                 "ip6 saddr { fd00::1 } tcp dport { 443, 8000-8019 } accept"]),
        ("10.0.0.1", ["10.0.0.2", "fd00::2"],
         ["ip saddr { 10.0.0.2 } ip daddr 10.0.0.1 tcp dport { 443, 8000-8019 } accept"]),
        ("fd00::1", ["any"], ["ip6 daddr fd00::1 tcp dport { 443, 8000-8019 } accept"]),
    ],
)  # fmt: skip
def test_a_service_is_open_to_whom_it_is_published(bind: str, peers: list[str], rules: list[str]) -> None:
    text = firewall.rules(wanted([{**SERVICE, "bind": bind, "peers": peers}]), [22])
    assert rules_for("firewall_published: r/gw", text) == rules


def test_a_port_of_a_container_is_open_to_whom_it_is_published() -> None:
    """By the port that was asked for; the address it was asked at is the node's, and gone by then."""
    text = firewall.rules(wanted([{**SERVICE, "bind": "10.0.0.1", "peers": ["10.0.0.2"]}]), [22])
    words = "ip saddr { 10.0.0.2 } meta l4proto tcp ct status dnat ct original proto-dst { 443, 8000-8019 } accept"
    assert rules_for("firewall_forwarded: r/gw", text) == [words]
    assert rules_for("firewall_forwarded", text)[-1] == "ct status dnat drop"


def test_the_fabric_is_trusted_by_address_and_interface() -> None:
    text = firewall.rules(wanted(fabric_interfaces=["e1", "e2"], fabric_peers=["10.0.0.2", "fd00::2"]), [22])
    words = [
        f'iifname {{ "e1", "e2" }} {source} accept' for source in ("ip saddr { 10.0.0.2 }", "ip6 saddr { fd00::2 }")
    ]
    assert rules_for("firewall_fabric", text) == words
    assert rules_for("firewall_forwarded: peers", text) == [f"ct status dnat {rule}" for rule in words]


def test_ssh_is_open_by_all_its_ports_and_to_whom_it_is_declared() -> None:
    assert rules_for("firewall_ssh", firewall.rules(wanted(), [2222, 22])) == ["tcp dport { 22, 2222 } accept"]
    text = firewall.rules(wanted(ssh_from=["10.0.0.0/8", "fd00::7"]), [22])
    assert rules_for("firewall_ssh", text) == [
        "ip saddr { 10.0.0.0/8 } tcp dport { 22 } accept",
        "ip6 saddr { fd00::7 } tcp dport { 22 } accept",
    ]


def test_a_skipped_control_gets_no_rules_and_the_table_replaces_itself() -> None:
    text = firewall.rules(wanted(), [22], ["firewall_ssh"])
    assert rules_for("firewall_ssh", text) == []
    lines = [line for line in text.splitlines() if line.startswith(("table", "delete", "flush"))]
    # Made if it is not there, so that it can be deleted; no other table is named.
    assert lines == ["table inet nusy", "delete table inet nusy", "table inet nusy {"]


def test_what_the_kernel_shows_is_led_back_to_controls() -> None:
    text = firewall.rules(wanted([{**SERVICE, "peers": ["any"]}], fabric_peers=["10.0.0.2"]), [22])
    shown = firewall.shown(text[text.index("table inet nusy {") :])
    assert shown.pop("firewall_extra") == [] and shown.pop("firewall_boot") == []
    assert all(shown.values()) and len(list(itertools.chain(*shown.values()))) == text.count(" comment ") + 2


@pytest.mark.parametrize("printed", ["", "table ip nusy {\n}\n", "table inet nusy {\n"])
def test_what_nft_does_not_print_is_not_understood_by_half(printed: str) -> None:
    with pytest.raises(ParseError):
        firewall.shown(printed)
