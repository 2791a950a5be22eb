# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines may say of themselves, whatever their program: what a unit, a header and a launcher can hold.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import Engine, Program
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.resources import ACCOUNT

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# systemd.unit(5), without what it would expand.
UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]{1,240}\.(service|slice|socket|target|timer|scope|mount|path)")
# What is shorter cannot be kept out of results (_core.redact).
_HEADER = re.compile(r"[!-~][ -~]{2,}[!-~]")
EVERYWHERE = ("0.0.0.0", "::")


def check(program: Program, engines: Sequence[Engine]) -> None:
    """Raises InputError with the first of what is wrong."""
    for at, wanted, found, why in _wrong(program, engines):
        raise InputError(
            f"{program.role}.bad_input",
            wanted=f"{at}: {wanted}",
            found=repr(found)[:200],
            why=why,
            fix=f"correct {program.role}_{at}",
        )


def _wrong(program: Program, engines: Sequence[Engine]) -> Iterator[tuple[str, str, object, str]]:
    if engines and ACCOUNT.fullmatch(program.user) is None:
        yield "user", "the name of an account", program.user, "the unit would run as somebody else"
    names = [engine.name for engine in engines]
    for number, engine in enumerate(engines):
        at, earlier = f"engines[{number}]", engines[:number]
        if NAME.fullmatch(engine.name) is None:
            yield f"{at}.name", "small letters, digits, - and _", engine.name, "it is a part of the unit's name"
        if engine.name in names[:number]:
            yield f"{at}.name", "a name of its own", engine.name, "only one of the two would start"
        if not _is_address(engine.host):
            yield f"{at}.host", "an IP address", engine.host, "names are not looked up, and the unit would not start"
        if not 1024 <= engine.port <= 65535:
            yield f"{at}.port", "a port from 1024 to 65535", engine.port, "lower ones are for root, which no engine is"
        if any(engine.port == other.port and _meet(engine.host, other.host) for other in earlier):
            yield f"{at}.port", "a port of its own", engine.port, "only one of the two would start"
        if not engine.served.isprintable() or engine.served.startswith("-"):
            why = "clients write it, and it is a word of a command line"
            yield f"{at}.served_name", "a text of one line that does not begin with -", engine.served, why
        # Also of the key as the node has it: it is sent in a header.
        if engine.key and not _HEADER.fullmatch(engine.key):
            wanted, why = "4 or more characters of ASCII on one line, without blanks at its ends", "no header holds it"
            yield f"{at}.api_key", wanted, "something else, not shown", why
        for other in engine.conflicts:
            if UNIT.fullmatch(other) is None and (other not in names or other == engine.name):
                why = "the line of the unit would say something else"
                yield f"{at}.conflicts", "names of other engines, or of whole units", other, why


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _meet(one: str, other: str) -> bool:
    """One that listens everywhere has the port of every address."""
    return one == other or one in EVERYWHERE or other in EVERYWHERE
