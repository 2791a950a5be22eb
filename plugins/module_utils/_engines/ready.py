# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-ready: an engine is started when it has answered. engine-drain: it is stopped when nobody waits for it.

ExecStartPost= and ExecStop= of its unit. That a port listens, or that /health says 200, is no answer: an engine that
lost a worker does both. So one token of the declared model is asked for, with the key and over the connection that
clients have.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import ssl
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import client, faults
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint, Fault, Unusable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import options
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.site import API_KEY

READY, DRAIN = "engine-ready", "engine-drain"
QUESTION = "Say yes."
# What an engine that still loads says: nothing listens, or it turns everybody away. Anything else, time does not mend.
WAITS = frozenset(("refused", "cut", "no_answer", "no_connection", "busy"))
# How long between two questions: a small part of the time that the load has taken, so that a small model is not kept
# waiting and a large one is not disturbed.
PART, SHORTEST, EVERY = 0.1, 0.02, 0.5
# For one who is asked how many requests it has.
METRICS_SECONDS = 5.0


def main(name: str, words: Sequence[str], caller: Mapping[str, str]) -> int:
    given = _options(name, words)
    try:
        endpoint = _endpoint(given, caller)
        if name == DRAIN:
            return _drain(endpoint, given.seconds)
        process = int(caller.get("MAINPID") or 0)
        with _stops(process) as stopped:
            problem = _wait(endpoint, given.model, given.seconds, process, stopped)
    except (OSError, ValueError, Unusable) as error:
        # Of the files that were named: the key, the certificate.
        if name == DRAIN:
            return _unasked(error)
        why, fix = "without it the engine lets nobody in, so nobody knows whether it answers", "correct what it names"
        problem = Problem("engine.unusable", "a key and certificates that can be used", str(error), why, fix)
    if problem is None:
        return 0
    sys.stderr.write(f"{name}: {problem.text()}\n")
    return 1


@contextlib.contextmanager
def _stops(process: int) -> Iterator[list[int]]:
    """Filled when the unit is stopped meanwhile. Then each of its processes is told, and systemd would call the unit
    failed if this one died of that: it ends with the engine instead."""
    came: list[int] = []
    if not process:
        yield came
        return
    former = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, former)


def _wait(endpoint: Endpoint, model: str, seconds: float, process: int, stopped: Sequence[int]) -> Problem | None:
    """None when it has answered, or was stopped."""
    begun = time.monotonic()
    last = Fault("no_answer", "nothing was asked")
    while True:
        left = begun + seconds - time.monotonic()
        if process and not _lives(process):
            if stopped:
                return None
            why = "there is no server; its own last words are above"
            return Problem("engine.ended", f"{model} answering", f"process {process} ended", why, "mend what they say")
        if left <= 0:
            return faults.problem(last.kind, f"{last.found}, for {seconds:.0f} s", wanted=f"{model} answering by now")
        try:
            reply = client.complete(replace(endpoint, seconds=left), model, QUESTION, 1)
        except Fault as fault:
            last = fault
            if fault.kind not in WAITS and not stopped:
                return faults.problem(fault.kind, fault.found, wanted=f"{model} answering")
        else:
            options.say(
                f"{model} answers after {time.monotonic() - begun:.1f} s; its first token took {reply.first:.2f} s"
            )
            return None
        time.sleep(min(max(PART * (time.monotonic() - begun), SHORTEST), EVERY))


def _drain(endpoint: Endpoint, seconds: float) -> int:
    """Never a reason not to stop."""
    end = time.monotonic() + seconds
    try:
        while True:
            busy = client.under_way(replace(endpoint, seconds=METRICS_SECONDS))
            if not busy or time.monotonic() >= end:
                break
            time.sleep(EVERY)
    except (Fault, Unusable) as error:
        return _unasked(error)
    if busy:
        options.say(f"stopped with {busy} requests under way after {seconds:.0f} s")
    return 0


def _unasked(error: Exception) -> int:
    options.say(f"stopped without waiting for requests: {error}")
    return 0


def _lives(process: int) -> bool:
    """Not by /proc, where a unit with PrivateUsers= does not see its own processes. systemd reaps one that ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _endpoint(given: Namespace, caller: Mapping[str, str]) -> Endpoint:
    folder, key = caller.get("CREDENTIALS_DIRECTORY", ""), ""
    path = given.key_file or (f"{folder}/{API_KEY}" if folder else "")
    if path:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as handle:
            key = handle.read().strip()
    return Endpoint(
        given.host,
        given.port,
        tls=bool(given.server_certificate),
        key=key,
        pin=fingerprint(given.server_certificate) if given.server_certificate else "",
        certificate=given.certificate,
        private_key=given.private_key,
    )


def fingerprint(path: str) -> str:
    """Of the server's own certificate, the first of its file: its name is that of the site, and not 127.0.0.1."""
    with open(path, encoding="ascii") as handle:
        text = handle.read()
    first, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
    if first < 0 or end < 0:
        raise ValueError(f"{path} holds no certificate")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[first : end + len(ssl.PEM_FOOTER)])).hexdigest()


def _options(name: str, words: Sequence[str]) -> Namespace:
    what = "Wait until an engine answers." if name == READY else "Wait until no request is under way."
    parser: ArgumentParser = options.Parser(name, what)
    parser.add_argument("--host", type=options.address, default="127.0.0.1", help="address that it listens on")
    parser.add_argument("--port", type=options.port, required=True, help="port that it listens on")
    parser.add_argument("--model", type=options.text, required=name == READY, help="name that clients use")
    parser.add_argument("--seconds", type=options.positive, required=True, help="the longest time")
    parser.add_argument("--key-file", default="", help="its key, default: the credential api-key of the unit")
    parser.add_argument("--server-certificate", default="", help="it speaks TLS, with this certificate (PEM)")
    parser.add_argument("--certificate", default="", help="one that it lets in (PEM), with --private-key")
    parser.add_argument("--private-key", default="", help="of --certificate")
    return parser.parse_args(list(words))
