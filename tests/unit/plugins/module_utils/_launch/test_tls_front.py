# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS in front of a server that speaks none, with real connections."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "_inference"))

from endpoints import Authority

# Sends back what it gets, in capitals, and "bye" ends a connection from its side.
SERVER = """
import socketserver, sys, threading
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import tls_front

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())
            if data == b"bye":
                return

certificate, key, ca, inner = sys.argv[1:]
tls, listening = tls_front.context(certificate, key, ca), tls_front.bound("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
server = socketserver.ThreadingUnixStreamServer(inner, Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
tls_front.serve(listening, tls, inner)
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("front"))


@pytest.fixture
def front(authority, tmp_path):
    """A port, for ``asks``: is a certificate of clients wanted?"""
    running = []

    def start(*, asks: bool) -> int:
        certificate, key = authority.issue("server")
        words = [str(certificate), str(key), str(authority.ca) if asks else "", str(tmp_path / "inner.sock")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        argv, pipes = [sys.executable, "-c", SERVER, *words], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(argv, text=True, env=env, **pipes)
        running.append(process)
        port = int(process.stdout.readline())
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return port
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise AssertionError("it does not listen")

    yield start
    for process in running:
        process.terminate()
        assert process.communicate(timeout=20) == ("", "")


def connect(authority, port: int, *pair: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.ca))
    if pair:
        context.load_cert_chain(*pair)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), server_hostname="127.0.0.1")


def whole(connection: ssl.SSLSocket, count: int) -> bytes:
    found = b""
    while len(found) < count and (piece := connection.recv(65536)):
        found += piece
    return found


def test_what_comes_in_goes_on_and_what_comes_back_comes_back(front, authority):
    port = front(asks=False)
    with connect(authority, port) as one, connect(authority, port) as other:
        one.sendall(b"first")
        other.sendall(b"second" * 20_000)
        assert whole(one, 5) == b"FIRST" and whole(other, 120_000) == b"SECOND" * 20_000
        # It ends with the server.
        one.sendall(b"bye")
        assert whole(one, 100) == b"BYE"
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"GET" not in plain.recv(100)


def test_who_has_no_certificate_stays_out_where_one_is_wanted(front, authority):
    port = front(asks=True)
    with pytest.raises((ssl.SSLError, ConnectionError)), connect(authority, port) as nobody:
        nobody.sendall(b"hello")
        assert not nobody.recv(10)
        raise ConnectionError
    with connect(authority, port, *authority.issue("client")) as client:
        client.sendall(b"hello")
        assert whole(client, 5) == b"HELLO"
