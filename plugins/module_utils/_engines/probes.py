# SPDX-License-Identifier: GPL-3.0-or-later
"""All endpoints of a node, asked one after the other, and one verdict on each aspect of them.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError, SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, State, one_line, unique
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.ready import WAITS, fingerprint
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import request as one_endpoint
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.probe import ASPECTS, SPEED, Verdicts, examined
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.request import Request

ROLE = "probe"
# As _inference.probe has its aspects.
CONTROLS = ("probe/endpoint", "probe/access", "probe/answers", "probe/speed")
OF_ENDPOINT = ("url", "model", "api_key", "ca", "certificate", "private_key", "pin")
ARGUMENT_SPEC: dict[str, Any] = {
    "endpoints": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "server_certificate": {"type": "path"},
            **{name: one_endpoint.ARGUMENT_SPEC[name] for name in OF_ENDPOINT},
        },
    },
    "wait": {"type": "float", "default": 0},
    "skip_controls": {"type": "list", "elements": "str", "default": []},
    **{
        name: option
        for name, option in one_endpoint.ARGUMENT_SPEC.items()
        if name not in OF_ENDPOINT and name != "role"
    },
}
EVERY = 5.0
NONE = "no endpoint is declared"


@dataclass(frozen=True)
class Asked:
    """One endpoint and what it answered."""

    name: str
    request: Request
    found: Verdicts


def requests(params: Mapping[str, Any]) -> list[tuple[str, str, Request]]:
    """(name, file of the certificate that the server must show, the request) of each. Raises InputError."""
    common = {name: params[name] for name in one_endpoint.ARGUMENT_SPEC if name not in OF_ENDPOINT and name != "role"}
    for number, name in enumerate(params["skip_controls"]):
        if name not in CONTROLS:
            wanted = f"skip_controls[{number}]: a control of role {ROLE}: {', '.join(CONTROLS)}"
            why = "a misspelt name would skip nothing"
            raise _wrong(wanted, repr(name), why, f"correct {ROLE}_skip_controls")
    wait = params["wait"]
    if not 0 <= wait <= 7200:
        raise _wrong("wait: 0 to 7200 seconds", str(wait), "the probe would never end", "correct wait")
    made = []
    for number, one in enumerate(params["endpoints"]):
        try:
            request = one_endpoint.request_of({**common, **one, "role": ROLE})
            if one["server_certificate"] and not request.endpoint.tls:
                why = "it would not be looked at"
                raise _wrong("url: https://, since server_certificate is given", request.url, why, "correct url")
            made.append((one["name"], one["server_certificate"] or "", request))
        except InputError as error:
            told = error.problem
            wanted = f"endpoints[{number}] ({one['name']}), {told.wanted}"
            raise InputError(told.key, wanted=wanted, found=told.found, why=told.why, fix=told.fix) from None
    return made


def ask(made: Iterable[tuple[str, str, Request]], wait: float, skipped: Sequence[str]) -> list[Asked]:
    """One after the other: several at a time would be a load. ``wait``: seconds, of all together."""
    until = time.monotonic() + wait
    asked = []
    for name, certificate, request in made:
        found = _judged(request, certificate, until)
        found.problems = [one for one in found.problems if f"{ROLE}/{one[0]}" not in skipped]
        found.unknown = {name: why for name, why in found.unknown.items() if f"{ROLE}/{name}" not in skipped}
        asked.append(Asked(name, request, found))
    return asked


def _judged(request: Request, certificate: str, until: float) -> Verdicts:
    if certificate:
        try:
            pinned = fingerprint(certificate)
        except (OSError, ValueError) as error:
            why = f"{certificate}: {getattr(error, 'strerror', None) or error}"
            silent = {} if request.sessions else {SPEED: "no sessions are asked for"}
            unknown = {aspect: why for aspect in ASPECTS if aspect not in silent}
            return Verdicts({"url": request.url, "reachable": False}, unknown=unknown, left_out=silent)
        request = replace(request, endpoint=replace(request.endpoint, pin=pinned))
    while time.monotonic() < until:
        found = examined(replace(request, sessions=0))
        if not {kind for _aspect, kind, _problem in found.problems} & WAITS:
            return examined(request) if request.sessions else found
        time.sleep(max(min(EVERY, until - time.monotonic()), 0))
    return examined(request)


def controls(asked: Sequence[Asked], skipped: Sequence[str]) -> list[Control]:
    each = [[_named(one.name, of) for of in one.found.controls(one.request)] for one in asked]
    return [_together(name, [of[number] for of in each], skipped) for number, name in enumerate(CONTROLS)]


def _named(name: str, found: Control) -> Control:
    """Of several, who it is: an engine by the name of its unit, and no address that one would have to look up."""
    return replace(found, reason=f"{name}: {found.reason}") if found.state in ("drifted", "unknown") else found


def _together(name: str, found: Sequence[Control], skipped: Sequence[str]) -> Control:
    """The worst of them, with what all say of it."""
    if name in skipped:
        return Control(name, "not_selected", reason=f"named in {ROLE}_skip_controls")
    order: tuple[State, ...] = ("drifted", "unknown", "in_sync")
    state: State = next((one for one in order if any(control.state == one for control in found)), "not_selected")
    said = unique(control.reason for control in found if control.state == state and control.reason)
    changes = tuple(change for control in found for change in control.changes)
    return Control(name, state, changes, one_line("; ".join(said), 500) if found else NONE)


def told(one: Asked) -> dict[str, Any]:
    result = one.found.as_dict(replace(one.request, role=""))
    return {"name": one.name, **result}


def error(asked: Sequence[Asked]) -> SparkError | None:
    """Of the first that is not fine, with the names of the others."""
    wrong = [one for one in asked if not one.found.fine]
    if not wrong:
        return None
    told = wrong[0].found.error(wrong[0].request).problem
    more = f"; also not right: {', '.join(one.name for one in wrong[1:])}" if wrong[1:] else ""
    wanted, found = f"{wrong[0].name}: {told.wanted}", f"{told.found}{more}"
    return NodeError(told.key, wanted=wanted, found=found, why=told.why, fix=told.fix)


def _wrong(wanted: str, found: str, why: str, fix: str) -> InputError:
    return InputError("probe.bad_input", wanted=wanted, found=found, why=why, fix=fix)
