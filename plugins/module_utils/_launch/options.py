# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of options. What is refused here is refused with what was wanted, and exit code 64.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from typing import NoReturn

USAGE = 64


class Parser(ArgumentParser):
    """Options are written out, errors say what to do, and wrong usage has an exit code of its own."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}\nNothing was started. What to do: {self.prog} --help\n")
        raise SystemExit(USAGE)


def say(line: str = "") -> None:
    """To whoever called: what these programs print is what they are for."""
    sys.stdout.write(line + "\n")


def refused(words: Sequence[str], reserved: Sequence[str]) -> str:
    """The first word after ``--`` that says again what the launcher answers for; empty if none does.

    A beginning counts, too: engines take abbreviations.
    """
    for word in words:
        name = word.split("=", 1)[0].replace("_", "-")
        if name in reserved or (name.startswith("--") and len(name) > 4 and any(r.startswith(name) for r in reserved)):
            return name
    return ""


def text(value: str) -> str:
    if not value or value.startswith("-"):
        raise ArgumentTypeError(f"{value!r} is empty or looks like an option")
    return value


def address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ArgumentTypeError(f"{value!r} is no IP address; names are not looked up here") from None


def endpoint(value: str) -> tuple[str, int]:
    host, colon, number = value.rpartition(":")
    if not colon:
        raise ArgumentTypeError(f"{value!r} is not <address>:<port>")
    return address(host.strip("[]")), port(number)


def port(value: str) -> int:
    return _whole(value, 1, 65535, "a port from 1 to 65535")


def base_port(value: str) -> int:
    return _whole(value, 1024, 65535 - 99, "a port from 1024 to 65436, with 99 more above it")


def positive(value: str) -> int:
    return _whole(value, 1, 1 << 62, "a whole number above 0")


def count(value: str) -> int:
    return _whole(value, 0, 1 << 62, "a whole number, 0 or more")


def share(value: str) -> float:
    found = number(value)
    if not 0 < found <= 1:
        raise ArgumentTypeError(f"{value!r} is not a share above 0 and at most 1, such as 0.76")
    return found


def number(value: str) -> float:
    """0 for what is none."""
    with contextlib.suppress(ValueError):
        return float(value) if re.fullmatch(r"[0-9]*\.?[0-9]+", value) else 0.0
    return 0.0


def _whole(value: str, least: int, most: int, wanted: str) -> int:
    if re.fullmatch(r"[0-9]{1,19}", value, re.ASCII) is None or not least <= int(value) <= most:
        raise ArgumentTypeError(f"{value!r} is not {wanted}")
    return int(value)
