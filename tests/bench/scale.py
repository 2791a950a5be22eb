# SPDX-License-Identifier: GPL-3.0-or-later
"""1,000 hosts × 300 controls: what a report of that size costs, every rendering included.

usage: scale.py [hosts [controls [rounds]]]

Writes synthetic events (a tenth of the controls drifted with values, a tenth unknown, the
rest in sync or adopted) and builds the report from them, twice, so that the history is
there too. Each round runs in a process of its own, as in real life. Exits 1 when a round
takes more than 512 MiB or 60 s.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))
sys.dont_write_bytecode = True

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import events, produce
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift.catalogue import entry

MIB_LIMIT, SECONDS_LIMIT = 512, 60
ROLES = 30


def synthesise(path: Path, hosts: int, controls: int) -> None:
    per_role = controls // ROLES
    names = [f"spark-{number:04d}" for number in range(hosts)]
    roles = {f"role_{number}": {"selected": 1, "left_out": 0} for number in range(ROLES)}
    play = {"p": "play", "name": "Everything", "hosts": names, "roles": roles, "partial": False}
    with path.open("wb") as handle:

        def put(event: dict) -> None:
            handle.write(events.encode(event) + b"\n")

        put(
            {
                "e": "run",
                "schema": events.SCHEMA,
                "id": f"scale-{time.time_ns()}",
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "mode": "check",
                "playbooks": ["site.yml"],
                "collection": "0.1.0",
                "ansible": "2.19.14",
            }
        )
        for role in roles:
            about = {
                f"{role}/control_{n}": entry(role, f"Control {n} of {role}", "high", rationale="Why. " * 20)
                for n in range(per_role)
            }
            put({"e": "catalogue", "role": role, "controls": about})
        put({"e": "plan", **play})
        put({"e": "play", **play})
        for role in roles:
            put({"e": "task", "k": role, "name": "Ensure", "slug": "ensure", "role": role, "play": "x", "own": True})
            for host, name in enumerate(names):
                found = [evidence(role, n, host) for n in range(per_role)]
                put({"e": "result", "h": name, "k": role, "t": 1.0, "check": True, "n": {"ok": 1}, "controls": found})
        put({"e": "end", "t": 100.0, "bad": {}})


def evidence(role: str, number: int, host: int) -> dict:
    control = {"id": f"{role}/control_{number}"}
    if (number + host) % 10 == 0:
        values = {f"property {key}": f"value {key} of host {host}" for key in range(4)}
        return {**control, "state": "drifted", "before": values, "after": values, "cause": "corrective"}
    if (number + host) % 10 == 1:
        return {**control, "state": "unknown", "reason": "needs root to look at the firewall"}
    return {**control, "state": "in_sync", **({"cause": "adopted"} if host % 2 else {})}


def measure(directory: Path) -> dict:
    """One report in this process."""
    began = time.monotonic()
    outcome = produce.produce(directory, waivers=directory / "waivers.yml", formats=produce.FORMATS)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "summary": outcome.report["summary"],
        "problems": outcome.problems,
    }


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return 0
    hosts, controls, rounds = (int(word) for word in (*sys.argv[1:], *("1000", "300", "2")[len(sys.argv) - 1 :]))
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "waivers.yml").write_text(
            "".join(
                f"- {{control: role_{n}/*, host: 'spark-0{n:02d}?', reason: r, owner: o, expires: 2099-01-01}}\n"
                for n in range(ROLES)
            )
        )
        synthesise(directory / events.FILE, hosts, controls)
        size = (directory / events.FILE).stat().st_size >> 20
        print(f"{hosts} hosts x {controls} controls, events of {size} MiB")
        for number in range(rounds):
            done = subprocess.run(
                [sys.executable, __file__, "--one", folder], stdout=subprocess.PIPE, check=True, timeout=600
            )
            found = json.loads(done.stdout)
            fine = found["mib"] <= MIB_LIMIT and found["seconds"] <= SECONDS_LIMIT and not found["problems"]
            counted = sum(found["summary"][s] for s in ("in_sync", "drifted", "unknown", "waived", "not_selected"))
            fine = fine and counted == hosts * (controls // ROLES * ROLES)
            print(
                f"round {number + 1}: {found['seconds']} s, {found['mib']} MiB, {counted} controls", *found["problems"]
            )
            for path in sorted(directory.iterdir()):
                if number == 0 and path.is_file():
                    print(f"  {path.name}: {path.stat().st_size / (1 << 20):.1f} MiB")
            worst = max(worst, not fine)
    print(f"limits: {SECONDS_LIMIT} s, {MIB_LIMIT} MiB: {'missed' if worst else 'kept'}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
