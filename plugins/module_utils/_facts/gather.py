# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask several questions at once, each in a process of its own, within one time limit.

A read of /sys or a call of the GPU driver can hang inside the kernel (a network card whose
firmware died, a GPU that fell off its bus). No time limit inside the asking process helps
then, and not even SIGKILL ends it. So each question has a child, and the parent answers when
the time is up, with or without it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Tree, Unknown, learn, settle

Question = Callable[[], Tree]

# Far more than all facts of one subject.
MAX_ANSWER = 4 << 20


@dataclass
class Answers:
    """``facts`` by question, ``unknown`` by dotted path, and the questions that ended by a bug of ours."""

    facts: dict[str, object] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    bugs: dict[str, str] = field(default_factory=dict)


@dataclass
class _Child:
    pid: int
    pipe: int
    data: bytearray = field(default_factory=bytearray)


def ask(questions: Mapping[str, Question], seconds: float) -> Answers:
    end = time.monotonic() + seconds
    answers = Answers()
    children: dict[str, _Child] = {}
    for name, question in questions.items():
        try:
            children[name] = _start(question)
        except OSError as error:  # no process or no memory left: the very moment to say so
            answers.unknown[name] = f"no process could be started to look at it: {error.strerror}"
    late = _collect(children, end)
    for name, child in children.items():
        record(answers, name, {"nothing": f"no answer within {seconds:g} s"} if name in late else _said(child))
    return answers


def _start(question: Question) -> _Child:
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        _answer(question, writing)
    os.close(writing)
    return _Child(pid, reading)


def _answer(question: Question, pipe: int) -> None:
    """The child's whole life. It must never return into the code of its parent."""
    try:
        # A child that hangs must not hold the pipes on which Ansible waits for the module's end.
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        try:
            answer: Mapping[str, object] = answer_to(question)
        except BaseException:  # whatever it is, it is ours, and the parent reports it as a bug
            answer = {"bug": traceback.format_exc(limit=-4)}
        view = memoryview(json.dumps(answer).encode())
        while view:
            view = view[os.write(pipe, view) :]
    finally:
        os._exit(0)


def _collect(children: Mapping[str, _Child], end: float) -> set[str]:
    """Read all answers until ``end``; the names of those that did not come."""
    with selectors.DefaultSelector() as selector:
        for name, child in children.items():
            selector.register(child.pipe, selectors.EVENT_READ, name)
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, _events in selector.select(left):
                child = children[key.data]
                data = os.read(child.pipe, 65536)
                child.data += data
                if not data or len(child.data) > MAX_ANSWER:
                    selector.unregister(child.pipe)
        late = {key.data for key in selector.get_map().values()}
    for child in children.values():
        os.close(child.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        _reap(child.pid)
    return late


def _reap(pid: int) -> None:
    """Take the child's exit, but do not wait for one that hangs in the kernel: init will."""
    for _attempt in range(20):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                time.sleep(0.005)
                continue
        return


def answer_to(question: Question) -> dict[str, object]:
    """What the child says: facts with reasons, or the reason why there are none at all."""
    found = learn(question)
    if isinstance(found, Unknown):
        return {"nothing": found.reason}
    values, reasons = settle(found)
    return {"facts": values, "unknown": reasons}


def record(answers: Answers, name: str, answer: Mapping[str, Any]) -> None:
    """Put the answer of one question to the others."""
    if "bug" in answer:
        answers.bugs[name] = answer["bug"]
        answers.unknown[name] = "an error in this collection, see the warning of the task"
    elif "nothing" in answer:
        answers.unknown[name] = answer["nothing"]
    else:
        answers.facts[name] = answer["facts"]
        answers.unknown.update({f"{name}.{path}": reason for path, reason in answer["unknown"].items()})


def _said(child: _Child) -> dict[str, Any]:
    try:
        answer = json.loads(bytes(child.data))
    except ValueError:  # it was killed while it spoke, or before
        answer = {"nothing": "the process that looked at it ended without an answer"}
    return cast(dict[str, Any], answer)
