# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask in a process of its own, and go on without the answer when the time is up.

A look at a network share, at /sys or at the GPU can hang inside the kernel: a server that is
gone, a card whose firmware died. No time limit inside the asking process helps then, and not
even SIGKILL ends it. So the question has a child, and the parent goes on with or without it.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Far more than anything that is asked.
MAX_ANSWER = 32 << 20
# For all children that were killed: on a machine with much to do, the kernel takes its time to end them.
REAP_SECONDS = 1.0
# JSON on one line has none inside. An answer does not end when its pipe is closed: what the question itself
# asked aside, and now hangs, has the pipe too.
END = b"\n"


@dataclass(frozen=True)
class Answer:
    """``value``: what the question returned, through JSON, unless one of the others says why there is none.

    silence: nothing came: too late, killed, or never started.
    bug: what the question raised, as a traceback.
    """

    value: Any = None
    silence: str = ""
    bug: str = ""


@dataclass
class _Child:
    pid: int
    pipe: int
    data: bytearray = field(default_factory=bytearray)


def ask(question: Callable[[], object], seconds: float) -> Answer:
    """The answer to one question, which must be JSON."""
    return ask_all({"": question}, seconds)[""]


def ask_all(questions: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Answer]:
    """The answers to all of them, each asked in a child of its own, within one time limit."""
    end = time.monotonic() + seconds
    answers: dict[str, Answer] = {}
    children: dict[str, _Child] = {}
    for name, question in questions.items():
        try:
            children[name] = _start(question)
        except OSError as error:  # no process or no memory left: the very moment to say so
            answers[name] = Answer(silence=f"no process could be started to look at it: {error.strerror}")
    late = _collect(children, end)
    for name, child in children.items():
        answers[name] = Answer(silence=f"no answer within {seconds:g} s") if name in late else _said(child)
    return answers


def _start(question: Callable[[], object]) -> _Child:
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


def _answer(question: Callable[[], object], pipe: int) -> None:
    """The child's whole life. It must never return into the code of its parent."""
    try:
        # A child that hangs must not hold the pipes on which Ansible waits for the module's end.
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        try:
            said = json.dumps({"value": question()})
        except BaseException:  # whatever it is, it is ours, and the parent reports it as a bug
            said = json.dumps({"bug": traceback.format_exc(limit=-4)})
        view = memoryview(said.encode() + END)
        while view:
            view = view[os.write(pipe, view) :]
    finally:
        # Nothing of the parent (its clean-up, its buffers) may run twice.
        os._exit(0)


def _collect(children: Mapping[str, _Child], end: float) -> set[str]:
    """Read all answers until ``end``; the names of those that did not come."""
    with selectors.DefaultSelector() as selector:
        for name, child in children.items():
            selector.register(child.pipe, selectors.EVENT_READ, name)
        while selector.get_map():
            left = end - time.monotonic()
            if left <= 0:
                break
            for key, _events in selector.select(left):
                child = children[key.data]
                data = os.read(child.pipe, 65536)
                child.data += data
                if not data or data.endswith(END) or len(child.data) > MAX_ANSWER:
                    selector.unregister(child.pipe)
        late = {key.data for key in selector.get_map().values()}
    for child in children.values():
        os.close(child.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    _reap([child.pid for child in children.values()], time.monotonic() + REAP_SECONDS)
    return late


def _reap(pids: Sequence[int], end: float) -> None:
    """Take the exits of children, but do not wait long for one that hangs in the kernel: init will."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < end:
                time.sleep(0.005)


def _said(child: _Child) -> Answer:
    try:
        return Answer(**json.loads(bytes(child.data)))
    except ValueError:  # it was killed while it spoke, or before
        return Answer(silence="the process that looked at it ended without an answer")
