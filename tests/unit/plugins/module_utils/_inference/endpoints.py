# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints on loopback that answer just what a test wants, byte by byte, and certificates for them."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = "tiny"
KEY = "open-sesame"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


Answer = Callable[[Asked, socket.socket], None]


@dataclass
class Server:
    port: int
    asked: list[Asked] = field(default_factory=list)


@contextlib.contextmanager
def serving(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """``answer`` gets each request, in a thread of its own, and the connection to write to; it is closed then."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        server = Server(listening.getsockname()[1])

        def one(sock: socket.socket) -> None:
            with contextlib.suppress(OSError, ValueError), sock:
                sock.settimeout(10)
                talking = context.wrap_socket(sock, server_side=True) if context else sock
                with talking:
                    asked = _read(talking)
                    server.asked.append(asked)
                    answer(asked, talking)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            # Wakes the thread that waits for the next one.
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join(10)


def _read(sock: socket.socket) -> Asked:
    data = b""
    while b"\r\n\r\n" not in data:
        got = sock.recv(65536)
        if not got:
            raise ValueError("no request")
        data += got
        if not data[:1].isalpha():
            # As servers of HTTP do with the bytes of TLS.
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            raise ValueError("no HTTP")
    head, _blank, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += sock.recv(65536)
    return Asked(method, path, headers, json.loads(body) if body else None)


def whole(sock: socket.socket, status: int, content: object, kind: str = "application/json") -> None:
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)


def stream(sock: socket.socket, *events: object, done: bool = True) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for event in events:
        sock.sendall(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode())
    if done:
        sock.sendall(b"data: [DONE]\n\n")


def piece(text: str, name: str = "content") -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {name: text}}]}


def usage(tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}


def engine(key: str = "", *pieces: object) -> Answer:
    """An engine in order: one model, a key if it is given, and 4 for an answer."""

    def answer(asked: Asked, sock: socket.socket) -> None:
        if key and asked.headers.get("authorization") != f"Bearer {key}":
            whole(sock, 401, {"error": "Unauthorized"})
        elif asked.path == "/v1/models":
            whole(sock, 200, {"data": [{"id": MODEL}]})
        else:
            stream(sock, *(pieces or (piece("4"), usage(1))))

    return answer


class Authority:
    """A CA, and certificates of it, made by openssl as an operator would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._make("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
                   "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem",
                   # Without these two kinds of lines Python 3.13 takes no certificate.
                   "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip

    def issue(self, name: str, address: str = "127.0.0.1", *dates: str) -> tuple[Path, Path]:
        """Certificate and key. dates: options of ``openssl x509``."""
        self._make("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                   "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        (self.folder / f"{name}.ext").write_text(f"subjectAltName=IP:{address}\nauthorityKeyIdentifier=keyid\n")
        self._make("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                   "-extfile", f"{name}.ext", "-out", f"{name}.pem", *(dates or ("-days", "100")))  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def server(self, pair: tuple[Path, Path], *, asks: bool = False) -> ssl.SSLContext:
        """asks: for a certificate of each client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        if asks:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _make(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)
