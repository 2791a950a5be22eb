# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine goes to which node, so that every memory has room for what it gets.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import budget
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import GIB, Engine, Plan

# Tries before it gives up: a dozen engines on eight nodes take some hundreds. Packing has no shortcut that is
# always right, and a site that does not end its play would be worse than one that says so.
TRIES = 20000


def place(plans: Mapping[str, Plan], shares: Mapping[str, int]) -> dict[str, Any]:
    """plans: node → all engines as a plan of its memory. shares: engine → nodes that it takes."""
    empty = {node: replace(plan, engines=()) for node, plan in plans.items()}
    engines = next((plan.engines for plan in plans.values()), ())
    # The hardest first, or small ones would take the room that only one node has.
    order = sorted(engines, key=lambda engine: (-shares[engine.name], -engine.bytes, engine.name))
    search = _Search(
        shares, {name for engine in engines if engine.conflicts for name in (engine.name, *engine.conflicts)}
    )
    found = search.go(order, empty)
    nodes = found if found is not None else search.best
    where = {e.name: [node for node, plan in nodes.items() if e.name in _names(plan)] for e in engines}
    unknown = [f"{engine.name}: {part.what}" for engine in engines for part in engine.parts if not part.known]
    told = _sentence(search, found is not None, where, engines, empty, shares)
    return {
        "fits": found is not None and not unknown,
        "engines": where,
        "nodes": {
            node: {
                "engines": _names(plan),
                "planned_bytes": plan.bytes,
                "left_bytes": plan.left,
                "arithmetic": budget.table(plan),
            }
            for node, plan in nodes.items()
        },
        "unplaced": [name for name, homes in where.items() if not homes],
        "table": _table(nodes),
        "explanation": f"{told}; nobody knows {', '.join(unknown)}" if unknown else told,
    }


@dataclass
class _Way:
    """What is tried at one engine: with what the engines before it left of the nodes, its homes, and then none."""

    nodes: dict[str, Plan]
    homes: Iterator[tuple[str, ...]]
    without: bool = False


class _Search:
    """Depth first, with the best that was reached: it is what can be said where not all fit.

    Without recursion: a fleet has more engines than Python has frames.
    """

    def __init__(self, shares: Mapping[str, int], conflicting: Collection[str]) -> None:
        self._conflicting = conflicting
        self.left = TRIES
        self.best: dict[str, Plan] = {}
        self._shares = shares
        self._most = -1

    def go(self, order: Sequence[Engine], nodes: dict[str, Plan]) -> dict[str, Plan] | None:
        """The ways before are those of ``order``, one for one."""
        self._remember(0, nodes)
        if not order:
            return nodes
        ways = [self._way(order[0], nodes)]
        while ways:
            way, engine = ways[-1], order[len(ways) - 1]
            homes = None if way.without else next(way.homes, None)
            if homes is not None:
                self.left -= 1
                if self.left < 0:
                    return None
                changed = {home: replace(way.nodes[home], engines=(*way.nodes[home].engines, engine)) for home in homes}
                after = {**way.nodes, **changed}
                self._remember(len(ways) - sum(one.without for one in ways), after)
            elif way.without or len(ways) == len(order):
                ways.pop()
                continue
            else:
                # Nowhere: how many others fit without it is worth saying, and is no solution.
                way.without, after = True, way.nodes
            if len(ways) < len(order):
                ways.append(self._way(order[len(ways)], after))
            elif not any(one.without for one in ways):
                return after
            else:
                while not ways.pop().without:
                    pass
        return None

    def _way(self, engine: Engine, nodes: dict[str, Plan]) -> _Way:
        return _Way(nodes, self._homes(engine, nodes))

    def _remember(self, placed: int, nodes: dict[str, Plan]) -> None:
        if placed > self._most:
            self._most, self.best = placed, nodes

    def _homes(self, engine: Engine, nodes: Mapping[str, Plan]) -> Iterator[tuple[str, ...]]:
        """Sets of nodes with room, the fullest first; of two that look the same one is enough."""
        fit = sorted(
            # Where engines exclude each other, room is not all that counts: it matters for whom a node has it.
            (plan.left, tuple(_names(plan)) if self._conflicting else (), node)
            for node, plan in nodes.items()
            if self._has_room(plan, engine)
        )
        alike = [[node for *_look, node in group] for _look, group in groupby(fit, key=lambda one: one[:2])]
        yield from _sets(alike, self._shares[engine.name])

    def _has_room(self, plan: Plan, engine: Engine) -> bool:
        if engine.name not in self._conflicting:
            return plan.left >= engine.bytes  # a sum that is there already
        return replace(plan, engines=(*plan.engines, engine)).left >= 0


def _sets(alike: Sequence[Sequence[str]], number: int) -> Iterator[tuple[str, ...]]:
    """So many nodes, by how many of each kind: there are as good as no kinds where nodes are alike."""
    rest = [sum(map(len, alike[kind:])) for kind in range(len(alike) + 1)]
    open_: list[tuple[int, tuple[str, ...]]] = [(0, ())]
    while open_:
        kind, chosen = open_.pop()
        lacking = number - len(chosen)
        if not lacking:
            yield chosen
        elif rest[kind] >= lacking:
            nodes = alike[kind]
            # The last is the next that is looked at: the most of the first kind.
            open_ += [(kind + 1, (*chosen, *nodes[:count])) for count in range(min(lacking, len(nodes)) + 1)]


def _names(plan: Plan) -> list[str]:
    return [engine.name for engine in plan.engines]


def _table(nodes: Mapping[str, Plan]) -> str:
    """One line a node: what it has, what is taken, by whom, and what is left."""
    head = f"{'node':16} {'has':>8} {'system':>8} {'engines':>8} {'left':>8}  GiB"
    lines = []
    for node, plan in nodes.items():
        sizes = (plan.total, plan.system, plan.bytes - plan.system, plan.left)
        figures = " ".join(f"{size / GIB:8.2f}" for size in sizes)
        who = ", ".join(f"{engine.name} {engine.bytes / GIB:.2f}" for engine in plan.engines) or "nothing"
        lines.append(f"{node:16} {figures}  {who}")
    return "\n".join([head, *lines])


def _sentence(
    search: _Search,
    fits: bool,
    where: Mapping[str, list[str]],
    engines: tuple[Engine, ...],
    empty: Mapping[str, Plan],
    shares: Mapping[str, int],
) -> str:
    if fits:
        return (
            "; ".join(f"{name} on {', '.join(homes)}" for name, homes in where.items()) or "there is nothing to place"
        )
    alone = [engine for engine in engines if sum(p.left >= engine.bytes for p in empty.values()) < shares[engine.name]]
    if alone:
        engine = alone[0]
        most = max((plan.left for plan in empty.values()), default=0)
        number = f"{shares[engine.name]} nodes" if shares[engine.name] > 1 else "a node"
        return (
            f"{engine.name} needs {number} with {engine.bytes / GIB:.2f} GiB for it, and the emptiest of "
            f"{len(empty)} has {most / GIB:.2f}: take a smaller model, a stronger quantisation, or share it among more"
        )
    if search.left < 0:
        return f"no way was found in {TRIES} tries; place some of the engines yourself, by plays of their own"
    lost = ", ".join(name for name, homes in where.items() if not homes)
    return f"each engine fits by itself, and not all at once: {lost} must wait for another node or a smaller neighbour"
