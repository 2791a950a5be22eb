# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift report as metrics for the textfile collector of the Prometheus node exporter.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render.view import STATES, Report, read

Sample = tuple[Mapping[str, str], float]


def render(report: Mapping[str, object]) -> str:
    """Metrics in the text format, each name with its help and type."""
    view = read(report)
    metrics: tuple[tuple[str, str, Iterable[Sample]], ...] = (
        (
            "spark_drift_controls",
            "Controls by host, role, severity and state; combinations without a control are left out.",
            _controls(view),
        ),
        (
            "spark_drift_host_controls",
            "Controls of a host in a state, zero included.",
            _host_controls(view),
        ),
        (
            "spark_drift_oldest_drift_seconds",
            "How long the oldest drift of a host is known; left out where no age is known.",
            _oldest(view),
        ),
        (
            "spark_drift_host_reached",
            "1 when a host was reached and its run came to the end, 0 when it was unreachable or stopped early.",
            _reached(view),
        ),
        (
            "spark_drift_complete",
            "1 when the run came to its end, 0 when it was cut off.",
            [({}, float(view.complete))],
        ),
        ("spark_drift_exit_code", "Exit code of the report: 0 clean, 2 drift, 3 unknown.", [({}, view.exit_code)]),
        (
            "spark_drift_last_run_timestamp_seconds",
            "When the run that this report describes was started.",
            [({}, view.epoch)],
        ),
        ("spark_drift_duration_seconds", "How long the run took.", [({}, view.seconds)]),
    )
    lines: list[str] = []
    for name, about, samples in metrics:
        lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {_value(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _controls(view: Report) -> Iterable[Sample]:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for host in view.hosts:
        counts.update((host.name, c.role, c.severity, "in_sync") for c in host.in_sync)
        counts.update((host.name, f.control.role, f.control.severity, f.state) for f in host.findings)
    for (host_name, role, severity, state), number in sorted(counts.items()):
        yield {"host": host_name, "role": role, "severity": severity, "state": state}, number


def _host_controls(view: Report) -> Iterable[Sample]:
    # Always all states: an alert must be able to see a count go back to zero.
    totals: dict[str, Counter[str]] = {}
    for host in view.hosts:
        totals.setdefault(host.name, Counter()).update(host.counts)
    for name, counts in sorted(totals.items()):
        for state in STATES:
            yield {"host": name, "state": state}, counts[state]


def _oldest(view: Report) -> Iterable[Sample]:
    oldest: dict[str, float] = {}
    for host in view.hosts:
        for finding in host.of("drifted"):
            if finding.age_seconds is not None:
                oldest[host.name] = max(oldest.get(host.name, 0.0), finding.age_seconds)
    return (({"host": name}, age) for name, age in sorted(oldest.items()))


def _reached(view: Report) -> Iterable[Sample]:
    # Two hosts of one name count as reached only when both were.
    reached: dict[str, bool] = {}
    for host in view.hosts:
        reached[host.name] = reached.get(host.name, True) and host.state == "reached"
    return (({"host": name}, float(value)) for name, value in sorted(reached.items()))


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(value: float) -> str:
    return str(int(value)) if value == int(value) and value < 1e15 else repr(float(value))
