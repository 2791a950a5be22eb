# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark counts what goes into the background, and its ratios are those of the medians."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import asking
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
        "made": {"seconds": 61.4, "installations": 2},
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
    assert "all roles and once, took 61 s; times that apt installed something: 2.\n" in text
    assert "| outside of roles: facts | 1 |\n| prereqs | 1 |\n| ptxas | 2 |\n" in text
    assert "| this | 3 | 2 | reached |\n| that | 1 | 0 | Service: no \\| such unit |\n" in text


SECONDS = {
    "hf download": [4.0, 2.0, 8.0], "model_snapshot": [2.0, 1.0, 4.0], "look": [0.0294],
    "by hand": [0.5, 0.4, 0.6], "unit": [1.0, 0.9, 2.0], "unit_returned": [1.5, 1.6, 1.4],
    "urllib": [0.002, 0.004, 0.002], "client": [0.003, 0.002, 0.003], "swap": [1.0, 2.0, 3.0], "quiet": [0.02] * 3,
}  # fmt: skip


def served(**changed):
    where = document()["machine"]
    return {
        "date": "2026-01-01",
        "command": "c",
        "note": "",
        "runs": 3,
        "mib": 256,
        "answers": 40,
        "machine": where,
        **changed,
    }


def test_what_serving_costs_is_told_with_what_it_costs_by_hand():
    text = report.serving_part(served(seconds=SECONDS))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert [(row[1], row[3].rstrip(" |")) for row in rows] == [
        ("64 / 128 / 256", "2.00"),  # of throughput more is better
        ("0.90 / 1.00 / 2.00", "2.00"),
        ("1.40 / 1.50 / 1.60", "3.00"),
        ("2.00 / 3.00 / 3.00", "1.50"),
        ("1.00 / 2.00 / 3.00", "100.00"),
    ]
    assert "no GPU" in text and "29 ms" in text and "256 MiB" in text
    more = {"vllm unit": [30.0], "vllm unit_returned": [33.0], "vllm by hand": [20.0]}
    told = report.serving_part(served(seconds={**SECONDS, **more}))
    assert "first token, s | 30.0 / 30.0 / 30.0 | 20.0 / 20.0 / 20.0 | 1.50 |" in told


def test_each_of_both_writes_its_own_part_of_the_page():
    page = report.page(document())
    once = report.with_serving(page, "## Serving\n\none")
    twice = report.with_serving(once, "## Serving\n\ntwo")
    assert report.serving(once) == "## Serving\n\none" and report.serving(twice) == "## Serving\n\ntwo"
    assert twice.startswith(page.rstrip()) and "one" not in twice.removeprefix(page.rstrip())
    # Measured again, the rest of the page keeps what was measured of serving.
    assert report.with_serving(report.page(document(runs=9)), report.serving(twice)).endswith(
        "two\n" + report.END + "\n"
    )
    assert report.serving(page) == "" and report.with_serving(page, "") == page.rstrip() + "\n"


# Answers with a token, and without one from 0.5 s to 1.3 s after it was first asked; after 2 s it makes a file.
ENGINE = """
import json, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
asked = []
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        asked.append(time.monotonic())
        if asked[-1] - asked[0] > 2:
            pathlib.Path(sys.argv[2]).touch()
        mute = 0.5 < asked[-1] - asked[0] < 1.3
        body = json.dumps({"usage": {"completion_tokens": 0 if mute else 1}}).encode()
        self.send_response(503 if mute else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_words):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_the_clock_runs_from_the_start_of_a_command_to_a_token_and_ends_what_it_started(tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    begun = time.monotonic()
    slow = ["sh", "-c", 'sleep 0.5; "$@"', "sh"]
    found = asking.first(url, [*slow, sys.executable, "-c", ENGINE, str(port), tmp_path / "x"])
    assert 0.5 < found["first"] < time.monotonic() - begun and found["ended"] == -1.0
    assert not asking.answered(url)


def test_a_gap_is_the_longest_time_without_an_answer(tmp_path):
    port, flag = free_port(), tmp_path / "enough"
    with subprocess.Popen([sys.executable, "-c", ENGINE, str(port), flag]) as engine:
        try:
            found = asking.gap(f"http://127.0.0.1:{port}/v1", str(flag))
        finally:
            engine.kill()
    # Not from the beginning, when nobody listened yet.
    assert found["answers"] > 2 and 0.7 < found["gap"] < 2
