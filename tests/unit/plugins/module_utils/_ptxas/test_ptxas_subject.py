# SPDX-License-Identifier: GPL-3.0-or-later
"""What role ptxas ensures, from each verdict of the probe, on a node in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas import subject as ptxas_subject
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.subject import ARGUMENT_SPEC, ensure_ptxas

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode

FILE = "/etc/nusy/ptxas.env"
FORCED = {"TRITON_PTXAS_PATH": "/usr/local/cuda-13.0/bin/ptxas"}


def declared(**given):
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    return ensure_ptxas({**defaults, "venv": "/opt/venv", **given})


@pytest.fixture
def probe(monkeypatch):
    found = {"verdict": "forced_ok", "triton_version": "3.5.1", "explanation": "It can.", "environment": FORCED}
    asked = []
    monkeypatch.setattr(ptxas_subject, "examined", lambda request, reader: asked.append(request) or found)
    found["asked"] = asked
    return found


def states(plan):
    return {control.id.partition("/")[2]: control.state for control in plan.controls}


def test_the_file_holds_what_the_probe_says_and_nothing_else(probe):
    node, subject = FakeNode(), declared()
    left = converge(subject, subject.plan(node), node, node)
    assert node.files[FILE].text.splitlines()[1:] == ['TRITON_PTXAS_PATH="/usr/local/cuda-13.0/bin/ptxas"']
    assert set(states(left).values()) == {"in_sync"} and left.facts["probe"]["verdict"] == "forced_ok"
    # The login of whoever runs the module says nothing about services.
    assert probe["asked"][0].environment == () and probe["asked"][0].environment_files == (FILE,)
    assert probe["asked"][0].candidates is None


@pytest.mark.parametrize(
    ("verdict", "state", "fails"),
    [("ok", "in_sync", ""), ("no_triton", "unknown", ""), ("unrepairable", "drifted", "Upgrade Triton"),
     ("no_ptxas", "drifted", "Install the CUDA 13 toolkit")],
)  # fmt: skip
def test_every_verdict(verdict, state, fails, probe):
    probe.update(verdict=verdict, environment={})
    node, subject = FakeNode(), declared()
    assert states(subject.plan(node))["assembles"] == state
    if fails:
        with pytest.raises(NodeError, match=fails):
            converge(subject, subject.plan(node), node, node)
    else:
        converge(subject, subject.plan(node), node, node)
    assert "TRITON" not in node.files[FILE].text


def test_what_may_not_be_looked_at_is_unknown_and_fails_a_real_run(probe, monkeypatch):
    hidden = NodeError("ptxas.unreadable", wanted="w", found="/opt/venv: Permission denied", why="y", fix="x")

    def closed(request, reader):
        raise hidden

    monkeypatch.setattr(ptxas_subject, "examined", closed)
    node, subject = FakeNode(), declared(skip_controls=["ptxas/assembles"])
    plan = subject.plan(node)
    assert states(plan) == {"assembles": "not_selected", "environment": "unknown", "file_extra": "unknown"}
    assert plan.controls[1].reason == "/opt/venv: Permission denied"
    with pytest.raises(NodeError) as error:
        converge(subject, plan, node, node)
    assert error.value is hidden and FILE not in node.files


def test_a_triton_that_moved_is_the_node_that_moved(probe):
    node, subject = FakeNode(), declared()
    converge(subject, subject.plan(node), node, node)
    probe.update(environment={"TRITON_PTXAS_PATH": "/usr/local/cuda-13.1/bin/ptxas"})
    (control,) = [c for c in declared().plan(node).controls if c.state == "drifted"]
    assert control.cause == "corrective"
    (control,) = [c for c in declared(arch="sm_120").plan(node).controls if c.state == "drifted"]
    assert control.cause == "intentional"


@pytest.mark.parametrize("wrong", [{"venv": "venv"}, {"environment_file": "ptxas.env"}, {"arch": "sm121"}])
def test_wrong_input_is_refused(wrong, probe):
    with pytest.raises(InputError):
        declared(**wrong)
