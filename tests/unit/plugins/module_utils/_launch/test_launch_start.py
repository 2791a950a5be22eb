# SPDX-License-Identifier: GPL-3.0-or-later
"""What is started: the exact words, a clean environment, no shell and no PATH; and what is refused."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import main as launcher
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import options
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.engines import LAUNCHERS


@pytest.fixture
def started(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execve", lambda path, argv, env: calls.append((path, argv, env)))
    return calls


def test_vllm_on_one_node(node, started):
    node.run("vllm-serve", PATH="/evil", LD_PRELOAD="/evil.so", PYTHONPATH="/evil", INVOCATION_ID="i", HF_TOKEN="t")
    ((path, argv, env),) = started
    program = str(node.root / "bin" / "vllm")
    assert path == argv[0] == program
    assert argv[1:] == [
        *("serve", str(node.model), "--tensor-parallel-size", "1", "--kv-cache-memory-bytes", "1048576"),
        *("--host", "127.0.0.1", "--port", str(node.port)),
    ]
    assert env["PATH"] == f"{node.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert not {"LD_PRELOAD", "PYTHONPATH", "NUSY_KV_CACHE_MEMORY_BYTES"} & set(env)
    assert (env["MAX_JOBS"], env["TRITON_PTXAS_PATH"], env["INVOCATION_ID"], env["HF_TOKEN"]) == (
        *("2", "/opt/ptxas", "i", "t"),
    )


def test_vllm_on_several_nodes_without_ray(node, started):
    node.run("vllm-node")
    node.run(
        "vllm-node", str(node.model), "--nnodes", "2", "--node-rank", "1", "--master-addr", "10.0.0.1",
        "--node-ip-address", "127.0.0.1", "--tensor-parallel-size", "2",
    )  # fmt: skip
    (_path, first, _env), (_same, second, env) = started
    assert " ".join(second[3:]) == (
        "--tensor-parallel-size 2 --kv-cache-memory-bytes 1048576 --pipeline-parallel-size 1 "
        "--distributed-executor-backend mp "
        "--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29510 --headless"
    )
    assert "--headless" not in first and first[-4:-2] == ["--host", "127.0.0.1"]
    assert env["VLLM_HOST_IP"] == "127.0.0.1"


# As `vllm serve` of 0.27 and later documents them, not taken from our own code. vLLM itself is not run here.
KNOWN = {
    "--served-model-name", "--tensor-parallel-size", "--max-model-len", "--kv-cache-memory-bytes", "--host", "--port",
    "--gpu-memory-utilization", "--distributed-executor-backend", "--nnodes", "--node-rank", "--master-addr",
    "--master-port", "--headless", "--pipeline-parallel-size",
}  # fmt: skip


def test_every_option_is_one_that_vllm_knows(node, started):
    node.run("vllm-node")
    node.run(
        "vllm-serve", str(node.model), "--served-model-name", "x", "--max-model-len", "9", "--port", str(node.port)
    )
    node.vllm_env.write_text('NUSY_GPU_MEMORY_UTILIZATION="0.01"\n')
    node.run("vllm-serve")
    assert len(started) == 3
    for _path, argv, _env in started:
        assert argv[1] == "serve" and not argv[2].startswith("-")
        assert {word for word in argv[3:] if word.startswith("-")} <= KNOWN
    assert started[2][1][5:7] == ["--gpu-memory-utilization", "0.01"]


def test_ray_names_every_port_and_stays_in_the_foreground(head, started):
    head.run("ray-worker")
    words = started[0][1]
    assert words[1:4] == ["start", "--address", f"127.0.0.1:{head.port}"] and "--block" in words
    ports = {words[n + 1] for n, word in enumerate(words) if word.endswith("-port")}
    assert len(ports) == 8


def test_llama_runs_under_the_python_that_the_link_leads_to_now(node, started):
    (node.root / "generation").symlink_to(node.root / "bin")
    node.paths.write_text(f'PY_BIN="{node.root}/generation/python"\n')
    node.run("llama-serve")
    assert started[0][1][:5] == [f"{node.root}/bin/python", "-I", "-B", "/suite.pyz", "llama-server"]


HOSTILE = ["two words", 'a "quote"', "it's", "line\nbreak", "$HOME", "100%", "back\\slash", "*", "", "é"]


def test_words_reach_the_engine_as_they_are(node, started, capsys):
    name = "a 'b' \"c\" $d %e\nf"
    node.run("vllm-serve", str(node.model), "--served-model-name", name, "--port", str(node.port), "--", *HOSTILE)
    argv = started[0][1]
    assert argv[-len(HOSTILE) :] == HOSTILE and name in argv
    node.run("vllm-serve", "--print", str(node.model), "--port", str(node.port), "--", *HOSTILE)
    printed = capsys.readouterr().out
    command = printed[printed.index(shlex.quote(argv[0])) :]
    assert shlex.split(command)[-len(HOSTILE) :] == HOSTILE


def test_printing_starts_nothing_and_shows_no_secret(node, started, capsys):
    assert node.run("vllm-serve", "--print", str(node.model), "--port", str(node.port), HF_TOKEN="hunter2") == 0
    text = capsys.readouterr().out
    assert "hunter2" not in text and "HF_TOKEN='<secret>'" in text and "MAX_JOBS=2" in text and started == []
    assert text.splitlines()[-1].startswith(f"{node.root}/bin/vllm serve ")


WRONG = {
    "nothing": [],
    "an unknown option": ["/m", "--nonsense"],
    "an abbreviation": ["/m", "--tensor", "2"],
    "a name for an address": ["/m", "--host", "localhost"],
    "port 0": ["/m", "--port", "0"],
    "a port that is too high": ["/m", "--port", "65536"],
    "a port in words": ["/m", "--port", "eighty"],
    "a share above 1": ["/m", "--gpu-memory-utilization", "1.1"],
    "no share": ["/m", "--gpu-memory-utilization", "nan"],
    "both budgets": ["/m", "--gpu-memory-utilization", "0.5", "--kv-cache-memory-bytes", "5"],
    "a negative budget": ["/m", "--kv-cache-memory-bytes", "-5"],
    "two models": ["/m", "/n"],
    "an empty model": [""],
    "both modes": ["/m", "--check", "--print"],
    "the port again": ["/m", "--", "--port", "9"],
    "the port again, joined": ["/m", "--", "--port=9"],
    "the memory, abbreviated": ["/m", "--", "--gpu-mem=0.99"],
    "the memory, with underscores": ["/m", "--", "--gpu_memory_utilization", "0.99"],
    "a file of options": ["/m", "--", "--config", "/x.yml"],
    "a key that everybody can see": ["/m", "--", "--api-key", "secret"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_refused_before_anything_is_looked_at(case, started, capsys):
    with pytest.raises(SystemExit) as ended:
        launcher.main("vllm-serve", WRONG[case], {})
    said = capsys.readouterr().err
    assert ended.value.code == 64 and started == []
    assert said.startswith("vllm-serve: ") and "Nothing was started. What to do: " in said


@pytest.mark.parametrize("value", ["127.0.0.1", "127.0.0.1:", "head:6380", "127.0.0.1:x"])
def test_an_endpoint_is_an_address_and_a_port(value, capsys):
    with pytest.raises(SystemExit):
        launcher.main("ray-worker", ["--node-ip-address", "127.0.0.1", "--address", value], {})
    assert options.endpoint("[::1]:6380") == ("::1", 6380)


def test_the_engine_gets_signals_as_a_shell_would_start_it(node):
    """Python ignores SIGPIPE for itself; an engine that inherits that would write into nothing for ever."""
    node.program("vllm", "#!/bin/sh\nexec cat /proc/self/status\n")
    here = Path(launcher.__file__).parents[2]
    code = f"import sys; from {launcher.__name__} import main; main('vllm-serve', sys.argv[1:], {{}})"
    root = str(here).partition("/ansible_collections/")[0]
    argv = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}", *node.words("vllm-serve")]
    said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    (ignored,) = [line.split()[1] for line in said.splitlines() if line.startswith("SigIgn:")]
    assert int(ignored, 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


def test_what_cannot_be_executed_is_said(node, capsys):
    (node.root / "bin" / "vllm").write_bytes(b"\x7fELF broken")
    assert node.run("vllm-serve") == 78
    assert "Exec format error" in capsys.readouterr().err


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        launcher.main(name, ["--help"], {})
    assert ended.value.code == 0 and "--check" in capsys.readouterr().out
