# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines of one program on one node: what their units say, and where they answer.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CREDENTIALS = "/etc/nusy/credentials"
LIBEXEC = "/usr/local/libexec/nusy"
# Added to its score: it goes before what else runs. The same as memory_guard_engine_score by default.
OOM_SCORE = 500


@dataclass(frozen=True)
class Program:
    """What all engines of a role share.

    prefix: of their units, <prefix>@<name>.service. launcher: what starts them. user: with whose rights.
    sandbox: lines of [Service] beside those that every engine has, for what this program needs or can do without.
    """

    role: str
    title: str
    prefix: str
    launcher: str
    user: str = "nusy"
    sandbox: str = ""

    @property
    def template(self) -> str:
        return f"{self.prefix}@.service"


@dataclass(frozen=True)
class Tls:
    """What its clients meet: paths on the node. client_certificate, client_key: with which it lets its own probe in."""

    certificate: str
    client_certificate: str = ""
    client_key: str = ""


@dataclass(frozen=True)
class Engine:
    """One engine, as its unit runs it.

    words: of its launcher, the options of the program after ``--``. served: the name that clients use.
    credentials: name → path of a file for LoadCredential=, beside the API key.
    conflicts: names of engines of this program, or whole names of units, that cannot run beside it.
    """

    name: str
    words: tuple[str, ...]
    served: str
    port: int
    host: str = "127.0.0.1"
    key: str = field(default="", repr=False)
    tls: Tls | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    start_seconds: int = 600
    drain_seconds: int = 30
    enabled: bool = True

    def unit(self, program: Program) -> str:
        return f"{program.prefix}@{self.name}.service"

    def key_file(self, program: Program) -> str:
        return f"{CREDENTIALS}/{self.unit(program)}/api-key"
