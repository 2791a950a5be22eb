# SPDX-License-Identifier: GPL-3.0-or-later
"""--check: a line for each precondition, each broken one named alone; a start stops at the first."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch import conditions
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.engines import LAUNCHERS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.main import main
from ansible_collections.nusy.dgx_spark.plugins.module_utils._launch.site import Site
from launch_node import LaunchNode

ALONE = ("vllm-serve", "vllm-node", "ray-head", "llama-serve")


@pytest.mark.parametrize("name", ALONE)
def test_every_precondition_holds_and_is_named(name, node, capsys):
    code, passed, failed = node.check(name, capsys)
    assert (code, failed) == (0, [])
    assert passed[:3] == ["paths", "environment vllm.env", "environment ptxas.env"]
    assert f"binary {LAUNCHERS[name].program}" in passed and len(passed) == len(set(passed)) > 4


def test_a_worker_wants_its_head(node, head, capsys):
    assert head.check("ray-worker", capsys)[0] == 0
    other = LaunchNode(node.root, 1)
    assert other.check("ray-worker", capsys)[2] == ["head"]


def edit(path, text: str) -> None:
    path.write_text(text)


BROKEN: dict[str, tuple[str, Callable[[LaunchNode], object]]] = {
    "paths are missing": ("paths", lambda n: n.paths.unlink()),
    "paths are a folder": ("paths", lambda n: (n.paths.unlink(), n.paths.mkdir())),
    "paths can be written by others": ("paths", lambda n: n.paths.chmod(0o666)),
    "no environment": ("environment vllm.env", lambda n: n.vllm_env.unlink()),
    "environment of others": ("environment ptxas.env", lambda n: n.ptxas_env.chmod(0o622)),
    "program not named": ("binary VLLM_BIN", lambda n: edit(n.paths, n.paths.read_text().replace("VLLM_", "X_"))),
    "program named relatively": (
        "binary VLLM_BIN",
        lambda n: edit(n.paths, n.paths.read_text().replace(str(n.root / "bin" / "vllm"), "bin/vllm")),
    ),
    "program is gone": ("binary VLLM_BIN", lambda n: (n.root / "bin" / "vllm").unlink()),
    "program leads nowhere": (
        "binary VLLM_BIN",
        lambda n: ((n.root / "bin" / "vllm").unlink(), (n.root / "bin" / "vllm").symlink_to("/nowhere")),
    ),
    "program not executable": ("binary VLLM_BIN", lambda n: (n.root / "bin" / "vllm").chmod(0o644)),
    "program of everybody": ("binary VLLM_BIN", lambda n: (n.root / "bin" / "vllm").chmod(0o757)),
    "program is a folder": (
        "binary VLLM_BIN",
        lambda n: ((n.root / "bin" / "vllm").unlink(), (n.root / "bin" / "vllm").mkdir()),
    ),
    "needed program is gone": ("binary NVIDIA_SMI_BIN", lambda n: (n.root / "bin" / "nvidia-smi").unlink()),
    "no model": ("model", lambda n: (n.model / "config.json").unlink()),
    "no budget": ("memory", lambda n: edit(n.vllm_env, 'HF_HUB_OFFLINE="1"\n')),
    "budget larger than the memory": (
        "memory",
        lambda n: edit(n.vllm_env, 'NUSY_KV_CACHE_MEMORY_BYTES="999999999999999"\n'),
    ),
    "gpu is taken": ("gpu", lambda n: (n.root / "apps").write_text("4711, /usr/bin/vllm\n")),
    "driver does not answer": ("gpu", lambda n: n.program("nvidia-smi", "#!/bin/sh\necho broken >&2; exit 9\n")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named_alone_and_nothing_starts(case, node, capsys, monkeypatch):
    name, damage = BROKEN[case]
    damage(node)
    code, _passed, failed = node.check("vllm-serve", capsys)
    assert (code, failed) == (1, [name])
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("it was started"))
    assert node.run("vllm-serve") == 78
    said = capsys.readouterr().err
    assert f"not started: {name}: " in said and "Why it matters: " in said and "What to do: " in said


@pytest.mark.parametrize(("words", "good"), [([], True), (["2"], True), (["99"], True), (["100"], False)])
def test_llama_is_started_only_where_its_model_and_its_cache_have_room(words, good, node, monkeypatch, capsys):
    monkeypatch.setattr(conditions, "_meminfo", lambda: (200 << 30, 100 << 30))
    asked = [word for gib in words for word in ("--kv-cache-memory-bytes", str(int(gib) << 30))]
    code = main("llama-serve", ["--check", *node.words("llama-serve"), *asked], {})
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one[5:].startswith("memory")]
    # The file is of four bytes, which is what is too much beside all of it.
    assert code == (not good) and line.startswith("PASS" if good else "FAIL"), line
    assert ("100.0 GiB available" in line) and ("nobody says" in line) == (not words)
    # What runs now still holds it.
    assert main("llama-serve", ["--check", "--replacing", *node.words("llama-serve"), *asked], {}) == 0


def test_a_port_that_is_taken(node, capsys):
    with socket.create_server(("127.0.0.1", node.port)):
        for name in ("vllm-serve", "vllm-node", "llama-serve"):
            assert node.check(name, capsys)[2] == ["port --port"]
        assert node.check("ray-head", capsys)[2] == ["port --dashboard-port"]
    with socket.create_server(("127.0.0.1", 41003)):
        assert node.check("ray-head", capsys)[2] == ["port runtime-env-agent-port"]


@pytest.mark.parametrize("name", ["vllm-node", "ray-head"])
def test_an_address_of_another_node(name, node, capsys):
    words = [w if w != "127.0.0.1" else "192.0.2.1" for w in node.words(name)]
    assert main(name, ["--check", *words], {}) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert all("192.0.2.1 is no address of this node" in line and "ip -brief address" in line for line in failed)
    # One cause is one line, whatever listens there.
    assert len(failed) == {"vllm-node": 2, "ray-head": 1}[name]


def test_a_gpu_may_be_shared_when_somebody_says_so(node, capsys):
    (node.root / "apps").write_text("4711, /usr/bin/vllm\n")
    assert main("vllm-serve", ["--check", "--share-gpu", *node.words("vllm-serve")], {}) == 0
    assert "PASS gpu: already used by 4711, /usr/bin/vllm" in capsys.readouterr().out


def test_a_rank_that_does_not_exist(node, capsys):
    words = node.words("vllm-node")
    words[words.index("--node-rank") + 1] = "2"
    assert main("vllm-node", ["--check", *words], {}) == 1
    assert "FAIL rank: rank 2 of 2: ranks go from 0 to 1" in capsys.readouterr().out


@pytest.mark.parametrize(("tensor", "pipeline", "good"), [(2, 1, True), (1, 2, True), (1, 1, False), (1, 3, False)])
def test_a_model_in_parts_that_do_not_fit_the_nodes(tensor, pipeline, good, node, capsys):
    words = node.words("vllm-node")
    words[words.index("--tensor-parallel-size") + 1] = str(tensor)
    code = main("vllm-node", ["--check", *words, "--pipeline-parallel-size", str(pipeline)], {})
    assert code == (not good)
    assert good or f"FAIL parts of the model: {tensor * pipeline} on 2 nodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("declared", "asked", "good"),
    [("", "0.85", True), ("", "0.86", False), ("0.9", "0.9", True), ("0.9", "0.91", False), ("much", "0.86", False)],
)
def test_a_share_that_freezes_a_spark_has_to_be_declared(declared, asked, good, node, monkeypatch):
    monkeypatch.setattr(conditions, "_meminfo", lambda: (100 << 30, 99 << 30))
    variables = {"NUSY_GPU_MEMORY_UTILIZATION": declared}
    found = conditions.memory(0, float(asked), Site(variables=variables))
    assert bool(found.problem) is not good
    assert good or f"gpu_memory_utilization={asked}" in found.fix


def test_a_model_of_the_hub_must_be_stored_when_the_hub_is_not_asked(node):
    stored = node.root / "hub" / "models--me--mine" / "snapshots" / "abc"
    offline = Site(variables={"HF_HUB_OFFLINE": "1", "HF_HOME": str(node.root)})
    assert "is not stored" in conditions.model("me/mine", offline).problem
    stored.mkdir(parents=True)
    assert conditions.model("me/mine", offline).problem == ""
    assert conditions.model("me/other", Site()).problem == ""
    assert "neither an absolute path" in conditions.model("a/b/c", Site()).problem
