# SPDX-License-Identifier: GPL-3.0-or-later
"""When an engine counts as started, and when it may be stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import ready
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Fault
from endpoints import KEY, MODEL, engine, serving, whole


def run(port: int, *words: str, seconds: int = 2, name: str = ready.READY, **caller: str) -> int:
    model = ["--model", MODEL] if name == ready.READY else []
    return ready.main(name, ["--port", str(port), *model, "--seconds", str(seconds), *words], caller)


@pytest.fixture
def credentials(tmp_path):
    (tmp_path / "api-key").write_text(KEY + "\n")
    return {"CREDENTIALS_DIRECTORY": str(tmp_path)}


def test_one_token_with_the_key_of_the_unit_is_an_answer(credentials, capsys):
    with serving(engine(KEY)) as server:
        assert run(server.port, **credentials) == 0
    (asked,) = server.asked
    assert (asked.body["model"], asked.body["max_tokens"]) == (MODEL, 1)
    said = capsys.readouterr()
    assert "answers after" in said.out and KEY not in said.out + said.err


def test_it_waits_for_one_that_loads(capsys):
    loading = [True, True]

    def answer(asked, sock):
        if loading and loading.pop():
            whole(sock, 503, {"error": {"message": "Loading model"}})
        else:
            engine()(asked, sock)

    with serving(answer) as server:
        assert run(server.port, seconds=10) == 0
    assert len(server.asked) == 3


def test_who_loads_quickly_is_seen_at_once_and_who_loads_long_is_left_alone(monkeypatch):
    """How long it waits between two questions, where each question takes no time of its own."""
    now, slept = [0.0], []
    monkeypatch.setattr(ready.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ready.time, "sleep", lambda seconds: (slept.append(seconds), now.append(now.pop() + seconds)))
    monkeypatch.setattr(ready.client, "complete", refused)
    assert run(1, seconds=60) == 1
    # A model of no size answers after 0.2 s; one that loads for an hour is asked twice a second.
    assert sum(slept[:10]) <= 0.25 and max(slept) == slept[-1] == 0.5
    moment = 0.0
    for pause in slept:
        assert pause <= max(0.02, moment * 0.1)
        moment += pause


def refused(*_asked):
    raise Fault("refused", "nobody listens")


def test_at_its_deadline_it_says_what_it_found_last(capsys):
    with serving(lambda _asked, sock: whole(sock, 503, {})) as server:
        begun = time.monotonic()
        assert run(server.port, seconds=1) == 1
        assert 1 <= time.monotonic() - begun < 5
    said = capsys.readouterr().err
    assert "for 1 s" in said and "What to do" in said


@pytest.mark.parametrize(("status", "words"), [(401, "401"), (404, "404"), (500, "500")])
def test_what_time_does_not_mend_is_not_waited_for(status, words, capsys):
    with serving(lambda _asked, sock: whole(sock, status, {"error": "no"})) as server:
        begun = time.monotonic()
        assert run(server.port, seconds=30) == 1
        assert time.monotonic() - begun < 10
    assert words in capsys.readouterr().err


def test_it_ends_with_the_process_that_it_waits_for(capsys):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    begun = time.monotonic()
    assert run(1, seconds=30, MAINPID=str(process.pid)) == 1
    assert time.monotonic() - begun < 5
    assert f"process {process.pid} ended" in capsys.readouterr().err
    # One that lives is waited for.
    assert run(1, seconds=1, MAINPID=str(os.getpid())) == 1
    assert "refused" in capsys.readouterr().err.lower()


def test_a_stop_meanwhile_is_no_fault_of_the_start(capsys):
    """systemd tells both; the engine takes its time to end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        threading.Timer(0.8, lambda: (process.kill(), process.wait())).start()
        begun = time.monotonic()
        assert run(1, seconds=30, MAINPID=str(process.pid)) == 0
        assert 0.8 <= time.monotonic() - begun < 5 and capsys.readouterr().err == ""
    finally:
        process.kill()
        process.wait()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_over_tls_it_is_the_server_s_own_certificate_and_no_other_that_answers(authority, capsys):
    mine, other = authority.issue("mine", "10.9.9.9"), authority.issue("other")
    with serving(engine(), authority.server(mine)) as server:
        # The name in it is that of the site; the engine is asked by its address.
        assert run(server.port, "--server-certificate", str(mine[0])) == 0
        assert run(server.port, "--server-certificate", str(other[0])) == 1
    assert "What to do" in capsys.readouterr().err


def test_it_shows_a_certificate_where_one_is_asked_for(authority):
    mine, client = authority.issue("server2"), authority.issue("client")
    with serving(engine(), authority.server(mine, asks=True)) as server:
        shown = ["--certificate", str(client[0]), "--private-key", str(client[1])]
        assert run(server.port, "--server-certificate", str(mine[0]), *shown) == 0
        assert run(server.port, "--server-certificate", str(mine[0])) == 1


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_a_certificate_that_is_none_is_said(text, tmp_path, capsys):
    (tmp_path / "cert.pem").write_text(text)
    assert run(1, "--server-certificate", str(tmp_path / "cert.pem")) == 1
    assert "holds no certificate" in capsys.readouterr().err


def metrics(*counts: int):
    left = list(counts)

    def answer(asked, sock):
        assert asked.path == "/metrics"
        whole(sock, 200, f"llamacpp:requests_processing {left.pop(0) if left else 0}\n", "text/plain")

    return answer


def test_a_stop_waits_until_no_request_is_under_way(capsys):
    with serving(metrics(2, 1, 0)) as server:
        assert run(server.port, name=ready.DRAIN, seconds=30) == 0
    assert len(server.asked) == 3 and capsys.readouterr().out == ""


def test_a_stop_does_not_wait_for_ever_nor_for_one_that_does_not_say(capsys):
    with serving(metrics(*[3] * 50)) as server:
        assert run(server.port, name=ready.DRAIN, seconds=1) == 0
    assert "stopped with 3 requests under way" in capsys.readouterr().out
    begun = time.monotonic()
    assert run(1, name=ready.DRAIN, seconds=30) == 0
    assert time.monotonic() - begun < 5
    assert "without waiting" in capsys.readouterr().out


def test_what_cannot_be_read_is_no_reason_not_to_stop(tmp_path, capsys):
    words = ["--port", "1", "--seconds", "1", "--server-certificate", str(tmp_path / "none.pem")]
    assert ready.main(ready.DRAIN, words, {}) == 0
    assert "stopped without waiting for requests" in capsys.readouterr().out


def test_the_key_of_a_stop_comes_from_its_file(tmp_path):
    (tmp_path / "key").write_text("open-sesame\n")
    with serving(metrics(0)) as server:
        words = ["--port", str(server.port), "--seconds", "1", "--key-file", str(tmp_path / "key")]
        assert ready.main(ready.DRAIN, words, {}) == 0
    assert server.asked[0].headers["authorization"] == "Bearer open-sesame"


def test_a_wrong_option_is_no_fault_of_the_engine():
    with pytest.raises(SystemExit) as ended:
        ready.main(ready.READY, ["--port", "x"], {})
    assert ended.value.code == 64
