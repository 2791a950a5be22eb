# SPDX-License-Identifier: GPL-3.0-or-later
"""A key is trusted by its fingerprint, whoever sent it."""

from __future__ import annotations

import http.server
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import keys
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from fake_node import FakeNode

FIXTURES = Path(__file__).parent / "fixtures"
KEY = (FIXTURES / "rsa_with_subkey.asc").read_text()
OTHER = (FIXTURES / "ed25519.asc").read_text()
FINGERPRINT = "759F60F2242DEF5719AD7B839356635CE87B2CC1"
KEYRING = "/etc/apt/keyrings/x.asc"


def write(node: FakeNode, text: str = "", key_url: str = "") -> None:
    step = Step("write_key", KEYRING)
    keys.write_key(step, node, node, fingerprint=FINGERPRINT, key=text, key_url=key_url)


def with_folder() -> FakeNode:
    node = FakeNode()
    node.put("/etc/apt/keyrings", kind="directory", mode=0o755)
    return node


def test_the_declared_key_is_written() -> None:
    node = with_folder()
    write(node, KEY)
    found = node.files[KEYRING]
    assert (found.text, found.mode, found.uid) == (KEY, 0o644, 0)


@pytest.mark.parametrize("text", [OTHER, KEY + OTHER, "<html>", KEY[:300]])
def test_another_key_is_not_written(text: str) -> None:
    node = with_folder()
    with pytest.raises(NodeError) as caught:
        write(node, text)
    assert caught.value.problem.key == "apt.wrong_key"
    assert node.effects == []


def test_a_key_is_fetched_and_held_against_the_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "3bf863cc.pub"
    for text, good in ((KEY, True), (OTHER, False)):
        node = with_folder()
        file.write_text(text)
        if good:
            write(node, key_url=f"file://{file}")
            assert node.files[KEYRING].text == KEY
        else:
            with pytest.raises(NodeError, match="and no other"):
                write(node, key_url=f"file://{file}")
            assert node.effects == []


@pytest.mark.parametrize("what", ["missing", "endless", "silent", "dripping"])
def test_a_key_that_does_not_come_is_an_error_in_time(what: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(keys, "FETCH_SECONDS", 0.5)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if what == "silent":
                threading.Event().wait(1.5)
                return
            self.send_response(200)
            self.end_headers()
            try:
                for _number in range(64):
                    self.wfile.write(b"x" * (65536 if what == "endless" else 1))
                    time.sleep(0.1 if what == "dripping" else 0)
            except OSError:
                pass

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"file://{tmp_path}/none" if what == "missing" else f"http://127.0.0.1:{server.server_port}/key"
        with pytest.raises(NodeError) as caught:
            keys.fetch(url)
        server.shutdown()
    assert caught.value.problem.key == "apt.no_key"
    assert ("more than" in caught.value.problem.found) is (what == "endless")
