# SPDX-License-Identifier: GPL-3.0-or-later
"""The small lock that the role ships, installed for real from the index: a compiler, a cluster, a server.

And what a look at such an environment costs, since a check must stay a look.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader
from venv_bench import Bench, states

FILES = Path(__file__).resolve().parents[3] / "roles" / "vllm_venv" / "files" / "small"
# Generous for a busy machine: it takes a second. A look that read every file would take far longer.
LOOK_SECONDS = 30


def index() -> str:
    """The index that pip on this machine is told to use, if any; the public one otherwise."""
    argv = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = os.environ.get("PIP_INDEX_URL") or subprocess.run(argv, capture_output=True, text=True).stdout
    return told.strip()


def test_it_installs_works_and_is_looked_at_in_a_moment(bench: Bench) -> None:
    stages = [
        bench.stage(path.stem, path.read_text("utf-8"), index_url=index()) for path in sorted(FILES.glob("*.lock"))
    ]
    options = {"stages": stages, "find_links": "", "entry_points": ["ray"], "size_mib": 1024}
    bench.apply(**options, imports=["triton", "ray", "xllamacpp"])
    assert "ray, version 2.60.0" in subprocess.run(
        [bench.home / "current/bin/ray", "--version"], check=True, capture_output=True, text=True
    ).stdout  # fmt: skip
    subject = bench.subject(**options)
    begin = time.monotonic()
    plan = subject.plan(HostReader())
    seconds = time.monotonic() - begin
    files = sum(1 for path in bench.site.rglob("*") if path.is_file())
    print(f"{files} files, {plan.facts['venv']['size_mib']} MiB: looked at in {seconds:.2f} s")
    assert states(plan) == {} and seconds < LOOK_SECONDS
