# SPDX-License-Identifier: GPL-3.0-or-later
"""What is adopted, what is ensured, what waits for a name, and what only says what to do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import docker, kernels
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    CDI_BY_HAND,
    CDI_ENVIRONMENT,
    CDI_PATH,
    CDI_SERVICE,
    CONTROLS,
    DGX_SOURCE,
    KEYRING,
    OCI_HOOK,
    OURS,
    PERSISTENCED,
    TOOLKIT_PACKAGES,
    branch_of,
    upstream,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.matrix import ROWS
from nvidia_node import (
    FACTS,
    KERNEL,
    NO_GPU,
    Node,
    apply,
    bad,
    installed,
    kernel,
    plain,
    spark,
    stack,
    states,
    verdicts,
)

LISTS = "/etc/apt/sources.list.d"
TOOLKIT_URL = "https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH)"


def facts(**changes: Any) -> dict[str, Any]:
    found = copy.deepcopy(FACTS)
    for path, value in changes.items():
        subject, _sep, name = path.partition("__")
        if name:
            found[subject][name] = value
        else:
            found[subject] = value
    return found


def test_what_dgx_os_brings_is_adopted_and_nothing_is_done() -> None:
    node = spark()
    plan = stack().plan(node)
    assert not plan.steps
    assert {name for name, state in states(plan).items() if state == "in_sync"} == {
        "sources", "driver", "kernels", "driver_match", "versions", "persistence", "smi", "container_toolkit", "cdi",
    }  # fmt: skip
    assert {name: one.reason for name, one in verdicts(plan).items() if one.state == "not_selected"} == {
        "gpu": "a GPU is declared, and nvidia_toolkit/smi says whether it answers",
        "key": "no source of this role is declared on this node",
        "cdi_podman": "podman is not installed",
        "docker_runtime": "Docker is not installed",
        "docker_legacy": "Docker is not installed",
        "docker_group": "nobody is declared (nvidia_toolkit_docker_users)",
        "holds": "nothing is declared (nvidia_toolkit_holds)",
        "file_extra": "no file of this role is declared on this node",
    }
    assert plan.facts["next_kernel"] == {"release": KERNEL, "gaps": [], "problem": "", "audit": ""}


def test_a_node_without_any_of_it_is_unknown_and_refuses_nothing() -> None:
    for system in ("ID=debian\n", 'ID=ubuntu\nVERSION_ID="24.04"\n'):
        node = Node()
        node.put("/etc/os-release", system)
        plan = apply(node, NO_GPU)
        assert set(states(plan).values()) == {"unknown", "not_selected"}
        # But for the record of the run.
        assert [effect for effect in node.effects if "/var/lib/nusy" not in effect] == []
        assert set(states(plan)) == {name.partition("/")[2] for name in CONTROLS}


@pytest.mark.parametrize("system", ["ID=debian\n", 'ID=ubuntu\nVERSION_ID="22.04"\n', ""])
def test_another_system_with_a_gpu_is_unknown_and_refused(system: str) -> None:
    node = Node()
    node.put("/etc/os-release", system)
    assert set(states(stack().plan(node)).values()) == {"unknown"}
    with pytest.raises(NodeError, match=r"made for DGX OS 7, Ubuntu 24\.04 and Arch Linux"):
        apply(node)
    assert node.effects == []


Break = Callable[[Node], object]


def old_driver(node: Node) -> None:
    node.packages["nvidia-utils-580"] = ("installed", "580.126.09-0ubuntu0.24.04.1")


def dkms(node: Node) -> None:
    installed(node, nvidia_dkms_580_open="580.178.04-1ubuntu1")


# What no step may make true: the run does the rest, and fails with what to do.
ASSERTED: tuple[tuple[str, Break, str], ...] = (
    ("driver", lambda n: installed(n, nvidia_utils_590="590.48.01-0ubuntu1"), "nvidia-utils-590 is of another branch"),
    ("driver", old_driver, "user space of two versions"),
    ("driver", dkms, "beside prebuilt modules"),
    ("kernels", lambda n: n.put(f"/boot/initrd.img-{KERNEL}", ""), "without initrd"),
    ("kernels", lambda n: setattr(n, "audit", "The following packages are only half configured: x"), "half done"),
    ("container_toolkit", lambda n: installed(n, libnvidia_container1="1.18.2-1"), "at one version"),
    ("sources", lambda n: n.files.pop(DGX_SOURCE), "DGX OS without its own repository"),
    ("persistence", lambda n: n.units.pop(PERSISTENCED), "there is no nvidia-persistenced.service"),
    ("cdi", lambda n: n.units.pop(CDI_PATH), "systemd does not know"),
)


@pytest.mark.parametrize(("name", "damage", "told"), ASSERTED)
def test_what_cannot_be_made_true_is_named_alone_and_fails_a_run(name: str, damage: Break, told: str) -> None:
    node = spark()
    damage(node)
    if name == "sources":
        node.put("/etc/apt/sources.list.d/dgx.list", "# moved\n")
    found = bad(node)
    assert {*found} == {name} and found[name].state == "drifted" and told in found[name].reason
    with pytest.raises(NodeError) as failed:
        apply(node)
    assert failed.value.problem.key == "state.not_ensured" and failed.value.problem.fix


def two_kernels(node: Node) -> None:
    kernel(node, "6.17.0-1022-nvidia", modules=False)
    node.available["linux-modules-nvidia-580-open-6.17.0-1022-nvidia"] = "1"


def no_driver(node: Node) -> None:
    del node.packages["nvidia-driver-580-open"]
    node.available["nvidia-driver-580-open"] = "580.142"


def no_toolkit(node: Node) -> None:
    del node.packages["libnvidia-container-tools"]
    node.available["libnvidia-container-tools"] = "1.19.0-1"


NAMED: tuple[tuple[str, Break, str], ...] = (
    ("driver", no_driver, "nvidia-driver-580-open"),
    ("kernels", two_kernels, "linux-modules-nvidia-580-open-6.17.0-1022-nvidia"),
    ("container_toolkit", no_toolkit, "libnvidia-container-tools"),
    ("cdi", lambda n: n.put(CDI_BY_HAND, "cdiVersion: 0.5.0\n"), CDI_BY_HAND),
    ("sources", lambda n: n.put(f"{LISTS}/nvidia-docker.list", "deb https://nvidia.github.io/x /\n"),
     f"{LISTS}/nvidia-docker.list"),
    ("sources", lambda n: n.put(f"{LISTS}/nv.list", f"deb [signed-by=/k] {TOOLKIT_URL} /\n"), f"{LISTS}/nv.list"),
    ("sources", lambda n: n.put(f"{LISTS}/nvidia.sources", "Types: deb\nSuites: noble\nURIs: "
     "https://repo.download.nvidia.com/baseos/8/ubuntu/noble/arm64/\n"), f"{LISTS}/nvidia.sources"),
    ("sources", lambda n: n.put(f"{LISTS}/dgx2.list", "deb [signed-by=/other] "
     "https://repo.download.nvidia.com/baseos/ubuntu/noble/arm64/ noble common\n"), f"{LISTS}/dgx2.list"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "victim"), NAMED)
def test_what_touches_driver_kernel_or_others_files_waits_for_its_name(name: str, damage: Break, victim: str) -> None:
    node = spark()
    damage(node)
    found = bad(node)
    assert {*found} == {name} and found[name].blocked_by == f"nvidia_toolkit_confirm: [{victim}]"
    apply(node)  # does not fail: it waits for the operator
    assert [effect for effect in node.effects if "/var/lib/nusy" not in effect] == []
    assert victim not in node.packages and (not victim.startswith("/") or victim in node.files)
    if name == "kernels":
        # A package that is called so and brings nothing is found out.
        with pytest.raises(NodeError, match=r"no nvidia\.ko"):
            apply(node, confirm=[victim])
        node.modules_of.add("6.17.0-1022-nvidia")
    assert states(apply(node, confirm=[victim]))[name] == "in_sync"
    assert not bad(node)


def test_a_file_with_other_sources_is_nobodys_to_remove() -> None:
    node = spark()
    node.put(f"{LISTS}/mixed.list", f"deb [signed-by=/k] {TOOLKIT_URL} /\ndeb https://packages.test/debian x main\n")
    found = bad(node, confirm=[f"{LISTS}/mixed.list"])
    assert found["sources"].blocked_by == "" and f"{LISTS}/mixed.list" in node.files
    with pytest.raises(NodeError, match="remove its lines of NVIDIA"):
        apply(node, confirm=[f"{LISTS}/mixed.list"])


REPAIRED: tuple[tuple[str, Break], ...] = (
    ("persistence", lambda n: n.units[PERSISTENCED].update(ActiveState="inactive")),
    ("cdi", lambda n: n.units[CDI_PATH].update(UnitFileState="disabled", ActiveState="inactive")),
    ("cdi", lambda n: n.files.pop("/run/cdi/nvidia.yaml")),
    # What is there is of the last driver for which it worked.
    ("cdi", lambda n: n.units[CDI_SERVICE].update(ActiveState="failed")),
)


@pytest.mark.parametrize(("name", "damage"), REPAIRED)
def test_what_is_harmless_is_repaired(name: str, damage: Break) -> None:
    node = spark()
    damage(node)
    assert {*bad(node)} == {name}
    apply(node)
    assert not bad(node)


# --- what only a GPU shows ------------------------------------------------------------------


def test_a_module_of_another_version_than_the_libraries_needs_a_reboot() -> None:
    found = bad(spark(), facts(gpu__module_version="580.126.09"))
    assert {*found} == {"driver_match"}
    assert (
        found["driver_match"].changes[0].before == "580.126.09" and found["driver_match"].changes[0].after == "580.142"
    )


def test_a_driver_that_is_not_loaded_leaves_unknown_what_needs_it() -> None:
    unloaded = {"pci_addresses": ["000f:01:00.0"]}
    given = facts(gpu=unloaded)
    why = "the NVIDIA kernel driver is not loaded"
    given["unknown"] = dict.fromkeys(("gpu.devices", "gpu.module_version", "gpu.driver_version"), why)
    found = bad(spark(), given)
    assert {name: one.reason for name, one in found.items()} == dict.fromkeys(
        ("driver_match", "persistence", "smi"), why
    )


def test_a_tool_that_does_not_answer_is_not_fine_because_the_kernel_knows_the_gpu() -> None:
    given = facts()
    given["gpu"] = {**given["gpu"], "devices": [{"name": "NVIDIA GB10"}]}
    given["unknown"] = {"gpu.devices.0.index": "nvidia-smi (exit 18): Failed to initialize NVML"}
    found = bad(spark(), given)
    assert {name: (one.state, one.reason) for name, one in found.items()} == {
        "smi": ("unknown", "nvidia-smi (exit 18): Failed to initialize NVML")
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kernel": {"release": "6.17.0-1008-nvidia", "parameters": {}}}, "It panics"),
        ({"firmware": {"components": [{"name": "UEFI", "version": "R:1.108.20"}]}}, "CVE-2026-47626"),
        ({"network": {"rdma_devices": {"a": {"firmware": "28.44.1036"}}}}, "15 GB/s"),
    ],
)
def test_a_version_that_is_known_to_be_bad_is_drift_with_its_remedy(change: dict[str, Any], told: str) -> None:
    control = bad(spark(), facts(**change))["versions"]
    assert {*bad(spark(), facts(**change))} == {"versions"} and told in control.reason
    # It stops nothing else, named or not: what is broken beside it is repaired.
    row = control.blocked_by.removeprefix("nvidia_toolkit_confirm: [").removesuffix("]")
    assert row in {one.id for one in ROWS}
    for confirm in ([], [row]):
        node = spark()
        node.files.pop("/run/cdi/nvidia.yaml")
        assert {name for name, one in states(apply(node, facts(**change), confirm=confirm)).items()
                if one == "drifted"} == {"versions"}  # fmt: skip


def test_a_kernel_that_boots_next_and_is_known_to_be_bad_is_told() -> None:
    node = spark()
    kernel(node, "6.17.0-1099-nvidia")
    row = {"id": "ours", "subject": "kernel", "range": "==6.17.0-1099-nvidia", "verdict": "known_bad", "why": "Slow",
           "source": "us", "remedy": "remove it"}  # fmt: skip
    control = bad(node, version_matrix=[row])["versions"]
    assert [change.key for change in control.changes] == ["kernel of the next boot"] and "remove it" in control.reason


def test_what_is_declared_and_known_to_be_bad_is_installed_by_the_name_of_its_row_only() -> None:
    row = {"id": "ours", "subject": "container_toolkit", "range": "==1.19.1", "verdict": "known_bad", "why": "Slow",
           "source": "us", "remedy": "declare 1.19.0-1"}  # fmt: skip
    given: dict[str, Any] = {"gpu": "expected", "version": "1.19.1-1", "version_matrix": [row]}
    node = plain()
    control = bad(node, NO_GPU, **given)["container_toolkit"]
    assert control.blocked_by == "nvidia_toolkit_confirm: [ours]" and "declare 1.19.0-1" in control.reason
    assert "install_packages" not in {step.action for step in stack(NO_GPU, **given).plan(node).steps}
    assert "install_packages" in {step.action for step in stack(NO_GPU, confirm=["ours"], **given).plan(node).steps}


def test_a_driver_before_blackwell_is_not_brought_in_by_its_packages_names() -> None:
    node = plain()
    named = ["linux-modules-nvidia-570-open-generic", "nvidia-headless-no-dkms-570-open", "nvidia-utils-570",
             "libnvidia-compute-570"]  # fmt: skip
    node.available |= dict.fromkeys(named, "570.86.10-0ubuntu1")

    def installs(*confirm: str) -> set[str]:
        plan = stack(NO_GPU, gpu="expected", branch="570", confirm=[*confirm]).plan(node)
        return {step.target for step in plan.steps if step.action == "install_packages"} - {" ".join(TOOLKIT_PACKAGES)}

    assert installs(*named) == set() and installs(*named, "driver_before_580") == {" ".join(named)}


def test_firmware_that_cannot_be_seen_is_unknown_on_a_spark_and_nothing_elsewhere() -> None:
    given = facts(firmware={})
    given["unknown"] = {"firmware.components": "needs root"}
    assert bad(spark(), given)["versions"].reason == "UEFI firmware: needs root"
    given["is_spark"] = False
    assert not bad(spark(), given)


def test_before_the_driver_is_in_the_kernel_nothing_of_it_is_started_or_generated() -> None:
    """As on a fresh Ubuntu: what cannot work yet fails no run, and waits."""
    node = spark()
    node.files.pop("/run/cdi/nvidia.yaml")
    node.units[PERSISTENCED]["ActiveState"] = "inactive"
    given = facts(gpu__module_version=None, gpu__driver_version=None, gpu__devices=[])
    found = bad(node, given, gpu="expected")
    assert (found["cdi"].state, found["persistence"].state) == ("drifted", "unknown")
    assert "as soon as the driver is in the kernel" in found["cdi"].reason
    apply(node, given, gpu="expected")
    assert not [effect for effect in node.effects if effect.startswith("systemctl")]


def test_the_site_may_judge_otherwise() -> None:
    row = {"id": "ours", "subject": "driver", "range": ">=580.142,<580.143", "verdict": "known_bad", "why": "Slow",
           "source": "us", "remedy": "stay on 580.126.09"}  # fmt: skip
    assert "Slow" in bad(spark(), version_matrix=[row])["versions"].reason


def test_the_kernel_of_the_next_boot_is_not_guessed() -> None:
    node = spark()
    node.put(kernels.ENVIRONMENT, "next_entry=1\n")
    found = bad(node)
    assert found["kernels"].state == "unknown" and "next_entry=1" in found["kernels"].reason


# --- containers -----------------------------------------------------------------------------


def test_podman_before_5_1_gets_the_flag_beside_what_is_there() -> None:
    node = spark()
    for name in TOOLKIT_PACKAGES:
        node.packages[name] = ("installed", "1.20.1-1")
    installed(node, podman="4.9.3+ds1-1ubuntu0.2")
    node.put(CDI_ENVIRONMENT, "# mine\nNVIDIA_CTK_DEBUG=1\nNVIDIA_CTK_CDI_GENERATE_FEATURE_FLAGS=other\n")
    assert {*bad(node)} == {"cdi_podman"}
    apply(node)
    assert node.files[CDI_ENVIRONMENT].text == (
        "# mine\nNVIDIA_CTK_DEBUG=1\n"
        'NVIDIA_CTK_CDI_GENERATE_FEATURE_FLAGS="other,no-additional-gids-for-device-nodes"\n'
    )
    assert "systemctl restart nvidia-cdi-refresh.service" in node.effects
    assert not bad(node)


@pytest.mark.parametrize(("podman", "toolkit"), [("5.4.2+ds1-2", "1.20.1-1"), ("4.9.3+ds1-1", "1.19.0-1")])
def test_podman_that_reads_it_gets_no_flag(podman: str, toolkit: str) -> None:
    node = spark()
    for name in TOOLKIT_PACKAGES:
        node.packages[name] = ("installed", toolkit)
    installed(node, podman=podman)
    assert not bad(node) and not stack().plan(node).steps


def test_the_old_hook_of_podman_goes_by_its_name() -> None:
    node = spark()
    installed(node, podman="5.4.2+ds1-2")
    node.put(OCI_HOOK, "{}")
    assert bad(node)["cdi_podman"].blocked_by == f"nvidia_toolkit_confirm: [{OCI_HOOK}]"
    apply(node, confirm=[OCI_HOOK])
    assert OCI_HOOK not in node.files and not bad(node)


def test_a_toolkit_without_refresh_units_is_drift() -> None:
    node = spark()
    for name in TOOLKIT_PACKAGES:
        node.packages[name] = ("installed", "1.17.8-1")
    assert "has the units" in bad(node)["cdi"].reason


def with_docker(node: Node, *containers: dict[str, Any], runtimes: dict[str, Any] | None = None) -> Node:
    installed(node, docker_ce="5:29.2.1-1~ubuntu.24.04~noble")
    node.units["docker.service"] = node.unit(active="active", state="enabled")
    node.put("/etc/docker", kind="directory", mode=0o755)
    node.docker = {
        "info": json.dumps({"runtimes": runtimes or {"runc": {}}, "cgroup": "systemd"}),
        "ps": "\n".join(one["name"] for one in containers),
        "inspect": "\n".join(json.dumps(one) for one in containers),
    }
    return node


def test_docker_of_dgx_os_is_left_as_it_is() -> None:
    assert not bad(with_docker(spark()))


def test_a_container_with_the_gpu_by_a_hook_is_named() -> None:
    by_flag = {"name": "/a", "runtime": "runc", "requests": [{"Driver": "", "Count": -1}]}
    by_cdi = {"name": "/b", "runtime": "runc", "requests": [{"Driver": "cdi"}]}
    by_runtime = {"name": "/c", "runtime": "nvidia", "requests": None}
    node = with_docker(spark(), by_flag, by_cdi, by_runtime)
    assert [change.key for change in bad(node)["docker_legacy"].changes] == ["container a"]
    node.put("/etc/nvidia-container-runtime/config.toml", '[nvidia-container-runtime]\nmode = "legacy"\n')
    assert [change.key for change in bad(node)["docker_legacy"].changes] == ["container a", "container c"]
    node.docker["info"] = json.dumps({"runtimes": {}, "cgroup": "cgroupfs"})
    assert not bad(node)


def test_a_daemon_that_does_not_answer_is_unknown() -> None:
    node = with_docker(spark())
    node.docker["info"] = "no json"
    assert {name: one.state for name, one in bad(node).items()} == dict.fromkeys(
        ("docker_runtime", "docker_legacy"), "unknown"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, {"runtimes": {"nvidia": docker.RUNTIME}, "features": {"cdi": True}}),
        ("{}", {"runtimes": {"nvidia": docker.RUNTIME}, "features": {"cdi": True}}),
        (
            '{"log-driver": "local", "features": {"x": false}, "runtimes": {"nvidia": {"path": "/opt/r"}, "k": {}}}',
            {
                "log-driver": "local",
                "features": {"x": False, "cdi": True},
                "runtimes": {"nvidia": {"path": "/opt/r"}, "k": {}},
            },
        ),
    ],
)
def test_daemon_json_keeps_what_it_has(text: str | None, wanted: dict[str, Any]) -> None:
    made = docker.merged(text)
    assert json.loads(made) == wanted
    assert docker.merged(made) == made


@pytest.mark.parametrize("text", ["{", "[]", '{"runtimes": []}', '{"features": 1}'])
def test_a_daemon_json_that_is_none_is_not_touched(text: str) -> None:
    with pytest.raises(ValueError):
        docker.merged(text)


# --- plain Ubuntu ---------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["", "-server"])
@pytest.mark.parametrize("desktop", [True, False])
def test_a_whole_driver_of_ubuntu_itself_is_adopted(flavour: str, desktop: bool) -> None:
    node, release = plain(), f"580{flavour}"
    names = [f"linux-modules-nvidia-{release}-open-generic", f"libnvidia-compute-{release}", f"nvidia-utils-{release}"]
    names.append(f"nvidia-driver-{release}-open" if desktop else f"nvidia-headless-no-dkms-{release}-open")
    for name in names:
        node.packages[name] = ("installed", "580.142-0ubuntu0.24.04.1")
    found = {one.id: one for one in stack(NO_GPU, gpu="expected").plan(node).controls}["nvidia_toolkit/driver"]
    assert not [change.key for change in found.changes if change.key.startswith("package ")]


def test_plain_ubuntu_gets_key_source_and_toolkit_and_its_driver_by_name() -> None:
    node = plain()
    found = bad(node, NO_GPU, gpu="expected")
    assert {"key", "sources", "driver", "kernels", "container_toolkit"} <= {*found}
    assert found["driver"].blocked_by == (
        "nvidia_toolkit_confirm: [linux-modules-nvidia-580-open-generic, nvidia-headless-no-dkms-580-open, "
        "nvidia-utils-580, libnvidia-compute-580]"
    )
    steps = [step.text() for step in stack(NO_GPU, gpu="expected").plan(node).steps]
    assert steps[:3] == ["make_directory /etc/apt/keyrings", f"write_key {KEYRING}", f"write_file {OURS}"]
    assert steps[3] == "refresh_lists package lists" and steps[4].startswith(
        "install_packages nvidia-container-toolkit "
    )


def test_a_source_that_somebody_configured_is_adopted() -> None:
    node = plain()
    node.put(f"{LISTS}/nvidia-container-toolkit.list", f"deb [signed-by=/k] {TOOLKIT_URL} /\n")
    found = bad(node, NO_GPU, gpu="expected")
    assert not {"key", "sources"} & {*found}


def test_two_keys_for_one_address_stop_apt_and_one_of_the_files_may_go_by_name() -> None:
    node = plain()
    node.put(f"{LISTS}/a.list", f"deb [signed-by=/k] {TOOLKIT_URL} /\n")
    node.put(f"{LISTS}/b.list", f"deb [signed-by=/l] {TOOLKIT_URL} /\n")
    found = bad(node, NO_GPU, gpu="expected")
    assert found["sources"].blocked_by == f"nvidia_toolkit_confirm: [{LISTS}/b.list]"


def test_the_kernel_that_is_followed_decides_the_modules() -> None:
    node = plain()
    installed(node, linux_image_generic_hwe_24_04="6.17.0-14.14")
    node.packages["linux-image-generic-hwe-24.04"] = node.packages.pop("linux-image-generic-hwe-24-04")
    assert "linux-modules-nvidia-580-open-generic-hwe-24.04" in bad(node, NO_GPU, gpu="expected")["driver"].blocked_by
    node.packages.pop("linux-image-generic-hwe-24.04")
    node.packages.pop("linux-generic")
    assert "no modules can follow the kernel" in bad(node, NO_GPU, gpu="expected")["driver"].reason


# --- the rest -------------------------------------------------------------------------------


def test_holds_and_group_are_exactly_what_is_declared() -> None:
    node = spark()
    given = {"holds": ["libnvidia-container1"], "docker_users": ["ops"]}
    assert {*bad(node, **given)} == {"holds"}
    apply(node, **given)
    assert node.packages["libnvidia-container1"][0] == "held" and not bad(node, **given)
    found = bad(node, holds=["libnccl2"], docker_users=["nobody-here"])
    assert "libnccl2 is not installed" in found["holds"].reason
    assert "there is no account nobody-here" in found["docker_group"].reason
    assert "libnccl2" not in node.packages and "nobody-here" not in node.users


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("branch", "latest"),
        ("driver_packages", ["nvidia-*"]),
        ("holds", ["x=1"]),
        ("docker_users", ["a b"]),
        ("version", "newest"),
        ("repository_url", "ftp://x"),
        ("repository_key_url", "http://x"),
        ("repository_fingerprint", "1234"),
        ("repository_key", "no key"),
        ("skip_controls", ["nvidia_toolkit/none"]),
        ("version_matrix", [{"id": "x"}]),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_looked_at(option: str, value: Any) -> None:
    with pytest.raises(InputError):
        stack(**{option: value})


@pytest.mark.parametrize("option", ["repository_url", "repository_key_url"])
def test_a_password_in_an_address_is_refused_and_not_shown(option: str) -> None:
    with pytest.raises(InputError) as error:
        stack(**{option: "https://ana:hunter22@mirror.example.org/deb"})
    assert "hunter22" not in repr(error.value.problem) and "auth.conf.d" in error.value.problem.wanted


@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("nvidia-driver-580-open", "580"),
        ("libnvidia-compute-580-server", "580"),
        ("nvidia-utils-590", "590"),
        ("nvidia-settings", ""),
        ("nvidia-modprobe", ""),
        ("libnvidia-container1", ""),
        ("linux-modules-nvidia-580-open-nvidia-hwe-24.04", ""),
    ],
)
def test_the_branch_is_in_the_name(name: str, branch: str) -> None:
    assert branch_of(name) == branch


@pytest.mark.parametrize(
    ("version", "plain"),
    [("580.142-0ubuntu0.24.04.1", "580.142"), ("5:29.2.1-1~ubuntu", "29.2.1"), ("1.19.0", "1.19.0")],
)
def test_the_version_without_what_packaging_adds(version: str, plain: str) -> None:
    assert upstream(version) == plain
