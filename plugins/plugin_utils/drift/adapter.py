# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what Ansible tells its callbacks into events. With plays.py and invocation.py the only
code that knows what Ansible's objects look like.

Written for ansible-core 2.19 to 2.21. 2.19 changed what callbacks get (``result.result``,
``result.task``, ``result.host``; the names with an underscore are deprecated). A result may
come from any module of anybody, so nothing is taken for granted but the host's name.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import text
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.events import Event
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.evidence import after_failure, differences, evidence
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.plays import (
    COLLECTION,
    INCLUDES,
    action_of,
    hosts_of,
    included_role,
    roles_of,
)

CONTROLS_LIMIT = 5000  # of one result
FLAGS_LIMIT = 40  # more than the version matrix has known-bad rows for one machine

# These only talk to Ansible or look: their "ok" judges nothing, so it is no control. A
# failure of one still is.
_JUDGES_NOTHING = INCLUDES | {
    *("add_host", "assert", "debug", "fail", "find", "gather_facts", "getent", "group_by", "include_vars", "meta"),
    *("pause", "ping", "set_fact", "set_stats", "setup", "slurp", "stat", "validate_argument_spec"),
    *("wait_for_connection", f"{COLLECTION}.preflight"),
}
# What modules say when a file that was named makes the command unnecessary.
_GUARDED = re.compile(r"\bsince\b.+\bexists?\b|\bmatching (creates|removes) option")


class Adapter:
    """Remembers what was already written, so that each task is described once."""

    def __init__(self, *, check: bool) -> None:
        self._check = check
        self._tasks: set[str] = set()
        self._play = ""
        self._play_id = ""
        self._lockstep = True
        self._planned: dict[str, set[str]] = {}
        self._skipped_items: dict[tuple[str, str], Counter[str]] = {}

    # -- plays ---------------------------------------------------------------------------

    def play(self, kind: str, play: Any, hosts: Iterable[str] | None) -> Event:
        """A ``plan`` or ``play`` event. ``hosts`` is None when they cannot be known yet."""
        name = text.line(play.get_name() or "", text.NAME_LIMIT)
        key = str(play._uuid)
        gone: set[str] = set()
        if kind == "play":
            self._play, self._play_id = name, key
            self._lockstep = str(play.strategy).rpartition(".")[2] in ("linear", "debug")
            # A pattern may follow groups that the run makes: who was planned and is not meant any more?
            gone = self._planned.get(key, set()) - set(hosts_of(play, whole=True) or ())
        else:
            self._planned[key] = set(hosts or ())
        return {
            "e": kind,
            "p": key,
            "name": name,
            "hosts": None if hosts is None else [text.line(host, text.NAME_LIMIT) for host in hosts],
            "roles": roles_of(play),
            "partial": bool(set(play.only_tags) - {"all"} or play.skip_tags),
            **({"gone": sorted(text.line(host, text.NAME_LIMIT) for host in gone)} if gone else {}),
        }

    def cut_short(self) -> Event:
        """The play that runs has ended for all its hosts, because of what some of them did."""
        return {"e": "cut", "p": self._play_id}

    # -- results -------------------------------------------------------------------------

    def item_skipped(self, result: Any) -> None:
        """From 2.21 on the result of a loop does not say which of its items were skipped."""
        task, host, _fields, data = _parts(result)
        self._skipped_items.setdefault((host.get_name(), str(task._uuid)), Counter())[_label(data)] += 1

    def result(self, result: Any, status: str, *, ignored: bool = False, at: float = 0.0) -> list[Event]:
        """The events of one result: the task when it is new, and the result."""
        task, host, fields, data = _parts(result)
        key = str(task._uuid)
        events = []
        if key not in self._tasks:
            self._tasks.add(key)
            events.append(self._task(task, fields, key))
        shown, delegate = _own_name(task, fields), _delegate(fields, host)
        events.append(
            {
                "e": "result",
                "h": text.line(host.get_name(), text.NAME_LIMIT),
                "k": key,
                "t": round(at, 3),
                **self._verdict(task, fields, self._marked(host, task, data), status),
                **({"ignored": True} if ignored or _unreachable_ignored(fields, status) else {}),
                **({"name": shown} if shown else {}),
                **({"on": delegate} if delegate else {}),
            }
        )
        return events

    def _task(self, task: Any, fields: Mapping[str, Any], key: str) -> Event:
        action = action_of(task)
        role = getattr(task, "_role", None)
        raw = str(getattr(task, "name", "") or action)
        shown = _own_name(task, fields) or raw
        short = action.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
        event: Event = {
            "e": "task",
            "k": key,
            "name": text.line(shown, text.NAME_LIMIT),
            # From the name as written: a templated one differs from host to host.
            "slug": text.slug(raw),
            "role": text.line(role.get_name(include_role_fqcn=False), 100) if role else "",
            "play": self._play,
            "action": text.line(action, 100),
        }
        flags = {
            "own": action.startswith(f"{COLLECTION}."),
            "handler": type(task).__name__ == "Handler",
            "include": short in INCLUDES,
            "quiet": short in _JUDGES_NOTHING or short.endswith(("_facts", "_info", "_probe")),
            # One host's failure then ends the play for all hosts, of which Ansible says nothing.
            "fatal": self._lockstep
            and any(_is_set(getattr(task, name, None)) for name in ("any_errors_fatal", "run_once")),
            "once": bool(getattr(task, "run_once", False)),
            "role_included": included_role(task),
        }
        return {**event, **{name: flag for name, flag in flags.items() if flag}}

    def _marked(self, host: Any, task: Any, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The result, with the items marked that were skipped."""
        skipped = self._skipped_items.pop((host.get_name(), str(task._uuid)), None)
        items = _items(task, data)
        if not skipped or items[0] is data:
            return data
        marked = []
        for item in items:
            there = skipped[_label(item)] > 0
            skipped[_label(item)] -= there
            marked.append({**item, "skipped": True} if there else item)
        return {**data, "results": marked}

    def _verdict(self, task: Any, fields: Mapping[str, Any], data: Mapping[str, Any], status: str) -> Event:
        """What the result says: how many items of which outcome, the evidence, the diff."""
        check = bool(fields.get("check_mode", self._check))
        items = _items(task, data)
        counts: dict[str, int] = {}
        why = ""
        controls: list[Event] = []
        reported = False
        own = action_of(task).startswith(f"{COLLECTION}.")
        for item in items:
            outcome = _outcome(item, check) if len(items) > 1 or item is not data else _outcome(data, check, status)
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome in ("failed", "unseen", "unreachable") and not why:
                why = _why(item)
            found = evidence(item.get("controls"), own=own)
            if found is not None:
                reported = True
                controls += after_failure(found, evidence(item.get("left"), own=own)) if outcome == "failed" else found
        if status in ("failed", "unreachable"):
            # The whole task, whatever its items say: an item may lack the mark.
            counts.setdefault(status, 1)
            why = why or _why(data)
        event: Event = {"check": check, "n": counts}
        if machine := machine_line(data.get("ansible_facts")):
            event["machine"] = machine
        if (flags := flags_of(data.get("ansible_facts"))) is not None:
            event["flags"] = flags
        if why:
            event["why"] = why
        if reported:
            event["controls"] = controls[:CONTROLS_LIMIT]
            if len(controls) > CONTROLS_LIMIT:
                event["cut"] = len(controls) - CONTROLS_LIMIT
        elif fields.get("diff") and counts.get("changed"):
            before, after = differences(item.get("diff") for item in items)
            event |= {"before": before, "after": after} if before or after else {}
        return event


def _parts(result: Any) -> tuple[Any, Any, Mapping[str, Any], Mapping[str, Any]]:
    """Task, host, fields of the task on this host, and what came back."""
    fields = getattr(result, "task_fields", None) or getattr(result, "_task_fields", None) or {}
    data = getattr(result, "result", None)
    if data is None:
        data = getattr(result, "_result", None)
    task, host = getattr(result, "task", None) or result._task, getattr(result, "host", None) or result._host
    return task, host, fields, data if isinstance(data, Mapping) else {}


def _label(item: Mapping[str, Any]) -> str:
    """Which item of a loop a result is of. Two of one label are counted, not told apart."""
    return repr(item.get("_ansible_item_label", item.get(str(item.get("ansible_loop_var")))))


def _is_set(value: Any) -> bool:
    """A boolean of a play as it was written; a template may be true."""
    return value is True or str(value).lower() in ("true", "yes", "on", "1") or "{{" in str(value)


def machine_line(facts: object) -> str:
    """What spark_facts found, as one line for a reader: which machine is this report about?"""
    spark = facts.get("spark") if isinstance(facts, Mapping) else None
    if not isinstance(spark, Mapping):
        return ""

    def part(subject: str, name: str) -> Any:
        return (spark.get(subject) or {}).get(name)

    devices = [device for device in part("gpu", "devices") or () if isinstance(device, Mapping)]
    gpus = [f"{gpu.get('name')}, driver {gpu.get('driver_version')}" for gpu in devices if gpu.get("name")]
    system = (part("kernel", "os") or {}).get("pretty_name")
    total = part("memory", "total_bytes")
    parts = [
        part("machine", "model") or part("machine", "product"),
        *gpus[:4],
        system,
        part("kernel", "release") and f"kernel {part('kernel', 'release')}",
        isinstance(total, int) and f"{total / 2**30:.0f} GiB",
    ]
    return text.line(", ".join(str(one) for one in parts if one), 300)


def flags_of(facts: object) -> dict[str, str] | None:
    """What spark_facts knows to be wrong with the machine, id and sentence; None if it was not asked."""
    spark = facts.get("spark") if isinstance(facts, Mapping) else None
    issues = spark.get("known_issues") if isinstance(spark, Mapping) else None
    if not isinstance(issues, Mapping):
        return None
    told = ((str(name), text.line(sentence)) for name, sentence in list(issues.items())[:FLAGS_LIMIT])
    return {name: sentence for name, sentence in told if sentence and re.fullmatch(r"[a-z0-9_]{1,80}", name)}


def _items(task: Any, data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The item results of a loop, or the result itself. Many modules have a key `results`."""
    results = data.get("results")
    if not isinstance(results, list) or not results or not all(isinstance(item, Mapping) for item in results):
        return [data]
    looped = getattr(task, "loop", None) is not None or getattr(task, "loop_with", None)
    return results if looped or any("ansible_loop_var" in item for item in results) else [data]


def _outcome(item: Mapping[str, Any], check: bool, status: str = "") -> str:
    """changed | ok | failed | unreachable | unseen | condition (left out on purpose)."""
    if status in ("failed", "unreachable"):
        return status
    if item.get("unreachable"):
        return "unreachable"
    failed = item["failed_when_result"] if "failed_when_result" in item else item.get("failed")
    if failed:
        return "failed"
    if status == "skipped" or item.get("skipped"):
        return _skipped(item, check)
    if item.get("ansible_job_id") and not item.get("finished"):
        return "unseen"  # started in the background: its end is another task's result
    return "changed" if item.get("changed") else "ok"


def _skipped(item: Mapping[str, Any], check: bool) -> str:
    reason = str(item.get("skip_reason") or item.get("skipped_reason") or "")
    if "false_condition" in item or reason:
        return "condition"
    if _GUARDED.search(str(item.get("msg") or "")):
        return "ok"
    # The module (or action) itself declined. In check mode that means it cannot tell.
    return "unseen" if check else "ok"


def _why(item: Mapping[str, Any]) -> str:
    if item.get("censored") or item.get("_ansible_no_log"):
        return "the output is hidden by no_log"
    error = item.get("error")
    key = f"[{error['key']}] " if isinstance(error, Mapping) and error.get("key") else ""
    if item.get("failed_when_result") and not item.get("failed"):
        return "failed_when was true"
    if "results" in item and item.get("reason"):
        return text.line(item["reason"])  # of a loop of includes, whose message is always the same
    said = item.get("msg") or item.get("module_stderr") or item.get("stderr") or item.get("reason") or ""
    if item.get("ansible_job_id") and not item.get("finished"):
        said = "started in the background, its end was not seen by this task"
    return text.line(f"{key}{text.value(said)}")


def _delegate(fields: Mapping[str, Any], host: Any) -> str:
    delegate = fields.get("delegate_to")
    if not delegate or delegate == host.get_name() or "{{" in str(delegate):  # of a loop: differs by item
        return ""
    return text.line(delegate, text.NAME_LIMIT)


def _own_name(task: Any, fields: Mapping[str, Any]) -> str:
    """The name of the task on this host, when it is a template."""
    if "{{" not in str(getattr(task, "name", "") or ""):
        return ""
    return text.line(fields.get("name") or "", text.NAME_LIMIT)


def _unreachable_ignored(fields: Mapping[str, Any], status: str) -> bool:
    return status == "unreachable" and bool(fields.get("ignore_unreachable"))
