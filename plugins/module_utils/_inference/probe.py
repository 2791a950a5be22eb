# SPDX-License-Identifier: GPL-3.0-or-later
"""One whole probe of an endpoint: from the connection to many sessions, and a verdict on each.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Problem, SparkError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Change, Control, State, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import client, faults
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import (
    Endpoint,
    Fault,
    Load,
    Reply,
    Unusable,
    percentile,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.request import Request
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.sessions import at_once

# What is judged, each by itself: with a role they are its controls.
ENDPOINT, ACCESS, ANSWERS, SPEED = ASPECTS = ("endpoint", "access", "answers", "speed")
# A model that thinks first needs room for it; one that does not ends after a word.
HANDSHAKE_TOKENS = 256
# Long enough for as many tokens as are asked for, and the same work for everybody.
TASK = "Tell the story of a lighthouse and its keeper, in at least two hundred words."
_ABOUT_ACCESS = ("key_refused", "no_certificate", "certificate_refused")


@dataclass
class Verdicts:
    """facts: keys of the result. problems: (aspect, kind, what is wrong).

    unknown: why an aspect could not be looked at. left_out: why nothing was asked about it.
    """

    facts: dict[str, Any]
    problems: list[tuple[str, str, Problem]] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def fine(self) -> bool:
        return not self.problems and not self.unknown

    def wrong(self, aspect: str, kind: str, found: str, wanted: str = "") -> None:
        self.problems.append((aspect, kind, faults.problem(kind, one_line(found), wanted=wanted)))

    def as_dict(self, request: Request) -> dict[str, Any]:
        listed = [
            {"aspect": aspect, "kind": kind, **{part: getattr(problem, part) for part in _PARTS}}
            for aspect, kind, problem in self.problems
        ]
        result = {"ok": self.fine, **self.facts, "faults": listed, "unknown": dict(self.unknown)}
        return {**result, "controls": [one.as_dict() for one in self.controls(request)]} if request.role else result

    def controls(self, request: Request) -> list[Control]:
        """``<role>/endpoint`` and the others; several endpoints of a role tell their problems by their address."""
        return [self._control(request, aspect) for aspect in ASPECTS]

    def _control(self, request: Request, aspect: str) -> Control:
        mine: dict[str, list[Problem]] = {}
        for of, kind, problem in self.problems:
            if of == aspect:
                mine.setdefault(kind, []).append(problem)
        changes = tuple(
            Change(
                f"{request.url} {kind}",
                "; ".join(one.found for one in problems),
                "; ".join(one.wanted for one in problems),
                problems[0].why,
            )
            for kind, problems in mine.items()
        )
        state: State = "in_sync"
        reason = "; ".join(problems[0].fix for problems in mine.values())
        if mine:
            state = "drifted"
        elif aspect in self.unknown:
            state, reason = "unknown", f"{request.url}: {self.unknown[aspect]}"
        elif aspect in self.left_out:
            state, reason = "not_selected", self.left_out[aspect]
        return Control(f"{request.role}/{aspect}", state, changes, one_line(reason))

    def error(self, request: Request) -> SparkError:
        """For a run that must not go on: the first problem, and how many there are."""
        if not self.problems:
            return NodeError(
                "inference.unknown",
                wanted=f"an answer about {request.url}",
                found="; ".join(dict.fromkeys(self.unknown.values())),
                why="what is not known is not taken for fine",
                fix="mend what keeps this node from asking",
            )
        problem = self.problems[0][2]
        more = f" (and {len(self.problems) - 1} more faults)" if len(self.problems) > 1 else ""
        return NodeError(
            problem.key,
            wanted=f"{request.url}: {problem.wanted}",
            found=problem.found + more,
            why=problem.why,
            fix=problem.fix,
        )


_PARTS = ("wanted", "found", "why", "fix")
# What is there when an aspect was looked at to its end.
_TOLD_BY = {ENDPOINT: "models", ACCESS: "model", ANSWERS: "handshake", SPEED: "load"}
# Keys of the result that stay empty as long as nobody came so far.
_FACTS = ("tls", "models", "model", "key_refused_without", "certificate_refused_without", "handshake", "load")


def examined(request: Request) -> Verdicts:
    """Never raises for what an endpoint does."""
    found = Verdicts({"url": request.url, "reachable": False, **dict.fromkeys(_FACTS)})
    try:
        model = _endpoint(request, found)
        if model:
            found.facts["model"] = model
            _answers(request, model, found)
        if found.facts["handshake"] and request.sessions:
            _speed(request, str(model), found)
    except Unusable as error:
        found.unknown = {aspect: str(error) for aspect, fact in _TOLD_BY.items() if found.facts[fact] is None}
    if not request.endpoint.key and not request.endpoint.certificate:
        found.left_out[ACCESS] = "neither api_key nor certificate is given"
    if not request.sessions:
        found.left_out[SPEED] = "no sessions are asked for"
    judged = {aspect for aspect, _kind, _problem in found.problems}
    for aspect, fact in ((ACCESS, "models"), (ANSWERS, "handshake"), (SPEED, "load")):
        if found.facts[fact] is None and aspect not in judged:
            found.unknown.setdefault(aspect, "the endpoint does not answer what comes before it")
    for aspect in found.left_out:
        found.unknown.pop(aspect, None)
    return found


def _endpoint(request: Request, found: Verdicts) -> str | None:
    """The model to ask, if there is one that can be."""
    endpoint = request.endpoint
    try:
        if endpoint.tls:
            shown = client.shown(endpoint)
            left = shown.days_left(datetime.now(timezone.utc))
            expires = shown.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
            found.facts["tls"] = {"fingerprint": shown.fingerprint, "expires": expires, "days_left": left}
            if 0 <= left < request.certificate_days:
                wanted = f"a certificate that is valid for {request.certificate_days} days more"
                found.wrong(ENDPOINT, "expires", f"it ends on {expires}, in {left} days", wanted)
        names = client.models(endpoint)
    except Fault as fault:
        found.facts["reachable"] = fault.kind not in faults.NOBODY
        found.wrong(ACCESS if fault.kind in _ABOUT_ACCESS else ENDPOINT, fault.kind, fault.found)
        return None
    found.facts.update(reachable=True, models=names)
    _access(endpoint, found)
    if request.model and request.model not in names:
        found.wrong(
            ENDPOINT, "no_model", f"only {', '.join(names) or 'none'}", f"{request.model} in the list of models"
        )
        return None
    if not names:
        found.wrong(ENDPOINT, "no_model", "an empty list", "a model in the list of the server")
        return None
    return request.model or names[0]


def _access(endpoint: Endpoint, found: Verdicts) -> None:
    """Who comes without must be refused, by the server and not by chance."""
    if endpoint.key:
        refused = _refused(replace(endpoint, key=""), ("key_refused",), "without the key", found)
        found.facts["key_refused_without"] = refused
    if endpoint.certificate:
        # Some servers close the connection and say nothing.
        kinds = ("no_certificate", "no_agreement", "cut", "key_refused", "not_the_api")
        nobody = replace(endpoint, certificate="", private_key="")
        found.facts["certificate_refused_without"] = _refused(nobody, kinds, "without the certificate", found)


def _refused(endpoint: Endpoint, kinds: tuple[str, ...], how: str, found: Verdicts) -> bool | None:
    try:
        client.models(endpoint)
    except Fault as fault:
        if fault.kind in kinds:
            return True
        found.unknown[ACCESS] = f"whether it refuses who comes {how}: {fault}"
        return None
    found.wrong(ACCESS, "open", f"the list of models, {how}")
    return False


def _answers(request: Request, model: str, found: Verdicts) -> None:
    try:
        reply = client.complete(request.endpoint, model, request.question, HANDSHAKE_TOKENS)
    except Fault as fault:
        found.wrong(ANSWERS, fault.kind, fault.found)
        return
    answer = one_line(reply.text, 200)
    found.facts["handshake"] = {"answer": answer, **_told(reply)}
    # As a word of its own: 4 is in 42, too.
    if request.expected and not re.search(rf"(?<!\w){re.escape(request.expected)}(?!\w)", reply.text):
        found.wrong(ANSWERS, "wrong_answer", repr(answer), f"{request.expected!r} for {request.question!r}")
    if reply.tokens is None:
        found.wrong(ANSWERS, "not_counted", "a stream without usage")


def _told(reply: Reply) -> dict[str, Any]:
    """Speed of what comes after the first token: that one waits for the whole question to be read."""
    rest = reply.total - reply.first
    speed = (reply.tokens - 1) / rest if reply.tokens and reply.tokens > 1 and rest > 0 else None
    return {
        "first_token_seconds": _rounded(reply.first),
        "seconds": _rounded(reply.total),
        "tokens": reply.tokens,
        "tokens_per_second": _rounded(speed),
    }


def _speed(request: Request, model: str, found: Verdicts) -> None:
    # Engines keep the beginnings of questions: one that was asked before would cost nothing.
    run = secrets.token_hex(4)

    def ask(name: str) -> Reply:
        return client.complete(request.endpoint, model, f"[{run}.{name}] {TASK}", request.tokens)

    load = at_once(ask, sessions=request.sessions, each=request.requests, seconds=request.load_seconds)
    told = _load(load)
    found.facts["load"] = told
    for kind, count in sorted(load.faults.items(), key=lambda item: -item[1]):
        told["errors"].append({"kind": kind, "count": count, "found": one_line(load.said[kind])})
    _objectives(request, load, told, found)


def _load(load: Load) -> dict[str, Any]:
    def of(values: Any, percent: int) -> float | None:
        return _rounded(percentile(values, percent)) if values else None

    return {
        "sessions": load.sessions,
        "requests": load.requests,
        "answered": len(load.totals),
        "seconds": _rounded(load.seconds),
        **{f"p{percent}": of(load.totals, percent) for percent in (50, 95, 99)},
        "first_token_p95": of(load.firsts, 95),
        "tokens": load.tokens,
        "tokens_per_second": None if load.tokens is None else _rounded(load.tokens / load.seconds),
        "errors": [],
    }


def _objectives(request: Request, load: Load, told: dict[str, Any], found: Verdicts) -> None:
    slo = request.slo
    failed = load.requests - len(load.totals)
    too_many = slo.errors is not None and failed > slo.errors * load.requests
    if too_many:
        kinds = ", ".join(f"{one['count']} × {one['kind']} ({one['found']})" for one in told["errors"])
        wanted = f"errors in at most {slo.errors:.1%} of all requests"
        found.wrong(SPEED, "errors", f"{failed} of {load.requests}: {kinds}", wanted)
    for value, words, most in (
        *((told[name], name.upper(), getattr(slo, name)) for name in ("p50", "p95", "p99")),
        (told["first_token_p95"], "P95 of the first token", slo.first_token),
    ):
        if most is not None and value is not None and value >= most:
            found.wrong(
                SPEED, "slow", f"{words} {value:g} s with {load.sessions} sessions", f"{words} under {most:g} s"
            )
    speed, least = told["tokens_per_second"], slo.tokens_per_second
    if least is not None and speed is not None and speed < least:
        found.wrong(SPEED, "slow", f"{speed:g} tokens a second, all sessions together", f"at least {least:g}")
    if least is not None and load.tokens is None:
        found.wrong(SPEED, "not_counted", "answers without usage")
    if not load.totals and not too_many:
        found.unknown[SPEED] = "no answer came, so none can be held to anything"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
