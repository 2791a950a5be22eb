# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters write is what a service gets, on a node where systemd is PID 1.

The unit tests ask systemd's parser as a library, thousands of times; here the whole way is
gone, with the systemd of the node: file, unit, PID 1, process.
"""

from __future__ import annotations

import base64
import json
import string
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import (
    command_line,
    environment_text,
    parse_environment,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FOLDER = "/run/filter-proof"
# Each example is one batch of services: starting them together is what makes hundreds affordable.
BATCH = 50
PROOF = settings(
    max_examples=8,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
SPECIAL = "\"'`\\$%#;=:!@|-+~{}()*? \t\n\r\x01\x1b\x7fab0Ä€😀"
TEXT = st.text(st.sampled_from(SPECIAL + string.printable), max_size=20)
NAMES = st.from_regex(r"V[A-Za-z0-9_]{0,6}", fullmatch=True)
CASES = st.lists(
    st.tuples(st.dictionaries(NAMES, TEXT, max_size=4), st.lists(TEXT, max_size=4)), min_size=BATCH, max_size=BATCH
)
FILES = st.lists(st.text(st.sampled_from("\"'\\$`#;= \t\n\rVaVb1_Ä"), max_size=40), min_size=BATCH, max_size=BATCH)

# The process of each service: what the kernel was given when it was started, byte for byte.
SHOW = """
cat /proc/$$/environ > "$1.environ"
cat /proc/$$/cmdline > "$1.cmdline"
"""
# Runs on the node: writes the units and environment files, starts them all, prints what each process saw.
DRIVE = """
import base64, json, os, shutil, subprocess, sys
folder, cases = sys.argv[1], json.loads(base64.b64decode(sys.argv[2]))
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
with open(f"{folder}/show", "w") as out:
    out.write(base64.b64decode(sys.argv[3]).decode())
units = []
for number, (environment, command) in enumerate(cases):
    with open(f"{folder}/{number}.env", "wb") as out:
        out.write(environment.encode())
    name = f"filter-proof-{number}.service"
    units.append(name)
    with open(f"/run/systemd/system/{name}", "wb") as out:
        out.write((f"[Service]\\nType=oneshot\\nEnvironmentFile={folder}/{number}.env\\n"
                   f"ExecStart={command}\\n").encode())
subprocess.run(["systemctl", "daemon-reload"], check=True)
started = subprocess.run(["systemctl", "start", *units], capture_output=True, text=True)
def words(path):
    with open(path, "rb") as seen:
        return [word.decode("utf-8", "surrogateescape") for word in seen.read().split(b"\\0")[:-1]]

results = []
for number, name in enumerate(units):
    path = f"{folder}/{number}"
    if os.path.exists(f"{path}.cmdline"):
        environment = dict(word.split("=", 1) for word in words(f"{path}.environ"))
        results.append([environment, words(f"{path}.cmdline")[3:]])
    else:
        results.append(started.stderr[-2000:])
    os.unlink(f"/run/systemd/system/{name}")
subprocess.run(["systemctl", "reset-failed", *units], capture_output=True)
shutil.rmtree(folder)
print(json.dumps(results))
"""


def started(node: Any, cases: list[tuple[str, list[str]]]) -> list[Any]:
    """[environment, arguments] of the process of each case, or what systemctl said instead."""
    written = []
    for number, (environment, arguments) in enumerate(cases):
        argv = ["/bin/sh", f"{FOLDER}/show", f"{FOLDER}/{number}", *arguments]
        written.append((environment, command_line(argv)))
    payload = base64.b64encode(json.dumps(written).encode()).decode()
    show = base64.b64encode(SHOW.encode()).decode()
    return list(json.loads(node.run("python3", "-c", DRIVE, FOLDER, payload, show)))


def test_a_service_gets_exactly_these_variables_and_arguments(nodes: Any) -> None:
    @PROOF
    @given(cases=CASES)
    def proof(cases: list[tuple[dict[str, str], list[str]]]) -> None:
        results = started(nodes[0], [(environment_text(variables), arguments) for variables, arguments in cases])
        for (variables, arguments), result in zip(cases, results, strict=True):
            assert isinstance(result, list), result
            seen = {name: value for name, value in result[0].items() if name.startswith("V")}
            assert (seen, result[1]) == (variables, arguments)

    proof()


def test_a_file_of_somebody_else_is_read_as_systemd_reads_it(nodes: Any) -> None:
    @PROOF
    @given(files=FILES)
    def proof(files: list[str]) -> None:
        for text, result in zip(files, started(nodes[0], [(text, []) for text in files]), strict=True):
            assert isinstance(result, list), result
            seen = {name: value for name, value in result[0].items() if set(name) <= set("Vab1_")}
            assert seen == parse_environment(text), text

    proof()


def test_a_comment_ends_at_its_line(nodes: Any) -> None:
    ((seen, _arguments),) = started(nodes[0], [("# not joined \\\nVA=1\n", [])])
    assert seen["VA"] == "1"
