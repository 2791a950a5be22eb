# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo where no node can run: the same server, on this machine, with everything in build/demo.

It listens on loopback, with a key of this run alone, and is ended at the end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from transcript import PLACE, ROOT, TMP, Ended, Transcript, end

LOCK = ROOT / "roles" / "vllm_venv" / "files" / "llama" / "1-llama.lock"
WHEEL, MODEL = "xllamacpp", "tiny"
START_SECONDS = 60
INSTALL_SECONDS = 240

import tiny_gguf
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import client
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint, Fault
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import suite


def environment(say: Transcript) -> Path:
    """The python of an environment with the server, made once for each content of the lock."""
    lines = LOCK.read_text("utf-8").replace("\\\n", " ").splitlines()
    locked = [line for line in lines if line.startswith(f"{WHEEL}==")]
    place = PLACE / "venv"
    python, mark = place / "bin" / "python", place / "lock"
    if not mark.exists() or mark.read_text("utf-8") != locked[0]:
        wanted = PLACE / f"{WHEEL}.lock"
        wanted.write_text(locked[0], "utf-8")
        say.run([sys.executable, "-m", "venv", "--clear", "--without-pip", place], INSTALL_SECONDS)
        argv = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--only-binary=:all:"]
        say.run([*argv, "--require-hashes", "-r", wanted], INSTALL_SECONDS)
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
        end(server)


def _wait(server: subprocess.Popen[bytes], endpoint: Endpoint, log: Path) -> None:
    """Until it has answered: that it listens is not enough."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        if server.poll() is not None:
            last = "\n".join(log.read_text("utf-8", "replace").splitlines()[-10:])
            raise Ended(f"the server ended with {server.returncode}:\n{last}")
        try:
            client.complete(endpoint, MODEL, "Say yes.", 1)
        except Fault as fault:
            if time.monotonic() >= deadline:
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
        given = {
            "demo_url": f"http://127.0.0.1:{endpoint.port}/v1",
            "demo_model": MODEL,
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_remote_tmp": str(TMP),
        }
        say.ask(["localhost,"], given, key)
    say.say("the server is ended")
    say.hold_back(key)
