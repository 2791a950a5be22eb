# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools and paths on a node in memory: what is installed, what is named, what is repaired."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite import subject as suite_subject
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.model import CONTROLS, tools
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.prove import Proof
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.subject import ensure_launchers
from test_suite_model import params

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode

SUITE = "/usr/local/libexec/nusy/spark.pyz"
TOOL = "/usr/local/sbin/spark-ensure-state"
BINARIES = {"NVCC_BIN": "/cuda/bin/nvcc", "VLLM_BIN": "/venv/bin/vllm", "NVIDIA_SMI_BIN": "/usr/bin/nvidia-smi"}
PROVEN = Proof("in_sync", "1.0", "/real", "1.0")


class Node(FakeNode):
    """It runs the archive when it is there."""

    def run(self, argv, **_options):
        if argv == [TOOL, "--version"]:
            there = TOOL in self.files and SUITE in self.files
            return Completed(tuple(argv), 0 if there else 127, "", "no such file")
        return super().run(argv, **_options)


@pytest.fixture
def proofs(monkeypatch):
    found = dict.fromkeys(BINARIES, PROVEN)
    monkeypatch.setattr(suite_subject, "prove_all", lambda wanted, reader: found)
    return found


def declared(**given):
    return ensure_launchers(params(**{"launchers": ["vllm-serve"], "binaries": BINARIES, **given}))


def applied(node, **given):
    subject = declared(**given)
    converge(subject, subject.plan(node), node, node)
    return subject


def drifted(plan):
    return [control.id.partition("/")[2] for control in plan.controls if control.state != "in_sync"]


def test_a_bare_node_gets_paths_archive_and_entries(proofs):
    node = Node()
    assert drifted(declared().plan(node)) == ["paths", "suite", "entries"]
    subject = applied(node)
    assert node.files["/etc/nusy/paths.env"].text.splitlines()[1:] == [
        'NVCC_BIN="/cuda/bin/nvcc"',
        'NVIDIA_SMI_BIN="/usr/bin/nvidia-smi"',
        'VLLM_BIN="/venv/bin/vllm"',
    ]
    assert node.files[SUITE].text == tools(params()).content and node.files[SUITE].mode == 0o755
    assert node.readlink("/usr/local/libexec/nusy/vllm-serve") == "spark.pyz" and node.readlink(TOOL) == SUITE
    after = subject.plan(node)
    assert not after.steps and drifted(after) == [] and {c.id for c in after.controls} == set(CONTROLS)
    assert after.facts["paths"]["VLLM_BIN"]["leads_to"] == "/real"


def edit(node, path, old, new):
    node.files[path].text = node.files[path].text.replace(old, new)


DAMAGE = {
    "paths": lambda n: edit(n, "/etc/nusy/paths.env", "/venv", "/tmp"),
    "file_extra": lambda n: edit(n, "/etc/nusy/paths.env", 'vllm"\n', 'vllm"\nEVIL_BIN="/tmp/x"\n'),
    "suite": lambda n: edit(n, SUITE, "any", "other"),
    "entries": lambda n: n.files.pop("/usr/local/libexec/nusy/vllm-serve"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_named_alone_and_repaired(name, proofs):
    node = Node()
    applied(node)
    DAMAGE[name](node)
    assert drifted(declared().plan(node)) == [name]
    assert drifted(applied(node).plan(node)) == []


def test_who_moved_is_told_also_where_the_document_follows_from_what_is_found(proofs):
    node = Node()
    applied(node)
    node.symlink("/usr/local/libexec/nusy/ray-head", "spark.pyz")
    node.files[SUITE].text = "damaged"
    edit(node, "/etc/nusy/paths.env", "/venv", "/tmp")
    proofs["NVCC_BIN"] = Proof("drifted", "absent")
    causes = {c.id.partition("/")[2]: c.cause for c in declared().plan(node).controls if c.state == "drifted"}
    assert causes == dict.fromkeys(("cuda_binaries", "paths", "suite", "entries"), "corrective")
    proofs["NVCC_BIN"] = PROVEN
    other = {c.id: c.cause for c in declared(launchers=["vllm-serve", "vllm-node"]).plan(node).controls}
    assert other["launchers/entries"] == "intentional"


@pytest.mark.parametrize("damage", [{"mode": 0o777}, {"uid": 1000}])
def test_an_archive_that_others_can_change_is_not_ours(damage, proofs):
    node = Node()
    applied(node)
    for name, value in damage.items():
        setattr(node.files[SUITE], name, value)
    assert drifted(declared().plan(node)) == ["suite"]
    assert drifted(applied(node).plan(node)) == []


@pytest.mark.parametrize("path", ["/usr/local/libexec/nusy", "/usr/bin/python3"])
def test_what_others_than_root_can_replace_is_named_and_not_run(path, proofs, monkeypatch):
    node = Node()
    applied(node)
    for parent in ("/usr", "/usr/bin"):
        if parent not in node.files:
            node.mkdir(parent, mode=0o755, uid=0, gid=0)
    node.write("/usr/bin/python3", "", mode=0o755, uid=0, gid=0)
    node.files[path].uid = 1000
    monkeypatch.setattr(node, "run", lambda *_, **__: pytest.fail("root ran it"))
    (control,) = [c for c in declared().plan(node).controls if c.id == "launchers/entries"]
    assert control.state == "drifted" and "not only root decides" in control.reason and path in control.reason


def test_a_launcher_that_is_not_declared_any_more_goes(proofs):
    node = Node()
    applied(node, launchers=["vllm-serve", "ray-head"])
    plan = declared().plan(node)
    assert [step.text() for step in plan.steps] == ["remove_entry /usr/local/libexec/nusy/ray-head"]
    applied(node)
    assert "/usr/local/libexec/nusy/ray-head" not in node.files


@pytest.mark.parametrize(
    ("name", "control"),
    [("NVCC_BIN", "cuda_binaries"), ("VLLM_BIN", "engine_binaries"), ("NVIDIA_SMI_BIN", "driver_binaries")],
)
def test_what_is_not_proven_is_left_out_and_fails_the_run_at_its_end(name, control, proofs):
    proofs[name] = Proof("drifted", "absent")
    node = Node()
    with pytest.raises(NodeError) as caught:
        applied(node)
    assert name not in node.files["/etc/nusy/paths.env"].text and SUITE in node.files
    assert f"{name} ({BINARIES[name]}): absent" in caught.value.problem.found
    assert drifted(declared().plan(node)) == [control]


@pytest.mark.parametrize(("state", "named"), [("drifted", "engine_binaries"), ("unknown", "paths")])
def test_the_line_of_what_is_not_proven_any_more_is_nobody_elses(state, named, proofs):
    node = Node()
    applied(node)
    edit(node, "/etc/nusy/paths.env", "/cuda/bin", "/tmp")  # its neighbour stays the list's
    proofs["VLLM_BIN"] = Proof(state, "it hangs")
    found = {c.id.partition("/")[2]: c.as_dict() for c in declared().plan(node).controls if c.state == "drifted"}
    assert set(found) == {"paths", named}
    line = 'VLLM_BIN="/venv/bin/vllm"'
    assert line in found[named]["before"]["file /etc/nusy/paths.env"]
    assert line not in str(found[named]["after"])
    with pytest.raises(NodeError) if state == "drifted" else nullcontext():
        applied(node)
    assert "VLLM_BIN" not in node.files["/etc/nusy/paths.env"].text
    # Skipped or not: nobody has added it.
    edit(node, "/etc/nusy/paths.env", "NVIDIA", f"{line}\nNVIDIA")
    assert drifted(declared(skip_controls=["launchers/engine_binaries"]).plan(node)) == ["engine_binaries", "paths"]


def test_the_list_is_written_for_a_binary_alone(proofs):
    node = Node()
    applied(node)
    proofs["VLLM_BIN"] = Proof("drifted", "absent")
    plan = declared().plan(node)
    assert drifted(plan) == ["engine_binaries"] and [s.action for s in plan.steps] == ["write_file"]
    proofs["VLLM_BIN"] = PROVEN
    assert drifted(declared().plan(node)) == []


def test_what_who_looks_may_not_see_is_unknown_and_its_line_nobodys(proofs):
    node = Node()
    applied(node)
    proofs["VLLM_BIN"] = Proof("unknown", "Permission denied", hidden=True)
    found = {c.id.partition("/")[2]: c.state for c in declared().plan(node).controls if c.state != "in_sync"}
    assert found == {"engine_binaries": "unknown", "paths": "unknown"}
    # Another path is drift whoever looks.
    edit(node, "/etc/nusy/paths.env", "/venv", "/tmp")
    found = {c.id.partition("/")[2]: c.state for c in declared().plan(node).controls if c.state != "in_sync"}
    assert found == {"engine_binaries": "unknown", "paths": "unknown", "file_extra": "drifted"}


def test_a_closed_folder_of_launchers_is_unknown_and_no_error(proofs):
    node = Node()
    applied(node)

    def closed(path):
        if path.startswith("/usr/local/libexec/nusy/"):
            raise Unreadable(f"{path}: Permission denied")

    for name in ("stat", "readlink", "read"):
        plain = getattr(node, name)
        setattr(node, name, lambda path, plain=plain: closed(path) or plain(path))
    found = {c.id.partition("/")[2]: c.state for c in declared().plan(node).controls if c.state != "in_sync"}
    assert found == {"suite": "unknown", "entries": "unknown"}


def test_no_gpu_is_unknown_and_fails_nothing(proofs):
    proofs["NVIDIA_SMI_BIN"] = Proof("unknown", "no GPU: nothing printed")
    node = Node()
    subject = applied(node)
    (control,) = [c for c in subject.plan(node).controls if c.state != "in_sync"]
    assert (control.id, control.state) == ("launchers/driver_binaries", "unknown")
    assert "NVIDIA_SMI" not in node.files["/etc/nusy/paths.env"].text


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_was_there_before_is_replaced_only_when_it_is_named(kind, proofs):
    node = Node()
    for folder in ("/usr", "/usr/local", "/usr/local/libexec", "/usr/local/libexec/nusy"):
        node.mkdir(folder, mode=0o755, uid=0, gid=0)
    if kind == "file":
        node.write(SUITE, "somebody's", mode=0o755, uid=0, gid=0)
    else:
        node.symlink(SUITE, "/etc/passwd")
    applied(node)
    (control,) = [c for c in declared().plan(node).controls if c.id == "launchers/suite"]
    assert control.blocked_by == f"launchers_confirm: [{SUITE}]" and node.files[SUITE].kind == kind
    applied(node, confirm=[SUITE])
    assert node.files[SUITE].text == tools(params()).content
    # From then on it is ours.
    node.files[SUITE].text = "damaged"
    assert drifted(applied(node).plan(node)) == []


def test_a_directory_in_the_place_of_the_archive_is_moved_aside_only_when_it_is_named(proofs):
    node = Node()
    for folder in ("/usr", "/usr/local", "/usr/local/libexec", "/usr/local/libexec/nusy", SUITE):
        node.mkdir(folder, mode=0o755, uid=0, gid=0)
    (control,) = [c for c in declared().plan(node).controls if c.id == "launchers/suite"]
    assert control.blocked_by == f"launchers_confirm: [{SUITE}]"
    applied(node, confirm=[SUITE])
    assert node.files[SUITE].kind == "file" and f"{SUITE}.replaced.1" in node.files
