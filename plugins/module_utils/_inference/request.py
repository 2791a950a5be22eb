# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be found out about an endpoint, out of the options of ``inference_probe``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Endpoint

# What a shared model of a cluster promises its ten agents (experiment 41, Manolin): seconds, and one of a hundred.
P95_SECONDS, ERRORS = 6.0, 0.01
# One thread each, on the machine that serves.
MOST_SESSIONS = 512
# no_log: sanity takes every token for a secret.
_SLO: dict[str, Any] = {
    "p50": {"type": "float"},
    "p95": {"type": "float", "default": P95_SECONDS},
    "p99": {"type": "float"},
    "first_token": {"type": "float", "no_log": False},
    "tokens_per_second": {"type": "float", "no_log": False},
    "errors": {"type": "float", "default": ERRORS},
}
ARGUMENT_SPEC: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "model": {"type": "str", "default": ""},
    "api_key": {"type": "str", "no_log": True},
    "ca": {"type": "path"},
    "certificate": {"type": "path"},
    "private_key": {"type": "path"},
    "pin": {"type": "str"},
    "certificate_days": {"type": "int", "default": 14},
    "question": {"type": "str", "default": "What is 2+2? Reply with just the number."},
    "expected": {"type": "str", "default": "4"},
    "timeout": {"type": "float", "default": 60},
    "sessions": {"type": "int", "default": 0},
    "requests": {"type": "int", "default": 2},
    "tokens": {"type": "int", "default": 64, "no_log": False},
    "load_seconds": {"type": "float", "default": 120},
    "slo": {"type": "dict", "options": _SLO, "apply_defaults": True},
    "role": {"type": "str", "default": ""},
}


@dataclass(frozen=True)
class Slo:
    """Seconds, tokens per second of all sessions together, and a share of all requests; None: not asked for."""

    p50: float | None = None
    p95: float | None = P95_SECONDS
    p99: float | None = None
    first_token: float | None = None
    tokens_per_second: float | None = None
    errors: float | None = ERRORS


@dataclass(frozen=True)
class Request:
    """model: empty for the first that is listed. expected: empty for any answer. sessions: 0 for no load."""

    endpoint: Endpoint
    url: str
    model: str
    question: str
    expected: str
    certificate_days: int = 14
    sessions: int = 0
    requests: int = 2
    tokens: int = 64
    load_seconds: float = 120.0
    slo: Slo = Slo()
    role: str = ""


def request_of(params: Mapping[str, Any]) -> Request:
    """Raises InputError."""
    url = str(params["url"])
    parts, port = _split(url)
    key = str(params.get("api_key") or "")
    if not key.isascii() or not key.isprintable():
        raise _wrong("api_key", "printable ASCII on one line", "something else, not shown", "it goes into a header")
    for name, least, most in (
        *(("sessions", 0, MOST_SESSIONS), ("requests", 1, 1000), ("tokens", 1, 100_000)),
        *(("timeout", 0.1, 3600), ("load_seconds", 1, 3600), ("certificate_days", 0, 10_000)),
    ):
        if not least <= params[name] <= most:
            raise _wrong(
                name, f"a number from {least} to {most}", str(params[name]), "it would ask nothing, or never end"
            )
    slo = params.get("slo") or {}
    for name, value in slo.items():
        if value is not None and not 0 <= value <= (1 if name == "errors" else 1e6):
            wanted = "a share from 0 to 1" if name == "errors" else "a number from 0 on"
            raise _wrong(f"slo.{name}", wanted, str(value), "every answer would pass, or none")
    pin = str(params.get("pin") or "").lower().replace(":", "")
    if pin and not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise _wrong(
            "pin", "the SHA-256 of a certificate, 64 hexadecimal digits", repr(params["pin"]), "nothing would match it"
        )
    files = {name: str(params.get(name) or "") for name in ("ca", "certificate", "private_key")}
    if parts.scheme == "http" and (pin or any(files.values())):
        raise _wrong("url", "https://, since certificates are given", url, "they would not be looked at")
    if files["private_key"] and not files["certificate"]:
        raise _wrong("certificate", "the certificate of private_key", "nothing", "a key alone is no login")
    endpoint = Endpoint(
        str(parts.hostname),
        port,
        path=parts.path.rstrip("/") or "/v1",
        tls=parts.scheme == "https",
        key=key,
        pin=pin,
        seconds=float(params["timeout"]),
        **files,
    )
    return Request(
        endpoint,
        url,
        slo=Slo(**slo),
        **{
            name: params[name]
            for name in ("model", "question", "expected", "certificate_days", "sessions", "requests", "tokens")
        },
        load_seconds=float(params["load_seconds"]),
        role=str(params["role"]),
    )


def _split(url: str) -> tuple[SplitResult, int]:
    why = "nobody would know whom to ask"
    wanted = "http:// or https://, a host, perhaps a port and a path, such as http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong("url", wanted, f"{url!r}: {error}", why) from None
    if parts.username is not None:  # empty, where there is only a password
        raise _wrong("url", wanted, "one with a login, not shown", "addresses are logged; keys go into api_key")
    plain = url.isascii() and url.isprintable() and " " not in url
    known = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not known or parts.query or parts.fragment or not plain:
        raise _wrong("url", wanted, repr(url), why)
    return parts, port or (443 if parts.scheme == "https" else 80)


def _wrong(name: str, wanted: str, found: str, why: str) -> InputError:
    return InputError(f"inference.{name}", wanted=f"{name}: {wanted}", found=found, why=why, fix=f"correct {name}")
