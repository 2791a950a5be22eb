# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate that a server shows: its digest, and its last day.

The standard library tells the dates only of a certificate that it has verified, and one that is pinned is not.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone

# Tags of DER (X.690, 8.1.2): a sequence, the optional version of X.509, and both ways to write a time.
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


@dataclass(frozen=True)
class Certificate:
    fingerprint: str
    expires: datetime

    def days_left(self, now: datetime) -> int:
        return (self.expires - now).days


def read(der: bytes) -> Certificate:
    """Raises ValueError."""
    try:
        return Certificate(hashlib.sha256(der).hexdigest(), _expires(der))
    except IndexError:
        raise ValueError("a certificate that is cut off") from None


def _expires(der: bytes) -> datetime:
    """RFC 5280, 4.1: tbsCertificate is version, serial number, algorithm, issuer, validity, and more."""
    at, _end = _enter(der, 0, _SEQUENCE)
    at, _end = _enter(der, at, _SEQUENCE)
    for _field in range(4 if der[at] == _VERSION else 3):
        at = _span(der, at)[1]
    at, _end = _enter(der, at, _SEQUENCE)
    _begin, at = _span(der, at)
    begin, end = _span(der, at)
    text = der[begin:end].decode("ascii")
    if der[at] == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: two digits, and 50 is 1950.
        text = ("19" if text >= "50" else "20") + text
    elif der[at] != _GENERALIZED_TIME:
        raise ValueError("a certificate without an end")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _enter(der: bytes, at: int, tag: int) -> tuple[int, int]:
    if der[at] != tag:
        raise ValueError("no certificate")
    return _span(der, at)


def _span(der: bytes, at: int) -> tuple[int, int]:
    """Begin and end of the content of the value at ``at``; the next one begins where it ends."""
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + size], "big"), begin + size
    if begin + length > len(der):
        raise IndexError
    return begin, begin + length
