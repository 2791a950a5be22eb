# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned to share one memory, and what that comes to.

A DGX Spark has one memory for CPU and GPU. Whoever takes more than there is does not get an
error: the machine stands still until its power is cut. So the sum is made before anything starts.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GIB = 1 << 30

# What stays free for the system, its page tables and whoever logs in. A Spark of 121.7 GiB was
# seen to freeze at 113 to 114 GiB in use; operators plan for 109 at most (facts: one measured report).
RESERVE_GIB = 12.7
# Files that are being read are kept in the same memory, weights above all. The kernel gives it
# back, but not fast enough while a driver asks for large pieces.
PAGE_CACHE_GIB = 4.0


@dataclass(frozen=True)
class Cached:
    """Layers that keep something of every token, and how much.

    bytes_each: of one token in one of these layers, on one node.
    window: tokens that a layer looks back; None is all of them.
    """

    layers: int
    bytes_each: int
    window: int | None = None


@dataclass(frozen=True)
class KvCache:
    """``context`` tokens at most in each of ``sequences`` that are served at once."""

    context: int
    sequences: int
    batched_tokens: int
    groups: tuple[Cached, ...]


@dataclass(frozen=True)
class Part:
    """One summand. ``how``: where the figure comes from; ``assumed``: nobody said or measured it."""

    what: str
    bytes: int
    how: str
    assumed: bool = False


@dataclass(frozen=True)
class Engine:
    name: str
    parts: tuple[Part, ...]
    kv_cache_bytes: int
    # None where the cache was given as a size: what another number of tokens would take is not known then.
    kv_cache: KvCache | None = None

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Plan:
    total: int
    parts: tuple[Part, ...]  # of nobody in particular: reserve and page cache
    engines: tuple[Engine, ...] = field(default=())

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts) + sum(engine.bytes for engine in self.engines)

    @property
    def left(self) -> int:
        """Negative where more is planned than there is."""
        return self.total - self.bytes


Config = Mapping[str, object]
