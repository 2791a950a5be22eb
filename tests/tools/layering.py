# SPDX-License-Identifier: GPL-3.0-or-later
"""How layers of tests are run, counted and reported. What they are stands in ``tests/layers.py``.

Nothing here decides what is good enough: a step passed when its command exited 0 (and, for
pytest, when at least one test ran), and the numbers come from the reports that pytest wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
LOGS = BUILD / "test-logs"
# A test that hangs must not take the whole run with it.
STEP_SECONDS = 2400
SHOWN_LINES = 150
# Set when the run is interrupted: commands have sessions of their own, so no terminal ends them.
_stopping = threading.Event()


@dataclass(frozen=True)
class Need:
    """Something a layer cannot run without. ``missing`` says what is not there, or nothing.

    excused: nobody can bring it to every machine, so that its layer is named as not run, in CI too.
    """

    what: str
    missing: Callable[[], str]
    apt: tuple[str, ...] = ()
    excused: bool = False


@dataclass(frozen=True)
class Step:
    """One command of a layer. ``junit`` says that it is pytest, whose report counts its tests."""

    name: str
    argv: tuple[str, ...]
    junit: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One kind of proof.

    needs: without one of these it does not run. wants: without one of these some tests skip.
    empty: says that there is nothing to prove yet, which is fine, or nothing.
    on_demand: only runs when named.
    lane: layers of one lane run one after another, lanes run side by side. Layers that write to
        the same places of build/ must share one.
    """

    name: str
    proves: str
    steps: tuple[Step, ...]
    needs: tuple[Need, ...] = ()
    wants: tuple[Need, ...] = ()
    empty: Callable[[], str] = lambda: ""
    on_demand: bool = False
    lane: str = ""

    def missing(self) -> dict[str, Need]:
        return {text: need for need in self.needs if (text := need.missing())}


@dataclass
class Outcome:
    layer: str
    state: str  # passed | failed | not run | nothing to prove
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why: str = ""
    steps: dict[str, float] = field(default_factory=dict)


def tool(name: str, *apt: str) -> Need:
    def missing() -> str:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return "" if shutil.which(name, path=path) else f"{name} is not installed"

    return Need(name, missing, apt)


def present(path: str) -> Need:
    return Need(path, lambda: "" if (ROOT / path).exists() else f"{path} does not exist")


def run(layers: Sequence[Layer], *, strict: bool) -> list[Outcome]:
    """Every layer, by lanes; the outcomes in the order of the layers."""
    numbers = {layer.name: f"{number}/{len(layers)}" for number, layer in enumerate(layers, 1)}
    outcomes: dict[str, Outcome] = {}

    def run_lane(lane: str) -> None:
        for layer in layers:
            if layer.lane != lane or _stopping.is_set():
                continue
            print(f"[{numbers[layer.name]}] {layer.name}: {layer.proves}", flush=True)
            outcome = outcomes[layer.name] = run_layer(layer, strict=strict)
            why = f": {outcome.why}" if outcome.why else ""
            print(f"      {layer.name} {outcome.state} in {outcome.seconds:.1f} s{why}", flush=True)

    lanes = dict.fromkeys(layer.lane for layer in layers)
    with ThreadPoolExecutor(max(len(lanes), 1)) as pool:
        try:
            for future in as_completed([pool.submit(run_lane, lane) for lane in lanes]):
                future.result()
        except BaseException:
            _stopping.set()
            raise
    return [outcomes[layer.name] for layer in layers]


def run_layer(layer: Layer, *, strict: bool) -> Outcome:
    """Run every step, also after one failed: the second failure is news too."""
    if nothing := layer.empty():
        return Outcome(layer.name, "nothing to prove", why=nothing)
    if missing := layer.missing():
        fails = strict and not all(need.excused for need in missing.values())
        return Outcome(layer.name, "failed" if fails else "not run", failed=int(fails), why="; ".join(missing))
    outcome = Outcome(layer.name, "passed")
    for step in layer.steps:
        _run_step(layer, step, outcome)
    outcome.seconds = sum(outcome.steps.values())
    return outcome


def _run_step(layer: Layer, step: Step, outcome: Outcome) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    stem = layer.name if step.name == layer.name else f"{layer.name}-{step.name}"
    log, report = LOGS / f"{stem}.log", LOGS / f"{stem}.xml"
    report.unlink(missing_ok=True)
    argv = [*step.argv, f"--junitxml={report}"] if step.junit else list(step.argv)
    begin = time.monotonic()
    with log.open("wb") as out:
        problem = _run(argv, out.fileno(), {**os.environ, **_environment(), **step.env})
    outcome.steps[step.name] = round(time.monotonic() - begin, 1)
    counted = _count(report) if step.junit else None
    if counted:
        outcome.passed += counted[0]
        outcome.failed += counted[1]
        outcome.skipped += counted[2]
        if not problem and not counted[0]:
            problem = "no test passed" if not counted[2] else "every test was skipped"
    elif not problem and step.junit:
        problem = "pytest wrote no report"
    else:
        outcome.passed += not problem
    if problem:
        outcome.failed += not (counted and counted[1])
        outcome.state = "failed"
        outcome.why = "; ".join(filter(None, (outcome.why, f"{step.name}: {problem}")))
        said = "\n".join(log.read_text("utf-8", "replace").splitlines()[-SHOWN_LINES:])
        where = f"{layer.name}/{step.name}"
        # In one piece: another lane prints, too.
        print(
            f"--- {where}: {problem}; the whole log is {log.relative_to(ROOT)}\n{said}\n--- end of {where}", flush=True
        )


def _environment() -> dict[str, str]:
    """Tools by their place in .venv first, and nothing written outside the clone that can be kept inside."""
    return {
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "VIRTUAL_ENV": str(ROOT / ".venv"),
        "ANSIBLE_HOME": str(BUILD / "ansible"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(BUILD / "hypothesis"),
        "PIP_CACHE_DIR": str(BUILD / "cache" / "pip"),
        "PY_COLORS": "0",
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _run(argv: Sequence[str], out: int, env: Mapping[str, str]) -> str:
    """Nothing when the command exited 0, else what happened.

    Its process group ends with it. What left that group (workers of Ansible, daemons) is ended
    by who started it, for which SIGTERM leaves time.
    """
    process = subprocess.Popen(
        argv, cwd=ROOT, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
    )
    deadline = time.monotonic() + STEP_SECONDS
    try:
        while process.poll() is None:
            if _stopping.wait(0.05):
                return "interrupted"
            if time.monotonic() > deadline:
                return f"still running after {STEP_SECONDS} s, stopped"
        return f"exit code {process.returncode}" if process.returncode else ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _count(report: Path) -> tuple[int, int, int] | None:
    """(passed, failed, skipped) of a pytest report; None when there is none that can be read."""
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return None
    total, failed, skipped = (
        sum(int(suite.get(key, "0")) for suite in suites for key in keys)
        for keys in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return max(total - failed - skipped, 0), failed, skipped


def lacking(layers: Iterable[Layer]) -> list[str]:
    """The system packages that would let every test of the layers run."""
    needs = [need for layer in layers for need in (*layer.needs, *layer.wants)]
    return sorted({name for need in needs if need.apt and need.missing() for name in need.apt})


def install(layers: Sequence[Layer]) -> str:
    """Install the system packages that the layers miss. Nothing, or what went wrong."""
    if not any(need.apt for layer in layers for need in (*layer.needs, *layer.wants)):
        return ""
    packages = lacking(layers)
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    print(f"installing system packages: {' '.join(packages) or 'none is missing'}", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "apt.log").open("wb") as log:
        # The lists in any case: tests that unpack a package into build/ read them.
        install_them = [["install", "--yes", "--no-install-recommends", *packages]] if packages else []
        for argv in (["update"], *install_them):
            problem = _run([*sudo, "apt-get", "--quiet", *argv], log.fileno(), env)
            if problem:
                return f"apt-get {argv[0]}: {problem}, see build/test-logs/apt.log"
    return ""


def summary(outcomes: Sequence[Outcome], seconds: float) -> int:
    """Print the table and the truth in one line; the exit code of the whole run."""
    rows = [
        (o.layer, o.state, f"{o.passed} passed, {o.failed} failed, {o.skipped} skipped" if o.steps else "-", o.seconds)
        for o in outcomes
    ]
    print("\nlayer           state             tests                                   seconds")
    for (name, state, tests, took), outcome in zip(rows, outcomes, strict=True):
        print(f"{name:<15} {state:<17} {tests:<38} {took:8.1f}" + (f"  {outcome.why}" if outcome.why else ""))
    states = [o.state for o in outcomes]
    BUILD.mkdir(exist_ok=True)
    document = {"seconds": round(seconds, 1), "layers": [vars(o) for o in outcomes]}
    (BUILD / "test-summary.json").write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"\nlayers: {states.count('passed')} passed, {states.count('failed')} failed, "
        f"{states.count('not run')} could not run, {states.count('nothing to prove')} with nothing to prove; "
        f"{seconds:.0f} s; times in build/test-summary.json"
    )
    # A layer that failed without a countable test failed by one (see _run_step), so this line is red whenever we are.
    passed, failed, skipped = (sum(getattr(o, key) for o in outcomes) for key in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    if not any(o.state == "passed" for o in outcomes) and "failed" not in states:
        print("nothing ran", file=sys.stderr)
        return 1
    return int("failed" in states)
