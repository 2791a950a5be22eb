# SPDX-License-Identifier: GPL-3.0-or-later
"""Several who ask at once, each one question after the other.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import collections
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Fault, Load, Reply

# Of each session: its connection, and what ends that in time. Few others are open.
FILES, OTHER_FILES = 2, 100
# Until all threads are there. They only have to be started.
TOGETHER_SECONDS = 30


def at_once(ask: Callable[[str], Reply], *, sessions: int, each: int, seconds: float) -> Load:
    """``ask`` is called by each of ``sessions`` threads, ``each`` times, and not any more when ``seconds`` are over.

    It gets a number that no other question has.
    """
    _make_room(FILES * sessions + OTHER_FILES)
    ready = threading.Barrier(sessions)

    def work(session: int) -> list[Reply | Fault]:
        ready.wait(TOGETHER_SECONDS)
        end = time.monotonic() + seconds
        got: list[Reply | Fault] = []
        for turn in range(each):
            if time.monotonic() >= end:
                break
            try:
                got.append(ask(f"{session + 1}.{turn + 1}"))
            except Fault as fault:
                got.append(fault)
        return got

    begun = time.monotonic()
    with ThreadPoolExecutor(sessions) as pool:
        # All are begun before the first answer is waited for; what is no Fault is raised here.
        got = [one for answers in pool.map(work, range(sessions)) for one in answers]
    replies = [one for one in got if isinstance(one, Reply)]
    failed = [one for one in got if isinstance(one, Fault)]
    counted = [reply.tokens for reply in replies if reply.tokens is not None]
    return Load(
        sessions=sessions,
        totals=tuple(reply.total for reply in replies),
        firsts=tuple(reply.first for reply in replies),
        tokens=sum(counted) if len(counted) == len(replies) else None,
        seconds=time.monotonic() - begun,
        faults=dict(collections.Counter(fault.kind for fault in failed)),
        said={fault.kind: fault.found for fault in reversed(failed)},
    )


def _make_room(files: int) -> None:
    """As far as this process may by itself: most systems begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (files if hard == resource.RLIM_INFINITY else min(files, hard), hard)
        )
