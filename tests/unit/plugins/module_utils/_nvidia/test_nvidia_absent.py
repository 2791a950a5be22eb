# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that is declared to have no NVIDIA GPU: roles about one say so, and see whether it is true."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import parse as cuda_parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import CONTROLS as CUDA
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.subject import ensure_toolchain
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.gpus import BUSES, PCI, shown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.absent import WITHOUT
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import CONTROLS as STACK
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas import subject as ptxas
from nvidia_node import Node, spark, stack

PTXAS_ENV = "/etc/nusy/ptxas.env"
GPU = f"{PCI}/000f:01:00.0"


def plain_node() -> Node:
    """With a bus, and on it what is of NVIDIA and no GPU, and a GPU that is not of NVIDIA."""
    node = Node()
    for place, vendor, kind in (("0000:01:00.0", "0x15b3", "0x020000"), ("0000:02:00.0", "0x1002", "0x030000"),
                                ("0000:03:00.1", "0x10de", "0x040300")):  # fmt: skip
        node.put(f"{PCI}/{place}/vendor", f"{vendor}\n")
        node.put(f"{PCI}/{place}/class", f"{kind}\n")
    node.put("/dev/nvidiactl")
    return node


def put_in(node: Node) -> None:
    node.put(f"{GPU}/vendor", "0x10de\n")
    node.put(f"{GPU}/class", "0x030200\n")


def subjects() -> dict[str, object]:
    defaults = {name: option.get("default") for name, option in cuda_parse.ARGUMENT_SPEC.items()}
    of_ptxas = {name: option.get("default") for name, option in ptxas.ARGUMENT_SPEC.items()}
    return {
        "nvidia_toolkit": stack(declared_gpu="none"),
        "cuda_toolchain": ensure_toolchain({**defaults, "source": "apt", "declared_gpu": "none"}),
        "ptxas": ptxas.ensure_ptxas({**of_ptxas, "venv": "/opt/venv", "declared_gpu": "none"}),
    }


def states(plan) -> dict[str, str]:
    return {control.id: control.state for control in plan.controls}


# All that the roles say where it is so.
SAID = {
    "nvidia_toolkit": dict.fromkeys(STACK, "not_selected") | {"nvidia_toolkit/gpu": "in_sync"},
    "cuda_toolchain": dict.fromkeys(CUDA, "not_selected"),
    "ptxas": {"ptxas/assembles": "not_selected", "ptxas/environment": "in_sync", "ptxas/file_extra": "in_sync"},
}


@pytest.mark.parametrize("role", SAID)
def test_there_is_nothing_to_ensure_and_every_control_says_why(role: str) -> None:
    node = plain_node()
    subject = subjects()[role]
    left = converge(subject, subject.plan(node), node, node)
    assert states(left) == SAID[role]
    reasons = {control.reason for control in left.controls if control.state == "not_selected"}
    assert reasons == {WITHOUT}
    done = [effect for effect in node.effects if "/var/lib/nusy" not in effect]
    assert all(PTXAS_ENV in effect or "/etc/nusy" in effect for effect in done) and (done == []) is (role != "ptxas")
    assert not subjects()[role].plan(node).steps


def test_no_variable_of_triton_is_left_where_the_gpu_went() -> None:
    node = plain_node()
    subject = subjects()["ptxas"]
    converge(subject, subject.plan(node), node, node)
    node.put(PTXAS_ENV, f"{node.files[PTXAS_ENV].text}TRITON_PTXAS_PATH=/usr/local/cuda-13.0/bin/ptxas\n")
    assert states(subject.plan(node))["ptxas/file_extra"] == "drifted"
    converge(subject, subject.plan(node), node, node)
    assert "TRITON" not in node.files[PTXAS_ENV].text.replace("TRITON_*", "")


@pytest.mark.parametrize("shows", [put_in, lambda node: node.put("/dev/nvidia0")], ids=["bus", "device"])
def test_a_gpu_that_is_there_all_the_same_is_named_and_nothing_about_it_is_fine(shows) -> None:
    node = plain_node()
    shows(node)
    what = "000f:01:00.0 on the PCI bus" if shows is put_in else "/dev/nvidia0"
    for role, subject in subjects().items():
        plan = subject.plan(node)
        found = states(plan)
        assert found.pop("nvidia_toolkit/gpu", "drifted") == "drifted"
        assert set(found.values()) <= {"unknown", "not_selected"}
        assert [name for name, state in found.items() if state == "not_selected"] == [f"{role}/file_extra"]
        assert all(what in control.reason and WITHOUT in control.reason for control in plan.controls)
        assert plan.steps == ()
        if role == "nvidia_toolkit":
            with pytest.raises(NodeError, match="take spark_gpu: none from this host"):
                converge(subject, plan, node, node)
        else:
            converge(subject, plan, node, node)
    assert [effect for effect in node.effects if "/var/lib/nusy" not in effect] == []


def test_where_nobody_can_tell_nothing_is_known() -> None:
    hidden = plain_node()
    hidden.unreadable.add(PCI)
    for node in (Node(), hidden):
        for subject in subjects().values():
            plan = subject.plan(node)
            assert set(states(plan).values()) == {"unknown", "not_selected"}
            assert all("cannot be seen" in control.reason for control in plan.controls)


def test_a_kernel_without_pci_has_no_gpu_on_it() -> None:
    node = Node()
    node.put(BUSES, kind="directory")
    assert shown(node) == ()
    assert states(stack(declared_gpu="none").plan(node))["nvidia_toolkit/gpu"] == "in_sync"


def test_a_device_that_goes_while_it_is_looked_at_is_none() -> None:
    node = plain_node()
    node.put(f"{PCI}/0000:04:00.0/vendor", "0x10de\n")
    assert shown(node) == ()


def test_a_gpu_that_is_expected_is_none_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"not expected on a machine .*spark_gpu: none"):
        stack(gpu="expected", declared_gpu="none")


def test_where_a_gpu_is_declared_this_control_is_left_to_the_others() -> None:
    (control,) = [one for one in stack().plan(spark()).controls if one.id == "nvidia_toolkit/gpu"]
    assert control.state == "not_selected" and "nvidia_toolkit/smi" in control.reason
