# SPDX-License-Identifier: GPL-3.0-or-later
"""``spark-ensure-state``: the six specs for somebody at the console, without Ansible. It only looks.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._console.judge import SPECS, Block, judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.options import Parser, say

SCHEMA = "nusy.dgx_spark.ensure-state/1"
WORDS = {"in_sync": "PASS", "drifted": "FAIL", "unknown": "UNKNOWN", "not_selected": "SKIP"}
# A value in a line, or in the document, is to be recognised; the whole is on the node.
SHOWN = 200


def main(words: Sequence[str]) -> int:
    """0 all PASS, 2 a FAIL, 3 an UNKNOWN and no FAIL, 64 usage."""
    parser = Parser("spark-ensure-state", "Judge this node by what was declared for it. Changes nothing.")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("role", nargs="*", help=f"only these, such as {SPECS[0]}")
    given = parser.parse_args(list(words))
    blocks = [block for block in judge(HostReader()) if not given.role or _role(block) in given.role]
    for role in given.role:
        if role not in map(_role, blocks):
            parser.error(f"nothing is known of {role}; there are {', '.join(SPECS)}")
    states: list[str] = [control.state for block in blocks for control in block.controls]
    summary = {word.lower(): states.count(state) for state, word in WORDS.items()}
    if given.json:
        document = {
            "schema": SCHEMA,
            "host": os.uname().nodename,
            "summary": summary,
            "specs": [
                {"spec": block.spec, "name": block.name, "controls": [_entry(c) for c in block.controls]}
                for block in blocks
            ],
        }
        say(json.dumps(document, indent=1))
    else:
        for block in blocks:
            _print(block)
        say("  ".join(f"{count} {word.upper()}" for word, count in summary.items() if count) or "nothing to judge")
        if "drifted" in states:
            say("Repair: run the playbook of this site again from its controller; this program changes nothing.")
    return 2 if "drifted" in states else 3 if "unknown" in states else 0


def _role(block: Block) -> str:
    return block.name.partition("-")[0]


def _print(block: Block) -> None:
    say(f"spec {block.spec}  {block.name}" if block.spec else f"also    {block.name}")
    for control in block.controls:
        reason = f"  {control.reason}" if control.reason and control.state != "in_sync" else ""
        say(f"  {WORDS[control.state]:<8}{control.id}{reason}")
        for change in control.changes:
            say(
                f"            {one_line(f'{change.key}: {_short(change.before)} -> {_short(change.after)}', 2 * SHOWN)}"
            )
        if control.blocked_by:
            say(f"            allowed by {one_line(control.blocked_by, SHOWN)}")
    say()


def _entry(control: Control) -> dict[str, object]:
    found = control.as_dict()
    found["verdict"] = WORDS[control.state]
    for side in ("before", "after"):
        found[side] = {change.key: _short(getattr(change, side)) for change in control.changes}
    return found


def _short(value: object) -> str:
    return one_line(", ".join(value) if isinstance(value, tuple) else str(value), SHOWN)
