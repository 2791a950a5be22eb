# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of llama.cpp as a process: how it ends, with a library that is a stand-in for the real one."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "_inference"))
sys.path.append(str(HERE.parents[3] / "tools"))

import pythons
from endpoints import Authority

# What happens while it loads; after that it takes connections and says nothing.
LIBRARY = """
import ctypes, os, socket, threading, types

class CommonParams:
    def __init__(self):
        self.model, self.cpuparams = types.SimpleNamespace(), types.SimpleNamespace()

class Server:
    def __init__(self, params):
        {loading}
        (place,) = params.hostnames
        self.listening_address = place
        inner = os.path.isabs(place)
        self.socket = socket.socket(socket.AF_UNIX if inner else socket.AF_INET)
        self.socket.bind(place if inner else (place, params.port))
        self.socket.listen()
"""
# As the library loads a model: in C, and no line of Python runs meanwhile.
FOR_EVER = "print('loading', flush=True); ctypes.PyDLL(None).sleep(600)"
TAKEN = "self.taken = socket.create_server(('127.0.0.1', params.port))"
CODE = "import sys; from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import llama_server as one"
# Each that an environment of engines may have: what asyncio says of an end differs between them.
FOUND = [path for which in ("oldest", "torch", "newest") if (path := pythons.find(which))]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def serve(authority, tmp_path):
    """``serve(loading, …)``: the process, and its port."""
    running = []

    def start(loading: str = "pass", *, tls: bool, python: str = sys.executable) -> tuple[subprocess.Popen[str], int]:
        (tmp_path / "xllamacpp.py").write_text(LIBRARY.format(loading=loading))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = ["--model", "x.gguf", "--port", str(port)]
        if tls:
            certificate, key = authority.issue("server")
            words += ["--tls-certificate", str(certificate), "--tls-key", str(key)]
        places = [str(tmp_path), *sys.path[1:]] if python == sys.executable else [str(tmp_path), *_sources()]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "TMPDIR": str(tmp_path)}
        argv, pipes = [python, "-B", "-c", f"{CODE}; sys.exit(one.main(sys.argv[1:]))", *words], subprocess.PIPE
        process = subprocess.Popen(argv, stdout=pipes, stderr=pipes, text=True, env=env)
        running.append(process)
        return process, port

    yield start
    for process in running:
        process.kill()
        process.wait()


def _sources() -> list[str]:
    """Where the collection is imported from, and nothing that is made for this Python."""
    return [path for path in sys.path if (Path(path) / "ansible_collections" / "nusy").is_dir()]


def ended(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What it has said to anybody who reads its journal, at its end."""
    begun = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - begun < 5
    # For systemd a clean end: systemd.service(5), SuccessExitStatus=.
    assert process.returncode == -number
    return out + err


def test_a_port_that_is_taken_while_the_model_loads_ends_the_server_with_words(serve):
    process, port = serve(TAKEN, tls=True)
    said = process.communicate(timeout=30)[1]
    # Not tried again, as with any other port that is not free.
    assert process.returncode == 78
    assert f"not started: TLS at 127.0.0.1:{port}: " in said and "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("tls", [False, True])
def test_a_stop_does_not_wait_for_a_model_that_loads(serve, tls, number):
    process, _port = serve(FOR_EVER, tls=tls)
    assert process.stdout.readline() == "loading\n"
    assert ended(process, number) == ""


@pytest.mark.parametrize("python", FOUND)
@pytest.mark.parametrize("tls", [False, True])
def test_a_stop_is_no_fault_whoever_is_connected(serve, authority, python, tls):
    process, port = serve(tls=tls, python=python)
    assert process.stdout.readline().startswith("llama-server: listening on ")
    clients = []
    try:
        for _ in range(3):
            deadline = time.monotonic() + 20
            while True:
                try:
                    client = socket.create_connection(("127.0.0.1", port), 5)
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            if tls:
                trusted = ssl.create_default_context(cafile=str(authority.ca))
                client = trusted.wrap_socket(client, server_hostname="127.0.0.1")
            client.sendall(b"a question")
            clients.append(client)
        assert ended(process, signal.SIGTERM) == ""
    finally:
        for client in clients:
            client.close()
