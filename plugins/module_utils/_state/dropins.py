# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop-ins of systemd units that undo what others set.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import parse_environment

# Directives that a later drop-in only adds to, systemd.unit(5): of these an empty one resets nothing, either.
DEPENDENCIES = frozenset(
    (
        *("After", "Before", "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds", "Conflicts"),
        *("OnFailure", "OnSuccess"),
    )
)
# Directives that a later drop-in adds to, and that an empty one resets: systemd.unit(5), .exec(5), .service(5).
LISTS = frozenset(
    (
        *("Documentation", "Environment", "EnvironmentFile", "PassEnvironment", "UnsetEnvironment"),
        *("ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost", "ExecReload"),
        *("SupplementaryGroups", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths"),
        *("BindReadOnlyPaths", "LoadCredential", "SetCredential", "WantedBy", "RequiredBy", "Alias", "Also"),
    )
)
# A line that ends in a backslash goes on in the next one, comments in between left out.
_CONTINUED = re.compile(r"\\\n(?:[ \t]*[#;].*\n)*")

Setting = tuple[str, str, str]  # section, directive, value


def settings(text: str) -> list[Setting]:
    """What a unit file sets, line by line."""
    found, section = [], ""
    for line in (raw.strip() for raw in _CONTINUED.sub(" ", text).split("\n")):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith(("#", ";")):
            name, _equals, value = line.partition("=")
            found.append((section, name.strip(), value.strip()))
    return found


def overrides(
    reader: Reader, ours: Mapping[str, str], dropins: Sequence[str]
) -> tuple[tuple[tuple[str, str], ...], tuple[Unknown, ...]]:
    """Drop-ins of somebody else that undo, after ours, what ours set: (path, directive), and what cannot be told.

    ``ours``: path → text, of the unit file and drop-ins. ``dropins``: in the order in which systemd reads
    them, which is that of their names, wherever they are. Ours that are not there yet take their place in it.
    """
    if not ours:
        return (), ()
    first = [path for path in ours if not path.endswith(".conf")]
    missing = {os.path.basename(path): path for path in ours if path not in (*first, *dropins)}
    everything = [setting for text in ours.values() for setting in settings(text)]
    so_far: list[Setting] = []
    found: list[tuple[str, str]] = []
    unknown: list[Unknown] = []
    for path in (*first, *sorted((*missing.values(), *dropins), key=os.path.basename)):
        if path in ours:
            so_far += settings(ours[path])
            continue
        try:
            theirs = settings(reader.read(path) or "")
            undone = [our for our in so_far if any(_undoes(reader, their, our) for their in theirs)]
            undone += [our for our in everything if any(_wins_anywhere(reader, their, our) for their in theirs)]
            hidden = missing.get(os.path.basename(path), "")
            if hidden and reader.stat(hidden) is not None:
                # Of two of one name systemd reads only the one in the folder that counts more.
                undone += settings(ours[hidden])
        except Unreadable as error:
            unknown.append(Unknown(f"{error}: it may override what is declared"))
            continue
        found += [(path, directive) for directive in sorted({f"{our[0]}/{our[1]}" for our in undone})]
    return tuple(found), tuple(unknown)


def _undoes(reader: Reader, their: Setting, our: Setting) -> bool:
    section, directive, value = their
    # The same again undoes nothing: two roles may want it.
    if (section, directive) != our[:2] or directive in DEPENDENCIES or (value == our[2] and directive not in LISTS):
        return False
    if directive not in LISTS or not (our[2] and value):
        return directive not in LISTS or bool(our[2])
    return directive == "Environment" and not _variables(reader, their).isdisjoint(_variables(reader, our))


def _wins_anywhere(reader: Reader, their: Setting, our: Setting) -> bool:
    """What a file sets, or is taken away, counts more than Environment=, before or after it: systemd.exec(5)."""
    if their[0] != our[0] or their[1] not in ("EnvironmentFile", "UnsetEnvironment") or our[1] != "Environment":
        return False
    return not _variables(reader, their).isdisjoint(_variables(reader, our))


def _variables(reader: Reader, setting: Setting) -> set[str]:
    _section, directive, value = setting
    if directive == "EnvironmentFile":
        return set(parse_environment(reader.read(value.removeprefix("-")) or "")) if value else set()
    try:
        words = shlex.split(value)
    except ValueError:
        words = value.split()
    return {word.partition("=")[0] for word in words}
