# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-sent events, as far as streamed completions use them (WHATWG HTML, 9.2.6).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

TYPE = "text/event-stream"
# What ends a stream; one that ends without it was cut off.
DONE = "[DONE]"


def events(lines: Iterable[bytes]) -> Iterator[str]:
    """The data of each whole event. Comments, which servers send to keep a connection, and other fields are left out.

    An event that no empty line ends was cut off, and is none.
    """
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield "\n".join(data)
            data = []
            continue
        name, _colon, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
