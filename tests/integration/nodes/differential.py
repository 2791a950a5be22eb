# SPDX-License-Identifier: GPL-3.0-or-later
"""ensure_state beside Ansible's stock modules: the same cases on two equal nodes.

Each case is prepared by plain shell on both nodes. Then ours runs on one and the stock
module on the other: in check mode, for real, and for real again. What the nodes look like
is read by plain tools before, between and after. A table of cases says what each of the two
answers; where they differ, ``truer`` says why, and becomes a row of the committed list
docs/design/truer-than-stock.md (``python differential.py`` writes it).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[3]
LIST = REPO / "docs" / "design" / "truer-than-stock.md"
sys.path.insert(0, str(REPO / "tests" / "nodes"))

import testing


@dataclass(frozen=True)
class Case:
    """One initial state, one declaration in both languages, and what each must answer.

    ours: options of one control; ``confirm`` names the victims it may touch.
    stock: module → its options. Several make a chain of tasks; the word for the chain is the
        worst of its tasks: failed, else changed, else ok.
    says: what both answer in check mode, and so what both must do for real: changed or ok.
    ours_says, stock_says: (in check mode, for real, again) where they are not ``says, says, ok``.
    look: shell that prints the end state. Both nodes must print the same, unless ``same_end``
        is False; then ours must print ``ours_ends``. It must change nothing.
    blocked: ours finds drift that waits for the operator to name its victim, and changes nothing.
    state: the verdict on the control where it is not drifted (changed, blocked) or in_sync (ok).
    truer: why ours differs, for the list. Empty: ours and stock must agree in everything.
    """

    name: str
    ours: Mapping[str, Any]
    stock: Sequence[Mapping[str, Mapping[str, Any]]]
    look: str
    says: str = "changed"
    prepare: str = "true"
    confirm: tuple[str, ...] = ()
    ours_says: tuple[str, str, str] | None = None
    stock_says: tuple[str, str, str] | None = None
    same_end: bool = True
    ours_ends: str = ""
    blocked: bool = False
    state: str = ""
    truer: str = ""
    role: str = "case"

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    @property
    def ours_expected(self) -> tuple[str, str, str]:
        # Blocked drift has no step.
        return self.ours_says or (("ok", "ok", "ok") if self.blocked else (self.says, self.says, "ok"))

    @property
    def verdict(self) -> str:
        return self.state or ("drifted" if self.blocked or self.ours_expected[0] == "changed" else "in_sync")

    @property
    def stock_expected(self) -> tuple[str, str, str]:
        return self.stock_says or (self.says, self.says, "ok")


@dataclass
class Outcome:
    """What was seen of one case. ``looks``: before, after check mode, after the real run."""

    ours: list[str] = field(default_factory=list)
    stock: list[str] = field(default_factory=list)
    ours_looks: list[str] = field(default_factory=list)
    stock_looks: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)


@functools.cache
def pair(make_node: Callable[..., testing.Machine]) -> tuple[testing.Machine, testing.Machine]:
    """Ours gets a node without python3-apt, stock one with it; one pair for the whole session."""
    return make_node("base"), make_node("full")


def frame(
    cases: Sequence[Case],
    *,
    alone: Sequence[Case] = (),
    plain: bool = False,
    given: Callable[[Sequence[testing.Machine]], AbstractContextManager[None]] = contextlib.nullcontext,
) -> tuple[Any, Any]:
    """The fixture and the test of one table: every case is run once, and judged under its own name.

    alone: cases of the table that need a run of their own each. plain: for real without Mitogen, as
    everybody runs it; one table is, since the same tasks take four times as long.
    given: what the nodes need meanwhile.
    """

    @pytest.fixture(scope="module", name="outcomes")
    def outcomes(make_node: Callable[..., testing.Machine], tmp_path_factory: Any) -> Iterator[dict[str, Outcome]]:
        machines, directory = pair(make_node), tmp_path_factory.mktemp("runs")
        with given(machines):
            found = run([case for case in cases if case not in alone], machines, directory, plain=plain)
            for case in alone:
                found |= run([case], machines, directory, plain=plain)
            yield found

    @pytest.mark.parametrize("case", cases, ids=str)
    def test_as_stock_or_truer(case: Case, outcomes: dict[str, Outcome]) -> None:
        judge(case, outcomes[case.name])

    return outcomes, test_as_stock_or_truer


def run(
    cases: Sequence[Case], machines: Sequence[testing.Machine], directory: Path, *, plain: bool = False
) -> dict[str, Outcome]:
    """Every case on both nodes, in one run for each mode: over Mitogen, which pays for more than two tasks."""
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "names of cases must differ"
    outcomes = {case.name: Outcome() for case in cases}
    # Not "( … ) || …": a shell forgets set -e on the left of "||".
    setup = "".join(
        f'( set -e\n{case.prepare}\n)\n[ $? = 0 ] || {{ echo "{case.name}" >&2; exit 1; }}\n' for case in cases
    )
    for machine in machines:
        machine.shell(setup)
    _look(cases, machines, outcomes)
    for number, check in enumerate((True, False, False)):
        # Again, the stock modules only where the table has a word on it: it is ours that must be quiet.
        groups = [cases, [case for case in cases if number < 2 or case.stock_says]][: len(machines)]
        mitogen = len(cases) > 1 and not (plain and not check)
        plays = [_play(*one, mitogen=mitogen) for one in zip(TASKS, groups, machines, strict=False)]
        env = testing.MITOGEN if mitogen else {}
        result = testing.ansible_playbook(plays, machines, directory, check=check, env=env)
        for side, group, machine in zip(TASKS, groups, machines, strict=False):
            for case in group:
                _note(outcomes[case.name], side, result.of(host=machine.name, task=case.name), result)
        if number < 2:
            _look(cases, machines, outcomes)
    return outcomes


def _play(side: str, cases: Sequence[Case], machine: testing.Machine, *, mitogen: bool) -> dict[str, Any]:
    """A play for each node: in one for both, every task would be skipped on the other, which costs as well."""
    tasks = [task for case in cases for task in TASKS[side](case)]
    strategy = {"strategy": "mitogen_linear"} if mitogen else {}
    return {"hosts": machine.name, "gather_facts": False, "become": True, "tasks": tasks, **strategy}


def _note(outcome: Outcome, side: str, entries: list[dict[str, Any]], result: testing.PlayResult) -> None:
    assert entries, f"a case did not run: {side}\n{result.stdout[-3000:]}"
    getattr(outcome, side).append(worst([entry["status"] for entry in entries]))
    messages = (str(entry["result"].get("msg", ""))[:300] for entry in entries)
    outcome.said.append(f"{side}: {' / '.join(messages)}")
    if side == "ours":
        outcome.controls.append(next(iter(entries[0]["result"].get("controls", [])), {}))


def worst(statuses: Sequence[str]) -> str:
    if any(status in ("ignored", "failed", "unreachable") for status in statuses):
        return "failed"
    return "changed" if "changed" in statuses else "ok"


def _look(cases: Sequence[Case], machines: Sequence[testing.Machine], outcomes: dict[str, Outcome]) -> None:
    for machine, side in zip(machines, ("ours_looks", "stock_looks"), strict=False):
        texts = parts(machine.shell(script(case.look for case in cases), check=False))
        for case, text in zip(cases, texts, strict=True):
            getattr(outcomes[case.name], side).append("\n".join(line.rstrip() for line in text.splitlines()))


def script(looks: Iterable[str]) -> str:
    """All of them in one call to the node; ``parts`` takes their output apart."""
    return "\n".join(f"( {look} ) 2>/dev/null; printf '\\036'" for look in looks)


def parts(output: str) -> list[str]:
    return [text.strip() for text in output.split("\x1e")[:-1]]


def _ours(case: Case) -> list[dict[str, Any]]:
    module = {"role": case.role, "controls": [{"id": f"{case.role}/it", **case.ours}], "confirm": [*case.confirm]}
    return [{"name": case.name, "nusy.dgx_spark.ensure_state": module, "ignore_errors": True}]


def _stock(case: Case) -> list[dict[str, Any]]:
    # A chain stops at its first failure, as it does in a role.
    chain: list[dict[str, Any]] = [{"name": case.name, **task} for task in case.stock]
    if len(chain) == 1:
        return [{**chain[0], "ignore_errors": True}]
    return [{"block": chain, "rescue": [{"name": "Go on with the next case", "ansible.builtin.meta": "noop"}]}]


TASKS = {"ours": _ours, "stock": _stock}


def judge_ours(case: Case, outcome: Outcome) -> None:
    """What needs no comparison: the words, the verdict, and a check that touches nothing."""
    said = "\n".join(outcome.said)
    assert tuple(outcome.ours) == case.ours_expected, f"ours said {outcome.ours}\n{said}\n{outcome.controls}"
    found = outcome.controls[0]
    assert (found.get("state"), bool(found.get("blocked_by"))) == (case.verdict, case.blocked), found
    if case.ours_expected[2] == "ok":
        left = case.verdict if case.blocked or case.state == "unknown" else "in_sync"
        assert outcome.controls[2].get("state") == left, outcome.controls[2]
    assert outcome.ours_looks[1] == outcome.ours_looks[0], "our check mode touched the node"


def judge(case: Case, outcome: Outcome) -> None:
    """The assertions of every case that has a stock module beside it."""
    judge_ours(case, outcome)
    said = "\n".join(outcome.said)
    assert tuple(outcome.stock) == case.stock_expected[: len(outcome.stock)], f"stock said {outcome.stock}\n{said}"
    assert outcome.stock_looks[0] == outcome.ours_looks[0], "the two nodes were not prepared alike"
    ours, stock = outcome.ours_looks[2], outcome.stock_looks[2]
    if case.same_end:
        assert ours == stock, f"ours:\n{ours}\nstock:\n{stock}"
    else:
        assert ours == case.ours_ends.strip(), f"ours:\n{ours}\nstock:\n{stock}"
        assert ours != stock, "the ends are the same: say so in the table"
    agree = case.ours_expected == case.stock_expected and not case.blocked and case.state != "unknown"
    assert bool(case.truer) == (not agree or not case.same_end), "a difference needs its reason, and a reason needs one"


# --- the list ------------------------------------------------------------------------------

HEAD = """\
# Where ensure_state is truer than the stock modules

Written by `python tests/integration/nodes/differential.py` from the tables of the differential
tests (`tests/integration/nodes/test_differential_*.py`); do not edit. Each row was run on two real
nodes of the same kind, ours on one and the stock module on the other. Three words are the answers
in check mode, for real, and for real again. "Blocked" is drift that waits for the operator to name
its victim: it is reported in every run, and nothing is changed. The {same} other cases, in which
both answer alike and leave the same node, are not listed.
"""


def tables() -> dict[str, tuple[Case, ...]]:
    """Every table of cases, by kind; reading them needs no node."""
    here = Path(__file__).parent
    sys.path.insert(0, str(here))
    found: dict[str, tuple[Case, ...]] = {}
    for path in sorted(here.glob("test_differential_*.py")):
        module = importlib.import_module(path.stem)
        if any(case.stock for case in module.CASES):
            found[path.stem.removeprefix("test_differential_")] = module.CASES
    return found


def listing() -> str:
    everything = tables()
    same = sum(not case.truer for cases in everything.values() for case in cases)
    lines = [HEAD.format(same=same)]
    for kind, cases in everything.items():
        rows = [case for case in cases if case.truer]
        if not rows:
            continue
        modules = dict.fromkeys(name for case in cases for task in case.stock for name in task)
        lines.append(f"## {kind.replace('_', ' ').capitalize()}\n")
        lines.append(f"Beside {', '.join(f'`{name}`' for name in modules)}.\n")
        lines.append("| case | ours | stock | why |\n|---|---|---|---|")
        for case in rows:
            ours = "blocked" if case.blocked else _words(case.ours_expected, case.state)
            lines.append(f"| {case.name} | {ours} | {_words(case.stock_expected)} | {case.truer} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _words(words: tuple[str, str, str], state: str = "") -> str:
    return ", ".join(words) + (f" ({state})" if state else "")


if __name__ == "__main__":
    LIST.write_text(listing())
