# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint that speaks the API of OpenAI, and what it answered.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Endpoint:
    """Where it is, and how one gets in. ``path``: what comes before ``/models``, such as ``/v1``.

    pin: SHA-256 of the server's certificate, 64 hexadecimal digits in lower case; empty: whoever the CA vouches for.
    ca, certificate, private_key: paths on the node. seconds: the longest wait for a whole answer.
    """

    host: str
    port: int
    path: str = "/v1"
    tls: bool = False
    key: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    private_key: str = ""
    pin: str = ""
    seconds: float = 60.0


class Fault(Exception):
    """Why there is no answer, or not the one that was asked for. ``kind`` is a key of ``faults.KINDS``."""

    def __init__(self, kind: str, found: str) -> None:
        self.kind, self.found = kind, found
        super().__init__(f"{kind}: {found}")


class Unusable(Exception):
    """A file that the endpoint names cannot be used here, so that nothing was asked."""


@dataclass(frozen=True)
class Reply:
    """One completion. first, total: seconds until the first piece of it came, and until its end.

    text: without what a model says to itself before it answers, which counts for ``first`` and ``tokens``.
    tokens: as the server counted them; None: it did not say.
    """

    text: str
    first: float
    total: float
    tokens: int | None = None


@dataclass(frozen=True)
class Load:
    """What several who ask at once got. totals, firsts: of each whole answer. seconds: from first to last.

    tokens: of all answers, None if one of them came without its count. faults: how many of each kind;
    said: what was found for the first of each.
    """

    sessions: int
    totals: Sequence[float] = ()
    firsts: Sequence[float] = ()
    tokens: int | None = 0
    seconds: float = 0.0
    faults: Mapping[str, int] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return len(self.totals) + sum(self.faults.values())


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: a value that was measured, and not one between two. Of no values it is an error."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]
