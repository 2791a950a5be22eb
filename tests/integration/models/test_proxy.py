# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that may not ask the hub itself asks by way of a proxy, and says nothing of its password."""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.model import secrets
from conftest import Bench, snapshot, states
from proxy import Proxy

USER, PASSWORD = "site", "s:e@c%ret"
QUOTED = "s%3Ae%40c%25ret"
# It has no address: who reaches it does so by way of the proxy.
HOST = "hub.example.invalid"


@pytest.fixture
def proxy(bench: Bench) -> Iterator[Proxy]:
    with Proxy(int(bench.hub.url.rpartition(":")[2]), f"{USER}:{PASSWORD}") as proxy:
        yield proxy


def by(proxy: Proxy, password: str = QUOTED) -> str:
    return f"http://{USER}:{password}@127.0.0.1:{proxy.port}"


def test_the_hub_is_asked_by_way_of_the_proxy(bench: Bench, proxy: Proxy) -> None:
    bench.hub.url = f"http://{HOST}"  # where it sends those who ask for large files, too
    left = bench.apply(proxy=by(proxy))
    assert states(left) == {} and snapshot(left)["came"] == {f"http://{HOST}": 4}
    assert {host for _method, host in proxy.asked} == {HOST}
    assert PASSWORD not in str(left) and QUOTED not in str(left)


def test_this_machine_and_what_is_named_are_asked_without_it(bench: Bench, proxy: Proxy) -> None:
    assert states(bench.apply(proxy=by(proxy))) == {} and proxy.asked == []
    other = Bench(bench.place / "other", bench.hub, bench.python)
    bench.hub.url = bench.hub.url.replace("127.0.0.1", "ip6-loopback.example.invalid")
    with pytest.raises(NodeError) as caught:
        other.apply(proxy=by(proxy), no_proxy=[".example.invalid"])
    assert caught.value.problem.key == "models.unreachable" and proxy.asked == []


def test_with_tls_the_proxy_sees_the_name_of_the_hub_and_no_more(bench: Bench, proxy: Proxy) -> None:
    certificate = bench.place / "tls.pem"
    _certificate(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    bench.hub._server.socket = context.wrap_socket(bench.hub._server.socket, server_side=True)
    # As the authority of a site that is installed on its nodes.
    python = bench.place / "python"
    python.write_text(f'#!/bin/sh\nSSL_CERT_FILE={certificate} exec {bench.python} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    bench.hub.url = f"https://{HOST}"
    entry = bench.manifest("closed", "acme/closed", gated=True)
    left = bench.apply(entry, proxy=by(proxy), token="hf_right_token", python=str(python))
    assert states(left) == {} and set(proxy.asked) == {("CONNECT", f"{HOST}:443")}


def _certificate(path: Path) -> None:
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    name = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", f"{path}.key", "-out", path]
    subprocess.run([*new, *name], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.key").read_text())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_without_what_it_was_told(bench: Bench, proxy: Proxy, scheme: str) -> None:
    bench.hub.url = f"{scheme}://{HOST}"
    wrong = by(proxy, "wr%25ng-word")
    with pytest.raises(NodeError) as caught:
        bench.apply(proxy=wrong)
    problem = caught.value.problem
    assert problem.key == "models.proxy" and "models_proxy" in problem.fix and "407" in problem.found
    shown = Redactor(secrets({"token": "", "proxy": wrong})).text(problem.text())
    assert "wr%25ng" not in shown and "wr%ng" not in shown


def test_a_proxy_that_is_away_is_thought_of(bench: Bench) -> None:
    bench.hub.url = f"http://{HOST}"
    with pytest.raises(NodeError) as caught:
        bench.apply(proxy="http://127.0.0.1:9")
    assert caught.value.problem.key == "models.unreachable" and "models_proxy" in caught.value.problem.fix


class Watched(list[tuple[str, str, str, int]]):
    """What the hub was asked. With each answer it looks at all processes: the client is one of them then."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def append(self, one: tuple[str, str, str, int]) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            for place in (folder / "cmdline", folder / "environ"):
                with contextlib.suppress(OSError):
                    text = b"" if folder.name == str(os.getpid()) else place.read_bytes()
                    self.seen += [str(place)] * (QUOTED.encode() in text or PASSWORD.encode() in text)
        super().append(one)


def test_its_password_is_in_no_list_of_processes(bench: Bench, proxy: Proxy) -> None:
    """Neither on a command line nor in an environment, while files come."""
    bench.hub.url, bench.hub.asked = f"http://{HOST}", Watched()
    assert states(bench.apply(proxy=by(proxy))) == {}
    assert bench.hub.asked and bench.hub.asked.seen == []
