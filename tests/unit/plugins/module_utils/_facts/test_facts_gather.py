# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking in processes of their own: hanging, dying and failing questions cost only themselves."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts import gather
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import NotKnown, Tree, Unknown, clean, settle


def good() -> Tree:
    return {"a": 1, "b": Unknown("needs root"), "c": {"d": Unknown("gone")}, "e": [Unknown("cut"), 2]}


def nothing() -> Tree:
    raise NotKnown("not installed")


def hang() -> Tree:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    time.sleep(60)
    return {}


def bug() -> Tree:
    raise KeyError("nobody thought of this")


def die() -> Tree:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def large() -> Tree:
    return {"text": ["x" * 1000] * 500}


def test_answers_come_with_values_and_reasons() -> None:
    answers = gather.ask({"one": good, "two": large}, 10)
    assert answers.facts["one"] == {"a": 1, "c": {}, "e": [None, 2]}
    assert answers.unknown == {"one.b": "needs root", "one.c.d": "gone", "one.e.0": "cut"}
    assert answers.facts["two"] == large()  # more than a pipe holds at once
    assert answers.bugs == {}


def test_a_subject_of_which_nothing_can_be_known_has_one_reason() -> None:
    answers = gather.ask({"one": nothing}, 10)
    assert (answers.facts, answers.unknown, answers.bugs) == ({}, {"one": "not installed"}, {})


def test_a_question_that_hangs_does_not_delay_the_others_beyond_the_limit() -> None:
    start = time.monotonic()
    answers = gather.ask({"stuck": hang, "fine": good}, 1.0)
    assert time.monotonic() - start < 3
    assert answers.unknown["stuck"] == "no answer within 1 s"
    assert answers.facts["fine"] == {"a": 1, "c": {}, "e": [None, 2]}


def test_a_bug_is_named_and_costs_its_own_subject_only() -> None:
    answers = gather.ask({"broken": bug, "fine": good}, 10)
    assert "KeyError: 'nobody thought of this'" in answers.bugs["broken"]
    assert answers.unknown["broken"] == "an error in this collection, see the warning of the task"
    assert "fine" in answers.facts


def test_a_process_that_is_killed_is_unknown() -> None:
    answers = gather.ask({"killed": die}, 10)
    assert answers.unknown == {"killed": "the process that looked at it ended without an answer"}


def test_no_process_left_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    answers = gather.ask({"one": good}, 10)
    assert answers.unknown == {"one": "no process could be started to look at it: Resource temporarily unavailable"}


def test_children_are_gone_and_no_descriptor_is_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    gather.ask({"one": good, "stuck": hang}, 0.5)
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_children_do_not_hold_the_output_on_which_ansible_waits(capfd: pytest.CaptureFixture[str]) -> None:
    def talk() -> Tree:
        os.write(1, b"to stdout")
        os.write(2, b"to stderr")
        return {"fds": [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]}

    assert gather.ask({"talk": talk}, 10).facts["talk"] == {"fds": ["/dev/null"] * 3}
    assert capfd.readouterr() == ("", "")


def test_settle_cleans_names_and_values() -> None:
    values, reasons = settle({"a\udcff": "x\x1b[31m\udc80", "b": {"c\n": Unknown("d\0e")}})
    assert values == {"a\ufffd": "x\ufffd[31m\ufffd", "b": {}}
    assert reasons == {"b.c\ufffd": "d\ufffde"}
    assert clean("é٣ ok") == "é٣ ok"
