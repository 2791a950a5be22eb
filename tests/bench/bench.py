# SPDX-License-Identifier: GPL-3.0-or-later
"""What a full check of one converged node costs, beside other ways to ask for the same.

usage: bench.py [--runs N] [--output FILE]      what `make bench` runs; writes docs/benchmarks.md

One node is started and converged. Each way then looks at it once to prove that all of them find
nothing to do, and N times to be measured: all ways in turn, so that what else the machine does
meets all of them. Nothing here asserts a time. What is measured how stands in the written page.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
PLACES = ("nodes", "tools", "integration/ptxas", "integration/cuda", "integration/nodes")
sys.path[:0] = [str(TESTS / place) for place in PLACES]

import calls
import host
import identity
import nodes as node_control
import parts
import pythons
import report
import testing
import wheels
import whole_site
from host import REPO

NODE = "bench1"
WORK = REPO / "build" / "bench"
LIMIT = 300
DRIFT = "nusy.dgx_spark.drift"
WHOLE = "whole"
EXTRA = ("-e", "ptxas_venv=/srv/venv", "-e", "ptxas_compile=false")
# All roles take more to be told: what the site of the tests is told, too.
SITE = ("-e", "@build/bench/site.json")


@dataclass(frozen=True)
class Way:
    """One way to look at the node. ``argv`` begins with a program of the locked environment."""

    key: str
    title: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ansible(self) -> bool:
        return self.argv[0] == "ansible-playbook"

    @property
    def shown(self) -> str:
        settings = {
            name: re.sub(r"^build/venvs/.*/(?=ansible_mitogen/)", "…/", value) for name, value in self.env.items()
        }
        return " ".join([*(f"{name}={value}" for name, value in settings.items()), *self.argv])


def ways(mitogen: str) -> tuple[Way, ...]:
    ansible = ("ansible-playbook", "-i", "build/bench/inventory.json")
    # The roles that the others have too: nothing stock builds, compiles, proves a binary, or judges file by file.
    # Left out one by one: with --tags the arguments of all the other roles would be judged all the same.
    others = sorted({path.name for path in (REPO / "roles").iterdir()} - {"prereqs", "ptxas"})
    ours = (*ansible, "site.yml", "--check", *EXTRA, "--skip-tags", ",".join(others))
    whole = (*ansible, "site.yml", "--check", *SITE, "--skip-tags", ",".join(testing.NEED_A_KERNEL))
    stock = (*ansible, "tests/bench/stock/check.yml", "--check", *EXTRA[:2])
    by_mitogen = {"ANSIBLE_STRATEGY_PLUGINS": mitogen, "ANSIBLE_STRATEGY": "mitogen_linear"}
    # The stock tasks are not charged for our report.
    silent = {"ANSIBLE_CONFIG": "tests/bench/stock/ansible.cfg"}
    pyinfra = ("pyinfra", "--dry", "build/bench/hosts.py", "tests/bench/pyinfra/deploy.py")
    return (
        Way("ours", "this collection", ours),
        Way("ours-mitogen", "this collection, Mitogen", ours, by_mitogen),
        Way("stock", "stock tasks", stock, silent),
        Way("stock-mitogen", "stock tasks, Mitogen", stock, {**silent, **by_mitogen}),
        Way("pyinfra", "pyinfra", pyinfra),
        Way(WHOLE, "this collection, all roles", whole),
        Way("whole-mitogen", "all roles, Mitogen", whole, by_mitogen),
    )


@dataclass(frozen=True)
class Look:
    """asked: module calls or operations; moved and failed: the names of those that would change, or ended badly.

    by_role: module calls of each role; under no name those that belong to none.
    """

    asked: int
    as_root: int
    moved: list[str]
    failed: list[str]
    by_role: dict[str, int] = field(default_factory=dict)


class Bench:
    def __init__(self, python: Path) -> None:
        self.bin = python.parent
        WORK.mkdir(parents=True, exist_ok=True)
        machine = start()
        self.machine = machine
        node = identity.get(NODE)
        group = host.run(host.podman(["inspect", "--format", "{{.State.CgroupPath}}", identity.container(node)]))
        self.cpu_stat = Path(f"{cgroup2()}{group.strip()}/cpu.stat")
        self.wire = Path(f"/sys/class/net/n{host.CHECKOUT}{node.number}/statistics")
        write_inventories()

    def environment(self, way: Way, **more: str) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MITOGEN_"))},
            "PATH": f"{self.bin}:{os.environ.get('PATH', '')}",
            "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"),
            "ANSIBLE_HOME": str(REPO / "build" / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "SPARK_DRIFT_DIR": str(WORK / "drift"),
            **way.env,
            **more,
        }

    def run(self, way: Way, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / way.argv[0], *way.argv[1:], *more],
            cwd=REPO, env=self.environment(way, **env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip

    def converge(self) -> dict[str, float]:
        """Once, so its seconds are only an order of magnitude. What apt did is in its own log."""
        (whole,) = (way for way in ways("") if way.key == WHOLE)
        before, start = self.installations(), time.monotonic()
        done = self.run(Way("apply", "", tuple(word for word in whole.argv if word != "--check")))
        if done.returncode:
            raise SystemExit(f"bench: the node could not be converged\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        return {"seconds": time.monotonic() - start, "installations": self.installations() - before}

    def installations(self) -> int:
        return self.machine.shell("cat /var/log/apt/history.log", check=False).count("Commandline: ")

    def look(self, way: Way) -> Look:
        """One run that is not measured, for what it found and how much it asked for that."""
        before = calls.as_root(NODE)
        by_role: dict[str, int] = {}
        if way.is_ansible:
            lines = WORK / f"{way.key}.jsonl"
            lines.unlink(missing_ok=True)
            enabled = "task_results" if "ANSIBLE_CONFIG" in way.env else f"task_results,{DRIFT}"
            done = self.run(
                way, ANSIBLE_CALLBACKS_ENABLED=enabled, ANSIBLE_CALLBACK_PLUGINS=str(testing.CALLBACKS),
                TASK_RESULTS=str(lines),
            )  # fmt: skip
            tasks = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
            by_role = dict(calls.by_role(tasks, NODE))
            asked = sum(by_role.values())
            moved = [task["task"] for task in tasks if task["status"] == "changed"]
            failed = [
                f"{task['task']}: {task['result'].get('msg', '')}" for task in tasks if task["status"] == "failed"
            ]
        else:
            done = self.run(way, "--json")
            plan = json.loads(done.stdout)["plan"] if done.returncode == 0 else []
            asked = len(plan)
            moved = [
                step["name"] for step in plan if step["hosts_with_change"] or step["hosts_with_conditional_change"]
            ]
            failed = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        if done.returncode and not failed:
            raise SystemExit(
                f"bench: exit {done.returncode}: {way.shown}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
            )
        return Look(asked, calls.as_root(NODE) - before, moved, failed, by_role)

    def prove(self, way: Way) -> Look:
        """The node is as declared for this way too, so that all of them have the same to do."""
        found = self.look(way)
        if found.moved or found.failed or not found.asked:
            raise SystemExit(f"bench: {way.title} does not find the node as declared: {found}")
        return found

    def measure(self, way: Way) -> dict[str, float]:
        """From no connection to no connection."""
        identity.close_ssh(identity.get(NODE))
        settle()
        before = self.counters()
        log = WORK / f"{way.key}.log"
        done = subprocess.run(
            [sys.executable, HERE / "measure.py", log, self.bin / way.argv[0], *way.argv[1:]],
            cwd=REPO, env=self.environment(way), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        settle()  # the node ends its side of the connection a moment later
        after = self.counters()
        cost = json.loads(done.stdout)
        if cost.pop("code"):
            raise SystemExit(f"bench: failed: {way.shown}\n{log.read_text(errors='replace')[-4000:]}")
        return {**cost, **{name: after[name] - before[name] for name in after}}

    def counters(self) -> dict[str, float]:
        used = dict(line.split() for line in self.cpu_stat.read_text().splitlines())
        return {
            "node_cpu": int(used["usage_usec"]) / 1e6,
            # Seen from the host's end of the cable: what it received is what the node sent.
            "to_node": int((self.wire / "tx_bytes").read_text()) / 1024,
            "from_node": int((self.wire / "rx_bytes").read_text()) / 1024,
        }


def settle() -> None:
    time.sleep(0.5)


def start() -> testing.Machine:
    """As tests/integration/nodes/test_site.py does it, with the python3-apt that the stock tasks need."""
    mounts = (
        f"{wheels.binaries('triton', '3.5.1')}:{whole_site.VENV}/lib/python3.13/site-packages",
        f"{parts.toolkit()}:/usr/local/cuda-13.0",
        f"{whole_site.WHEELS}:/srv/wheels",
    )
    (machine,) = testing.start([NODE], flavour="full", mounts=mounts)
    return machine


def write_inventories() -> None:
    """The same login for all; become as in inventories/single_spark, pipelining as in ansible.cfg."""
    inventory = identity.inventory([NODE])
    group = inventory["all"]["children"]["spark"]["hosts"][NODE]
    group.update({"ansible_become": True, "ansible_ssh_pipelining": True})
    (WORK / "inventory.json").write_text(json.dumps(inventory, indent=1))
    # With the packages that the role installs by itself: the other ways ensure those.
    extra = {name: value for name, value in whole_site.EXTRA.items() if not name.startswith("prereqs_packages_")}
    # The SSH library of pyinfra has no post-quantum key exchange, and a hardened OpenSSH has no other from 9.9 on.
    extra["access_skip_controls"] = [*extra.get("access_skip_controls", ()), "access/ssh_algorithms"]
    (WORK / "site.json").write_text(json.dumps(extra, indent=1))
    data = {
        "ssh_user": group["ansible_user"],
        "ssh_config_file": str(identity.SSH_CONFIG),
        "ssh_known_hosts_file": str(identity.KNOWN_HOSTS),
        "ssh_strict_host_key_checking": "yes",
        "ptxas_venv": whole_site.VENV,
    }
    (WORK / "hosts.py").write_text(f"spark = [({NODE!r}, {data!r})]\n")


def cgroup2() -> str:
    """Where the cgroup2 tree is. It counts the CPU time of every group, also of processes that ended."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, where, kind, *_rest = line.split()
        if kind == "cgroup2":
            return where
    raise SystemExit("bench: no cgroup2 is mounted, so the node's CPU time cannot be read")


def versions(bench: Bench) -> dict[str, str]:
    code = "from importlib.metadata import version as v; print(v('ansible-core'), v('mitogen'), v('pyinfra'))"
    python = bench.bin / "python"
    core, mitogen, pyinfra = host.run([python, "-c", code]).split()
    client = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
    return {
        "ansible-core": core,
        "Mitogen": mitogen,
        "pyinfra": pyinfra,
        "Python of the controller": host.run(
            [python, "-c", "import platform; print(platform.python_version())"]
        ).strip(),
        "Python of the node": bench.machine.run("python3", "--version").split()[1],
        "OpenSSH": re.sub(r"^OpenSSH_([\w.]+).*", r"\1", client.strip(), flags=re.DOTALL),
    }


def machine() -> dict[str, str]:
    """What kind of machine this is, and nothing that tells which one."""
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{round(int(memory[1]) / 2**20) if memory else '?'} GiB",
        "kernel": re.sub(r"^(\d+\.\d+).*", r"\1", os.uname().release),
        "architecture": os.uname().machine,
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of a full check, beside other ways.")
    parser.add_argument("--runs", type=int, default=5, help="measured runs of each way")
    parser.add_argument("--output", type=Path, default=REPO / "docs" / "benchmarks.md")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    python = pythons.environment(sys.executable, "bench")
    (mitogen,) = python.parent.parent.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy")
    chosen = ways(str(mitogen.relative_to(REPO)))
    found = machine()  # the load before ours
    try:
        bench = Bench(python)
        bare = {way.key: asdict(bench.look(way)) for way in chosen}
        made = bench.converge()
        counts = {way.key: bench.prove(way) for way in chosen}
        costs: dict[str, list[dict[str, float]]] = {way.key: [] for way in chosen}
        for number in range(options.runs):
            for way in chosen:
                costs[way.key].append(bench.measure(way))
                print(f"{number + 1}/{options.runs} {way.title}: {costs[way.key][-1]['wall']:.2f} s", flush=True)
        document = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "runs": options.runs,
            "machine": found,
            "versions": versions(bench),
            "made": made,
            "ways": [
                {
                    "key": way.key,
                    "title": way.title,
                    "shown": way.shown,
                    "asked": counts[way.key].asked,
                    "as_root": counts[way.key].as_root,
                    "by_role": counts[way.key].by_role,
                    "bare": bare[way.key],
                    "costs": costs[way.key],
                }
                for way in chosen
            ],
        }
    finally:
        node_control.down([NODE])
    (WORK / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    former = options.output.read_text() if options.output.exists() else ""
    options.output.write_text(report.with_serving(report.page(document), report.serving(former)))
    print(report.tables(document))
    print(f"written: {os.path.relpath(options.output, REPO)}, every run in build/bench/results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
