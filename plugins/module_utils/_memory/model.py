# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned to share one memory, and what that comes to.

A DGX Spark has one memory for CPU and GPU. Whoever takes more than there is does not get an
error: the machine stands still until its power is cut. So the sum is made before anything starts.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

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
    """One summand. ``how``: where the figure comes from; ``assumed``: nobody said or measured it.

    known: False where it is something and nobody knows what; it counts as nothing, so the sum is a least one.
    """

    what: str
    bytes: int
    how: str
    assumed: bool = False
    known: bool = True


@dataclass(frozen=True)
class Engine:
    """``conflicts``: names of engines that never run beside it; one of the two says so for both."""

    name: str
    parts: tuple[Part, ...]
    kv_cache_bytes: int
    # None where the cache was given as a size: what another number of tokens would take is not known then.
    kv_cache: KvCache | None = None
    conflicts: frozenset[str] = frozenset()

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Plan:
    total: int
    parts: tuple[Part, ...]  # of nobody in particular: reserve and page cache
    engines: tuple[Engine, ...] = field(default=())

    @property
    def system(self) -> int:
        return sum(part.bytes for part in self.parts)

    @cached_property
    def bytes(self) -> int:
        return self.system + sum(engine.bytes for engine in self.together)

    @property
    def left(self) -> int:
        """Negative where more is planned than there is."""
        return self.total - self.bytes

    @cached_property
    def together(self) -> tuple[Engine, ...]:
        """Of all sets that may run at the same time the heaviest, in the order of the declaration."""
        heaviest = set(self._heaviest(frozenset(engine.name for engine in self.engines))[1])
        return tuple(engine for engine in self.engines if engine.name in heaviest)

    def room(self, engine: Engine) -> int:
        """What this one could take with all others as they are; negative where they alone are too much."""
        others = frozenset(other.name for other in self.engines) - {engine.name}
        left = self.total - self.system
        if self._heaviest(others)[0] > left:
            return -1
        return left - self._heaviest(others - self._beside[engine.name])[0]

    @cached_property
    def _beside(self) -> Mapping[str, frozenset[str]]:
        """name → those that never run beside it."""
        pairs = {(one.name, other) for one in self.engines for other in one.conflicts}
        both = pairs | {(other, one) for one, other in pairs}
        return {engine.name: frozenset(b for a, b in both if a == engine.name) for engine in self.engines}

    def _heaviest(self, names: frozenset[str]) -> tuple[int, tuple[str, ...]]:
        """(bytes, names), exact: every way to resolve every conflict is tried. Who parses bounds their number.

        What conflicts with nobody is in; of what is left, each is tried in and out. In wins where both weigh the same,
        so that whoever is out is out for somebody who is in.
        """
        open_ = [name for name in names if self._beside[name] & names]
        free = tuple(names.difference(open_))
        weight = sum(self._sizes[name] for name in free)
        if not open_:
            return weight, free
        rest = frozenset(open_)
        # The one with the most conflicts settles the most; by name, so that the same plan has the same answer.
        first = min(rest, key=lambda name: (-len(self._beside[name] & rest), name))
        inside, beside = self._heaviest(rest - {first} - self._beside[first])
        outside = self._heaviest(rest - {first})
        taken = (inside + self._sizes[first], (*beside, first))
        more, which = taken if taken[0] >= outside[0] else outside
        return weight + more, (*free, *which)

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        return {engine.name: engine.bytes for engine in self.engines}


Config = Mapping[str, object]
