# SPDX-License-Identifier: GPL-3.0-or-later
"""The page docs/benchmarks.md out of what bench.py and serving.py measured. Every figure in it comes from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

SECONDS = (("wall", "wall s"), ("cpu", "controller CPU s"), ("node_cpu", "node CPU s"))
BASE = "ours"
# The ways to fetch a model, as models.py names them.
PLAIN, OURS = "hf download", "model_snapshot"
# What tests/bench/serving.py has measured, at the end of the page.
BEGIN, END = "<!-- begin serving -->", "<!-- end serving -->"

INTRODUCTION = """\
# What a check costs

Written by `make bench`; do not edit. One node that is as declared is looked at in full, by this
collection and by other ways to ask for the same. The goal of this collection is a number of
calls, not of seconds: **at most 2 module calls per role, plus one for facts**, which
`tests/nodes/calls.py` holds against clean checks of real nodes. Seconds depend on the
machine; no test asserts any. What can be compared are the ratios inside one run of the benchmark.
"""

ROLES = """\
## Calls of each role

In a check of all of them (*this collection, all roles*), by Ansible's own results.
"""

LEGEND = """\
Seconds are *minimum / median / maximum*; a ratio is that of the medians to the first line.

* **wall**: from the start of the command to its end, with a connection of its own each time.
* **controller CPU**: user and system time of the command and all that it started, also of the
  shared SSH connection that stays in the background.
* **node CPU**: what the node's control group used meanwhile, with sshd, sudo and the journal.
* **calls**: module calls by Ansible's own results (a loop counts each item, what runs on the
  controller alone does not count), or pyinfra's operations.
* **commands as root**: what sudo logged on the node during one run. With pipelining a module
  call is one. Some actions of Ansible make several for one result; every fact of pyinfra is
  one; Mitogen starts one Python and keeps it.
* **KiB**: what went over the node's network interface, headers included.
"""

CAVEATS = """\
## What to keep in mind

* The node is a container on the machine that also runs the controller: there is no network
  delay, and both share the cores. Over a real network every round trip counts more, which is
  worse for whoever makes many. A DGX Spark's own cores are others.
* The first two lines do more than the others: argument validation, causes from the applied
  records, evidence per control, the whole of `ptxas_probe`, and the drift report with its pages.
  The others run `tests/bench/look_at_ptxas.sh` instead of the probe: both binaries for real, but
  one rule for one release of Triton. The real compile of `ptxas_compile` is switched off, as the
  node has the binaries of Triton only.
* The first five lines are about what all of them can do, the roles prereqs and ptxas. Nothing stock adopts and
  proves a toolkit, judges a virtual environment file by file, or proves binaries by use: *all roles* has no
  counterpart and is there for its own sake. On this node the toolkit is adopted and not built with, the
  environment is a small stand-in, and neither a model nor an engine is declared. Roles that need a kernel of their own
  (os_hardening, kernel_tuning, memory_guard) and those of workstations (ramalama) are not among them, and the
  algorithms of SSH are left as they were: the library of pyinfra has none of those that role `access` leaves there.
* The stock tasks gather no facts and run without our callback, which is kind to them.
* pyinfra and the stock tasks have one operation for each purpose of a package list, as the roles
  have one control each. One for all packages would be quicker and could not tell them apart.
* A check under Mitogen 0.3.54 was seen to work with ansible-core 2.19.14 and 2.21.5, and both warn
  that strategy plugins which are not their own will be removed. Nothing here needs it.
* One node: with more of them Ansible's forks and pyinfra's greenlets share the work differently.
* The time service of the node is a stand-in that sleeps under the true unit's name.
"""


SERVING = """\
Figures are *minimum / median / maximum*; a ratio is that of the medians.

* **Fetched**: {mib} MiB in eight files. By hand is `hf download --local-dir`, which compares sizes; ours
  reads every byte again, compares it with its SHA-256, and brings it to the disk before it publishes.
  A look at it afterwards took {looked}.
* **First token**: a real llama.cpp with a model of 200 KB, so that nearly all of it is what stands around
  an engine. By hand is the very command that the unit comes to, with nothing around it. The unit has a
  sandbox, and the launcher, which proves the binaries, the model, the budget and the port before; and its
  start ends when it has been answered itself. The difference is a constant: weights of gigabytes take
  their time either way.
* **vLLM**: the same with vLLM 0.32.0, its build for processors, and a random Llama of 700 KB; compiling is off.
  Nearly all of it is Python that is imported.
* **One answer**: the client of the probe and of readiness, beside `urllib` that reads the same stream and
  judges nothing of it; the medians of {answers} in turn for each run, on the node.
* **Swap**: the longest time between two answers to one who asks all the time, while the role is run with
  another model. *By hand* is the same without a swap, the time of one answer. The old engine has next to
  nothing to finish here, and the new one no weights to load: where it has, the gap is that much longer.
"""


def spread(values: Sequence[float], digits: int = 2) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    return median(ours) / median(other)


def column(way: Mapping[str, Any], name: str) -> list[float]:
    return [cost[name] for cost in way["costs"]]


def with_serving(text: str, section: str) -> str:
    """The page with the part of serving.py, in the place of the one that was there."""
    before = text.partition(BEGIN)[0].rstrip("\n")
    return f"{before}\n\n{BEGIN}\n{section.strip()}\n{END}\n" if section else f"{before}\n"


def serving(text: str) -> str:
    """What serving.py wrote into this page, if anything."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables(document: Mapping[str, Any]) -> str:
    (base,) = [way for way in document["ways"] if way["key"] == BASE]
    seconds, counts = [], []
    for way in document["ways"]:
        row = [way["title"]]
        for name, _title in SECONDS:
            values = column(way, name)
            row += [spread(values), f"{median(values) / median(column(base, name)):.2f}"]
        seconds.append(row)
        traffic = [f"{median(column(way, name)):.0f}" for name in ("to_node", "from_node")]
        counts.append([way["title"], str(way["asked"]), str(way["as_root"]), *traffic])
    head = ["", *(word for _name, title in SECONDS for word in (title, "ratio"))]
    return (
        table(head, seconds)
        + "\n"
        + table(["", "calls", "commands as root", "KiB to the node", "KiB from the node"], counts)
    )


def bare(document: Mapping[str, Any]) -> str:
    """What each way said of the same node before it was converged."""
    rows = []
    for way in document["ways"]:
        found = way["bare"]
        end = found["failed"][0].replace("|", "\\|").replace("\n", " ")[:160] if found["failed"] else "reached"
        rows.append([way["title"], str(found["asked"]), str(len(found["moved"])), end])
    return "| | calls | of them would change something | end |\n| --- | ---: | ---: | --- |\n" + "".join(
        f"| {' | '.join(row)} |\n" for row in rows
    )


def roles(document: Mapping[str, Any]) -> str:
    """Calls by role, of the way that takes the most of them."""
    counted = max((way["by_role"] for way in document["ways"]), key=len)
    rows = [[name or "outside of roles: facts", str(number)] for name, number in counted.items()]
    return table(["", "calls"], rows)


def page(document: Mapping[str, Any]) -> str:
    where, versions = document["machine"], document["versions"]
    facts = (
        f"{document['date']}, {document['runs']} runs of each way in turn, on {where['cores']} cores "
        f"({where['architecture']}, {where['memory']}, Linux {where['kernel']}); "
        f"load average before the start: {where['load']}.\n"
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".\n"
    )
    commands = "".join(f"# {way['title']}\n{way['shown']}\n" for way in document["ways"])
    return "\n".join(
        (
            INTRODUCTION,
            "## Figures\n",
            facts,
            tables(document),
            LEGEND,
            ROLES,
            roles(document),
            "## The same check of the bare node\n",
            "Before anything was installed, not measured: a check is of use only if it gets to its end.\n",
            bare(document),
            f"The run that then made it so, with all roles and once, took {document['made']['seconds']:.0f} s; "
            f"times that apt installed something: {document['made']['installations']}.\n",
            "## Commands\n",
            "All programs are those of `requirements/bench.lock`; inventories and every single run are in\n"
            "`build/bench/`. More runs: `.venv/bin/python tests/bench/bench.py --runs 20`.\n",
            f"```sh\n{commands}```\n",
            CAVEATS,
        )
    )


def serving_part(document: Mapping[str, Any]) -> str:
    """What serving.py writes."""
    where, seconds = document["machine"], document["seconds"]
    fetched = {way: [document["mib"] / one for one in seconds[way]] for way in (PLAIN, OURS)}
    rows = [
        ("a model fetched from a hub on loopback, MiB/s", fetched[OURS], fetched[PLAIN], 0),
        ("from `systemctl start` to the first token, s", seconds["unit"], seconds["by hand"], 2),
        ("the same, to the end of `systemctl start`, s", seconds["unit_returned"], seconds["by hand"], 2),
        *_of_vllm(seconds),
        ("one streamed answer of one token, ms", _ms(seconds["client"]), _ms(seconds["urllib"]), 2),
        ("nobody answers while a model is swapped, s", seconds["swap"], seconds["quiet"], 2),
    ]
    costs = table(
        ["", "this collection", "by hand", "ratio"],
        [
            [title, spread(ours, digits), spread(other, digits), f"{ratio(ours, other):.2f}"]
            for title, ours, other, digits in rows
        ],
    )
    facts = (
        f"{document['date']}, {document['runs']} runs of each way in turn, on {where['cores']} cores "
        f"({where['architecture']}, {where['memory']}, Linux {where['kernel']}, no GPU); "
        f"load average before the start: {where['load']}. {document['note']}".rstrip()
    )
    looked = f"{seconds['look'][0] * 1000:.0f} ms"
    legend = SERVING.format(mib=document["mib"], answers=document["answers"], looked=looked)
    command = f"Written by `{document['command']}`, which `make bench` runs as well."
    return "\n".join(("## Serving\n", command, f"{facts}\n", costs, legend))


def _of_vllm(seconds: Mapping[str, Any]) -> list[tuple[str, list[float], list[float], int]]:
    """Nothing where it was not measured."""
    if "vllm unit" not in seconds:
        return []
    by_hand = seconds["vllm by hand"]
    return [
        ("vLLM, from `systemctl start` to the first token, s", seconds["vllm unit"], by_hand, 1),
        ("vLLM, to the end of `systemctl start`, s", seconds["vllm unit_returned"], by_hand, 1),
    ]


def _ms(values: Sequence[float]) -> list[float]:
    return [value * 1000 for value in values]
