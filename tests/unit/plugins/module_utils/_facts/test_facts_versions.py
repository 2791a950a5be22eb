# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version is taken from which fact, and what becomes of one that is not there."""

from __future__ import annotations

from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.versions import judged_versions, look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS

FACTS: dict[str, Any] = {
    "is_spark": True,
    "machine": {"model": "DGX Spark Founders Edition"},
    "kernel": {"release": "7.0.0-1019-nvidia", "parameters": {"quiet": [""]}},
    "gpu": {"driver_version": "580.126.09"},
    "cuda": {
        "default_path": "/usr/local/cuda-13.0",
        "toolkits": [
            {"path": "/usr/local/cuda-12.8", "version": "12.8.1"},
            {"path": "/usr/local/cuda-13.0", "version": "13.0.2"},
        ],
    },
    "containers": {"nvidia_toolkit": {"version": "1.19.0"}},
    "network": {
        "rdma_devices": {
            "rocep1s0f0": {"firmware": "28.45.4028"},
            "roceP2p1s0f0": {"firmware": "28.9.1"},
            "rxe0": {"firmware": ""},
            "mlx4_0": {"firmware": "2.42.5000"},
        }
    },
    "firmware": {"components": [{"name": "EC", "version": "0.1"}, {"name": "UEFI", "version": "R:1.108.20"}]},
    "packages": {"libnccl2": "2.28.9-1+cuda13.0"},
}


def test_versions_and_conditions_come_from_their_facts() -> None:
    seen = look(ROWS, FACTS, {})
    assert seen.versions == {
        "kernel": "7.0.0-1019-nvidia",
        "driver": "580.126.09",
        "cuda": "13.0.2",
        "container_toolkit": "1.19.0",
        "connectx_firmware": "28.9.1",  # the older of two: both halves of a link
        "uefi": "1.108.20",
        "nccl": "2.28.9-1+cuda13.0",
    }
    assert seen.conditions == {"kho=off": False, "spark": True, "founders_edition": True}
    assert seen.unknown["cdi_0_7"] == "not gathered"


def test_known_bad_ones_are_issues_with_their_remedy() -> None:
    verdicts, bad, doubts = judged_versions(ROWS, FACTS, {})
    assert verdicts["nccl"] == {"version": "2.28.9-1+cuda13.0", "verdict": "known_good", "rows": ["nccl_2_28_9"]}
    assert sorted(bad) == ["connectx_firmware_old", "kernel_7_0_0_1019_kho", "uefi_before_1_110_13"]
    assert bad["uefi_before_1_110_13"].startswith("UEFI firmware 1.108.20 is known to be bad: CVE-2026-47626")
    assert doubts == {}


def test_a_version_that_could_not_be_seen_is_unknown_and_one_that_is_not_installed_is_absent() -> None:
    facts = {**FACTS, "firmware": {}, "packages": {}, "cuda": {"default_path": None, "toolkits": []}}
    del facts["containers"]
    verdicts, _bad, doubts = judged_versions(ROWS, facts, {"firmware.components": "needs root"})
    assert not {"uefi", "nccl", "cuda", "container_toolkit"} & set(verdicts)
    assert doubts == {
        "versions.uefi": "needs root",
        "versions.container_toolkit": "the facts of containers were not gathered",
    }


def test_without_its_condition_a_version_has_no_verdict() -> None:
    facts = {**FACTS, "kernel": {"release": "7.0.0-1019-nvidia"}, "machine": {}}
    verdicts, bad, doubts = judged_versions(ROWS, facts, {"machine.model": "no DMI", "kernel.parameters": "denied"})
    assert verdicts["kernel"] == {"version": "7.0.0-1019-nvidia", "rows": []}
    assert "kernel_7_0_0_1019_kho" not in bad and "uefi_before_1_110_13" not in bad
    assert doubts["versions.kernel.verdict"].endswith("whether it has kho=off is not known (denied)")
    assert "no DMI" in doubts["versions.uefi.verdict"]


def test_what_an_engine_cannot_read_depends_on_the_specification_that_is_there() -> None:
    packages = {"podman": "4.9.3+ds1-1ubuntu0.2", "docker-ce": "5:24.0.7-1~ubuntu.24.04~noble"}

    def verdicts(specs: object) -> tuple[dict[str, object], set[str]]:
        facts = {**FACTS, "packages": packages, "containers": {"cdi_specs": specs}}
        found, bad, _doubts = judged_versions(ROWS, facts, {"containers.cdi_specs./etc/cdi/x.yaml": "denied"})
        return {name: found[name].get("verdict") for name in ("docker", "podman")}, {*bad}

    newest = {**FACTS, "packages": {"docker-ce": "5:29.6.2-1~ubuntu.24.04~noble"}}
    assert judged_versions(ROWS, newest, {})[0]["docker"]["rows"] == ["docker_29"]
    both = {"docker_cdi_0_7", "podman_cdi_0_7"}
    new, old = {"cdi_version": "0.7.0", "kind": "nvidia.com/gpu"}, {"cdi_version": "0.5.0", "kind": "nvidia.com/gpu"}
    assert both <= verdicts({"/run/cdi/nvidia.yaml": new, "/etc/cdi/x.yaml": {}})[1]
    assert not both & verdicts({"/run/cdi/nvidia.yaml": old})[1] and not both & verdicts({})[1]
    # The one that nobody could read may be the one that stops them.
    unread = verdicts({"/run/cdi/nvidia.yaml": old, "/etc/cdi/x.yaml": {}})
    assert unread[0] == {"docker": None, "podman": None} and not both & unread[1]


def test_another_machine_is_no_founders_edition_whatever_its_name() -> None:
    facts = {**FACTS, "is_spark": False, "machine": {}}
    assert look(ROWS, facts, {}).conditions["founders_edition"] is False
