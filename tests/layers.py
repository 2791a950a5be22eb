# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of tests, in the order in which `make test` runs them.

usage: layers.py [--list] [--only NAME,NAME]

From what needs nothing to what needs whole machines: a mistake shows in the cheapest layer
that can see it. Those with machines of their own run beside the others, on the second core,
and so does what only waits.
A layer whose needs are not met is named and does not count as passed; with CI=true or
INSTALL=1 missing system packages are installed first, and in CI a layer that could not run
is a failure, unless no package brings what it lacks (Need.excused). Each layer's output is in
build/test-logs, and shown when it fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tools import layering, pythons
from tools.layering import ROOT, Layer, Need, Step, present, tool

PYTHON = str(ROOT / ".venv" / "bin" / "python")
TOOLS = "tests/tools"


# Only for tests that neither start Ansible nor share anything: the others measure, or wait for, the machine.
BOTH_CORES = ("-n", "2")
# Tests of one file share nodes and run in order. Those of two files share nothing, and often wait for their nodes.
FILE_BY_FILE = ("-n", "2", "--dist", "loadfile")


def pytest(name: str, *arguments: str, **env: str) -> Step:
    return Step(name, (PYTHON, "-m", "pytest", "-q", *arguments), junit=True, env=env)


def python(name: str, *arguments: str) -> Step:
    return Step(name, (PYTHON, *arguments))


def elsewhere(which: str, lock: str, name: str, *arguments: str, **env: str) -> Step:
    """pytest under another Python."""
    argv = (PYTHON, f"{TOOLS}/pythons.py", which, lock, "--", "-m", "pytest", "-q", *arguments)
    return Step(name, argv, junit=True, env=env)


def interpreter(which: str) -> Need:
    # No package of this system brings another Python; pyenv or uv does.
    return Need(f"Python {' or '.join(pythons.WANTED[which])}", lambda: pythons.missing(which))


def no_locks() -> str:
    return "" if any(ROOT.glob("roles/*/files/**/*.lock")) else "no role ships a lock for the node yet"


def nodes() -> tuple[Need, ...]:
    """What test nodes need is known to tests/nodes."""
    sys.path.append(str(ROOT / "tests" / "nodes"))
    import host

    return (
        Need(
            "a machine for test nodes",
            lambda: "; ".join(host.doctor()),
            (*host.TOOLS.values(), "debian-archive-keyring"),
        ),
    )


def cpu_engine() -> Need:
    """vLLM's build for processors needs a build of torch that few package indexes have."""
    sys.path.append(str(ROOT / "tests" / "integration" / "vllm"))
    import cpu_engine

    return Need("vLLM's build for processors", cpu_engine.missing, excused=True)


def machines() -> Need:
    """What emulated machines need is known to tests/machines."""
    sys.path.append(str(ROOT / "tests" / "machines"))
    import machines

    packages = (*machines.TOOLS.values(), "debian-archive-keyring")
    return Need("a host for emulated machines", lambda: "; ".join(machines.doctor()), packages)


# The second lane, and the longer one: what needs machines of its own, and shares no place with the first.
BESIDE = "nodes"
# Waits for a package index almost all the time, which is no reason for the others to wait.
WAITING = "index"
# Toolkits belong to root.
ROOT_RIGHTS = Need("root", lambda: "" if os.geteuid() == 0 else "not running as root")
UNITS = "tests/unit/plugins/module_utils"
LAYERS = (
    # Once, and there: what holds on the oldest Python holds on .venv's, which is between it and that of the test nodes.
    Layer(
        "unit",
        "code that runs on a node decides rightly, on the oldest Python of a node, with nothing of Ansible installed",
        (elsewhere("oldest", "unit", "unit", *BOTH_CORES, UNITS),),
        (interpreter("oldest"), present(UNITS)),
    ),
    Layer(
        "plugins",
        "modules, filters and other plugins do so inside Ansible; the tools of this repository too",
        (pytest("plugins", *BOTH_CORES, "tests/unit", f"--ignore={UNITS}"),),
        (present("tests/unit"),),
        wants=(tool("strace", "strace"),),
    ),
    Layer(
        "contract",
        "what the tree promises is what it holds: specs, defaults, catalogues, names, documents",
        (pytest("contract", "tests/contract"),),
        (present("tests/contract"), tool("systemd-analyze", "systemd")),
    ),
    Layer(
        "static",
        "linters and type checkers find nothing",
        (
            Step("ruff", ("ruff", "check", ".")),
            Step("format", ("ruff", "format", "--check", ".")),
            Step("mypy", ("mypy",)),
            Step("yamllint", ("yamllint", "--strict", ".")),
            Step("ansible-lint", ("ansible-lint", "--offline", "--strict")),
            Step("changelog", ("antsibull-changelog", "lint")),
            python("collection-docs", f"{TOOLS}/artefact.py", "docs-lint"),
        ),
    ),
    Layer(
        "sanity",
        "ansible-test sanity accepts the built artefact, with no ignore file",
        (python("sanity", f"{TOOLS}/artefact.py", "sanity"),),
    ),
    Layer(
        "importer",
        "Galaxy's importer accepts the built artefact",
        (python("importer", f"{TOOLS}/artefact.py", "importer"),),
    ),
    Layer(
        "docs",
        "the documentation builds into HTML without a warning of ours",
        (python("docs", f"{TOOLS}/artefact.py", "docs"),),
    ),
    Layer(
        "lock-aarch64",
        "every lock that goes to a node resolves for aarch64 and Python 3.12, in wheels only",
        (python("lock-aarch64", f"{TOOLS}/aarch64.py"),),
        empty=no_locks,
        lane=WAITING,
    ),
    Layer(
        "ptxas",
        "the verdicts on ptxas and Triton hold for the real binaries",
        (pytest("ptxas", "tests/integration/ptxas"),),
        (present("tests/integration/ptxas"),),
    ),
    Layer(
        "cuda",
        "a CUDA toolkit of NVIDIA's wheels is installed and builds for the GPU, and what is missing is named",
        (pytest("cuda", "tests/integration/cuda"),),
        (present("tests/integration/cuda"), ROOT_RIGHTS, tool("g++", "g++")),
    ),
    Layer(
        "venv",
        "environments are what a check foretold and survive damage, cut runs and bad indexes; the small lock works",
        (pytest("venv", *BOTH_CORES, "tests/integration/venv"),),
        (present("tests/integration/venv"), ROOT_RIGHTS, tool("unshare")),
    ),
    Layer(
        "models",
        "models come whole from a hub that fails in every way, damage is repaired alone, and nobody else's is touched",
        (pytest("models", *BOTH_CORES, "tests/integration/models"),),
        (present("tests/integration/models"), ROOT_RIGHTS, tool("rsync", "rsync")),
    ),
    Layer(
        "drift",
        "reports of real ansible-playbook runs tell the truth",
        (pytest("drift", "tests/integration/drift"),),
        (present("tests/integration/drift"),),
    ),
    Layer(
        "demo",
        "a bare node becomes one that serves a tiny model to twelve sessions and has no drift, as make demo shows it",
        (python("demo", "tests/demo/demo.py", "--on", "node"),),
        (present("tests/demo"), *nodes()),
    ),
    Layer(
        "demo-here",
        "where no node can run, make demo serves the same model on this machine",
        (python("demo-here", "tests/demo/demo.py", "--on", "here"),),
        (present("tests/demo"),),
    ),
    Layer(
        "vllm",
        "a real vLLM serves by its unit, lets in who may, survives what kills it and falls back to what answered",
        (pytest("vllm", "tests/integration/vllm"),),
        (present("tests/integration/vllm"), *nodes(), cpu_engine(), tool("openssl", "openssl")),
    ),
    Layer(
        "drift-tools",
        "the report's other forms are accepted by the tools that read them",
        (pytest("drift-tools", "tests/integration/drift_tools"),),
        # The tests unpack promtool into build/: its package would start a service.
        (present("tests/integration/drift_tools"), tool("apt-get")),
    ),
    Layer(
        "browser",
        "the HTML report works in a browser",
        (pytest("browser", "tests/browser"),),
        (present("tests/browser"), tool("chromium", "chromium")),
    ),
    # First of its lane: it keeps one core busy, and the nodes after it use what the other lane has left of both.
    Layer(
        "machines",
        "roles that touch the kernel do so on machines with one of their own, through reboots and memory pressure",
        (pytest("machines", "tests/integration/machines"),),
        (present("tests/integration/machines"), machines()),
        lane=BESIDE,
    ),
    Layer(
        "nodes",
        "roles converge real nodes, checks predict what they do, drift made by hand is named and repaired",
        (pytest("nodes", *FILE_BY_FILE, "tests/integration/nodes"),),
        (present("tests/integration/nodes"), *nodes()),
        # The real one, for nodes with the os-release of Arch.
        wants=(tool("pacman", "pacman-package-manager"),),
        lane=BESIDE,
    ),
    Layer(
        "newest",
        "the same holds for the newest ansible-core, which needs a newer Python",
        (
            # Without the tests of what runs in .venv alone, under one Python: the bench and the tools. Node code
            # knows nothing of ansible-core, and real nodes run it with their 3.13; its tests are in newest-python.
            elsewhere(
                "newest", "test", "plugins", *BOTH_CORES, "tests/unit/plugins", f"--ignore={UNITS}", EXAMPLES="few"
            ),
            elsewhere("newest", "test", "drift", "-m", "not one_core", "tests/integration/drift"),
        ),
        (interpreter("newest"), present("tests/unit"), present("tests/integration/drift")),
    ),
    Layer(
        "newest-python",
        "node code passes its tests on the newest Python as well",
        (elsewhere("newest", "unit", "newest-python", *BOTH_CORES, UNITS, EXAMPLES="few"),),
        (interpreter("newest"), present(UNITS)),
        on_demand=True,
    ),
    Layer(
        "ptxas-matrix",
        "the verdicts hold for every Triton and every CUDA that is known",
        (pytest("ptxas-matrix", "tests/integration/ptxas", PTXAS_MATRIX="1"),),
        (present("tests/integration/ptxas"),),
        on_demand=True,
    ),
    Layer(
        "arm64",
        "the modules do the same under the processor of a Spark, emulated",
        (pytest("arm64", "tests/integration/arm64"),),
        (
            present("tests/integration/arm64"),
            tool("qemu-aarch64-static", "qemu-user-static"),
            tool("mmdebstrap", "mmdebstrap"),
            Need("root", lambda: "" if os.geteuid() == 0 else "making a root takes root"),
        ),
        on_demand=True,
    ),
    Layer(
        "hardening",
        "an auditor that knows nothing of this collection finds what docs/hardening.md says, and nothing more",
        (pytest("hardening", "tests/integration/hardening"),),
        (present("tests/integration/hardening"), machines()),
        on_demand=True,
    ),
    Layer(
        "roles",
        "each role alone, by its molecule scenario",
        (python("roles", f"{TOOLS}/roles.py"),),
        (present("molecule"), *nodes(), machines()),
        on_demand=True,
    ),
    Layer(
        "kill",
        "a run that is cut off anywhere is finished by the next one",
        (pytest("kill", "tests/integration/nodes/test_kill.py", KILL_POINTS="50"),),
        (present("tests/integration/nodes/test_kill.py"), *nodes()),
        on_demand=True,
    ),
    Layer(
        "scale",
        "a report of a thousand nodes is built within bounds of time and memory",
        (python("scale", "tests/bench/scale.py"),),
        on_demand=True,
    ),
    Layer(
        "bench",
        "what a run costs, in calls and seconds; what serving costs beside doing it by hand",
        (python("bench", "tests/bench/bench.py"), python("serving", "tests/bench/serving.py")),
        (present("tests/bench/bench.py"), *nodes()),
        on_demand=True,
    ),
)


def show() -> None:
    for layer in LAYERS:
        print(f"{layer.name}{'  (on demand)' if layer.on_demand else ''}: {layer.proves}")
        for step in layer.steps:
            print("    " + " ".join(step.argv).replace(f"{ROOT}/", ""))
        for need in (*layer.needs, *layer.wants):
            missing = need.missing()
            how = f"; apt-get install {' '.join(need.apt)}" if missing and need.apt else ""
            word = "needs" if need in layer.needs else "wants"
            print(f"    {word} {need.what}: {missing or 'there'}{how}")


def main() -> int:
    parser = argparse.ArgumentParser(description="The layers of tests, in order.")
    parser.add_argument("--list", action="store_true", help="what there is, what it proves and needs")
    parser.add_argument("--only", default="", help="names of layers, with commas between them")
    options = parser.parse_args()
    if options.list:
        show()
        return 0
    names = [name for name in options.only.split(",") if name]
    if unknown := set(names) - {layer.name for layer in LAYERS}:
        parser.error(f"no such layer: {', '.join(sorted(unknown))}; there are {', '.join(x.name for x in LAYERS)}")
    chosen = [layer for layer in LAYERS if (layer.name in names if names else not layer.on_demand)]
    strict = os.environ.get("CI") == "true"
    begin = time.monotonic()
    if strict or os.environ.get("INSTALL"):
        if problem := layering.install(chosen):
            print(problem, file=sys.stderr)  # the layers that needed it say so again, by name
    elif packages := layering.lacking(chosen):
        print(f"not installed, so not everything can run: {' '.join(packages)}; INSTALL=1 installs them", flush=True)
    return layering.summary(layering.run(chosen, strict=strict), time.monotonic() - begin)


if __name__ == "__main__":
    sys.exit(main())
