# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole probe: which aspect a fault is of, what stays unknown behind it, and what many sessions are held to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import probe
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Load, Reply, Unusable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.probe import (
    ASPECTS,
    Verdicts,
    _load,
    _told,
    examined,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.probe import _objectives as objectives
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.request import (
    ARGUMENT_SPEC,
    Request,
    Slo,
    request_of,
)
from endpoints import KEY, MODEL, Answer, Authority, engine, piece, serving, stream, usage, whole

Pair = tuple[Path, Path]
ERRORS = "errors in at most 1.0% of all requests"
FINE = dict.fromkeys(ASPECTS, "in_sync")


def request(**given: Any) -> Request:
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    return request_of({**defaults, "timeout": 5, "role": "demo", **given})


@contextlib.contextmanager
def probed(answer: Answer, context: ssl.SSLContext | None = None, **given: Any) -> Iterator[Verdicts]:
    with serving(answer, context) as server:
        scheme = "https" if context else "http"
        asked = request(url=f"{scheme}://127.0.0.1:{server.port}", **given)
        found = examined(asked)
        assert {one.state for one in found.controls(asked)} <= {"in_sync", "drifted", "unknown", "not_selected"}
        yield found


def states(found: Verdicts) -> dict[str, str]:
    return {one.id.partition("/")[2]: one.state for one in found.controls(request(url="http://127.0.0.1"))}


def kinds(found: Verdicts) -> list[tuple[str, str]]:
    return [(aspect, kind) for aspect, kind, _problem in found.problems]


def test_an_endpoint_in_order() -> None:
    with probed(engine(KEY), api_key=KEY, model=MODEL, sessions=12) as found:
        assert found.fine and states(found) == FINE
        told = found.facts
    assert (told["reachable"], told["models"], told["model"], told["tls"]) == (True, [MODEL], MODEL, None)
    assert told["key_refused_without"] is True and told["certificate_refused_without"] is None
    assert (told["handshake"]["answer"], told["handshake"]["tokens"]) == ("4", 1)
    load = told["load"]
    assert (load["sessions"], load["requests"], load["answered"], load["tokens"]) == (12, 24, 24, 24)
    assert 0 < load["p50"] <= load["p95"] <= load["p99"] < 5 and load["errors"] == []
    assert 0 < load["first_token_p95"] <= load["p95"] and load["tokens_per_second"] > 0


def test_what_is_not_asked_about_is_not_selected() -> None:
    with probed(engine()) as found:
        assert found.fine and states(found) == FINE | {"access": "not_selected", "speed": "not_selected"}


def test_behind_a_dead_endpoint_nothing_is_known() -> None:
    with serving(engine()) as server:
        port = server.port
    found = examined(request(url=f"http://127.0.0.1:{port}", api_key=KEY, sessions=2))
    assert kinds(found) == [("endpoint", "refused")] and not found.facts["reachable"]
    assert states(found) == dict.fromkeys(ASPECTS, "unknown") | {"endpoint": "drifted"}


def test_a_key_that_is_refused_is_a_matter_of_access() -> None:
    with probed(engine(KEY), api_key="wrong") as found:
        assert kinds(found) == [("access", "key_refused")] and found.facts["reachable"]
        assert states(found)["answers"] == "unknown"


def test_a_server_that_needs_no_key_is_open() -> None:
    with probed(engine(), api_key=KEY) as found:
        assert kinds(found) == [("access", "open")] and found.facts["key_refused_without"] is False
        assert states(found)["answers"] == "in_sync"


def test_an_error_is_no_refusal() -> None:
    def answer(asked: Any, sock: Any) -> None:
        if "authorization" in asked.headers:
            engine()(asked, sock)
        else:
            whole(sock, 500, "oops")

    with probed(answer, api_key=KEY) as found:
        assert states(found)["access"] == "unknown" and "500" in found.unknown["access"] and not found.fine


def test_a_model_that_is_not_listed() -> None:
    with probed(engine(), model="other") as found:
        assert kinds(found) == [("endpoint", "no_model")] and MODEL in found.problems[0][2].found
        assert states(found)["answers"] == "unknown"
    with probed(lambda _asked, sock: whole(sock, 200, {"data": []})) as found:
        assert kinds(found) == [("endpoint", "no_model")]


@pytest.mark.parametrize(
    ("said", "right"), [("4", True), ("2+2=4.", True), ("**4**", True), ("42", False), ("four", False)]
)
def test_the_expected_word_is_a_word_of_the_answer(said: str, right: bool) -> None:
    with probed(engine("", piece(said), usage(2))) as found:
        assert kinds(found) == ([] if right else [("answers", "wrong_answer")])
    with probed(engine("", piece(said), usage(2)), expected="") as found:
        assert found.fine


def test_a_thought_is_no_answer() -> None:
    with probed(engine("", piece("4?", "reasoning_content"), piece("5"), usage(2))) as found:
        assert kinds(found) == [("answers", "wrong_answer")]


def test_a_stream_without_counts_has_no_speed() -> None:
    with probed(engine("", piece("4"), piece(" it is"))) as found:
        assert kinds(found) == [("answers", "not_counted")]
        assert found.facts["handshake"]["tokens_per_second"] is None


@pytest.mark.parametrize(("tokens", "wanted"), [(101, 50.0), (1, None), (0, None), (None, None)])
def test_speed_is_of_counted_tokens_after_the_first(tokens: int | None, wanted: float | None) -> None:
    assert _told(Reply("two pieces", 0.5, 2.5, tokens))["tokens_per_second"] == wanted


def test_an_engine_that_answers_no_request_is_not_loaded() -> None:
    def answer(asked: Any, sock: Any) -> None:
        if asked.path == "/v1/models":
            engine()(asked, sock)
        else:
            whole(sock, 500, "EngineCore encountered an issue.")

    with probed(answer, sessions=3) as found:
        assert kinds(found) == [("answers", "broken")] and states(found)["speed"] == "unknown"


def test_what_ends_the_load_leaves_what_was_seen_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_args: Any, **_given: Any) -> None:
        raise Unusable("no further connection")

    monkeypatch.setattr(probe, "at_once", none)
    with probed(engine(KEY), api_key=KEY, sessions=2) as found:
        assert states(found) == {
            "endpoint": "in_sync", "access": "in_sync", "answers": "in_sync", "speed": "unknown",
        }  # fmt: skip


def test_errors_under_load_are_told_by_their_kind() -> None:
    """An engine for one at a time, behind a gate that turns the others away."""
    turns, guard = iter(range(1000)), threading.Lock()

    def answer(asked: Any, sock: Any) -> None:
        if asked.path == "/v1/models":
            engine()(asked, sock)
            return
        with guard:
            turn = next(turns)
        if turn % 2:
            whole(sock, 429, "busy")
        else:
            stream(sock, piece("4"), usage(1))

    with probed(answer, sessions=4, requests=2) as found:
        assert kinds(found) == [("speed", "errors")]
        assert found.facts["load"]["errors"] == [{"kind": "busy", "count": 4, "found": "HTTP 429: busy"}]
        assert "4 × busy" in found.problems[0][2].found


LOAD = Load(10, totals=(1.0,) * 18 + (7.0, 9.0), firsts=(0.5,) * 19 + (2.0,), tokens=400, seconds=10.0)


@pytest.mark.parametrize(
    ("slo", "load", "wanted"),
    [
        (Slo(), LOAD, ["P95 under 6 s"]),
        (Slo(p95=7.1), LOAD, []),
        # What is promised is to take less.
        (Slo(p95=7.0), LOAD, ["P95 under 7 s"]),
        (Slo(p50=1.5, p95=None, p99=8), LOAD, ["P99 under 8 s"]),
        (Slo(p50=0.9, p95=None), LOAD, ["P50 under 0.9 s"]),
        (Slo(p95=None, first_token=0.5), LOAD, ["P95 of the first token under 0.5 s"]),
        (Slo(p95=None, first_token=0.6), LOAD, []),
        (Slo(p95=None, tokens_per_second=40), LOAD, []),
        (Slo(p95=None, tokens_per_second=41), LOAD, ["at least 41"]),
        (Slo(p95=None, tokens_per_second=1), replace(LOAD, tokens=None), ["the number of tokens with each answer"]),
        (Slo(p95=None), replace(LOAD, faults={"busy": 1}, said={"busy": "x"}), [ERRORS]),
        (Slo(p95=None, errors=0.05), replace(LOAD, faults={"busy": 1}, said={"busy": "x"}), []),
        (Slo(), Load(10, faults={"cut": 20}, said={"cut": "x"}, seconds=1), [ERRORS]),
    ],
)  # fmt: skip
def test_what_sessions_are_held_to(slo: Slo, load: Load, wanted: list[str]) -> None:
    found = Verdicts({})
    told = _load(load)
    told["errors"] = [{"kind": kind, "count": count, "found": "x"} for kind, count in load.faults.items()]
    objectives(replace(request(url="http://127.0.0.1", sessions=10), slo=slo), load, told, found)
    assert [problem.wanted for _aspect, _kind, problem in found.problems] == wanted


@pytest.mark.parametrize("errors", [None, 1.0])
def test_errors_that_are_allowed_are_no_answers(errors: float | None) -> None:
    load = Load(10, faults={"cut": 20}, said={"cut": "x"}, seconds=1)
    found, asked = Verdicts({}), replace(request(url="http://127.0.0.1:1"), slo=Slo(errors=errors))
    objectives(asked, load, _load(load), found)
    assert not found.fine and not found.problems and list(found.unknown) == ["speed"]


def test_two_objectives_that_are_missed_are_both_in_the_evidence() -> None:
    found, asked = Verdicts({}), request(url="http://127.0.0.1:1", slo={"p95": 6, "p99": 8})
    objectives(asked, LOAD, _load(LOAD), found)
    (drifted,) = [one for one in found.controls(asked) if one.state == "drifted"]
    (change,) = drifted.changes
    assert (drifted.id, change.after) == ("demo/speed", "P95 under 6 s; P99 under 8 s") and "P99 9 s" in str(
        change.before
    )


def test_a_certificate_is_told_and_its_end_foreseen(authority: Authority, pair: Pair) -> None:
    given: dict[str, Any] = {"ca": str(authority.ca)}
    with probed(engine(), authority.server(pair), **given) as found:
        assert found.fine and found.facts["tls"]["days_left"] == 99
        pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair[0].read_text())).hexdigest()
        assert found.facts["tls"]["fingerprint"] == pin
    with probed(engine(), authority.server(pair), certificate_days=100, **given) as found:
        assert kinds(found) == [("endpoint", "expires")] and states(found)["answers"] == "in_sync"
    spelled = ":".join(pin[n : n + 2] for n in range(0, 64, 2)).upper()
    with probed(engine(), authority.server(pair), pin=spelled) as found:
        assert found.fine


def test_of_a_certificate_that_is_over_the_dates_are_told(authority: Authority) -> None:
    old = authority.issue("older", "127.0.0.1", "-days", "-1")
    with probed(engine(), authority.server(old), ca=str(authority.ca)) as found:
        assert kinds(found) == [("endpoint", "expired")] and found.facts["tls"]["days_left"] < 0


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_comes_without_a_certificate(newest: ssl.TLSVersion, authority: Authority, pair: Pair) -> None:
    mine = authority.issue("client")
    context = authority.server(pair, asks=True)
    context.maximum_version = newest
    login: dict[str, Any] = {"ca": str(authority.ca), "certificate": str(mine[0]), "private_key": str(mine[1])}
    with probed(engine(), context, **login) as found:
        assert found.fine and found.facts["certificate_refused_without"] is True
        assert states(found)["access"] == "in_sync"
    with probed(engine(), authority.server(pair), **login) as found:
        assert kinds(found) == [("access", "open")]
    with probed(engine(), context, ca=str(authority.ca)) as found:
        assert kinds(found) == [("access", "no_certificate")]


def test_a_pipe_is_no_file_to_wait_for(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    pipe = tmp_path / "ca.pem"
    os.mkfifo(pipe)
    with probed(engine(), authority.server(pair), ca=str(pipe)) as found:
        assert "no regular file" in found.unknown["endpoint"]


def test_without_the_files_nothing_is_known(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    with probed(engine(), authority.server(pair), ca=str(tmp_path / "gone"), sessions=1) as found:
        assert not found.problems and not found.fine
        assert states(found) == dict.fromkeys(ASPECTS, "unknown") | {"access": "not_selected"}
        assert found.error(request(url="http://127.0.0.1")).problem.key == "inference.unknown"


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "tls"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.1", 8000, "/v1", False),
        ("https://spark", "spark", 443, "/v1", True),
        ("http://[::1]:8000/", "::1", 8000, "/v1", False),
        ("http://gate/openai/v1/", "gate", 80, "/openai/v1", False),
    ],
)
def test_an_address_is_understood(url: str, host: str, port: int, path: str, tls: bool) -> None:
    found = request(url=url).endpoint
    assert (found.host, found.port, found.path, found.tls) == (host, port, path, tls)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"url": "127.0.0.1:8000"}, "inference.url"),
        ({"url": "ftp://x"}, "inference.url"),
        ({"url": "http://:8000"}, "inference.url"),
        ({"url": "http://x:99999"}, "inference.url"),
        ({"url": "http://x:0"}, "inference.url"),
        ({"url": "http://x", "slo": {"p95": float("nan")}}, "inference.slo.p95"),
        ({"url": "http://x", "slo": {"tokens_per_second": -1.0}}, "inference.slo.tokens_per_second"),
        ({"url": "http://x", "slo": {"errors": 1.5}}, "inference.slo.errors"),
        ({"url": "http://x/v1?a=b"}, "inference.url"),
        ({"url": "http://x/v1 HTTP/1.1\r\nX: y"}, "inference.url"),
        ({"url": "http://user:hunter22@x"}, "inference.url"),
        ({"url": "http://:hunter22@x"}, "inference.url"),
        ({"url": "http://x", "ca": "/ca.pem"}, "inference.url"),
        ({"url": "https://x", "private_key": "/k.pem"}, "inference.certificate"),
        ({"url": "https://x", "pin": "abc"}, "inference.pin"),
        ({"url": "http://x", "api_key": "a\nb"}, "inference.api_key"),
        ({"url": "http://x", "sessions": 513}, "inference.sessions"),
        ({"url": "http://x", "timeout": 0}, "inference.timeout"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError) as raised:
        request(**given)
    assert raised.value.problem.key == key and "hunter22" not in str(raised.value)
