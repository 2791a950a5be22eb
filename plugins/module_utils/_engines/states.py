# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd says of the units of engines, in words for who has to do something about it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.main import CONFIGURATION
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.options import USAGE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Assertion
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.units import SYSTEMCTL, parse_show

PROPERTIES = "Id,ActiveState,SubState,UnitFileState,Result,NRestarts,ExecMainCode,ExecMainStatus"
# Between an end and the next start, which systemd calls activating as well; or auto-restart-queued.
BETWEEN = "auto-restart"
# ExecMainCode= is what waitid(2) tells.
EXITED, SIGNALLED = ("1",), ("2", "3")

# Of a unit its properties, by their names.
Shown = Mapping[str, str]


def observe(units: Sequence[str], reader: Reader) -> dict[str, Shown]:
    """Empty for one of which systemd says nothing."""
    if not units:
        return {}
    argv = [SYSTEMCTL, "show", "--no-pager", f"--property={PROPERTIES}", "--", *units]
    return {block.get("Id", ""): block for block in parse_show(reader.run(argv, timeout=30).out)}


def silent(name: str, wanted: str, unit: str, shown: Shown) -> Assertion | None:
    """Why the engine of this unit answers nobody, where its unit says so; None for one that runs."""
    state, journal = shown.get("ActiveState", ""), f"journalctl -u {unit}"
    if state == "active":
        return None
    again = int(shown.get("NRestarts") or 0)
    if state == "activating" and not shown.get("SubState", "").startswith(BETWEEN):
        before = f"; it ended and was started again {again} times: {journal}" if again else ""
        return Assertion(name, "unknown", "", wanted, f"{unit} is starting: it loads its model{before}")
    if shown.get("UnitFileState", "").startswith("masked"):
        # Somebody's will, until the control of the unit is told otherwise: no failure of a run.
        reason = f"{unit} is masked: nobody can start it"
        return Assertion(name, "drifted", "masked", wanted, reason, victim=("unit", unit))
    if state == "activating":
        state, reason = BETWEEN, f"{unit} ended ({_end(shown)}), and waits to be started again; {journal} says why"
    elif state == "failed" and _end(shown) in (f"exit code {USAGE}", f"exit code {CONFIGURATION}"):
        reason = f"{unit} refused to start ({_end(shown)}) and is not tried again; {journal} says what is missing"
    elif state == "failed":
        given_up = f"; systemd gave up after it was started again {again} times" if again else ""
        reason = f"{unit} failed ({_end(shown)}){given_up}; {journal} says why"
    elif state == "inactive":
        reason = f"{unit} does not run, and did not fail: it was stopped, or never started"
    else:
        reason = f"{unit} is {state or 'not there'}"
    return Assertion(name, "drifted", state or "absent", wanted, reason, f"look at: {journal}")


def _end(shown: Shown) -> str:
    """Of its process; of the whole start where that was ended for something else, such as its time."""
    result, code, status = (shown.get(name, "") for name in ("Result", "ExecMainCode", "ExecMainStatus"))
    if result == "exit-code" and code in EXITED:
        return f"exit code {status}"
    if result in ("signal", "core-dump") and code in SIGNALLED:
        return f"signal {status}"
    return result or "nobody knows why"
