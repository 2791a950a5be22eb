# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask several questions at once, each in a process of its own (see ``_core.aside``).

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.aside import Answer, ask_all
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.model import Tree, Unknown, learn, settle

Question = Callable[[], Tree]


@dataclass
class Answers:
    """``facts`` by question, ``unknown`` by dotted path, and the questions that ended by a bug of ours."""

    facts: dict[str, object] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    bugs: dict[str, str] = field(default_factory=dict)


def ask(questions: Mapping[str, Question], seconds: float) -> Answers:
    answers = Answers()
    told = ask_all({name: partial(answer_to, question) for name, question in questions.items()}, seconds)
    for name, answer in told.items():
        record(answers, name, _said(answer))
    return answers


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


def _said(answer: Answer) -> Mapping[str, Any]:
    if answer.bug:
        return {"bug": answer.bug}
    return {"nothing": answer.silence} if answer.silence else dict(answer.value)
