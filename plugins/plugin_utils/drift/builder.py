# SPDX-License-Identifier: GPL-3.0-or-later
"""events.jsonl → the report document. Waivers and history are laid over it afterwards.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import remedy
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.catalogue import Entry, entry
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.events import Event, EventFile
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.verdict import Expected, HostVerdict, Run, natural

SCHEMA = "nusy.dgx_spark.drift/1"

Report = dict[str, Any]


class NoRun(Exception):
    """The events do not even hold the beginning of a run: there is nothing to report."""


class _Story:
    """The events but for the results, taken in once."""

    def __init__(self, events: EventFile) -> None:
        self.run: Event = {}
        self.catalogue: dict[str, Entry] = {}
        self.plans: dict[str, Event] = {}
        self.started: dict[str, set[str]] = {}  # play → hosts of its batches
        self.tasks: dict[str, Event] = {}
        self.notes: list[str] = []
        self.ends = 0
        self.bad: dict[str, dict[str, int]] = {}
        self.seconds = 0.0
        self.partial = False
        self.once: dict[str, set[str]] = {}
        self.local: set[str] = set()
        self.cut: dict[str, str] = {}  # host → play that ended for all its hosts
        self._fatal: list[tuple[str, dict[str, str]]] = []  # host that failed, and whom it takes along
        self.absent: list[str] = []
        self._batch: tuple[str, list[str]] = ("", [])  # the play that began last, and its hosts
        takers = {
            "run": self._run,
            "catalogue": lambda event: self.catalogue.update(event["controls"]),
            "plan": self._plan,
            "play": self._play,
            "absent": lambda event: self.absent.extend(event["names"]),
            "cut": lambda event: self.cut.update(self._all_of_batch()),
            "local": lambda event: self.local.update(event["hosts"]),
            "task": lambda event: self.tasks.__setitem__(str(event["k"]), event),
            "result": self._result,
            "note": lambda event: self.notes.append(str(event["text"])),
            "end": self._end,
        }
        for event in events.head():
            taker = takers.get(event["e"])
            if taker is not None:
                taker(event)
        if not self.run:
            raise NoRun("the run left no events")
        if events.damaged:
            self.notes.append(f"{events.damaged} damaged lines in the events")

    def _run(self, event: Event) -> None:
        self.run = event

    def _plan(self, event: Event) -> None:
        self.plans[str(event["p"])] = event
        self.partial = self.partial or bool(event.get("partial"))

    def _play(self, event: Event) -> None:
        known = self.plans.setdefault(str(event["p"]), event)
        if known is not event:
            # What is known at the start is truer than the plan; the batch alone is less.
            hosts = dict.fromkeys([*(known.get("hosts") or []), *(event.get("hosts") or [])])
            gone = set(event.get("gone") or ())
            self.plans[str(event["p"])] = {**event, "hosts": [host for host in hosts if host not in gone]}
        self._batch = str(event["name"]), list(event.get("hosts") or ())
        self.started.setdefault(str(event["p"]), set()).update(self._batch[1])

    def _result(self, event: Event) -> None:
        self.seconds = max(self.seconds, float(event.get("t") or 0))
        task = self.tasks.get(str(event.get("k"))) or {}
        counts = event.get("n") or {}
        if task.get("fatal") and (counts.get("failed") or counts.get("unreachable")) and not event.get("ignored"):
            self._fatal.append((str(event.get("h")), self._all_of_batch()))
        if task.get("once") and task.get("own") and task.get("role"):
            self.once.setdefault(str(task["role"]), set()).add(str(event.get("h")))

    def _end(self, event: Event) -> None:
        self.ends += 1
        self.seconds = max(self.seconds, float(event.get("t") or 0))
        self.bad = event.get("bad") or {}
        for host, others in self._fatal:
            if host in self.bad:  # not rescued
                self.cut.update(others)

    def _all_of_batch(self) -> dict[str, str]:
        return dict.fromkeys(self._batch[1], self._batch[0])

    def tags(self) -> dict[str, set[str]]:
        """Role → tags that select all of it, in every play that has it."""
        common: dict[str, set[str]] = {}
        for plan in self.plans.values():
            for role, about in plan["roles"].items():
                own = set(about.get("tags") or ())
                common[role] = common.get(role, own) & own
        return common

    def incomplete(self) -> str:
        """Why the report is not about the whole run; empty when it is."""
        reasons = list(self.notes)
        playbooks = self.run.get("playbooks") or []
        if not self.ends:
            reasons.insert(0, "the run was interrupted before its end")
        elif self.ends < len(playbooks):
            reasons.append(f"never started or not finished: {', '.join(playbooks[self.ends :])}")
        lost = [plan["name"] for plan in self.plans.values() if plan.get("hosts") is None]
        if lost:
            reasons.append(f"never started, and its hosts are not known: play {', '.join(lost)}")
        if not any(plan.get("hosts") for plan in self.plans.values()):
            reasons.append("no host matched any play")
        return "; ".join(dict.fromkeys(reasons))

    def expected(self) -> dict[str, Expected]:
        """Host → what the plays promise; equal ones are one object."""
        plays_of: dict[str, list[str]] = {}
        for key, plan in self.plans.items():
            for host in plan.get("hosts") or ():
                plays_of.setdefault(host, []).append(key)
        memo: dict[tuple[tuple[str, bool], ...], Expected] = {}
        result = {}
        for host, keys in plays_of.items():
            shape = tuple((key, host in self.started.get(key, ())) for key in keys)
            if shape not in memo:
                memo[shape] = self._expect(shape)
            result[host] = memo[shape]
        return result

    def _expect(self, shape: tuple[tuple[str, bool], ...]) -> Expected:
        roles: dict[str, tuple[int, int]] = {}
        for key, _started in shape:
            for role, about in self.plans[key]["roles"].items():
                selected, left_out = roles.get(role, (0, 0))
                roles[role] = selected + int(about["selected"]), left_out + int(about["left_out"])
        never = tuple(self.plans[key]["name"] for key, started in shape if not started)
        return Expected(roles, never)


def build(path: Path, prefix: Iterable[str] = ()) -> Report:
    """The report of the events in ``path``, without waivers, history and exit code.

    ``prefix`` are the settings that a command to repair needs in front of it.
    """
    try:
        events = EventFile(path)
    except FileNotFoundError:
        raise NoRun("it never came to run a play") from None
    try:
        return _build(events, tuple(prefix))
    finally:
        events.close()


def _build(events: EventFile, prefix: tuple[str, ...]) -> Report:
    story = _Story(events)
    interrupted = story.incomplete()
    absent = f"--limit names what is no host and no group: {', '.join(story.absent)}" if story.absent else ""
    problem = "; ".join(filter(None, (interrupted, absent)))
    controls_of: dict[str, list[str]] = {}
    for identity, about in story.catalogue.items():
        controls_of.setdefault(str(about["role"]), []).append(identity)
    playbooks = [re.sub(r".*/", "", name) for name in story.run.get("playbooks") or []]
    run = Run(
        catalogue=dict(story.catalogue),
        controls_of={role: tuple(identities) for role, identities in controls_of.items()},
        tasks=story.tasks,
        partial=story.partial,
        complete=not interrupted,
        once={role: next(iter(hosts)) for role, hosts in story.once.items() if len(hosts) == 1},
    )
    again = story.run.get("again") or {}
    expected = story.expected()
    # Ids are ordered as they were promised, then as they came up; both follow the plays.
    order = {identity: number for number, identity in enumerate(run.catalogue)}
    nothing = Expected()
    hosts = []
    for name in sorted({*expected, *events.hosts()}, key=natural):
        verdict = HostVerdict(run, expected.get(name, nothing))
        for result in events.results(name):
            verdict.add(result)
        for identity in run.catalogue:
            order.setdefault(identity, len(order))
        bad = story.bad.get(name) or {}
        concluded = verdict.conclude(
            int(bad.get("failures", 0)), int(bad.get("unreachable", 0)), story.cut.get(name, ""), order
        )
        only_here = {"repair_with": shlex.join(again["local"])} if name in story.local and again else {}
        hosts.append({"name": name, **only_here, **concluded})
    _adopt_strays(run.catalogue, hosts)
    tags = story.tags()
    for about in run.catalogue.values():
        about["remedy"] = remedy.complete(about["remedy"], again, tags.get(about["role"], ()), prefix)
    return {
        "schema": SCHEMA,
        "run": {
            "id": story.run.get("id", ""),
            "started": story.run.get("time", ""),
            "seconds": round(story.seconds, 1),
            "mode": story.run.get("mode", "check"),
            "playbook": " ".join(playbooks) or "site.yml",
            "complete": not problem,
            "incomplete_reason": problem,
            "collection": story.run.get("collection", ""),
            "ansible": story.run.get("ansible", ""),
            "directory": again.get("directory", ""),
            "variables": list(again.get("variables") or ()),
        },
        "summary": {},
        "catalogue": run.catalogue,
        "waivers": {"file": "", "problems": [], "unused": []},
        "trend": [],
        "hosts": hosts,
    }


def _adopt_strays(catalogue: dict[str, Entry], hosts: list[Event]) -> None:
    """Evidence on a control that no catalogue promises is shown too, and says so."""
    for host in hosts:
        for control in host["controls"]:
            identity = control["id"]
            if identity not in catalogue:
                role = identity.split("/")[0]
                catalogue[identity] = entry(role, identity, "medium", rationale="Not in the catalogue of its role.")
