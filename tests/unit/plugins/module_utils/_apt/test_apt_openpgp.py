# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints are those that gpg prints. The keys were made with GnuPG 2.2.40."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.openpgp import NoKey, fingerprints

FIXTURES = Path(__file__).parent / "fixtures"
RSA = (FIXTURES / "rsa_with_subkey.asc").read_text()
ED25519 = (FIXTURES / "ed25519.asc").read_text()
OF_RSA = "759F60F2242DEF5719AD7B839356635CE87B2CC1"
OF_ED25519 = "F9573F4B744348B8375E3593BB6E7610ADD5CB49"


def binary(armoured: str) -> bytes:
    lines = armoured.splitlines()
    return base64.b64decode("".join(line for line in lines[2:-1] if not line.startswith("=")))


def as_read(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (RSA, (OF_RSA,)),
        (ED25519, (OF_ED25519,)),
        (RSA + ED25519, (OF_RSA, OF_ED25519)),
        (RSA.replace("\n", "\r\n"), (OF_RSA,)),
        (RSA.replace("BLOCK-----\n\n", "BLOCK-----\nVersion: GnuPG v2\nComment: a key\n\n"), (OF_RSA,)),
        (f"# from the vendor\n{RSA}\n", (OF_RSA,)),
        (as_read(binary(RSA)), (OF_RSA,)),
        (as_read(binary(RSA) + binary(ED25519)), (OF_RSA, OF_ED25519)),
    ],
    ids=["rsa", "ed25519", "two blocks", "crlf", "headers", "text around", "binary", "two in binary"],
)
def test_fingerprints_are_those_of_gpg(text: str, found: tuple[str, ...]) -> None:
    assert fingerprints(text) == found


def test_a_checksum_may_be_missing() -> None:
    lines = [line for line in ED25519.splitlines() if not line.startswith("=")]
    assert fingerprints("\n".join(lines)) == (OF_ED25519,)


def new_format(tag: int, body: bytes) -> bytes:
    """A packet with a length in the form that newer tools write."""
    assert len(body) < 8384
    size = len(body)
    length = bytes([size]) if size < 192 else bytes([((size - 192) >> 8) + 192, (size - 192) & 0xFF])
    return bytes([0xC0 | tag]) + length + body


@pytest.mark.parametrize("armoured", [RSA, ED25519])
def test_both_forms_of_a_packet_are_read(armoured: str) -> None:
    data = binary(armoured)
    width = (1, 2, 4)[data[0] & 3]
    size = int.from_bytes(data[1 : 1 + width], "big")
    body = data[1 + width : 1 + width + size]
    five = bytes([0xC6, 0xFF]) + size.to_bytes(4, "big") + body
    assert fingerprints(as_read(new_format(6, body))) == fingerprints(as_read(five)) == fingerprints(armoured)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no public key"),
        ("<html>not found</html>", "no OpenPGP data"),
        (RSA[:600] + "\n-----END PGP PUBLIC KEY BLOCK-----\n", "cut off"),
        (as_read(binary(RSA)[:100]), "cut off"),
        (as_read(binary(RSA)[:1]), "cut off"),
        (as_read(new_format(13, b"a name and no key")), "no public key"),
        (as_read(new_format(6, b"\x06" + b"x" * 40)), "version 6"),
        (as_read(bytes([0x9B])), "without a length"),
        (as_read(bytes([0xC6, 0xE1])), "in parts"),
        (RSA.replace("mQEN", "!!!!"), "damaged"),
    ],
)
def test_what_is_no_keyring_says_why(text: str, why: str) -> None:
    with pytest.raises(NoKey, match=why):
        fingerprints(text)
