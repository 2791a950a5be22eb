# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an engine as its clients do, with a clock; runs on the node, by its own Python, and prints JSON.

usage: asking.py first URL COMMAND …     seconds from the start of COMMAND until a first token came, and until it ended;
                                         a command that stays is an engine, and is ended then
       asking.py gap URL FLAG            until the file FLAG is there: the longest time in which nobody was answered
       asking.py client URL ARCHIVE N    N answers by urllib and by the client of the probe (in ARCHIVE), in turn
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

# Short beside what is measured, long enough to leave the processors to the engine.
PAUSE = 0.01
LIMIT = 300.0
MODEL, QUESTION, TOKENS = "bench", "Say yes.", 1


def answered(url: str) -> bool:
    """Whether one token comes now, to a question that was not asked before."""
    document = json.dumps({"prompt": str(time.monotonic_ns()), "max_tokens": 1}).encode()
    request = urllib.request.Request(f"{url}/completions", document, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return bool(json.load(reply)["usage"]["completion_tokens"])
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return False


def first(url: str, command: list[str]) -> dict[str, float]:
    begun = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not answered(url):
            if time.monotonic() - begun > LIMIT:
                raise SystemExit(f"no token within {LIMIT:g} s")
            time.sleep(PAUSE)
        came = time.monotonic() - begun
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        return {"first": came, "ended": time.monotonic() - begun if process.returncode is not None else -1.0}
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def gap(url: str, flag: str) -> dict[str, float]:
    last, longest, count = 0.0, 0.0, 0
    while not os.path.exists(flag):
        if answered(url):
            now = time.monotonic()
            longest, last, count = max(longest, now - last if last else 0.0), now, count + 1
        time.sleep(PAUSE)
    return {"gap": longest, "answers": count}


def client(url: str, archive: str, number: int) -> dict[str, list[float]]:
    sys.path.insert(0, archive)
    from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import client as probe
    from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint

    place = urllib.parse.urlsplit(url)
    endpoint = Endpoint(str(place.hostname), int(place.port or 80), place.path)
    seconds: dict[str, list[float]] = {"urllib": [], "client": []}
    for _ in range(number):
        begun = time.monotonic()
        streamed(url)
        middle = time.monotonic()
        probe.complete(endpoint, MODEL, QUESTION, TOKENS)
        seconds["urllib"].append(middle - begun)
        seconds["client"].append(time.monotonic() - middle)
    return seconds


def streamed(url: str) -> int:
    """The same question in the fewest words: nothing is told apart, and nothing is believed."""
    asked = {
        "model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": TOKENS, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return sum(json.loads(line[6:]) != {} for line in reply if line.startswith(b"data: {"))


if __name__ == "__main__":
    what, url, *rest = sys.argv[1:]
    if what == "first":
        print(json.dumps(first(url, rest)))
    elif what == "gap":
        print(json.dumps(gap(url, rest[0])))
    else:
        print(json.dumps(client(url, rest[0], int(rest[1]))))
