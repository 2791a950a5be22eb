# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of the keys in a keyring file, armoured or not. Pure; no gpg is needed.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

_BLOCK = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+: [^\r\n]*\r?\n)*\s*\n(.*?)"
    r"-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)
_PRIMARY_KEY = 6


class NoKey(Exception):
    """What was given is no keyring; the text says why."""


def fingerprints(text: str) -> tuple[str, ...]:
    """Of every primary key, in order; raises NoKey. ``text``: as Reader.read gives a file of any bytes."""
    blocks = _BLOCK.findall(text)
    try:
        data = b"".join(map(_unarmoured, blocks)) if blocks else text.encode("utf-8", "surrogateescape")
        found = tuple(_fingerprint(body) for tag, body in _packets(data) if tag == _PRIMARY_KEY)
    except (IndexError, binascii.Error, UnicodeEncodeError) as error:
        raise NoKey("it is cut off or damaged") from error
    if not found:
        raise NoKey("it holds no public key")
    return found


def _unarmoured(block: str) -> bytes:
    """Without the line that begins with "=", a checksum which newer tools leave out."""
    lines = (line.strip() for line in block.splitlines())
    return base64.b64decode("".join(line for line in lines if not line.startswith("=")), validate=True)


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet (RFC 9580, 4.2)."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise NoKey("it is no OpenPGP data")
        at += 1
        if head & 0x40:
            tag = head & 0x3F
            first = data[at]
            if first < 192:
                size, at = first, at + 1
            elif first < 224:
                size, at = ((first - 192) << 8) + data[at + 1] + 192, at + 2
            elif first == 255:
                size, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
            else:
                raise NoKey("it has a packet in parts, which keys have not")
        else:
            tag, width = head >> 2 & 0x0F, (1, 2, 4, 0)[head & 3]
            if not width:
                raise NoKey("it has a packet without a length, which keys have not")
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise NoKey("it is cut off or damaged")
        yield tag, data[at : at + size]
        at += size


def _fingerprint(body: bytes) -> str:
    version = body[0]
    if version != 4:
        raise NoKey(f"it has a key of version {version}; apt repositories use version 4")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()
