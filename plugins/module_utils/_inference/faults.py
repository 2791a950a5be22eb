# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with an endpoint, why it matters, and what to do about it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Fault


@dataclass(frozen=True)
class Kind:
    wanted: str
    why: str
    fix: str


# docs/guides/serving.md has the same as a table.
KINDS = {
    "no_such_name": Kind(
        "a name that leads to an address", "nobody finds the endpoint", "correct the host, or its entry in DNS"
    ),
    "refused": Kind(
        "a server that listens", "nothing answers there", "start its unit; its journal says why it is not running"
    ),
    "unreachable": Kind(
        "a way to the host", "nobody gets there from here", "look at its address, the routes and the firewalls"
    ),
    "no_connection": Kind(
        "a connection in time",
        "a packet filter drops it, or the server accepts nobody any more",
        "look at the firewall, then at load and memory of the host",
    ),
    "no_answer": Kind(
        "a whole answer in time",
        "whoever asks waits for it, too",
        "read the journal of the engine: it loads, is overloaded, or a worker is gone",
    ),
    "cut": Kind(
        "a whole answer", "the engine, or something before it, closed the connection", "read the journal of the engine"
    ),
    "plain": Kind(
        "TLS",
        "the server speaks plain HTTP there, and a key would be sent in the clear",
        "give the server its certificate, or ask by http://",
    ),
    "tls": Kind("plain HTTP", "the server speaks TLS there", "ask by https://"),
    "no_agreement": Kind(
        "a way of TLS that both sides speak",
        "no client of today gets in",
        "look at versions and ciphers on both sides (openssl s_client -connect shows them)",
    ),
    "stranger": Kind(
        "a certificate that the CA vouches for",
        "somebody else may answer, and would get the key",
        "name the CA that signed it, or give the server the right certificate",
    ),
    "expired": Kind(
        "a certificate that is valid today", "every client refuses it", "renew it, and compare the clocks of both sides"
    ),
    "expires": Kind(
        "a certificate that stays valid", "every client refuses it from that day on", "renew it and reload the server"
    ),
    "other_name": Kind(
        "a certificate for this name",
        "every client refuses it",
        "ask by a name that is in it, or have one made for this name",
    ),
    "pin": Kind(
        "the certificate that was pinned",
        "another server answers, or the certificate was renewed",
        "compare the two, and pin the new one if it is yours",
    ),
    "no_certificate": Kind(
        "a login by certificate", "the server lets in only who shows one", "give certificate and private_key"
    ),
    "certificate_refused": Kind(
        "a client certificate that is accepted",
        "nobody who has it gets in",
        "have it signed by the CA that the server asks for, and look at its dates",
    ),
    "key_refused": Kind(
        "a key that is accepted", "nobody who has it can work", "give the key that the server was started with"
    ),
    "open": Kind(
        "a refusal without key or certificate",
        "whoever reaches the port can use it",
        "start the server with its key or client CA, or close its port",
    ),
    "no_model": Kind(
        "the model in the list of the server",
        "requests for it end with 404",
        "name it as the server does, or start the server with it",
    ),
    "not_found": Kind(
        "an endpoint of the API of OpenAI",
        "something else answers there",
        "correct the address: it mostly ends with /v1",
    ),
    "too_long": Kind(
        "a request that fits into the context",
        "the context of the engine is smaller",
        "ask for fewer tokens, or start the engine with a longer context",
    ),
    "busy": Kind(
        "room for one more request",
        "work is turned away",
        "wait while it loads, ask for fewer at once, or add an engine",
    ),
    "broken": Kind(
        "an engine that computes",
        "it may still answer health checks, and no request",
        "restart its unit: engines do not recover from this by themselves",
    ),
    "not_the_api": Kind("an answer of the API of OpenAI", "something else answers there", "correct the address"),
    "no_stream": Kind(
        "an answer in pieces while it is made",
        "who reads along sees nothing until the end",
        "let the proxy before the engine pass text/event-stream on, unbuffered",
    ),
    "not_counted": Kind(
        "the number of tokens with each answer",
        "speed and cost cannot be told",
        "let the engine send usage with streams (stream_options.include_usage)",
    ),
    "wrong_answer": Kind(
        "the right answer",
        "weights, template or quantisation are damaged",
        "verify the files of the model, then its chat template",
    ),
    "slow": Kind(
        "answers as fast as agreed",
        "who waits longer gives up, and asks again",
        "serve fewer sessions, a smaller model or a shorter context, or add an engine",
    ),
    "errors": Kind(
        "answers to all but a few requests", "work is lost", "see the faults by their kind, the most frequent first"
    ),
}


# Nothing came back at all.
NOBODY = ("no_such_name", "refused", "unreachable", "no_connection")


def problem(kind: str, found: str, *, wanted: str = "") -> Problem:
    one = KINDS[kind]
    return Problem(f"inference.{kind}", wanted or one.wanted, found, one.why, one.fix)


# X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH of OpenSSL.
_OF_CERTIFICATE = {9: "expired", 10: "expired", 62: "other_name", 64: "other_name"}
# What OpenSSL says of bytes that are no TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
# How an alert of TLS begins (RFC 8446, 5.1).
_ALERT = "\x15\x03"
# Alerts about the certificate of a client, by a server that wants one: of TLS 1.3, then of all.
_ABOUT_CLIENTS = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "DECRYPT_ERROR")


def of(error: Exception, *, tls: bool, certified: bool = False) -> Fault:
    """What stands behind an error of sockets, TLS or HTTP. certified: a client certificate was shown."""
    said = str(error).strip() or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fault(_OF_CERTIFICATE.get(error.verify_code, "stranger"), said)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Fault("cut", said)
    if isinstance(error, ssl.SSLError):
        return Fault(_of_tls((error.reason or said).upper().replace(" ", "_"), certified=certified), said)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Fault("no_such_name", said)
    if isinstance(error, ConnectionRefusedError):
        return Fault("refused", said)
    if isinstance(error, http.client.RemoteDisconnected):
        return Fault("cut", said)
    if isinstance(error, http.client.BadStatusLine):
        return Fault("tls" if not tls and str(error.args[0]).startswith(_ALERT) else "not_the_api", said)
    if isinstance(error, (ConnectionError, http.client.IncompleteRead)):
        return Fault("cut", said)
    if isinstance(error, (http.client.HTTPException, OverflowError, ValueError)):
        return Fault("not_the_api", said)
    if isinstance(error, TimeoutError):
        return Fault("no_answer", said)
    return Fault("unreachable", said)


def _of_tls(reason: str, *, certified: bool) -> str:
    if any(words in reason for words in _NO_TLS):
        return "plain"
    # TLS 1.2 has no alert of its own for a certificate that is missing.
    if "CERTIFICATE_REQUIRED" in reason or ("ALERT_HANDSHAKE_FAILURE" in reason and not certified):
        return "no_certificate"
    if certified and any(words in reason for words in _ABOUT_CLIENTS):
        return "certificate_refused"
    return "no_agreement"


# The words of vLLM, llama.cpp and SGLang for a request that is longer than the context.
_TOO_LONG = ("context length", "context size", "maximum context", "max_tokens", "max_completion_tokens")


def of_status(status: int, said: str) -> Fault:
    """What a server means by a status; ``said`` is the beginning of its answer."""
    found = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status in (401, 403):
        return Fault("key_refused", found)
    if status == 404:
        return Fault("no_model" if "model" in said.lower() else "not_found", found)
    if status in (400, 413, 422) and any(words in said.lower() for words in _TOO_LONG):
        return Fault("too_long", found)
    # 503: llama.cpp while it loads, gateways without an engine behind them.
    if status in (429, 503):
        return Fault("busy", found)
    return Fault("broken" if status >= 500 else "not_the_api", found)
