# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys count as a way in, on files as sshd reads them."""

from __future__ import annotations

import base64

import pytest
from access_node import ED25519, AccessNode
from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.keys import problem

CONF = {
    "pubkeyacceptedalgorithms": "ssh-ed25519,rsa-sha2-512",
    "requiredrsasize": "3072",
    "authorizedkeysfile": ".ssh/authorized_keys /etc/keys/%u",
}


def rsa(bits: int) -> str:
    """With a modulus whose highest bit is set, so that it begins with a zero byte."""
    fields = (b"ssh-rsa", b"\x01\x00\x01", b"\x00" + (1 << (bits - 1)).to_bytes(bits // 8, "big"))
    return base64.b64encode(b"".join(len(one).to_bytes(4, "big") + one for one in fields)).decode()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (ED25519, ""),
        (f'from="10.0.0.0/8",no-agent-forwarding {ED25519}', ""),
        (f"ssh-rsa {rsa(3072)} me", ""),
        (f"ssh-rsa {rsa(2048)} me", "an RSA key of 2048 bits is too short"),
        (f"ecdsa-sha2-nistp256 {rsa(2048)} me", "type ecdsa-sha2-nistp256 is not accepted"),
        (f'command="/bin/backup --all" {ED25519}', "holds no key for a login"),
        (f"cert-authority {ED25519}", "holds no key for a login"),
        ("# " + ED25519, "holds no key for a login"),
        ("", "holds no key for a login"),
    ],
)
def test_a_key_counts_if_sshd_would_take_it_for_a_shell(line: str, why: str) -> None:
    node = AccessNode()
    node.files["/home/ops/.ssh/authorized_keys"].text = f"# comment\n\n{line}\n"
    found = problem("ops", CONF, node)
    assert (why in found) if why else found == ""


def test_any_of_the_files_will_do_and_all_are_told_where_none_does() -> None:
    node = AccessNode()
    node.files["/home/ops/.ssh/authorized_keys"].text = ""
    found = problem("ops", CONF, node)
    assert "/home/ops/.ssh/authorized_keys: holds no key" in found and "/etc/keys/ops does not exist" in found
    node.put("/etc/keys/ops", ED25519 + "\n")
    assert problem("ops", CONF, node) == ""


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ({"allowusers": "carol dave"}, "allowusers carol dave"),
        ({"allowusers": "carol op*@10.0.0.1"}, ""),
        ({"denyusers": "o?s"}, "denyusers o?s"),
        ({"allowgroups": "staff"}, "allowgroups staff"),
        ({"allowgroups": "wheel"}, ""),
        ({"allowgroups": "ops"}, ""),
        ({"denygroups": "wheel"}, "denygroups wheel"),
        ({"authorizedkeyscommand": "/usr/bin/keys", "authorizedkeysfile": "none"}, ""),
        ({"trustedusercakeys": "/etc/ssh/ca.pub", "authorizedkeysfile": "none"}, ""),
    ],
)
def test_who_is_not_allowed_needs_no_key(conf: dict[str, str], why: str) -> None:
    node = AccessNode()
    node.groups.update(wheel=[10, ["ops"]], staff=[11, []])
    assert problem("ops", {**CONF, **conf}, node) == why


@pytest.mark.parametrize(("path", "mode"), [("/home/ops", 0o775), ("/home/ops/.ssh", 0o770)])
def test_a_folder_that_others_can_write_is_refused_as_sshd_does(path: str, mode: int) -> None:
    node = AccessNode()
    node.files[path].mode = mode
    assert f"since {path} has mode" in problem("ops", CONF, node)


def test_root_needs_leave_and_a_key() -> None:
    node = AccessNode()
    assert problem("root", {**CONF, "permitrootlogin": "no"}, node) == "PermitRootLogin no"
    assert "does not exist" in problem("root", {**CONF, "permitrootlogin": "prohibit-password"}, node)


@pytest.mark.parametrize(
    ("methods", "switched", "why"),
    [
        ("any", {}, ""),
        ("publickey", {}, ""),
        ("publickey,keyboard-interactive:pam", {"kbdinteractiveauthentication": "yes"}, ""),
        ("publickey,keyboard-interactive", {"kbdinteractiveauthentication": "no"}, "asks for what is switched off"),
        ("publickey,password publickey", {"passwordauthentication": "no"}, ""),
        ("publickey,password", {"passwordauthentication": "no"}, "publickey,password asks for what is switched off"),
    ],
)
def test_a_second_factor_that_is_switched_off_locks_out(methods: str, switched: dict[str, str], why: str) -> None:
    found = problem("ops", {**CONF, **switched, "authenticationmethods": methods}, AccessNode())
    assert (why in found) if why else found == ""


def test_an_account_without_a_shell_is_no_way_in() -> None:
    node = AccessNode()
    node.users["ops"][4] = "/usr/sbin/nologin"
    assert problem("ops", CONF, node) == "ops has /usr/sbin/nologin for a shell"
