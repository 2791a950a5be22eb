# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS in front of a server that speaks none: what comes in is handed on as it is, over a socket of this process alone.

The server of the wheel xllamacpp is built without TLS, and refuses a certificate.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from functools import partial

# Who opens a connection and says nothing holds it for so long.
HANDSHAKE_SECONDS = 10.0
PIECE = 1 << 16


def context(certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    """client_ca: only who shows a certificate of it is let in; empty: everybody is. Raises OSError."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    found.load_cert_chain(certificate, key)
    if client_ca:
        found.load_verify_locations(client_ca)
        found.verify_mode = ssl.CERT_REQUIRED
    return found


def bound(host: str, port: int) -> socket.socket:
    """A port that is free, and nobody is let in yet: who asks is refused while the model loads. Raises OSError.

    Until it listens, another may: then ``serve`` says so.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    return found


def serve(listening: socket.socket, tls: ssl.SSLContext, inner: str) -> None:
    """Hands on to the socket at ``inner`` until the process is ended. OSError: the port is taken."""
    asyncio.run(_serve(listening, tls, inner))


async def _serve(listening: socket.socket, tls: ssl.SSLContext, inner: str) -> None:
    server = await asyncio.start_server(
        partial(_hand_on, inner), sock=listening, ssl=tls, ssl_handshake_timeout=HANDSHAKE_SECONDS, backlog=512
    )
    await server.serve_forever()


async def _hand_on(inner: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        answers, asks = await asyncio.open_unix_connection(inner)
    except OSError:
        writer.close()
        return
    ways = [asyncio.create_task(_copy(reader, asks)), asyncio.create_task(_copy(answers, writer))]
    try:
        # Who asks and has gone gets no answer; and after the end of one there is nothing more.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        asks.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
