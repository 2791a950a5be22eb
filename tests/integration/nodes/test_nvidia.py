# SPDX-License-Identifier: GPL-3.0-or-later
"""Role nvidia_toolkit on real nodes, by the real apt out of a signed repository with NVIDIA's names.

One node has the os-release of a DGX Spark and what DGX OS brings; the other one that of plain Ubuntu 24.04 and
nothing. There is no GPU and no driver in the kernel: what only these can show is unknown here, and
proven by tests/unit. Tests run in the order of this file; each leaves to the next what the next one's run repairs.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import apt_repo as apt
import calls
import nvidia_packages as packages
import pytest
import testing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import openpgp
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    CDI_BY_HAND,
    CDI_ENVIRONMENT,
    CONTROLS,
    DGX_SOURCE,
    KEYRING,
    OURS,
)

PLAY = [
    {
        "hosts": "spark",
        "gather_facts": False,
        "roles": [{"role": "nusy.dgx_spark.nvidia_toolkit", "tags": ["nvidia_toolkit"]}],
    }
]
ROLES = ("nvidia_toolkit",)
# What needs the driver in the kernel.
UNSEEN = {"driver_match", "smi"}
LIST = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"
URL = f"file:{apt.SEEN_BY_NODES}/nvidia-$(ARCH)"


@pytest.fixture(scope="module")
def repository(_able: None):
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    made = apt.AptRepo(f"nvidia-{architecture}", label="NVIDIA")
    made.publish([*packages.EVERYTHING, *packages.toolkit("1.18.2-1")])
    yield made
    made.remove()


class Story:
    """One node, one declaration, and the runs of it."""

    def __init__(self, machine: Any, directory: Path, extra: dict[str, Any]) -> None:
        self.machine, self.directory, self.extra = machine, directory, extra

    def run(self, *, check: bool, fails: bool = False, **extra: Any) -> dict[str, dict[str, Any]]:
        given = {f"nvidia_toolkit_{name}": value for name, value in {**self.extra, **extra}.items()}
        rows = {"spark_version_matrix": given.pop("nvidia_toolkit_rows", [])}
        done = testing.ansible_playbook(PLAY, [self.machine], self.directory, check=check, extra={**given, **rows})
        assert (done.rc != 0) is fails, done.stdout[-4000:]
        (entry,) = done.of(action="nvidia_toolkit")
        self.result = entry["result"]
        return {control["id"].partition("/")[2]: control for control in self.result["controls"]}


def of_state(found: dict[str, dict[str, Any]], *states: str) -> set[str]:
    return {name for name, control in found.items() if control["state"] in states}


def drifted(found: dict[str, dict[str, Any]]) -> set[str]:
    # The GPU makes a Spark of the node, and it has no firmware of one.
    assert of_state(found, "unknown") <= UNSEEN | {"docker_legacy", "versions"}, found
    return of_state(found, "drifted")


# --- DGX OS: adopted --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dgx(make_node, repository, tmp_path_factory) -> Story:
    return Story(
        make_node(flavour="dgx"),
        tmp_path_factory.mktemp("dgx"),
        {"gpu": "expected", "holds": ["libnvidia-container1"], "docker_users": ["ops"]},
    )


def test_without_gpu_and_packages_nothing_is_judged_and_nothing_done(dgx: Story) -> None:
    bare = {"gpu": "auto", "holds": [], "docker_users": []}
    for check in (True, False):
        found = dgx.run(check=check, **bare)
        assert of_state(found, "unknown", "not_selected") == set(found) == {name.partition("/")[2] for name in CONTROLS}
        assert dgx.result["changed"] is False
        assert "no NVIDIA GPU" in found["driver"]["reason"]


def test_what_dgx_os_brings_is_adopted(dgx: Story, repository) -> None:
    machine = dgx.machine
    signed = f"{apt.SEEN_BY_NODES}/{apt.PUBLIC_KEY.name}"
    machine.write(
        DGX_SOURCE,
        f"Types: deb\nURIs: file:{apt.SEEN_BY_NODES}/{repository.name}\nSuites: ./\nSigned-By: {signed}\n",
    )
    machine.shell(f"apt-get update -q && apt-get install -q -y --allow-downgrades {' '.join(packages.PREINSTALLED)}")
    machine.shell(packages.GPU)
    predicted = dgx.run(check=True)
    # The specification and the daemon are in memory, the flag for this Podman and the hold are ours.
    assert drifted(predicted) == {"persistence", "cdi_podman", "holds", "docker_group"}
    assert dgx.run(check=False) == predicted
    assert drifted(dgx.run(check=True)) == set() and dgx.result["changed"] is False
    assert machine.read(CDI_ENVIRONMENT).count("no-additional-gids-for-device-nodes") == 1
    assert "no-additional-gids-for-device-nodes" in machine.read("/run/cdi/nvidia.yaml")
    assert dgx.result["driver"] == "580.142"
    assert dgx.result["next_kernel"] == {"release": packages.KERNEL, "gaps": [], "problem": "", "audit": ""}
    assert not machine.ok("test", "-e", OURS) and not machine.ok("test", "-e", "/etc/docker/daemon.json")


ROUNDS = (
    {
        "persistence": "systemctl stop nvidia-persistenced.service",
        "cdi": "systemctl disable -q --now nvidia-cdi-refresh.path; rm /run/cdi/nvidia.yaml",
        "holds": "apt-mark unhold libnvidia-container1",
    },
    {"cdi_podman": f"echo FOO=1 > {CDI_ENVIRONMENT}", "docker_group": "gpasswd -d ops docker"},
)


@pytest.mark.breaks(*(name for damages in ROUNDS for name in damages), role="nvidia_toolkit")
@pytest.mark.parametrize("damages", ROUNDS, ids=lambda damages: " and ".join(damages))
def test_what_is_broken_by_hand_is_named_and_repaired(dgx: Story, damages: dict[str, str]) -> None:
    for damage in damages.values():
        dgx.machine.shell(damage)
    found = dgx.run(check=True)
    assert drifted(found) == set(damages)
    assert {found[name]["cause"] for name in damages} == {"corrective"}
    assert dgx.run(check=False) == found
    assert drifted(dgx.run(check=True)) == set()
    if "cdi_podman" in damages:
        assert "FOO=1\n" in dgx.machine.read(CDI_ENVIRONMENT)


@pytest.mark.breaks("sources", "driver", "kernels", "cdi", role="nvidia_toolkit")
def test_what_changes_driver_kernel_or_files_of_others_waits_until_it_is_named(dgx: Story, repository) -> None:
    machine = dgx.machine
    signed = f"{apt.SEEN_BY_NODES}/{apt.PUBLIC_KEY.name}"
    # A new kernel comes, and its modules come another day.
    machine.shell(f"apt-get install -q -y linux-image-{packages.NEXT}")
    machine.write(LIST, f"deb [signed-by={signed}] https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /\n")
    machine.shell(f"mkdir -p /etc/cdi && echo stale > {CDI_BY_HAND}")
    machine.shell("dpkg --remove --force-depends nvidia-driver-580-open")
    victims = {
        "sources": LIST,
        "driver": "nvidia-driver-580-open",
        "kernels": f"linux-modules-nvidia-580-open-{packages.NEXT}",
        "cdi": CDI_BY_HAND,
    }
    found = dgx.run(check=False)
    assert drifted(found) == set(victims)
    for name, victim in victims.items():
        assert found[name]["blocked_by"] == f"nvidia_toolkit_confirm: [{victim}]"
    assert dgx.result["next_kernel"]["gaps"] == ["nvidia.ko"]
    assert machine.ok("test", "-e", LIST)
    dgx.run(check=False, confirm=[*victims.values()])
    assert drifted(dgx.run(check=True)) == set()
    assert dgx.result["next_kernel"]["gaps"] == [] and not machine.ok("test", "-e", LIST)


@pytest.mark.names("versions", "docker_legacy", role="nvidia_toolkit")
def test_what_the_role_cannot_make_true_fails_with_what_to_do(dgx: Story) -> None:
    machine = dgx.machine
    bad = {"id": "here", "subject": "kernel", "range": f"=={platform.release()}", "verdict": "known_bad",
           "why": "It is the one of this machine", "source": "a test", "remedy": "boot another"}  # fmt: skip
    machine.shell("apt-get install -q -y --allow-downgrades libnvidia-container-tools=1.18.2-1 "
                  "libnvidia-container1=1.18.2-1 --allow-change-held-packages")  # fmt: skip
    machine.shell("apt-get install -q -y nvidia-utils-590; apt-mark hold libnvidia-container1")
    container = {"name": "/old", "runtime": "runc", "requests": [{"Driver": ""}]}
    modern = {"name": "/new", "runtime": "runc", "requests": [{"Driver": "cdi"}]}
    machine.write("/run/containers.json", json.dumps([container, modern]))
    found = dgx.run(check=True, rows=[bad])
    assert drifted(found) == {"container_toolkit", "driver", "versions", "docker_legacy"}
    assert list(found["docker_legacy"]["before"]) == ["container old"]
    assert "nvidia-utils-590 is of another branch" in found["driver"]["reason"]
    # A version waits for its name, and is none of what the run fails with.
    assert found["versions"]["blocked_by"] == "nvidia_toolkit_confirm: [here]"
    assert "boot another" in found["versions"]["reason"]
    assert dgx.run(check=False, fails=True, rows=[bad]) == found
    assert "boot another" not in dgx.result["msg"]
    assert "--device nvidia.com/gpu=all" in dgx.result["msg"]
    machine.shell("rm /run/containers.json; apt-get remove -q -y nvidia-utils-590")
    machine.shell("apt-mark unhold libnvidia-container1; apt-get install -q -y libnvidia-container-tools")
    machine.shell("apt-get install -q -y libnvidia-container1; apt-mark hold libnvidia-container1")
    assert drifted(dgx.run(check=True)) == set()


def test_a_report_of_the_site_says_it_in_one_call(dgx: Story, tmp_path) -> None:
    machine = dgx.machine
    before = calls.as_root(machine.name)
    extra = {f"nvidia_toolkit_{name}": value for name, value in dgx.extra.items()}
    run = ("site.yml", [machine], tmp_path, "--tags", "nvidia_toolkit")
    done = testing.ansible_playbook(*run, check=True, report=True, extra=extra).assert_ok()
    calls.keep_the_promise(done, machine, ROLES, calls.as_root(machine.name) - before)
    (host,) = done.report["hosts"]
    found = {one["id"]: one["state"] for one in host["controls"] if one["id"].startswith("nvidia_toolkit/")}
    assert set(found) == set(CONTROLS) and "drifted" not in found.values()


@pytest.mark.names("driver_match", "smi", role="nvidia_toolkit")
def test_what_only_the_driver_in_the_kernel_shows(dgx: Story) -> None:
    machine = dgx.machine
    machine.write("/usr/bin/nvidia-smi", packages.SMI, "0755")
    found = dgx.run(check=True)
    assert {found[name]["state"] for name in UNSEEN} == {"in_sync"} and of_state(found, "drifted") == set()
    # An update without a reboot; and a tool that is there and cannot answer, while the kernel still knows the GPU.
    machine.shell("sed -i s/580.142/580.95.05/ /proc/driver/nvidia/version")
    machine.write(
        "/usr/bin/nvidia-smi", "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\n", "0755"
    )
    found = dgx.run(check=True)
    assert of_state(found, "drifted") == {"driver_match"} and "580.95.05 is loaded" in found["driver_match"]["reason"]
    assert found["smi"]["state"] == "unknown" and "version mismatch" in found["smi"]["reason"]
    dgx.run(check=False, fails=True)
    assert "reboot" in dgx.result["msg"]


# --- plain Ubuntu: ensured --------------------------------------------------------------------


@pytest.fixture(scope="module")
def ubuntu(make_node, repository, tmp_path_factory) -> Story:
    machine = make_node()
    machine.shell("rm /etc/os-release")
    machine.write("/etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.4 LTS"\n')
    (fingerprint,) = openpgp.fingerprints(apt.PUBLIC_KEY.read_text())
    return Story(
        machine,
        tmp_path_factory.mktemp("ubuntu"),
        {
            "gpu": "expected",
            "driver_packages": ["nvidia-utils-580"],
            "repository_url": URL,
            "repository_fingerprint": fingerprint,
            "repository_key_url": f"file://{apt.SEEN_BY_NODES}/{apt.PUBLIC_KEY.name}",
            "skip_controls": ["nvidia_toolkit/kernels", "nvidia_toolkit/persistence"],
        },
    )


def test_plain_ubuntu_gets_the_toolkit_from_its_repository(ubuntu: Story) -> None:
    predicted = ubuntu.run(check=True)
    assert of_state(predicted, "drifted") == {"key", "sources", "driver", "container_toolkit"}
    assert predicted["driver"]["blocked_by"] == "nvidia_toolkit_confirm: [nvidia-utils-580]"
    assert ubuntu.run(check=False) == predicted
    # What brings the units is there now; the driver still waits for its name.
    assert of_state(ubuntu.run(check=True), "drifted") == {"driver"}
    ubuntu.run(check=False, confirm=["nvidia-utils-580"])
    assert drifted(ubuntu.run(check=True)) == set()
    assert "1.19.1" in ubuntu.machine.run("dpkg-query", "-W", "nvidia-container-toolkit")


@pytest.mark.breaks("docker_runtime", role="nvidia_toolkit")
def test_docker_gets_the_runtime_and_keeps_what_it_had(ubuntu: Story) -> None:
    machine = ubuntu.machine
    machine.shell('mkdir -p /etc/docker && echo \'{"log-driver": "local"}\' > /etc/docker/daemon.json')
    machine.shell("apt-get install -q -y docker-ce")
    machine.write("/run/containers.json", json.dumps([{"name": "/busy", "runtime": "runc", "requests": None}]))
    found = ubuntu.run(check=False)
    assert drifted(found) == {"docker_runtime"}
    assert found["docker_runtime"]["blocked_by"] == "nvidia_toolkit_confirm: [docker.service]"
    document = json.loads(machine.read("/etc/docker/daemon.json"))
    assert document["log-driver"] == "local" and document["features"] == {"cdi": True}
    assert "nvidia" not in machine.read("/run/daemon.json")
    ubuntu.run(check=False, confirm=["docker.service"])
    assert "nvidia-container-runtime" in machine.read("/run/daemon.json")
    machine.shell("rm /run/containers.json; echo '{}' > /etc/docker/daemon.json")
    predicted = ubuntu.run(check=True)
    assert drifted(predicted) == {"docker_runtime"} and predicted["docker_runtime"]["blocked_by"] == ""
    assert ubuntu.run(check=False) == predicted
    assert drifted(ubuntu.run(check=True)) == set()


@pytest.mark.breaks("key", "file_extra", "sources", "container_toolkit", role="nvidia_toolkit")
def test_the_source_of_the_role_is_kept(ubuntu: Story) -> None:
    machine = ubuntu.machine
    machine.shell(f"cp /usr/share/keyrings/debian-archive-keyring.gpg {KEYRING}; echo 'Architectures: arm64' >> {OURS}")
    found = ubuntu.run(check=True)
    assert drifted(found) == {"key", "file_extra"}
    assert ubuntu.run(check=False) == found
    machine.shell(f"sed -i 's/^Signed-By.*/Trusted: yes/' {OURS}; apt-get remove -q -y nvidia-container-toolkit")
    found = ubuntu.run(check=True)
    assert {"sources", "container_toolkit"} <= drifted(found)
    assert ubuntu.run(check=False) == found
    assert drifted(ubuntu.run(check=True)) == set()
