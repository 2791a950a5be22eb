# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys of OpenSSH, as they stand in a .pub file.

Sources: RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4; PROTOCOL.u2f of OpenSSH.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import base64
import binascii

# Kind of key → how many fields it has. ssh-dss is not among them: OpenSSH takes it no more.
FIELDS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}


def whole(kind: str, key: str) -> bool:
    """Has ``key``, in base64, all that one of ``kind`` has, and nothing more?"""
    found = fields(key)
    return len(found) == FIELDS[kind] and found[0] == kind.encode() and all(found)


def rsa_bits(key: str) -> int:
    """The size of its modulus. 0: it cannot be read."""
    found = fields(key)
    return int.from_bytes(found[2], "big").bit_length() if len(found) == 3 else 0


def fields(key: str) -> list[bytes]:
    """Each after its length. None at all where the last one is cut off."""
    try:
        data = base64.b64decode(key, validate=True)
    except binascii.Error:
        return []
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length:
            return []
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found
