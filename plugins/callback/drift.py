# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collects what a run says about each host, and writes the drift report at its end.

Thin on purpose: Ansible's objects are read by ``plugin_utils/drift/adapter.py``, the
report is built from the events file by ``plugin_utils/drift/produce.py``, the same code
that ``bin/spark-drift`` calls in a process of its own. A failure in here is told once,
marks the report as incomplete and never disturbs the run.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: drift
type: aggregate
short_description: Drift report of a check run, and record of a real one
description:
  - Writes one JSON line per event to C(events.jsonl) while the run goes on, and the report
    (C(report.json) and its renderings) when it ends.
  - Works with any play. Results of this collection's modules are judged control by control,
    a task of anybody else is one control.
  - A control that its role promises but the run did not reach is reported as unknown.
  - Never fails a run.
version_added: 0.1.0
author: The nusy.dgx_spark maintainers (@nusy)
requirements:
  - enabled by C(callbacks_enabled = nusy.dgx_spark.drift) in C(ansible.cfg)
options:
  enabled:
    description: Whether to collect and report anything.
    type: bool
    default: true
    env: [{name: SPARK_DRIFT_ENABLED}]
    ini: [{section: callback_drift, key: enabled}]
  directory:
    description:
      - Where events, report and history are written. Created when missing.
      - By default C(build/drift) in the clone that this plugin belongs to. For an installed
        collection, C(build/drift) in the current working directory. Nothing is ever written
        beside an installed collection.
    type: path
    env: [{name: SPARK_DRIFT_DIR}]
    ini: [{section: callback_drift, key: directory}]
  waivers:
    description:
      - File of waivers. By default C(waivers.yml) in the folder that holds C(build), if there is one.
    type: path
    env: [{name: SPARK_DRIFT_WAIVERS}]
    ini: [{section: callback_drift, key: waivers}]
  formats:
    description:
      - Renderings to write beside C(report.json). C(console) is printed at the end of the run.
    type: list
    elements: str
    choices: [html, junit, sarif, prometheus, markdown, envelope, console]
    default: [html, junit, sarif, prometheus, markdown, console]
    env: [{name: SPARK_DRIFT_FORMATS}]
    ini: [{section: callback_drift, key: formats}]
  report:
    description:
      - Whether to build the report at the end of the run. C(bin/spark-drift) sets this to false
        and builds it itself, so that there is one after an interrupted run, too.
    type: bool
    default: true
    env: [{name: SPARK_DRIFT_REPORT}]
    ini: [{section: callback_drift, key: report}]
"""

import atexit
import functools
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import (
    adapter,
    catalogue,
    invocation,
    places,
    plays,
    produce,
    text,
)
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.events import (
    SCHEMA,
    Busy,
    Event,
    EventWriter,
    Foreign,
    Lock,
)


def _guarded(hook: Callable[..., None]) -> Callable[..., None]:
    """A hook that can fail without anybody but the reader of the report noticing."""

    @functools.wraps(hook)
    def safe(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        if self.off:
            return
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            self.trouble(f"{hook.__name__}: {type(error).__name__}: {error}")

    return safe


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "nusy.dgx_spark.drift"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: Any = None, options: Any = None) -> None:
        super().__init__(display=display, options=options)
        self.off = False
        self._troubled = False
        self._writer: EventWriter | None = None
        self._lock: Lock | None = None
        self._directory = Path()
        self._process = os.getpid()
        self._began = time.monotonic()
        self._catalogued: set[str] = set()
        self._playbooks_ended = 0
        self._adapter = adapter.Adapter(check=False)

    # -- start ---------------------------------------------------------------------------

    @_guarded
    def v2_playbook_on_start(self, playbook: Any) -> None:
        if self._writer is None:
            self._open()
            if self.off:
                return
        self._inventory(playbook)
        for play in playbook.get_plays():
            hosts = None
            try:
                hosts = plays.hosts_of(play, whole=True)
            except Exception as error:  # a pattern that only later variables can resolve
                self._display.vvv(f"drift report: hosts of a play are not known yet: {error}")
            self._play("plan", play, hosts)

    def _inventory(self, playbook: Any) -> None:
        """What the inventory says of this run: names that --limit got wrong, hosts that are this machine."""
        if first := next(iter(playbook.get_plays()), None):
            if wrong := plays.unmatched(first, context.CLIARGS.get("subset")):
                self._write({"e": "absent", "names": [text.line(name, 100) for name in wrong]})
            if local := plays.local_hosts(first):
                self._write({"e": "local", "hosts": local})

    def _open(self) -> None:
        if not self.get_option("enabled"):
            self.off = True
            return
        self._directory = places.directory(self.get_option("directory"))
        try:
            if self.get_option("report"):  # else bin/spark-drift holds it
                self._lock = Lock(self._directory)
            produce.clear(self._directory)
            self._writer = EventWriter(self._directory)
        except (Busy, Foreign, OSError) as error:
            self.off = True
            self._display.warning(f"no drift report: {error}")
            return
        check = bool(context.CLIARGS.get("check"))
        now = datetime.now(timezone.utc)
        self._adapter = adapter.Adapter(check=check)
        self._write(
            {
                "e": "run",
                "schema": SCHEMA,
                "id": f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}",
                "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
                "mode": "check" if check else "apply",
                "playbooks": [text.line(name) for name in context.CLIARGS.get("args") or ()],
                "collection": places.version(),
                "ansible": ansible_version,
                "python": platform.python_version(),
                "again": invocation.again(context.CLIARGS),
            }
        )
        # Without the statistics hook (interrupted, or an error of Ansible itself) this is
        # the last chance. Workers leave by os._exit and do not come here.
        atexit.register(self._at_exit)

    # -- plays and results ---------------------------------------------------------------

    @_guarded
    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play("play", play, plays.hosts_of(play, whole=False))

    @_guarded
    def v2_playbook_on_no_hosts_remaining(self) -> None:
        self._write(self._adapter.cut_short())

    @_guarded
    def v2_runner_on_ok(self, result: Any) -> None:
        self._result(result, "ok")

    @_guarded
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._result(result, "failed", ignored=bool(ignore_errors))

    @_guarded
    def v2_runner_on_skipped(self, result: Any) -> None:
        self._result(result, "skipped")

    @_guarded
    def v2_runner_item_on_skipped(self, result: Any) -> None:
        self._adapter.item_skipped(result)

    @_guarded
    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._result(result, "unreachable")

    @_guarded
    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._playbooks_ended += 1
        hosts = {text.line(host, text.NAME_LIMIT): stats.summarize(host) for host in stats.processed}
        bad = {
            host: {key: counts[key] for key in ("failures", "unreachable") if counts.get(key)}
            for host, counts in hosts.items()
            if counts.get("failures") or counts.get("unreachable")
        }
        self._write({"e": "end", "t": round(time.monotonic() - self._began, 3), "bad": bad})
        # One process may run several playbooks; the report is about all of them.
        if self._playbooks_ended >= max(1, len(context.CLIARGS.get("args") or ())):
            self._report()

    def _play(self, kind: str, play: Any, hosts: list[str] | None) -> None:
        event = self._adapter.play(kind, play, hosts)
        for role, about in event["roles"].items():
            folder = about.pop("path", None)
            # A role that an include will bring in has no folder yet; ours are known.
            self._catalogue(role, Path(folder) if folder else places.ROOT / "roles" / role)
        self._write(event)

    def _catalogue(self, role: str, folder: Path) -> None:
        if role in self._catalogued or not folder.is_dir():
            return
        self._catalogued.add(role)
        controls, problems = catalogue.read(role, folder)
        if controls:
            self._write({"e": "catalogue", "role": role, "controls": controls})
        for problem in problems:
            self._write({"e": "note", "text": problem})

    def _result(self, result: Any, status: str, *, ignored: bool = False) -> None:
        for event in self._adapter.result(result, status, ignored=ignored, at=time.monotonic() - self._began):
            if event["e"] == "task" and event["role"]:
                found = plays.role_path(getattr(result, "task", None) or result._task)
                if found:
                    self._catalogue(*found)
            self._write(event)

    # -- end -----------------------------------------------------------------------------

    def _report(self) -> None:
        atexit.unregister(self._at_exit)
        if self._writer is not None and self.get_option("report"):
            formats = [str(name) for name in self.get_option("formats") or ()]
            outcome = produce.produce(
                self._directory,
                waivers=places.waivers(self.get_option("waivers")),
                formats=formats,
                terminal=produce.terminal_of(sys.stdout),
            )
            for problem in outcome.problems:
                self._display.warning(problem)
            if outcome.console:
                self._display.display(outcome.console.rstrip("\n"))
        if self._writer is not None:
            self._writer.close()
        if self._lock is not None:
            self._lock.release()

    def _at_exit(self) -> None:
        if os.getpid() == self._process and not self.off:
            try:
                self._report()
            except Exception as error:
                self._display.warning(f"no drift report: {type(error).__name__}: {error}")

    # -- helpers -------------------------------------------------------------------------

    def _write(self, event: Event) -> None:
        if self._writer is not None:
            self._writer.write(event)

    def trouble(self, what: str) -> None:
        """Something in here failed. It may fail for every task: said once, while the report has all."""
        what = text.line(what)
        if not self._troubled:
            self._troubled = True
            self._display.warning(f"the drift report is incomplete: {what}")
        try:
            self._write({"e": "note", "text": f"collecting failed: {what}"})
        except OSError:
            self.off = True  # nothing more can be written; the missing end marks the report
