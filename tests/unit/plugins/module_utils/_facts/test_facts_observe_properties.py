# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a node answers to any question, every subject ends with facts and reasons, never with an error."""

from __future__ import annotations

import json
import random

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Stat
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.gather import Answers, answer_to, record
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.look import Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.observe import SUBJECTS
from ansible_collections.nusy.dgx_spark.tests.tools.examples import examples
from fact_node import FactNode, spark
from hypothesis import given, settings
from hypothesis import strategies as st

SCRAPS = [
    "",
    "\n",
    "\0",
    "0",
    "1",
    "-1",
    "Y",
    "x",
    "0x1f",
    "99999999999999999999999",
    "٣",
    "\udcff\udc80",
    "\ud800",
    "[",
    "{}",
]


class WildNode(FactNode):
    """A Spark on which any answer may be damaged, missing, forbidden or of another kind."""

    def __init__(self, seed: int, share: float) -> None:
        base = spark()
        super().__init__(base.files, base.links, base.commands, root=bool(seed % 2))
        self._random = random.Random(seed)
        self._share = share

    def _damaged(self) -> bool:
        return self._random.random() < self._share

    def _text(self, text: str) -> str:
        at = self._random.randint(0, len(text))
        return self._random.choice(
            [
                self._random.choice(SCRAPS),
                text[:at],
                text[:at] + self._random.choice(SCRAPS) + text[at:],
                text + text,
                "".join(chr(self._random.randint(0, 0x3FF)) for _ in range(20)),
            ]
        )

    def read(self, path: str) -> str | None:
        text = super().read(path)
        if not self._damaged():
            return text
        if self._random.random() < 0.2:
            raise Unreadable(f"{path}: Input/output error")
        return None if text is None or self._random.random() < 0.1 else self._text(text)

    def stat(self, path: str) -> Stat | None:
        found = super().stat(path)
        if not self._damaged():
            return found
        if self._random.random() < 0.2:
            raise Unreadable(f"{path}: Permission denied")
        return self._random.choice([None, Stat("file", 0, 0, 0), Stat("link", 0o777, 5, 5), Stat("directory", 0, 0, 0)])

    def listdir(self, path: str) -> tuple[str, ...] | None:
        names = super().listdir(path)
        if not self._damaged():
            return names
        if self._random.random() < 0.2:
            raise Unreadable(f"{path}: Permission denied")
        return self._random.choice([None, (), ("x", "policy9", "entry1", "0", "7", "roce\udcff"), names])

    def readlink(self, path: str) -> str | None:
        target = super().readlink(path)
        return self._random.choice([None, "", "/", "../..", "x\udcff", target]) if self._damaged() else target

    def run(self, argv, *, timeout=10.0, env=None, stdin=""):  # type: ignore[no-untyped-def]
        done = super().run(argv)
        if not self._damaged():
            return done
        rc = self._random.choice([None, 0, 0, 0, 1, 6, 139])
        return Completed(done.argv, rc, self._text(done.out), self._text(done.err), "" if rc is not None else "stopped")


@pytest.mark.parametrize("name", SUBJECTS)
@given(seed=st.integers(0, 1 << 32), share=st.sampled_from([0.02, 0.2, 0.6, 1.0]))
@settings(max_examples=examples(60), deadline=5000)
def test_a_subject_survives_any_node(name: str, seed: int, share: float) -> None:
    answers = Answers()
    record(answers, name, answer_to(lambda: SUBJECTS[name](Look(WildNode(seed, share), 60))))
    text = json.dumps([answers.facts, answers.unknown], ensure_ascii=False)
    text.encode("utf-8")  # no lone surrogates: they would break the controller's output
    assert all(answers.unknown.values())
    assert {*answers.facts, *answers.unknown} >= {name}
