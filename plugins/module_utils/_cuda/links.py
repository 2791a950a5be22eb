# SPDX-License-Identifier: GPL-3.0-or-later
"""The link to the toolkit, usually /usr/local/cuda.

On systems with NVIDIA's packages update-alternatives manages it, and a link set beside it
would be undone by the next package: so the alternative is set instead.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer

UPDATE_ALTERNATIVES = "/usr/bin/update-alternatives"
ALTERNATIVES = "/etc/alternatives"
MAX_HOPS = 8


@dataclass(frozen=True)
class Seen:
    """kind: absent, link, or what else is in its place; unknown with a ``problem``. homeless: no folder for it.

    hops: where it leads, link by link, the first as it is written in the link.
    """

    kind: str = "absent"
    hops: tuple[str, ...] = ()
    leads_to_prefix: bool = False
    problem: str = ""
    homeless: bool = False

    @property
    def alternative(self) -> str:
        """Name of the alternative that manages it; empty if none does."""
        folder, name = posixpath.split(self.hops[0] if self.hops else "")
        return name if folder == ALTERNATIVES else ""

    @property
    def target(self) -> str:
        """What an operator wants to know: the choice of the alternative, or the target of the link."""
        return self.hops[1 if self.alternative and len(self.hops) > 1 else 0] if self.hops else ""

    def as_dict(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "target": self.target,
            "alternative": self.alternative,
            "leads_to_prefix": self.leads_to_prefix,
        }


def owned(path: str, prefix: str) -> str:
    """How the applied record lists a link that this role made. One that leads elsewhere since is somebody's choice."""
    return f"link:{path} to {prefix}"


def observe(path: str, prefix: str, reader: Reader) -> Seen:
    if not path:
        return Seen()
    try:
        stat = reader.stat(path)
        if stat is None:
            return Seen(homeless=reader.stat(posixpath.dirname(path)) is None)
        if stat.kind != "link":
            return Seen(stat.kind)
        hops: list[str] = []
        place = path
        while len(hops) < MAX_HOPS and (target := reader.readlink(place)) is not None:
            place = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
            hops.append(place)
            # The prefix may be a link itself: what it leads to is none of this link's business.
            if place == prefix:
                return Seen("link", tuple(hops), leads_to_prefix=True)
        return Seen("link", tuple(hops))
    except Unreadable as error:
        return Seen("unknown", problem=str(error))


def point(step: Step, reader: Reader, writer: Writer) -> None:
    """Where an alternative manages the link now (a package of an earlier step may have made it), set that."""
    prefix = str(step.args[0])
    alternative = observe(step.target, prefix, reader).alternative
    if not alternative:
        writer.symlink(step.target, prefix)
        return
    # To offer what is offered already changes nothing but its priority.
    listed = writer.run([UPDATE_ALTERNATIVES, "--list", alternative])
    if prefix not in listed.out.splitlines():
        _run([UPDATE_ALTERNATIVES, "--install", step.target, alternative, prefix, "1"], writer)
    _run([UPDATE_ALTERNATIVES, "--set", alternative, prefix], writer)


def _run(argv: list[str], writer: Writer) -> None:
    done = writer.run(argv)
    if not done.ok:
        raise NodeError(
            "cuda.alternative",
            wanted=" ".join(argv),
            found=f"it {done.ending}: {one_line(done.said())}",
            why="programs that use the link would get another toolkit",
            fix="see update-alternatives --display cuda on the node",
        )
