# SPDX-License-Identifier: GPL-3.0-or-later
"""From events.jsonl to report.json and its renderings: the one way, for the callback at the
end of a plain run and for ``bin/spark-drift`` after any run.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import (
    builder,
    events,
    exitcode,
    history,
    private,
    text,
    verdict,
    waivers,
)

REPORT = "report.json"
# Format → file it is written to; the console is printed, the envelopes are many files.
FILES = {
    "html": "index.html",
    "junit": "junit.xml",
    "sarif": "drift.sarif",
    "prometheus": "drift.prom",
    "markdown": "drift.md",
}
ENVELOPES = "envelopes"
FORMATS = (*FILES, "envelope", "console")
DEFAULT_FORMATS = (*FILES, "console")
_RENDERERS = "ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.render"


@dataclass
class Outcome:
    report: dict[str, Any]
    console: str = ""
    problems: list[str] = field(default_factory=list)


def clear(directory: Path) -> None:
    """Remove the last run's report: after a crash nobody must take it for this one's.

    Only files that this code writes, by name; history stays.
    """
    for name in (REPORT, *FILES.values()):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / ENVELOPES, ignore_errors=True)


def produce(
    directory: Path,
    *,
    waivers: Path | None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    terminal: dict[str, Any] | None = None,
    prefix: Sequence[str] = (),
) -> Outcome:
    """Build the report of the events in ``directory`` and write it there.

    report.json is written before any renderer runs: a renderer that fails costs its own
    file and a problem, never the report. ``terminal`` is what the board may use of it
    (see ``terminal_of``), ``prefix`` the settings that a command to repair needs.
    """
    outcome = Outcome(complete(builder.build(directory / events.FILE, prefix), directory, waivers))
    report = outcome.report
    outcome.problems += report.pop("_problems")
    private.replace(directory / REPORT, encode(report))
    for name in sorted(formats, key="console".__eq__):  # the board names the page, if there is one
        try:
            _render(name, report, directory, outcome, terminal or {})
        except Exception as error:
            outcome.problems.append(f"{name} was not written: {type(error).__name__}: {text.line(error)}")
    return outcome


def complete(report: dict[str, Any], directory: Path, waiver_file: Path | None) -> dict[str, Any]:
    """Waivers, ages, counts and exit code, in this order: a waiver must not hide an age."""
    waivers.apply(report, waiver_file)
    problems = history.apply(report, directory / "history")
    states = [host["state"] for host in report["hosts"]]
    report["summary"] = {
        "hosts": len(states),
        "unreachable": states.count("unreachable"),
        "partial": states.count("partial"),
        **verdict.tally(report["hosts"]),
        "exit_code": 0,
    }
    report["summary"]["exit_code"] = exitcode.of(report)
    if states:  # a run without a host is none to compare with
        problems += history.remember_run(report, directory / "history")
    report["_problems"] = problems
    return report


def encode(report: dict[str, Any]) -> Iterator[str]:
    """The document as JSON text, host by host: it is never in memory as one string."""
    head = {key: value for key, value in report.items() if key != "hosts"}
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "hosts": ['
    for number, host in enumerate(report["hosts"]):
        yield (",\n" if number else "\n") + json.dumps(host, ensure_ascii=False)
    yield "\n]}\n"


def terminal_of(stream: TextIO) -> dict[str, Any]:
    """What the board may use: colour and width of a terminal, letters its encoding has."""
    colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
    return {"color": colour, "unicode": unicode, "columns": min(shutil.get_terminal_size((100, 24)).columns, 140)}


def _render(name: str, report: dict[str, Any], directory: Path, outcome: Outcome, terminal: dict[str, Any]) -> None:
    renderer = importlib.import_module(f"{_RENDERERS}.{name}")
    if name == "console":
        page = directory / FILES["html"]
        more = page if page.exists() else directory / REPORT
        outcome.console = renderer.render(report, **terminal, more=_shown(more))
    elif name == "envelope":
        folder = directory / ENVELOPES
        private.folder(folder)
        for host, document in renderer.render_all(report):
            private.replace(folder / f"{_file_name(host)}.json", [document])
    else:
        private.replace(directory / FILES[name], [renderer.render(report)])


def _shown(path: Path) -> str:
    """A path as somebody would type it from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _file_name(host: str) -> str:
    """A host name is free text: no path may come of it."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in host).strip(".")
    return safe if safe == host and len(host) < 200 else f"{safe[:100]}-{text.slug(host, 9)[-8:]}"
