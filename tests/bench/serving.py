# SPDX-License-Identifier: GPL-3.0-or-later
"""What serving costs beside doing it by hand: fetching a model, starting an engine, swapping its model, asking it.

usage: serving.py [--runs N] [--mib N] [--output FILE]     part of `make bench`; writes its part of docs/benchmarks.md

The engine is a real llama.cpp on a node, with a model so small that what is measured is what stands around it, and for
its start a real vLLM as well. Ways that are compared take turns. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
PLACES = ("nodes", "tools", *(f"integration/{layer}" for layer in ("nodes", "ptxas", "cuda", "vllm")))
sys.path[:0] = [str(HERE.parent / place) for place in PLACES]

import bench
import cpu_engine
import engines
import models
import nodes as node_control
import report
import test_launched_engines as launched
import test_runtime_roles as stand_ins
import test_vllm_serves as real_vllm
import testing
import tiny_gguf
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.suite import archive
from host import REPO

NODE = "bench2"
UNIT, PORT = "llama@bench.service", 8085
ASKING = "/usr/local/bin/asking.py"
URL = f"http://127.0.0.1:{PORT}/v1"
FLAG = "/run/asked-enough"
ENGINE = {"name": "bench", "port": PORT, "context": 256, "sequences": 4, "threads": 2, "drain_seconds": 5}
PLAY = [{"hosts": "all", "gather_facts": False, "roles": ["nusy.dgx_spark.llama_cpp"]}]
ANSWERS = 40


class Engine:
    """An engine of a node, by its unit."""

    def __init__(self, machine: testing.Machine, unit: str, url: str) -> None:
        self.machine, self.unit, self.url = machine, unit, url
        machine.write(ASKING, (HERE / "asking.py").read_text())

    def forget_starts(self) -> None:
        """Six starts in an hour are enough for who serves, and too few for who measures."""
        self.machine.run("systemctl", "reset-failed", self.unit, check=False)

    def ask(self, *words: str) -> Any:
        return json.loads(self.machine.run("python3", ASKING, *words))

    def by_hand(self) -> list[str]:
        """What the unit has started, with what it has in its environment, and nothing around it."""
        pid = self.machine.run("systemctl", "show", "-P", "MainPID", self.unit).strip()
        command, environment = (
            self.machine.read(f"/proc/{pid}/{file}").rstrip("\0").split("\0") for file in ("cmdline", "environ")
        )
        return ["/usr/bin/env", "-i", *environment, *command]

    def starts(self, runs: int) -> dict[str, list[float]]:
        command = self.by_hand()
        print(f"by hand: {shlex.join(command[-12:])}", flush=True)
        found: dict[str, list[float]] = {"by hand": [], "unit": [], "unit_returned": []}
        for _ in range(runs):
            self.machine.run("systemctl", "stop", self.unit)
            found["by hand"].append(self.ask("first", self.url, *command)["first"])
            self.forget_starts()
            told = self.ask("first", self.url, "systemctl", "start", self.unit)
            found["unit"].append(told["first"])
            found["unit_returned"].append(told["ended"])
        return found


class Served(Engine):
    """A node with the runtime of llama.cpp, and two models that are the same."""

    def __init__(self, work: Path) -> None:
        self.work, srv, venv = work, work / "srv", stand_ins.VENV
        for revision in ("1", "2"):
            (srv / revision).mkdir(parents=True)
            tiny_gguf.write(srv / revision / "model.gguf")
        (srv / "spark.pyz").write_bytes(archive())
        for place in (work, srv):
            place.chmod(0o755)
        mounts = (f"{engines.site_packages()}:{venv}/lib/python3.13/site-packages", f"{srv}:/srv/tiny")
        (machine,) = testing.start([NODE], mounts=mounts)
        super().__init__(machine, UNIT, URL)
        self.machine.shell(f"mkdir -p {venv}/bin && ln -s /usr/bin/python3 {venv}/bin/python")
        self.machine.write(f"{venv}/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
        extra = {**launched.EXTRA, "launchers_launchers": ["llama-serve"], "vllm_runtime_imports": ["xllamacpp"]}
        stand_ins.Site([self.machine], work / "runtime").run(check=False, extra=extra).assert_ok()

    def serve(self, revision: str) -> None:
        """What an operator does: another model in the declaration, and the role."""
        entry = {**ENGINE, "model": f"/srv/tiny/{revision}/model.gguf"}
        extra = {"llama_cpp_engines": [entry]}
        self.forget_starts()
        testing.ansible_playbook(PLAY, [self.machine], self.work / "plays", extra=extra).assert_ok()


def starts_of_vllm(work: Path, runs: int) -> dict[str, list[float]]:
    """Nothing, where its build for processors cannot be had."""
    if problem := cpu_engine.missing():
        print(f"vLLM is not measured: {problem}", flush=True)
        return {}
    for folder in ("models", "plays"):
        (work / folder).mkdir(parents=True)
    with real_vllm.node(work / "models", work / "plays") as site:
        site.run({**real_vllm.SPARE, "name": "bench"}).assert_ok()
        engine = Engine(site.machine, "vllm@bench.service", f"http://127.0.0.1:{real_vllm.SPARE['port']}/v1")
        return {f"vllm {way}": seconds for way, seconds in engine.starts(runs).items()}


def swaps(served: Served, runs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"swap": [], "quiet": []}
    for number in range(runs):
        found["quiet"].append(_gap(served, lambda: time.sleep(3)))
        revision = "2" if number % 2 == 0 else "1"
        found["swap"].append(_gap(served, lambda revision=revision: served.serve(revision)))
    return found


def _gap(served: Served, meanwhile: Callable[[], object]) -> float:
    served.machine.run("rm", "-f", FLAG, "/run/gap.json")
    asking = f"exec python3 {ASKING} gap {URL} {FLAG} > /run/gap.json"
    process = served.machine.start("sh", "-c", asking)
    try:
        time.sleep(1)
        meanwhile()
        time.sleep(1)
    finally:
        served.machine.run("touch", FLAG)
        process.wait(30)
    told = json.loads(served.machine.read("/run/gap.json"))
    if told["answers"] < 10:
        raise SystemExit(f"bench: nobody was answered, so there is no gap to speak of: {told}")
    return float(told["gap"])


def measure(runs: int, mib: int) -> dict[str, list[float]]:
    seconds = models.measure(runs, mib)
    print("fetched", flush=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        try:
            served = Served(Path(name))
            served.serve("1")
            for number in range(runs + 1):
                told = served.ask("client", URL, "/srv/tiny/spark.pyz", str(ANSWERS))
                for way, values in told.items() if number else ():  # the first is for warming up
                    seconds.setdefault(way, []).append(median(values))
            print("asked", flush=True)
            seconds |= swaps(served, runs)
            print("swapped", flush=True)
            seconds |= served.starts(runs)
        finally:
            node_control.down([NODE])
        print("started", flush=True)
        seconds |= starts_of_vllm(Path(name) / "vllm", runs)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="What serving costs beside doing it by hand.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--note", default="", help="a sentence about what else the machine did meanwhile")
    parser.add_argument("--output", type=Path, default=REPO / "docs" / "benchmarks.md")
    given = parser.parse_args()
    document = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "command": f".venv/bin/python tests/bench/serving.py --runs {given.runs} --mib {given.mib}",
        "note": given.note,
        "runs": given.runs,
        "mib": given.mib,
        "answers": ANSWERS,
        "machine": bench.machine(),
        "seconds": measure(given.runs, given.mib),
    }
    bench.WORK.mkdir(parents=True, exist_ok=True)
    (bench.WORK / "serving.json").write_text(json.dumps(document, indent=1) + "\n")
    text = report.serving_part(document)
    given.output.write_text(report.with_serving(given.output.read_text(), text))
    print(text)
    print(f"written: {os.path.relpath(given.output, REPO)}, every run in build/bench/serving.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
