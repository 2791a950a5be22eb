# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark counts what goes into the background, and its ratios are those of the medians."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import report

# Leaves its parent as OpenSSH's shared connection does: new session, parent gone. Works, then stays.
DAEMON = """
import os, sys, time
if os.fork():
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    sys.exit(int(sys.argv[2]))
os.setsid()
if os.fork():
    os._exit(0)
while time.process_time() < 0.3:
    pass
with open(sys.argv[1] + ".new", "w") as stream:
    stream.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


@pytest.mark.parametrize("code", [0, 7])
def test_what_stays_in_the_background_is_counted_and_ended(tmp_path, code):
    marker = tmp_path / "pid"
    command = [sys.executable, "-c", DAEMON, marker, str(code)]
    done = subprocess.run(
        [sys.executable, BENCH / "measure.py", tmp_path / "log", *command], capture_output=True, text=True, timeout=60
    )
    cost = json.loads(done.stdout)
    assert cost["code"] == code
    assert cost["cpu"] >= 0.3
    assert not Path("/proc", marker.read_text()).exists()


BARE = {
    "ours": {"asked": 3, "as_root": 3, "moved": ["a", "b"], "failed": []},
    "other": {"asked": 1, "as_root": 1, "moved": [], "failed": ["Service: no | such\nunit"]},
}
BY_ROLE = {"ours": {"": 1, "prereqs": 1, "ptxas": 2}, "other": {"": 3}}


def document(**changed):
    def way(key, title, walls):
        costs = [{"wall": w, "cpu": 2 * w, "node_cpu": 1.0, "to_node": 10.0, "from_node": 20.4} for w in walls]
        return {
            "key": key,
            "title": title,
            "shown": f"run {key}",
            "asked": 3,
            "as_root": 4,
            "by_role": BY_ROLE[key],
            "bare": BARE[key],
            "costs": costs,
        }

    return {
        "date": "2026-01-01",
        "runs": 3,
        "machine": {"cores": "2", "memory": "24 GiB", "kernel": "6.18", "architecture": "x86_64", "load": "0.1"},
        "versions": {"ansible-core": "2.19.14"},
        "ways": [way("ours", "this", [4.0, 2.0, 9.0]), way("other", "that", [1.0, 3.0, 100.0])],
        **changed,
    }


def test_a_ratio_is_that_of_the_medians_and_not_of_the_extremes():
    rows = report.tables(document()).splitlines()
    assert rows[2] == "| this | 2.00 / 4.00 / 9.00 | 1.00 | 4.00 / 8.00 / 18.00 | 1.00 | 1.00 / 1.00 / 1.00 | 1.00 |"
    assert rows[3] == "| that | 1.00 / 3.00 / 100.00 | 0.75 | 2.00 / 6.00 / 200.00 | 0.75 | 1.00 / 1.00 / 1.00 | 1.00 |"
    assert rows[-1] == "| that | 3 | 4 | 10 | 20 |"


def test_the_page_names_versions_commands_and_the_machine_by_its_kind_only():
    text = report.page(document())
    for word in ("ansible-core 2.19.14", "# that\nrun other\n", "2 cores (x86_64, 24 GiB, Linux 6.18)", "2026-01-01"):
        assert word in text
    assert "| outside of roles: facts | 1 |\n| prereqs | 1 |\n| ptxas | 2 |\n" in text
    assert "| this | 3 | 2 | reached |\n| that | 1 | 0 | Service: no \\| such unit |\n" in text
