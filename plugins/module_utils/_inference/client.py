# SPDX-License-Identifier: GPL-3.0-or-later
"""One who asks: a connection of its own for each request, without proxies, in a bounded time.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import certificate, faults, sse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.certificate import Certificate
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint, Fault, Reply, Unusable

# An answer that is none of the API, such as the page of another server, is told by its beginning.
BEGINNING = 300
# A list of models, metrics, or one completion with its events: more than this is none of them.
MOST = 16 << 20
# vLLM counts those that run and those that wait apart, and llama.cpp as well.
_UNDER_WAY = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|llamacpp:requests_(?:processing|deferred))(?:\{[^}]*\})?\s+"
    r"([0-9]{1,15}(?:\.[0-9]{1,15})?(?:e\+?[0-9]{1,2})?)(?!\S)",
    re.MULTILINE,
)


def models(endpoint: Endpoint) -> list[str]:
    """Raises Fault, Unusable."""
    found = _parsed(_text(endpoint, f"{endpoint.path}/models"))
    entries = found.get("data")
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) and "id" in one for one in entries):
        raise Fault("not_the_api", f"{endpoint.path}/models has no list of models")
    # Half a character, which JSON can hold, no result can.
    return [str(one["id"]).encode(errors="replace").decode() for one in entries]


def complete(endpoint: Endpoint, model: str, question: str, tokens: int) -> Reply:
    """As a client that shows text while it comes. Raises Fault, Unusable."""
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        # Without it a stream says nothing of how many tokens it was.
        "stream_options": {"include_usage": True},
    }
    begun = time.monotonic()
    first, text, tokens_said, ended = 0.0, "", None, False
    for data in sse.events(_lines(endpoint, "POST", f"{endpoint.path}/chat/completions", asked)):
        if data == sse.DONE:
            ended = True
            break
        piece = _parsed(data)
        if piece.get("error") is not None:
            # An engine that dies after it has begun to answer says so here; the status was sent before.
            raise Fault("broken", json.dumps(piece["error"])[:BEGINNING])
        said, thought = _said(piece)
        if (said or thought) and not first:
            first = time.monotonic() - begun
        text += said
        tokens_said = _counted(piece.get("usage"), tokens_said)
    if not ended:
        raise Fault("cut", f"the stream ended without {sse.DONE}, after {len(text)} characters")
    total = time.monotonic() - begun
    return Reply(text, first or total, total, tokens_said)


def shown(endpoint: Endpoint) -> Certificate:
    """The certificate that the server shows now, whoever vouches for it. Raises Fault, Unusable."""
    context = _context(endpoint, trusting=True)
    with contextlib.closing(_connected(endpoint)) as plain, _Deadline(plain, endpoint.seconds) as deadline:
        try:
            with _wrapped(context, plain, endpoint) as sock:
                return _shown(sock)
        except OSError as error:
            raise deadline.fault or faults.of(error, tls=True, certified=bool(endpoint.certificate)) from error


def under_way(endpoint: Endpoint) -> int | None:
    """How many requests the engine has, running and waiting; None: its metrics do not say. Raises Fault, Unusable."""
    found = _UNDER_WAY.findall(_text(endpoint, "/metrics"))
    return int(sum(map(float, found))) if found else None


def _said(piece: Mapping[str, Any]) -> tuple[str, str]:
    """What is for the reader, and what the model says to itself, under both names that engines give it."""
    said = thought = ""
    try:
        for choice in piece.get("choices") or ():
            delta = choice.get("delta") or {}
            said += delta.get("content") or ""
            thought += delta.get("reasoning_content") or delta.get("reasoning") or ""
    except (AttributeError, TypeError):
        raise Fault("not_the_api", f"no piece of an answer: {json.dumps(piece)[:BEGINNING]}") from None
    return said, thought


def _counted(usage: object, before: int | None) -> int | None:
    """Of the whole answer so far. More than a stream can bring was not counted."""
    tokens = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MOST else before


def _text(endpoint: Endpoint, path: str) -> str:
    return b"".join(_lines(endpoint, "GET", path)).decode("utf-8", "replace")


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Fault("not_the_api", f"no JSON: {text[:BEGINNING]!r}") from None
    if not isinstance(found, dict):
        raise Fault("not_the_api", f"no object: {text[:BEGINNING]!r}")
    return found


def _lines(endpoint: Endpoint, method: str, path: str, document: Mapping[str, Any] | None = None) -> Iterator[bytes]:
    """The lines of the answer as they come."""
    headers = {"Accept": "application/json, text/event-stream"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    body = None
    if document is not None:
        body, headers["Content-Type"] = json.dumps(document), "application/json"
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
    context = _context(endpoint) if endpoint.tls else None
    with contextlib.closing(_connected(endpoint)) as plain, _Deadline(plain, endpoint.seconds) as deadline:
        connection.sock = plain
        try:
            if context:
                connection.sock = sock = _wrapped(context, plain, endpoint)
                _compare(endpoint, _shown(sock))
            # Who refuses may close before all is sent; why, is there to be read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.request(method, path, body, headers)
            answer = connection.getresponse()
            yield from _read(answer, streamed=document is not None)
        # Of sizes of pieces that no memory has, http.client says nothing of its own.
        except (OSError, http.client.HTTPException, OverflowError, ValueError) as error:
            fault = deadline.fault or faults.of(error, tls=endpoint.tls, certified=bool(endpoint.certificate))
            if fault.kind == "cut" and not endpoint.tls and _speaks_tls(endpoint):
                fault = Fault("tls", "it closes a connection without TLS, and answers one with it")
            raise fault from error
        finally:
            connection.close()
        if deadline.fault:
            # An answer without a length ends where its connection does, also when we closed it.
            raise deadline.fault


def _read(answer: http.client.HTTPResponse, *, streamed: bool) -> Iterator[bytes]:
    if answer.status != 200:
        said = answer.getheader("Location") or answer.read(BEGINNING).decode("utf-8", "replace").strip()
        raise faults.of_status(answer.status, said[:BEGINNING])
    kind = answer.getheader("Content-Type", "")
    if streamed and not kind.startswith(sse.TYPE):
        raise Fault("no_stream", f"an answer of the type {kind!r}")
    read = 0
    for line in iter(lambda: answer.readline(MOST), b""):
        read += len(line)
        if read >= MOST:
            raise Fault("not_the_api", f"an answer of more than {MOST >> 20} MiB")
        yield line


class _Deadline:
    """Ends a connection when its time is over: a server that sends a byte now and then meets every other limit."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        # The same connection, whatever TLS makes of the other one.
        try:
            self._sock, self._seconds = sock.dup(), seconds
        except OSError as error:
            raise _no_room(error) from error
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self.fault: Fault | None = None

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()
        self._sock.close()

    def _end(self) -> None:
        self.fault = Fault("no_answer", f"no whole answer within {self._seconds:g} s")
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


def _connected(endpoint: Endpoint) -> socket.socket:
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), endpoint.seconds)
    except TimeoutError:
        raise Fault("no_connection", f"none within {endpoint.seconds:g} s") from None
    # The latter: of a name that DNS could not even hold.
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            raise _no_room(error) from error
        raise faults.of(error, tls=endpoint.tls) from error
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _no_room(error: Exception) -> Unusable:
    """Of whoever asks, and not of the endpoint."""
    return Unusable(f"no further connection can be opened here ({error}): ask for fewer sessions, or raise ulimit -n")


def _wrapped(context: ssl.SSLContext, plain: socket.socket, endpoint: Endpoint) -> ssl.SSLSocket:
    sock = context.wrap_socket(plain, server_hostname=endpoint.host, do_handshake_on_connect=False)
    try:
        sock.do_handshake()
    except BaseException:
        sock.close()
        raise
    return sock


def _context(endpoint: Endpoint, *, trusting: bool = False) -> ssl.SSLContext:
    if trusting or (endpoint.pin and not endpoint.ca):
        # The pin is the proof; a certificate that its owner signed has no other.
        context = ssl._create_unverified_context()
    else:
        context = _using(endpoint.ca, lambda: ssl.create_default_context(cafile=endpoint.ca or None))
        # From Python 3.13 on it would refuse authorities and certificates for extensions that curl and most clients do
        # not ask for; what is true of an endpoint does not depend on the Python of the node.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if endpoint.certificate:
        key = endpoint.private_key or None
        _using(endpoint.certificate, lambda: context.load_cert_chain(endpoint.certificate, key, _no_password))
    return context


def _using(path: str, load: Any) -> Any:
    if os.path.exists(path) and not os.path.isfile(path):
        # OpenSSL would wait for what comes out of a pipe, and read a device without end.
        raise Unusable(f"{path}: no regular file")
    try:
        return load()
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _no_password() -> str:
    # OpenSSL would ask the terminal.
    raise ValueError("its key has a password")


def _compare(endpoint: Endpoint, found: Certificate) -> None:
    if endpoint.pin and not hmac.compare_digest(found.fingerprint, endpoint.pin):
        raise Fault("pin", f"a certificate whose SHA-256 is {found.fingerprint}")


def _shown(sock: ssl.SSLSocket) -> Certificate:
    try:
        return certificate.read(sock.getpeercert(binary_form=True) or b"")
    except ValueError as error:
        raise Fault("no_agreement", str(error)) from None


def _speaks_tls(endpoint: Endpoint) -> bool:
    try:
        shown(endpoint)
    except Fault as fault:
        return fault.kind == "no_certificate"
    return True
