# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy of HTTP on loopback that leads every host to one server: what a test asks by way of it is seen here."""

from __future__ import annotations

import base64
import contextlib
import http.client
import selectors
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """user: ``name:password`` that it asks for. asked: (method, host), in order."""

    target: int
    user: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_GET(self) -> None:
        self._forward()

    def do_HEAD(self) -> None:
        self._forward()

    def do_CONNECT(self) -> None:
        """Of what goes through it nothing is seen but the host."""
        if not self._known(self.path):
            return
        with socket.create_connection(("127.0.0.1", self.proxy.target)) as server:
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            _tunnel(self.connection, server)

    def _forward(self) -> None:
        url = urlsplit(self.path)
        if not self._known(url.netloc):
            return
        onward = http.client.HTTPConnection("127.0.0.1", self.proxy.target)
        with contextlib.closing(onward):
            headers = {name: value for name, value in self.headers.items() if name.lower() != "proxy-authorization"}
            onward.request(self.command, url.path + (f"?{url.query}" if url.query else ""), headers=headers)
            answer = onward.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("server", "date"):
                    self.send_header(name, value)
            self.end_headers()
            while piece := answer.read(1 << 16):
                self.wfile.write(piece)

    def _known(self, host: str) -> bool:
        self.proxy.asked.append((self.command, host))
        wanted = "Basic " + base64.b64encode(self.proxy.user.encode()).decode()
        if not self.proxy.user or self.headers.get("Proxy-Authorization") == wanted:
            return True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def log_message(self, *_arguments: object) -> None:
        """Tests look at ``asked``."""


def _tunnel(one: socket.socket, other: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _events in selector.select():
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
