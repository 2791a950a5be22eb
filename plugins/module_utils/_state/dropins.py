# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop-ins of systemd units that undo what others set.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Unreadable

# Directives that a later drop-in adds to and does not replace: systemd.unit(5), .exec(5), .service(5).
ADDITIVE = frozenset(
    (
        *("After", "Before", "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds", "Conflicts"),
        *("OnFailure", "OnSuccess", "Documentation", "Environment", "EnvironmentFile", "PassEnvironment"),
        *("UnsetEnvironment", "ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost"),
        *("ExecReload", "SupplementaryGroups", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths"),
        *("BindPaths", "BindReadOnlyPaths", "LoadCredential", "SetCredential", "WantedBy", "RequiredBy"),
        *("Alias", "Also"),
    )
)


def directives(text: str) -> set[str]:
    """``Section/Directive`` names that a unit file sets."""
    found, section = set(), ""
    for line in (raw.strip() for raw in text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith(("#", ";")):
            found.add(f"{section}/{line.split('=', 1)[0].strip()}")
    return found


def overrides(reader: Reader, ours: Mapping[str, str], dropins: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Drop-ins of somebody else that set, after ours, what ours set: (path, directive).

    ``ours``: path → text. ``dropins``: in the order in which systemd reads them, as it lists them.
    """
    if not ours:
        return ()
    set_so_far = {d for path, text in ours.items() if path not in dropins for d in directives(text)}
    found = []
    for path in dropins:
        if path in ours:
            set_so_far |= directives(ours[path])
            continue
        try:
            text = reader.read(path) or ""
        except Unreadable:
            continue
        found += [
            (path, directive)
            for directive in sorted(directives(text) & set_so_far)
            if directive.partition("/")[2] not in ADDITIVE
        ]
    return tuple(found)
