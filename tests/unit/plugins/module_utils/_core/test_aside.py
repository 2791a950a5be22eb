# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking in a process of its own: an answer, a reason why there is none, or a bug; never a wait without end.

How several are asked at once is tested with the facts (test_facts_gather.py).
"""

from __future__ import annotations

import os
import time

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import Answer, ask


def test_the_answer_is_what_json_makes_of_it():
    assert ask(lambda: {"pid": os.getpid() != 0, "list": (1, "é")}, 10) == Answer({"pid": True, "list": [1, "é"]})


def test_nothing_of_the_child_comes_back_but_its_answer():
    mine = os.getpid()
    assert ask(os.getpid, 10).value != mine and os.getpid() == mine


def test_what_takes_too_long_is_silence():
    begin = time.monotonic()
    assert ask(lambda: time.sleep(30), 0.2) == Answer(silence="no answer within 0.2 s")
    assert time.monotonic() - begin < 5


def test_what_dies_is_silence_and_what_raises_is_a_bug():
    assert "without an answer" in ask(lambda: os._exit(0), 10).silence
    assert "ZeroDivisionError" in ask(lambda: 1 / 0, 10).bug
    assert "TypeError" in ask(object, 10).bug  # no JSON


def test_an_answer_does_not_wait_for_what_hangs_in_a_question_of_its_own():
    def hangs_below():
        os.fork() or time.sleep(30)  # it holds the pipe of this answer, as one that hangs in the kernel does
        return "said"

    begin = time.monotonic()
    assert ask(hangs_below, 10).value == "said"
    assert time.monotonic() - begin < 5
