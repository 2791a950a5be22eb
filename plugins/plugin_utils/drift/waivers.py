# SPDX-License-Identifier: GPL-3.0-or-later
"""Waivers: findings that somebody answers for until a date.

A waiver changes the report, never a node. Whatever is wrong in the file is named by line
and field; the good entries still count, and the exit code says that the file is bad.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import text
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.catalogue import entry

KEYS = ("control", "host", "reason", "owner", "expires")
EXPIRED = "waivers/expired"
_MAX_FILE = 1 << 20
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")


@dataclass(frozen=True)
class Waiver:
    line: int
    control: str
    host: str
    reason: str
    owner: str
    expires: date

    def covers_host(self, name: str) -> bool:
        return bool(_glob(self.host)(name))

    def covers(self, control: str, host: str) -> bool:
        return bool(_glob(self.control)(control)) and self.covers_host(host)

    def text(self) -> str:
        return f"{self.control} on {self.host} ({self.owner}, expires {self.expires})"


@functools.cache
def _glob(pattern: str) -> Any:
    return functools.cache(re.compile(fnmatch.translate(pattern)).match)


def read(path: Path | None) -> tuple[list[Waiver], list[str]]:
    """The usable waivers of a file, and its problems as ``<file>:<line>: <what>``."""
    if path is None:
        return [], []
    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_FILE:
            return [], [f"{path.name}: larger than {_MAX_FILE} bytes"]
        # The nodes know their lines, and a key that is there twice.
        root = yaml.compose(raw.decode("utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        return [], [f"{path.name}: no such file"]
    except OSError as error:
        return [], [f"{path.name}: {error.strerror}"]
    except UnicodeDecodeError:
        return [], [f"{path.name}: not UTF-8"]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return [], [f"{path.name}:{line}: not YAML: {text.line(error.problem or error)}"]
    except (yaml.YAMLError, RecursionError) as error:
        return [], [f"{path.name}: not YAML: {text.line(error)}"]
    if root is None:
        return [], []
    if not isinstance(root, yaml.SequenceNode):
        return [], [f"{path.name}:{root.start_mark.line + 1}: not a list of waivers"]
    waivers: list[Waiver] = []
    problems: list[str] = []
    for number, node in enumerate(root.value):
        line = node.start_mark.line + 1
        waiver, wrong = _entry(node, line)
        problems += [f"{path.name}:{at}: [{number}]{what}" for at, what in wrong]
        if waiver is not None:
            waivers.append(waiver)
    return waivers, problems


def _entry(node: yaml.Node, line: int) -> tuple[Waiver | None, list[tuple[int, str]]]:
    if not isinstance(node, yaml.MappingNode):
        return None, [(line, f": not a mapping with {', '.join(KEYS)}")]
    wrong: list[tuple[int, str]] = []
    values: dict[str, str] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        at = key_node.start_mark.line + 1
        if key not in KEYS:
            wrong.append((at, f".{text.line(key, 60)}: unknown key, known are {', '.join(KEYS)}"))
        elif key in values:
            wrong.append((at, f".{key}: given twice"))
        elif not isinstance(value_node, yaml.ScalarNode) or not value_node.value.strip():
            wrong.append((at, f".{key}: not a text" if value_node.value else f".{key}: empty"))
        elif value_node.tag.endswith(":null"):
            wrong.append((at, f".{key}: empty"))
        else:
            values[key] = text.line(value_node.value.strip())
    seen = {str(key_node.value) for key_node, _value in node.value}
    wrong += [(line, f".{key}: required, missing") for key in KEYS if key not in seen]
    expires = None
    if "expires" in values:
        at = next(k.start_mark.line + 1 for k, _v in node.value if k.value == "expires")
        try:
            if not _DATE.match(values["expires"]):
                raise ValueError
            expires = date.fromisoformat(values["expires"])
        except ValueError:
            wrong.append((at, f".expires: not a date like 2026-12-31: {text.line(values['expires'], 40)}"))
    if wrong or expires is None:
        return None, wrong
    return Waiver(line, values["control"], values["host"], values["reason"], values["owner"], expires), []


def apply(report: dict[str, Any], path: Path | None, today: date | None = None) -> None:
    """Lay the waivers of ``path`` over ``report``. A waiver is good through its last day.

    The day is that of the run, by UTC: two people read the same report the same way.
    """
    waivers, problems = read(path)
    day = today or _day(report)
    valid = [waiver for waiver in waivers if waiver.expires >= day]
    expired = [waiver for waiver in waivers if waiver.expires < day]
    used: set[Waiver] = set()
    for host in report["hosts"]:
        controls = host["controls"]
        for number, control in enumerate(controls):
            if control["state"] not in ("drifted", "unknown") or not valid:
                continue
            covering = [waiver for waiver in valid if waiver.covers(control["id"], host["name"])]
            used.update(covering)
            if covering:
                controls[number] = {**control, "state": "waived", "waiver": _record(covering[0], control["state"])}
        late = [waiver for waiver in expired if waiver.covers_host(host["name"])]
        if late:
            controls.append(_finding(late))
            report["catalogue"].setdefault(EXPIRED, _ABOUT_EXPIRED)
    name = path.name if path else ""
    report["waivers"] = {
        "file": str(path) if path else "",
        "problems": problems,
        "unused": [f"{name}:{waiver.line}: {waiver.text()}" for waiver in valid if waiver not in used],
    }


def _day(report: dict[str, Any]) -> date:
    return datetime.fromisoformat(report["run"]["started"]).date()


def _record(waiver: Waiver, state: str) -> dict[str, str]:
    return {
        "control": waiver.control,
        "host": waiver.host,
        "reason": waiver.reason,
        "owner": waiver.owner,
        "expires": waiver.expires.isoformat(),
        "state": state,
    }


def _finding(late: list[Waiver]) -> dict[str, Any]:
    return {
        "id": EXPIRED,
        "state": "drifted",
        "before": {waiver.text(): "expired" for waiver in late},
        "after": {waiver.text(): "renewed or removed" for waiver in late},
        "reason": f"{len(late)} expired waivers" if len(late) > 1 else f"expired waiver: {late[0].text()}",
    }


_ABOUT_EXPIRED = entry(
    "waivers",
    "No waiver is past its date",
    "medium",
    rationale="A waiver that has expired no longer hides its finding, and nobody has looked at it again.",
    remedy="renew the entry in the waiver file with a new date, or remove it",
)
