# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that is not used up as a subject of ``_core.entry``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Action, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard import model, observe, plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.parse import ARGUMENT_SPEC, guard
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.budget import budget
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import starts
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look


def ensure_memory(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    wanted = guard(params)

    def look(reader: Reader) -> Look:
        reason = observe.unsupported(reader)
        if reason:
            return Look(unsupported=reason)
        try:
            seen = observe.look(wanted, reader)
        except NodeError as error:
            return Look(hidden=error)
        facts = {"budget": budget(seen.plan)} if seen.plan else {}
        left_out = plan.left_out(wanted)
        document = [control for control in plan.controls(wanted, seen) if control.id not in left_out]
        return Look(tuple(document), ACTIONS, facts, left_out)

    return Composed(model.ROLE, model.CONTROLS, params, look)


def restart_engine(step: Step, reader: Reader, writer: Writer) -> None:
    """With the drop-ins that were just written: what waits for the end of a document comes too late for a slice."""
    starts.reload_manager(step, reader, writer)
    starts.change(Step("restart_unit", step.target), reader, writer)


def set_value(step: Step, _reader: Reader, writer: Writer) -> None:
    """Of a running process or cgroup. One that has ended since needs it no more: the next look tells."""
    try:
        writer.set_kernel_value(step.target, str(step.args[0]))
    except FileNotFoundError:
        return
    except OSError as error:
        raise NodeError(
            "memory_guard.value_refused",
            wanted=f"{step.target} = {step.args[0]}",
            found=f"the kernel refused it: {error.strerror}",
            why="the running process is not protected as its unit says",
            fix="look at the value by hand; in a container it may belong to the host",
        ) from error


ACTIONS: dict[str, Action] = {"set_value": set_value, "restart_engine": restart_engine}
MODULE = Ensuring("memory_guard", ARGUMENT_SPEC, ensure_memory)
