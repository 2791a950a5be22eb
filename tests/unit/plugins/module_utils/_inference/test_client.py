# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes of an endpoint: answers, their times and counts, and every fault by its kind."""

from __future__ import annotations

import errno
import hashlib
import http.client
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import endpoints
import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import client, faults
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint, Fault, Unusable
from endpoints import KEY, MODEL, Asked, Authority, engine, piece, serving, stream, whole

Pair = tuple[Path, Path]


def at(port: int, **given: object) -> Endpoint:
    return replace(Endpoint("127.0.0.1", port, seconds=5.0), **given)  # type: ignore[arg-type]


def kind_of(ask: Callable[[], object]) -> str:
    with pytest.raises(Fault) as raised:
        ask()
    assert raised.value.kind in faults.KINDS and raised.value.found
    return raised.value.kind


def models(endpoint: Endpoint) -> str:
    return kind_of(lambda: client.models(endpoint))


def completion(endpoint: Endpoint) -> str:
    return kind_of(lambda: client.complete(endpoint, MODEL, "2+2?", 8))


def test_an_answer_comes_in_pieces_and_its_tokens_are_those_the_server_counted() -> None:
    def answer(_asked: Asked, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n: hello\n\n")
        time.sleep(0.2)
        # Several tokens in a piece, a piece cut in the middle of a letter, and line ends of another system.
        sock.sendall(b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\r\n\r\n')
        sock.sendall(b'data: {"choices": [{"delta": {"content": "four \xc3')
        time.sleep(0.2)
        sock.sendall(b'\xa9t\xc3\xa9"}}]}\n\nevent: x\ndata: {"choices": [], "usage": {"completion_tokens": 7}}\n\n')
        sock.sendall(b"data: [DONE]\n\n")
        # A server that keeps the connection must not make the answer longer.
        time.sleep(1)

    with serving(answer) as server:
        reply = client.complete(at(server.port, key=KEY), MODEL, "2+2?", 8)
    assert (reply.text, reply.tokens) == ("four été", 7)
    assert 0.4 <= reply.first <= reply.total < 1
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["authorization"]) == (
        "POST", "/v1/chat/completions", f"Bearer {KEY}",
    )  # fmt: skip
    assert asked.body == {
        "model": MODEL, "messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 8, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_what_a_model_says_to_itself_counts_for_the_first_token_and_is_no_answer(name: str) -> None:
    def answer(_asked: Asked, sock: socket.socket) -> None:
        stream(sock, piece("two and two", name), done=False)
        time.sleep(0.3)
        sock.sendall(b'data: {"choices": [{"delta": {"content": "4"}}]}\n\ndata: [DONE]\n\n')

    with serving(answer) as server:
        reply = client.complete(at(server.port), MODEL, "2+2?", 8)
    assert (reply.text, reply.tokens) == ("4", None) and reply.first + 0.2 < reply.total


def test_models_are_listed() -> None:
    with serving(engine(KEY)) as server:
        assert client.models(at(server.port, key=KEY)) == [MODEL]


def test_a_name_that_no_result_can_hold_is_told_as_far_as_it_can_be() -> None:
    with serving(lambda _asked, sock: whole(sock, 200, '{"data": [{"id": "a\\ud800b"}]}')) as server:
        assert client.models(at(server.port)) == ["a?b"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('vllm:num_requests_running{engine="0",model_name="a b"} 3.0\nvllm:num_requests_waiting{engine="0"} 2.0\n', 5),
        ("llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\n", 5),
        ('vllm:num_requests_running{model_name="x"} 0.0\n', 0),
        ("process_cpu_seconds_total 4\n# HELP vllm:num_requests_running 5\n", None),
        ("vllm:num_requests_running 1.2.3\n", None),
        ("vllm:num_requests_running 1e999\nvllm:num_requests_waiting 2e+00 1700000000\n", 2),
    ],
)
def test_requests_under_way_are_counted_by_the_metrics_of_the_engine(text: str, wanted: int | None) -> None:
    with serving(lambda _asked, sock: whole(sock, 200, text, "text/plain")) as server:
        assert client.under_way(at(server.port)) == wanted
    assert server.asked[0].path == "/metrics"


# --- Faults of the connection -----------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert models(at(port)) == "refused"


@pytest.mark.parametrize("host", ["nobody.invalid", "a..b", "a" * 64 + ".invalid"])
def test_the_name_leads_nowhere(host: str) -> None:
    assert models(at(1, host=host)) == "no_such_name"


def test_a_server_that_accepts_nobody_any_more() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        assert models(at(listening.getsockname()[1], seconds=0.3)) == "no_connection"
        for one in waiting:
            one.close()


def test_that_this_machine_has_no_room_is_no_fault_of_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_args: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with serving(engine()) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client.socket, "create_connection", none)
            with pytest.raises(Unusable, match="ulimit"):
                client.models(at(server.port))
        monkeypatch.setattr(socket.socket, "dup", none)
        with pytest.raises(Unusable, match="ulimit"):
            client.models(at(server.port))


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_there_is_no_way(code: int) -> None:
    assert faults.of(OSError(code, "no way"), tls=False).kind == "unreachable"


def _silent(_asked: Asked, _sock: socket.socket) -> None:
    time.sleep(3)


def _dripping(_asked: Asked, sock: socket.socket) -> None:
    """Never silent for long, and never done."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    for _ in range(30):
        sock.sendall(b"X-More: 1\r\n")
        time.sleep(0.1)


def _dripping_body(_asked: Asked, sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    for _ in range(30):
        sock.sendall(b": still there\n\n")
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [_silent, _dripping, _dripping_body])
@pytest.mark.parametrize("tls", [False, True])
def test_no_whole_answer_in_time(answer: endpoints.Answer, tls: bool, authority: Authority, pair: Pair) -> None:
    begun = time.monotonic()
    with serving(answer, authority.server(pair) if tls else None) as server:
        endpoint = at(server.port, seconds=0.5, tls=tls, ca=str(authority.ca) if tls else "")
        assert completion(endpoint) == "no_answer"
        assert models(endpoint) == "no_answer"
    assert time.monotonic() - begun < 2.5


def test_a_handshake_that_does_not_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert models(at(port, tls=True, seconds=0.3)) == "no_answer"
        assert kind_of(lambda: client.shown(at(port, tls=True, seconds=0.3))) == "no_answer"


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: {}\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata:",
        SSE + b'data: {"choices": [{"delta": {"content": "4"}}]}\n\n',
        # Without its empty line it may not be whole.
        SSE + b"data: [DONE]",
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_is_closed_too_early(said: bytes, tls: bool, authority: Authority, pair: Pair) -> None:
    context = authority.server(pair) if tls else None
    with serving(lambda _asked, sock: sock.sendall(said), context) as server:
        assert completion(at(server.port, tls=tls, ca=str(authority.ca) if tls else "")) == "cut"


# --- Faults of the answer ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (401, {"error": "Unauthorized"}, "key_refused"),
        (403, "", "key_refused"),
        (404, {"detail": "Not Found"}, "not_found"),
        (404, {"error": {"message": "The model `x` does not exist.", "code": 404}}, "no_model"),
        (400, {"message": "This model's maximum context length is 128 tokens."}, "too_long"),
        (400, {"error": {"message": "the request exceeds the available context size"}}, "too_long"),
        (400, {"message": "no such role"}, "not_the_api"),
        (429, "slow down", "busy"),
        (503, {"error": {"message": "Loading model", "code": 503}}, "busy"),
        (500, {"message": "EngineCore encountered an issue."}, "broken"),
        (502, "Bad Gateway", "broken"),
        (301, "", "not_the_api"),
    ],
)
def test_a_status_says_what_is_wrong(status: int, said: object, kind: str) -> None:
    with serving(lambda _asked, sock: whole(sock, status, said)) as server:
        assert completion(at(server.port)) == models(at(server.port)) == kind


@pytest.mark.parametrize("said", ["<html>hello</html>", "[]", {"data": "x"}, {"data": [{"name": "x"}]}, {}])
def test_an_answer_of_something_else(said: object) -> None:
    with serving(lambda _asked, sock: whole(sock, 200, said)) as server:
        assert models(at(server.port)) == "not_the_api"


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"])
def test_a_server_that_speaks_something_else(said: bytes) -> None:
    with serving(lambda _asked, sock: sock.sendall(said)) as server:
        assert models(at(server.port)) == "not_the_api"


def test_an_answer_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST", 10_000)
    with serving(lambda _asked, sock: whole(sock, 200, "x" * 20_000)) as server:
        assert models(at(server.port)) == "not_the_api"


def test_a_server_that_does_not_stream() -> None:
    with serving(lambda _asked, sock: whole(sock, 200, {"choices": [{"message": {"content": "4"}}]})) as server:
        assert completion(at(server.port)) == "no_stream"


def test_an_engine_that_dies_while_it_answers() -> None:
    with serving(lambda _asked, sock: stream(sock, piece("4"), {"error": {"message": "EngineCore died"}})) as server:
        assert completion(at(server.port)) == "broken"


@pytest.mark.parametrize(
    "event",
    [
        "4",
        {"choices": 4},
        {"choices": [4]},
        {"choices": [{"delta": "4"}]},
        {"choices": [{"delta": {"content": 4}}]},
        {"choices": [{"delta": {"content": ["4"]}}]},
        {"choices": [{"delta": {"reasoning": {"text": "4"}}}]},
    ],
)
def test_an_event_that_is_none_of_the_api(event: object) -> None:
    with serving(lambda _asked, sock: stream(sock, event)) as server:
        assert completion(at(server.port)) == "not_the_api"


def test_brackets_without_end_are_no_answer() -> None:
    with serving(lambda _asked, sock: whole(sock, 200, "[" * 200_000)) as server:
        assert models(at(server.port)) == "not_the_api"


@pytest.mark.parametrize("size", [b"f" * 18, b"-5"])
def test_a_piece_of_a_size_that_cannot_be(size: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(lambda _asked, sock: sock.sendall(head + size + b"\r\ndata: [DONE]\n\n")) as server:
        assert completion(at(server.port)) == "not_the_api"


@pytest.mark.parametrize("count", [10**300, -1, True, 2.5, "7", None])
def test_a_count_that_cannot_be_is_none(count: object) -> None:
    with serving(lambda _asked, sock: stream(sock, {**piece("4"), "usage": {"completion_tokens": count}})) as server:
        assert client.complete(at(server.port), MODEL, "2+2?", 8).tokens is None


def test_an_error_that_is_null_is_none() -> None:
    with serving(lambda _asked, sock: stream(sock, {**piece("4"), "error": None})) as server:
        assert client.complete(at(server.port), MODEL, "2+2?", 8).text == "4"


def test_who_sends_elsewhere_is_not_followed_and_says_where() -> None:
    def moved(_asked: Asked, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 308 Moved\r\nLocation: https://elsewhere.test/v1\r\nContent-Length: 0\r\n\r\n")

    with serving(moved) as server, pytest.raises(Fault) as raised:
        client.models(at(server.port, key=KEY))
    assert raised.value.kind == "not_the_api" and "https://elsewhere.test/v1" in raised.value.found


# --- TLS --------------------------------------------------------------------------------------------


def test_a_certificate_of_the_ca_is_trusted_and_shown(authority: Authority, pair: Pair) -> None:
    with serving(engine(), authority.server(pair)) as server:
        endpoint = at(server.port, tls=True, ca=str(authority.ca))
        assert client.models(endpoint) == [MODEL]
        assert client.complete(endpoint, MODEL, "2+2?", 8).text == "4"
        found = client.shown(endpoint)
    der = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
    assert found.fingerprint == hashlib.sha256(der).hexdigest()
    assert found.days_left(datetime.now(timezone.utc)) == 99


def test_a_last_day_after_2049_is_written_in_another_way(authority: Authority) -> None:
    """RFC 5280 has two forms of time; both are compared with what openssl says."""
    pair = authority.issue("late", "127.0.0.1", "-days", "12000")
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(pair[0])], capture_output=True, text=True, check=True
    ).stdout
    with serving(engine(), authority.server(pair)) as server:
        found = client.shown(at(server.port, tls=True))
    wanted = datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    assert found.expires == wanted > datetime.now(timezone.utc) + timedelta(days=11000)


def test_a_certificate_that_nobody_vouches_for_gets_no_key(strangers: Authority, authority: Authority) -> None:
    with serving(engine(), strangers.server(strangers.issue("server"))) as server:
        assert models(at(server.port, tls=True, ca=str(authority.ca), key=KEY)) == "stranger"
    assert server.asked == []


def test_a_certificate_for_another_name(authority: Authority) -> None:
    with serving(engine(), authority.server(authority.issue("other", "127.0.0.9"))) as server:
        assert models(at(server.port, tls=True, ca=str(authority.ca))) == "other_name"
        assert models(at(server.port, tls=True, ca=str(authority.ca), host="localhost")) == "other_name"


def test_a_certificate_of_yesterday(authority: Authority) -> None:
    pair = authority.issue("old", "127.0.0.1", "-days", "-1")
    with serving(engine(), authority.server(pair)) as server:
        assert models(at(server.port, tls=True, ca=str(authority.ca))) == "expired"


def test_a_pin_is_proof_enough_and_another_certificate_is_told(strangers: Authority, pair: Pair) -> None:
    own = strangers.issue("pinned")
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(own[0].read_text())).hexdigest()
    with serving(engine(), strangers.server(own)) as server:
        assert client.models(at(server.port, tls=True, pin=pin)) == [MODEL]
        assert models(at(server.port, tls=True, pin="0" * 64, key=KEY)) == "pin"
    assert len(server.asked) == 1


def test_with_pin_and_ca_both_must_hold(authority: Authority, strangers: Authority, pair: Pair) -> None:
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair[0].read_text())).hexdigest()
    with serving(engine(), authority.server(pair)) as server:
        assert client.models(at(server.port, tls=True, pin=pin, ca=str(authority.ca))) == [MODEL]
        assert models(at(server.port, tls=True, pin=pin, ca=str(strangers.ca))) == "stranger"


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_to_know_its_clients(
    newest: ssl.TLSVersion, authority: Authority, strangers: Authority, pair: Pair
) -> None:
    context = authority.server(pair, asks=True)
    context.maximum_version = newest
    with serving(engine(), context) as server:
        mine, theirs = authority.issue("client"), strangers.issue("client")
        anybody = at(server.port, tls=True, ca=str(authority.ca))
        assert client.models(replace(anybody, certificate=str(mine[0]), private_key=str(mine[1]))) == [MODEL]
        assert models(anybody) == "no_certificate"
        stranger = replace(anybody, certificate=str(theirs[0]), private_key=str(theirs[1]))
        assert models(stranger) == "certificate_refused"


@pytest.mark.parametrize(
    ("reason", "certified", "kind"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", False, "no_certificate"),
        # As OpenSSL 3.2 and later, and those before, spell it.
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", False, "no_certificate"),
        ("SSL/TLS_ALERT_HANDSHAKE_FAILURE", False, "no_certificate"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", True, "no_agreement"),
        ("TLSV1_ALERT_UNKNOWN_CA", True, "certificate_refused"),
        ("SSL/TLS_ALERT_BAD_CERTIFICATE", True, "certificate_refused"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", False, "no_agreement"),
        ("WRONG_VERSION_NUMBER", False, "plain"),
        ("RECORD_LAYER_FAILURE", False, "plain"),
    ],
)
def test_the_words_of_openssl(reason: str, certified: bool, kind: str) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    assert faults.of(error, tls=True, certified=certified).kind == kind


def test_tls_is_asked_of_a_server_without() -> None:
    with serving(engine()) as server:
        assert models(at(server.port, tls=True)) == "plain"


def test_a_server_of_tls_is_asked_without(authority: Authority, pair: Pair) -> None:
    with serving(engine(), authority.server(pair)) as server:
        assert models(at(server.port)) == "tls"


def test_a_server_of_tls_says_so_by_an_alert(authority: Authority, pair: Pair) -> None:
    with serving(lambda _asked, sock: sock.sendall(b"\x15\x03\x01\x00\x02\x02\x46")) as server:
        assert models(at(server.port)) == "tls"


def test_files_that_cannot_be_used_are_no_fault_of_the_endpoint(tmp_path: Path, pair: Pair) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for given in (
        {"ca": str(tmp_path / "gone.pem")},
        {"ca": str(tmp_path / "no.pem")},
        {"certificate": str(tmp_path / "gone.pem")},
        # A certificate without its key.
        {"certificate": str(pair[0])},
    ):
        with serving(engine()) as server, pytest.raises(Unusable, match=next(iter(given.values()))):
            client.models(at(server.port, tls=True, **given))


def test_every_kind_has_its_four_parts() -> None:
    for kind in faults.KINDS:
        found = faults.problem(kind, "x")
        assert found.key == f"inference.{kind}" and all((found.wanted, found.why, found.fix))


def test_no_other_error_of_http_is_taken_for_a_cut() -> None:
    assert faults.of(http.client.UnknownProtocol("x"), tls=False).kind == "not_the_api"
