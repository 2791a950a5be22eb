# SPDX-License-Identifier: GPL-3.0-or-later
"""The document that follows from a look, judged and applied on a node in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Step
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import HostReader, HostWriter
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime import subject as runtime_subject
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.look import Size, Used, measure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.model import CONTROLS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.subject import empty_cache, ensure_runtime
from test_runtime_parse import cache, params

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode

GOOD = Used("", {"torch": ""}, "")
CACHE = "/var/lib/nusy/cache/vllm"


@pytest.fixture
def seen(monkeypatch):
    """What a look finds, to be set by a test."""
    found = {"size": Size(1), "used": GOOD}
    monkeypatch.setattr(runtime_subject, "measure", lambda path, seconds: found["size"])
    monkeypatch.setattr(runtime_subject, "use", lambda wanted, reader: found["used"])
    return found


def declared(**given):
    return ensure_runtime(
        params(**{"owner": "root", "imports": ["torch"], "caches": [cache(CACHE, 1, "VLLM_CACHE_ROOT")], **given})
    )


def states(plan):
    return {control.id.partition("/")[2]: control.state for control in plan.controls}


def applied(node, **given):
    subject = declared(**given)
    converge(subject, subject.plan(node), node, node)
    return subject


def test_a_bare_node_gets_its_file_and_its_folders(seen):
    node = FakeNode()
    before = declared().plan(node)
    assert states(before) == {
        **dict.fromkeys(("caches", "environment", "jit_limits", "memory"), "drifted"),
        **dict.fromkeys(("cache_size", "imports", "compiles", "file_extra"), "in_sync"),
    }
    subject = applied(node)
    assert node.files["/etc/nusy/vllm.env"].text.splitlines()[1:] == [
        f'VLLM_CACHE_ROOT="{CACHE}"',
        'FLASHINFER_NVCC_THREADS="1"',
        'MAX_JOBS="2"',
        'NUSY_GPU_MEMORY_UTILIZATION="0.76"',
    ]
    assert node.files[CACHE].mode == 0o750
    after = subject.plan(node)
    assert not after.steps and set(states(after).values()) == {"in_sync"}
    assert {control.id for control in after.controls} == set(CONTROLS)


DAMAGE = {
    "environment": ('VLLM_CACHE_ROOT="/var', 'VLLM_CACHE_ROOT="/tmp'),
    "jit_limits": ('MAX_JOBS="2"', 'MAX_JOBS="20"'),
    "memory": ("0.76", "0.95"),
    "file_extra": ('"0.76"\n', '"0.76"\nTRITON_PTXAS_PATH="/x"\n'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_line_that_is_changed_is_named_alone(name, seen):
    node = FakeNode()
    applied(node)
    node.files["/etc/nusy/vllm.env"].text = node.files["/etc/nusy/vllm.env"].text.replace(*DAMAGE[name])
    assert [control for control, state in states(declared().plan(node)).items() if state != "in_sync"] == [name]


def test_a_cache_above_its_limit_is_emptied_only_when_it_is_named(seen):
    node = FakeNode()
    applied(node)
    seen["size"] = Size(2 << 30)
    plan = declared().plan(node)
    (control,) = [c for c in plan.controls if c.state != "in_sync"]
    assert (control.id, control.blocked_by) == ("vllm_runtime/cache_size", f"vllm_runtime_confirm: [{CACHE}/*]")
    assert not plan.steps and control.changes[0].before == "2.00 GiB"
    # To allow that the folder is taken over is another thing.
    assert declared(confirm=[CACHE]).plan(node).steps == ()
    assert [step.text() for step in declared(confirm=[f"{CACHE}/*"]).plan(node).steps] == [f"empty_cache {CACHE}"]


@pytest.mark.parametrize(
    ("size", "state"), [(Size(1, "not counted"), "unknown"), (Size(2 << 30, "not counted"), "drifted")]
)
def test_a_cache_that_was_not_counted_whole_is_fine_never(size, state, seen):
    seen["size"] = size
    assert states(declared().plan(FakeNode()))["cache_size"] == state


@pytest.mark.parametrize(
    ("used", "imports", "compiles"),
    [
        (Used("there is no python"), "unknown", "unknown"),
        (Used("", {"torch": "ImportError: libcudart"}, ""), "drifted", "in_sync"),
        (Used("", {"torch": ""}, "ptxas fatal"), "in_sync", "drifted"),
        (Used("", {"torch": ""}, "ModuleNotFoundError: No module named 'triton'"), "in_sync", "unknown"),
    ],
)
def test_what_use_showed(used, imports, compiles, seen):
    seen["used"] = used
    found = states(declared().plan(FakeNode()))
    assert (found["imports"], found["compiles"]) == (imports, compiles)


def test_an_import_that_fails_lets_the_rest_converge_and_then_says_what_to_do(seen):
    seen["used"] = Used("", {"torch": "ImportError: no"}, "")
    node = FakeNode()
    with pytest.raises(NodeError) as caught:
        applied(node)
    assert "/etc/nusy/vllm.env" in node.files and "apply role vllm_venv" in caught.value.problem.fix


def test_a_share_that_is_not_named_is_blocked_and_the_rest_converges(seen):
    node = FakeNode()
    subject = applied(node, gpu_memory_utilization=0.9)
    (control,) = [c for c in subject.plan(node).controls if c.state != "in_sync"]
    assert control.blocked_by == "vllm_runtime_confirm: [gpu_memory_utilization=0.9]"
    assert 'NUSY_GPU_MEMORY_UTILIZATION="0.85"' in node.files["/etc/nusy/vllm.env"].text


def test_emptying_follows_no_link_and_leaves_the_folder(tmp_path):
    (tmp_path / "cache" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "cache" / "deep" / "kernel").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("x")
    (tmp_path / "cache" / "link").symlink_to(tmp_path / "elsewhere")
    empty_cache(Step("empty_cache", str(tmp_path / "cache")), HostReader(), HostWriter())
    assert list((tmp_path / "cache").iterdir()) == [] and (tmp_path / "elsewhere" / "kept").exists()


def test_a_link_in_the_place_of_a_cache_is_not_emptied(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("x")
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NodeError):
        empty_cache(Step("empty_cache", str(tmp_path / "cache")), HostReader(), HostWriter())
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_counting_follows_no_link_and_ends_in_time(tmp_path):
    (tmp_path / "cache" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "deep" / "kernel").write_bytes(b"x" * 300_000)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "big").write_bytes(b"x" * 3_000_000)
    (tmp_path / "cache" / "link").symlink_to(tmp_path / "elsewhere")
    whole = measure(str(tmp_path / "cache"), 5)
    assert 300_000 <= whole.size < 400_000 and not whole.problem
    assert "not counted whole within 0 s" in measure(str(tmp_path / "cache"), 0).problem
    assert measure(str(tmp_path / "missing"), 5) == Size()
