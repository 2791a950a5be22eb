# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on one host: catalogue − evidence.

Reads the results of one host in order and says of every control, promised or seen, what is
known. Pure: no file, no clock, no Ansible.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.catalogue import Entry, entry
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.events import Event
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.text import slug

# The worst of several results on the same control wins, and keeps its details.
_RANK = {"drifted": 3, "unknown": 2, "in_sync": 1, "not_selected": 0}
_DETAILS = ("before", "after", "reason", "blocked_by", "cause", "repaired", "task")

_BY_TAGS = "left out by the tags of this run"

Control = dict[str, Any]


@dataclass
class Expected:
    """What the plays promise about one host. Shared by hosts that are in the same plays."""

    # role → telling tasks (own modules, includes) that tags select, and that they leave out
    roles: dict[str, tuple[int, int]] = field(default_factory=dict)
    # Plays that were to run on the host and never started there.
    never: tuple[str, ...] = ()


@dataclass
class Run:
    """What all hosts share."""

    catalogue: dict[str, Entry]
    controls_of: dict[str, tuple[str, ...]]  # role → control ids
    tasks: Mapping[str, Event]
    partial: bool  # tags were given
    complete: bool
    once: dict[str, str]  # task that ran for one host only → that host
    # Equal controls of all hosts are one object: most of a large report.
    shared: dict[tuple[tuple[str, Any], ...], Control] = field(default_factory=dict)


@dataclass
class _Trace:
    """What became of the telling tasks of one role on the host."""

    own: int = 0
    includes: int = 0
    condition: int = 0
    failed: str = ""
    last: str = ""

    @property
    def seen(self) -> int:
        return self.own + self.includes + self.condition


class HostVerdict:
    def __init__(self, run: Run, expected: Expected) -> None:
        self._run = run
        self._roles = dict(expected.roles)
        self._never = expected.never
        self._controls: dict[str, Control] = {}
        # Those of which nobody has said more than a look.
        self._looked_at: set[str] = set()
        self._traces: dict[str, _Trace] = {}
        self._same_name: dict[str, list[str]] = {}
        self._last = ""
        self._machine = ""
        self._flags: dict[str, str] = {}
        self._unreachable = ""
        self._unreachable_after = ""

    # -- evidence ------------------------------------------------------------------------

    def add(self, result: Event) -> None:
        task = self._run.tasks.get(str(result.get("k"))) or {}
        label = _label(task, result)
        counts = result.get("n") or {}
        self._machine = str(result.get("machine") or self._machine)
        self._flags = result.get("flags", self._flags)
        role = str(task.get("role") or "")
        included = str(task.get("role_included") or "")
        if counts.get("unreachable") and not result.get("ignored"):
            self._unreachable = str(result.get("why") or "unreachable")
            self._unreachable_after = self._last
        self._last = label
        if role and role not in self._roles and role in self._run.controls_of:
            self._roles[role] = (0, 0)  # an include brought it in
        for telling in {included, role if task.get("own") or task.get("include") else ""} - {""}:
            self._trace(telling, task, result, label)
        if task.get("handler") and not counts.get("failed"):
            return  # a consequence of what was already counted
        for control in result.get("controls") or ():
            self._put(self._judge(control, result, label), looked=bool(result.get("check")))
        self._synthetic(task, result, counts, label)

    def _trace(self, role: str, task: Event, result: Event, label: str) -> None:
        trace = self._traces.setdefault(role, _Trace())
        counts = result.get("n") or {}
        if counts.get("failed"):
            trace.failed = f"{label}, which failed: {result.get('why') or 'no message'}"
        elif set(counts) == {"condition"}:
            trace.condition += 1
        elif task.get("own"):
            trace.own += 1
            trace.last = label
        else:
            trace.includes += 1

    def _judge(self, found: Event, result: Event, label: str) -> Control:
        """One control of a result: a real run that did not fail has repaired what was not blocked."""
        control: Control = {key: found[key] for key in ("id", "state") if key in found}
        control |= {key: found[key] for key in _DETAILS if found.get(key)}
        if control["state"] == "drifted":
            if control.get("blocked_by"):
                control["cause"] = "blocked"
            elif not result.get("check") and not found.get("failed"):
                control["state"] = "in_sync"
                control["repaired"] = True
        if control["state"] in ("in_sync", "not_selected") and not control.get("repaired"):
            control.pop("before", None)
            control.pop("after", None)
        else:
            control["task"] = label
        return control

    def _synthetic(self, task: Event, result: Event, counts: Mapping[str, int], label: str) -> None:
        """A task that brought no controls, or failed, is a control of its own."""
        failed = counts.get("failed") or counts.get("unreachable")
        if not failed and ("controls" in result or task.get("quiet")):
            return
        if counts.get("unreachable") and not result.get("ignored"):
            return  # the host's state says it
        if not failed and set(counts) <= {"condition"}:
            return
        owner = str(task.get("role") or task.get("play") or "play")
        part = task.get("role") or slug(owner)
        identity = f"task:{part}/{task.get('slug') or 'task'}"
        # Tasks without a name, or with one name, are many: counted on each host, whose order is that of the play.
        keys = self._same_name.setdefault(identity, [])
        if result.get("k") not in keys:
            keys.append(str(result.get("k")))
        if number := keys.index(str(result.get("k"))):
            identity += f"-{number + 1}"
        self._run.catalogue.setdefault(
            identity,
            entry(
                owner,
                str(task.get("name") or identity),
                "info",
                remedy="ansible-playbook site.yml --limit {host}",
            ),
        )
        control: Control = {"id": identity, "state": "in_sync"}
        reasons = []
        if counts.get("changed"):
            control |= {"state": "drifted"} if result.get("check") else {"repaired": True}
        if unseen := counts.get("unseen"):
            total = sum(counts.values())
            what = "not evaluated in check mode" if result.get("check") else "not seen to its end"
            part = f"{unseen} of {total} items " if total > 1 else ""
            said = f" ({result['why']})" if result.get("why") and not failed else ""
            reasons.append(f"{part}{what}{said}")
            if control["state"] == "in_sync":
                control = {"id": identity, "state": "unknown"}
        if failed:
            # Never fine, and not merely drifted: what it did not reach cannot be known.
            control = {"id": identity, "state": "unknown"}
            reasons.insert(0, f"failed: {result.get('why') or 'no message'}")
        if reasons:
            control["reason"] = "; ".join(reasons)
        if control["state"] != "in_sync" or control.get("repaired"):
            control |= {key: result[key] for key in ("before", "after") if result.get(key)}
            control["task"] = label
        self._put(control)

    def _put(self, control: Control, looked: bool = False) -> None:
        """A look before a change (a task of a real run with ``check_mode: true``) counts until the change is made."""
        name = control["id"]
        known = self._controls.get(name)
        if known is None or _rank(control) > _rank(known) or (name in self._looked_at and not looked):
            self._controls[name] = control
            (self._looked_at.add if looked else self._looked_at.discard)(name)

    # -- conclusion ----------------------------------------------------------------------

    def conclude(self, failures: int, dark: int, cut: str, order: Mapping[str, int]) -> Event:
        """The host as report.json has it. ``cut`` is a play that ended early for all its hosts."""
        unreachable = bool(dark) or bool(self._unreachable)
        early = bool(failures) or unreachable or bool(cut) or bool(self._never) or not self._run.complete
        for role in self._roles:
            for identity in self._run.controls_of.get(role, ()):
                if identity not in self._controls:
                    state, reason = self._absent(role, unreachable, early)
                    self._put({"id": identity, "state": state, "reason": reason})
        state, reason = "reached", ""
        if unreachable:
            state, reason = "unreachable", self._unreachable or "unreachable"
            if self._unreachable_after:
                reason += f" (after {self._unreachable_after})"
        elif failures:
            state, reason = "partial", f"a task failed and ended the host (last task: {self._last})"
        elif cut:
            state, reason = (
                "partial",
                f"play {cut} ended for all its hosts, because others failed (last task: {self._last})",
            )
        elif self._never:
            state, reason = "partial", f"never started on this host: play {', '.join(self._never)}"
        elif not self._run.complete:
            state, reason = "partial", f"the run was not complete (last task: {self._last or 'none'})"
        controls = sorted(self._controls.values(), key=lambda c: (order.get(c["id"], len(order)), c["id"]))
        about = {"machine": self._machine, "flags": self._flags}
        known = {name: value for name, value in about.items() if value}
        return {"state": state, "reason": reason, **known, "controls": [self._lean(control) for control in controls]}

    def _absent(self, role: str, unreachable: bool, early: bool) -> tuple[str, str]:
        """Why a promised control has no evidence. In doubt it is unknown."""
        selected, left_out = self._roles[role]
        trace = self._traces.get(role) or _Trace()
        if left_out and not selected:
            return "not_selected", _BY_TAGS
        if trace.failed:
            return "unknown", f"not reached (after {trace.failed})"
        through = bool(selected) and trace.seen >= selected  # the role came to its end here
        if unreachable and not through:
            return "unknown", f"unreachable: {self._unreachable or 'no message'}"
        if early and not through:
            return "unknown", self._ended()
        if trace.condition:
            return "not_selected", "skipped by its condition"
        if once := self._run.once.get(role):
            return "not_selected", f"looked at once, on {once}"
        if self._run.partial and (left_out or (trace.includes and not trace.own)):
            return "not_selected", _BY_TAGS
        if trace.own:
            return "unknown", f"not reached (after {trace.last}, which ended the role without a word on it)"
        return "unknown", self._ended()

    def _ended(self) -> str:
        if self._never and not self._last:
            return f"not reached (play {self._never[0]} never started)"
        return f"not reached (after {self._last})" if self._last else "not reached (no task ran on this host)"

    def _lean(self, control: Control) -> Control:
        if "before" in control or "after" in control:
            return control
        return self._run.shared.setdefault(tuple(control.items()), control)


def _rank(control: Control) -> tuple[int, bool]:
    return _RANK[control["state"]], bool(control.get("repaired"))


def _label(task: Event, result: Event) -> str:
    """A task as an operator would look for it."""
    name = str(result.get("name") or task.get("name") or "a task")
    role = str(task.get("role") or "")
    where = f" (on {result['on']})" if result.get("on") else ""
    return f"{role} : {name}{where}" if role else f"{name}{where}"


def natural(name: str) -> list[tuple[int, int | str]]:
    """node-2 before node-10."""
    parts: list[tuple[int, int | str]] = []
    digits = ""
    for letter in name + "\0":
        if letter.isascii() and letter.isdigit():
            digits += letter
            continue
        if digits:
            parts.append((0, int(digits)))
            digits = ""
        parts.append((1, letter))
    return parts


def tally(hosts: Iterable[Event]) -> dict[str, int]:
    counts = dict.fromkeys(("in_sync", "drifted", "unknown", "waived", "not_selected"), 0)
    for host in hosts:
        for control in host["controls"]:
            counts[control["state"]] += 1
    return counts
