# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that repair, as an operator can paste them.

A catalogue says ``ansible-playbook site.yml --tags prereqs --limit {host}``. What the
operator has to type depends on the run: where ansible-playbook is, which playbook and
inventory, who logs in. The callback tells that in its first event; here it comes together.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any

WRITTEN = ["ansible-playbook", "site.yml"]
# Another playbook of this collection is found by this name from everywhere, and run with hosts and rights of the run.
OURS = "nusy.dgx_spark."
HOST = "{host}"


def complete(written: str, again: Mapping[str, Any], tags: Collection[str], prefix: Iterable[str] = ()) -> str:
    """The remedy of a catalogue, for this run. ``{host}`` stays, for who knows the host.

    ``tags`` are those that all tasks of the role have in the plays of the run: in somebody's
    own playbook the role may have none, and then ``--tags prereqs`` would select nothing.
    A remedy that is another command stays as it is.
    """
    try:
        words = shlex.split(written)
    except ValueError:
        return written
    if words[:1] == WRITTEN[:1] and "".join(words[1:2]).startswith(OURS) and "flags" in again:
        return _joined((*prefix, *again["command"][:1], words[1], *again["flags"], *words[2:]))
    if words[:2] != WRITTEN or not again:
        return written
    words = words[2:]
    given = words[words.index("--tags") + 1] if "--tags" in words[:-1] else ""
    if given and not set(given.split(",")) <= set(tags):
        at = words.index("--tags")
        words[at : at + 2] = []
        given = ""
    if not given:
        words = [*_each("--tags", again.get("tags")), *words]
    words = [*_each("--skip-tags", again.get("skip_tags")), *words]
    return _joined((*prefix, *again.get("command", ()), *words))


def _joined(words: Iterable[str]) -> str:
    """Quoted, but for the place that is filled and quoted later."""
    return " ".join(word if word == HOST else shlex.quote(word) for word in words)


def _each(flag: str, values: Any) -> list[str]:
    return [word for value in values or () for word in (flag, str(value))]
