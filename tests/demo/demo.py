# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny model, served on this machine, asked as clients do, and loaded by twelve sessions. `make demo` runs it.

usage: demo.py

Everything lies in build/demo: the server and its environment, the model, transcript.txt and report.json. The server
is llama.cpp out of a wheel, held by the hashes of the lock that nodes get; it listens on loopback, with a key of this
run alone, and is ended at the end. The model has weights of chance, so it cannot add, and what it says is noise: that
it answers, to whom, and how fast, is real.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "demo"
LOCK = ROOT / "roles" / "vllm_venv" / "files" / "small" / "2-servers.lock"
WHEEL, MODEL = "xllamacpp", "tiny"
START_SECONDS, STOP_SECONDS = 60, 10
PROBE_SECONDS = 240

sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests" / "integration" / "nodes")]

import tiny_gguf
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import client
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint, Fault
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import suite


class Ended(Exception):
    """Why the demo cannot go on, and what to do."""


class Transcript:
    """What is said, on the terminal and in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._begun = time.monotonic()

    def say(self, line: str) -> None:
        text = f"{time.monotonic() - self._begun:6.1f} s  {line}"
        print(text, flush=True)
        self._file.write(f"{text}\n")
        self._file.flush()

    def run(self, argv: list[str], **env: str) -> None:
        """Everything that it says is for the file, its last lines for who has to mend it."""
        self._file.write(f"\n$ {shlex.join(argv).replace(f'{ROOT}/', '')}\n")
        self._file.flush()
        done = subprocess.run(
            argv, cwd=ROOT, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PROBE_SECONDS, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        self._file.write(f"{said}\n")
        if done.returncode:
            raise Ended("\n".join([f"{argv[0]} ended with {done.returncode}:", *said.splitlines()[-20:]]))


def environment(say: Transcript) -> Path:
    """The python of an environment with the server, made once for each content of the lock."""
    lines = LOCK.read_text("utf-8").replace("\\\n", " ").splitlines()
    locked = [line for line in lines if line.startswith(f"{WHEEL}==")]
    place = PLACE / "venv"
    python, mark = place / "bin" / "python", place / "lock"
    if not mark.exists() or mark.read_text("utf-8") != locked[0]:
        wanted = PLACE / f"{WHEEL}.lock"
        wanted.write_text(locked[0], "utf-8")
        say.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(place)])
        argv = [sys.executable, "-m", "pip", "--python", str(python), "install", "--disable-pip-version-check"]
        say.run([*argv, "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(wanted)])
        mark.write_text(locked[0], "utf-8")
    return python


@contextlib.contextmanager
def served(python: Path, model: Path, key: str) -> Iterator[Endpoint]:
    """By the same archive and the same words as on a node."""
    archive, log = PLACE / "spark.pyz", PLACE / "server.log"
    archive.write_bytes(suite.archive())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [str(python), "-I", "-B", str(archive), "llama-server", "--model", str(model), "--alias", MODEL]
    # The key is not on the command line, which everybody can see.
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(
            [*argv, "--port", str(port), "--ctx-size", "1024"],
            env={**os.environ, "LLAMA_API_KEY": key}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        endpoint = Endpoint("127.0.0.1", port, key=key, seconds=START_SECONDS)
        _wait(server, endpoint, log)
        yield endpoint
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], endpoint: Endpoint, log: Path) -> None:
    """Until it has answered: that it listens is not enough."""
    end = time.monotonic() + START_SECONDS
    while True:
        if server.poll() is not None:
            last = "\n".join(log.read_text("utf-8", "replace").splitlines()[-10:])
            raise Ended(f"the server ended with {server.returncode}:\n{last}")
        try:
            client.complete(endpoint, MODEL, "Say yes.", 1)
        except Fault as fault:
            if time.monotonic() >= end:
                raise Ended(f"no answer within {START_SECONDS} s: {fault}; see {log}") from None
            time.sleep(0.2)
        else:
            return


def demo(say: Transcript) -> None:
    say.say(f"the server: {WHEEL} by the hashes of {LOCK.relative_to(ROOT)}")
    python = environment(say)
    model = tiny_gguf.write(PLACE / "tiny.gguf")
    say.say(f"the model: {model.relative_to(ROOT)}, {model.stat().st_size >> 10} KiB, weights of chance")
    key = secrets.token_hex(16)
    with served(python, model, key) as endpoint:
        say.say(f"it answers on 127.0.0.1:{endpoint.port}")
        playbook = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "tests/demo/probe.yml"]
        given = {
            "demo_url": f"http://127.0.0.1:{endpoint.port}/v1",
            "demo_model": MODEL,
            "demo_report": str(PLACE / "report.json"),
            "ansible_python_interpreter": sys.executable,
        }
        # Not over the report of who looked at this machine before.
        say.run([*playbook, "-e", json.dumps(given)], DEMO_KEY=key, SPARK_DRIFT_DIR=str(PLACE / "drift"))
    found = json.loads((PLACE / "report.json").read_text("utf-8"))
    load = found["load"]
    say.say("asked as a client: listed, streamed, and refused without the key")
    say.say(f"first token after {found['handshake']['first_token_seconds'] * 1000:.1f} ms")
    say.say(f"{load['sessions']} sessions at once: {load['answered']} of {load['requests']} requests answered, "
            f"P50 {load['p50']:.2f} s, P95 {load['p95']:.2f} s, P99 {load['p99']:.2f} s, "
            f"{load['tokens_per_second']:.0f} tokens a second")  # fmt: skip
    say.say("the server is ended")
    if key in "".join(path.read_text("utf-8", "replace") for path in (say.path, PLACE / "report.json")):
        raise Ended("the key is in what was written: tell the maintainers")


def main() -> int:
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / "report.json").unlink(missing_ok=True)
    say = Transcript(PLACE / "transcript.txt")
    try:
        demo(say)
    except (Ended, OSError, subprocess.SubprocessError) as error:
        say.say(f"ended before its end: {error}")
        print(f"the whole transcript: {say.path.relative_to(ROOT)}", file=sys.stderr)
        return 1
    say.say("report: build/demo/report.json, transcript: build/demo/transcript.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
