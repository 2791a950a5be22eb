# SPDX-License-Identifier: GPL-3.0-or-later
"""A key that was cut off while it was copied is none, whatever is left of it."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.public_key import FIELDS, rsa_bits, whole

# As ssh-keygen made it.
ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIJk2jrBBzUVGrOJg7ZbWGkB1ibSGnGrOWJ9FgjYP1x7M"


def key(*fields: bytes) -> str:
    return base64.b64encode(b"".join(len(one).to_bytes(4, "big") + one for one in fields)).decode()


def rsa(bits: int) -> str:
    """Its modulus begins with a zero byte, since its highest bit is set."""
    return key(b"ssh-rsa", b"\x01\x00\x01", b"\x00" + (1 << (bits - 1)).to_bytes(bits // 8, "big"))


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_a_key_has_all_fields_of_its_kind_and_no_more(kind: str) -> None:
    fields = [kind.encode(), *[b"\x01" * 32] * (FIELDS[kind] - 1)]
    assert whole(kind, key(*fields))
    assert not whole(kind, key(*fields, b"more"))
    assert not whole(kind, key(*fields[:-1]))
    assert not whole(kind, key(*fields[:-1], b""))
    assert not whole(kind, key(b"ssh-x", *fields[1:]))


@pytest.mark.parametrize("characters", range(4, len(ED25519), 4))
def test_no_piece_of_a_key_is_one(characters: int) -> None:
    assert whole("ssh-ed25519", ED25519) and not whole("ssh-ed25519", ED25519[:-characters])


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_the_size_of_an_rsa_key_is_read_from_the_key(bits: int) -> None:
    assert rsa_bits(rsa(bits)) == bits


@pytest.mark.parametrize("text", ["AAAA", "not base64!", "AAAAB3NzaC1yc2E=", ED25519])
def test_what_is_no_rsa_key_has_no_size(text: str) -> None:
    assert rsa_bits(text) == 0
