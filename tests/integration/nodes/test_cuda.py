# SPDX-License-Identifier: GPL-3.0-or-later
"""Role cuda_toolchain on real nodes: by the real apt out of a signed repository, by real wheels, on DGX OS.

The packages have NVIDIA's names and places and carry NVIDIA's binaries, out of the wheels. Each
story: bare check → apply → second apply → every control broken by hand → repair. Tests run in
the order of this file; each leaves to the next what the next one's run repairs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import apt_repo as apt
import pytest
import testing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import openpgp
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import sources
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.subject import PROVIDES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cuda"))

import parts

PLAY = [
    {
        "hosts": "spark",
        "gather_facts": False,
        "roles": [{"role": "nusy.dgx_spark.cuda_toolchain", "tags": ["cuda_toolchain"]}],
    }
]
PREFIX, LINK = "/usr/local/cuda-13.0", "/usr/local/cuda"
WHEELS_ON_NODE = "/srv/wheels"
# On a node with packages the usual link is theirs.
OTHER_LINK = "/srv/cuda"
THEIRS = "/etc/apt/sources.list.d/cuda-ubuntu2404.list"
DECLARED = "/var/lib/nusy/declared/cuda_toolchain.json"
PLACE = "/usr/local/lib/nusy/cuda"
MADE = f"{PLACE}/13.0"
# For what nvcc has no part in: it proves the same toolkit in the tests before.
QUICK = {"compile": False}
# Which package NVIDIA has the content of a wheel in.
DEBS = {
    "nvidia-cuda-nvcc": "cuda-nvcc-13-0",
    "nvidia-nvvm": "libnvvm-13-0",
    "nvidia-cuda-crt": "cuda-crt-13-0",
    "nvidia-cuda-runtime": "cuda-cudart-dev-13-0",
    "nvidia-cuda-cccl": "cuda-cccl-13-0",
    "nvidia-cuda-cuobjdump": "cuda-cuobjdump-13-0",
    "nvidia-cuda-nvdisasm": "cuda-nvdisasm-13-0",
}
# That repository has them, too; a few of each kind of name.
DRIVERS = ("cuda-drivers-580", "nvidia-driver-580-open", "nvidia-open", "libnvidia-compute", "libnvidia-gl-580")
# As in NVIDIA's: this package makes the alternative, which needs something to lead to.
CONFIG = apt.Package(
    "cuda-toolkit-13-0-config-common",
    "13.0.96-1",
    postinst=f"#!/bin/sh\nset -e\nupdate-alternatives --install {LINK} cuda {PREFIX} 130\n",
    prerm=f"#!/bin/sh\nset -e\nupdate-alternatives --remove cuda {PREFIX}\n",
)


def package(wheel: str) -> apt.Package:
    part = parts.unpacked() / wheel
    places = {path: f"{PREFIX}/{path.relative_to(part)}".replace("/lib/", "/lib64/") for path in part.rglob("*")}
    name = DEBS[wheel]
    needs = {"cuda-nvcc-13-0": "cuda-crt-13-0, libnvvm-13-0", "cuda-cudart-dev-13-0": CONFIG.name}
    files = {place: path for path, place in places.items() if path.is_file()}
    return apt.Package(name, "13.0.88-1", depends=needs.get(name, ""), files=files)


@pytest.fixture(scope="module")
def repository(_able: None):
    made = apt.AptRepo("cuda-13-0", label="NVIDIA CUDA")
    names = ("cuda-nvrtc-dev-13-0", "libcurand-dev-13-0", "libnvidia-container1", *DRIVERS)
    empty = [apt.Package(name, "13.0.88-1") for name in names]
    made.publish([*map(package, DEBS), *empty, CONFIG])
    yield made
    made.remove()


class Story:
    """One node, one declaration, and the runs of it."""

    def __init__(self, machine: Any, directory: Path, extra: dict[str, Any]) -> None:
        self.machine, self.directory, self.extra = machine, directory, extra

    def run(self, *, check: bool, fails: bool = False, **extra: Any) -> dict[str, dict[str, Any]]:
        """The role's own evidence, by the second half of the control's id."""
        given = {f"cuda_toolchain_{name}": value for name, value in {**self.extra, **extra}.items()}
        done = testing.ansible_playbook(PLAY, [self.machine], self.directory, check=check, extra=given)
        assert (done.rc != 0) is fails, done.stdout[-4000:]
        (entry,) = done.of(action="cuda_toolchain")
        self.result = entry["result"]
        return {control["id"].partition("/")[2]: control for control in self.result["controls"]}


def drifted(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, control in found.items() if control["state"] not in ("in_sync", "not_selected")}


def converges(story: Story, expected: set[str]) -> None:
    """A check of the bare node predicts what the run finds, and one run is enough."""
    predicted = story.run(check=True)
    assert drifted(predicted) == expected and story.result["provides"] == {}
    assert story.run(check=False) == predicted
    assert story.result["proof"]["built"] is True and story.result["proof"]["read_back"] == "cuobjdump"
    assert set(story.result["provides"]) == set(PROVIDES)
    # For whoever stands before the node without Ansible.
    assert story.machine.run("stat", "-c%a %U", DECLARED).strip() == "600 root"
    assert drifted(story.run(check=False)) == set() and story.result["changed"] is False


def broken_by_hand(story: Story, damages: dict[str, str]) -> dict[str, dict[str, Any]]:
    """A check names just the controls that were broken, and a run repairs them: it looks again itself."""
    for damage in damages.values():
        story.machine.shell(damage)
    found = story.run(check=True)
    assert drifted(found) == set(damages)
    assert {found[name]["cause"] for name in damages} == {"corrective"}
    assert story.run(check=False) == found
    assert story.result["proof"]["built"] is True
    return found


@pytest.fixture(scope="module")
def machine(make_node):
    """With what role prereqs brings, and a folder of the service account."""
    made = make_node(mounts=(f"{parts.wheels()}:{WHEELS_ON_NODE}",))
    made.shell("apt-get install -q -y --no-install-recommends g++ python3-venv >/dev/null")
    made.shell("useradd --system nusy && install -d -o nusy -g nusy /opt/nusy")
    return made


# --- packages -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packages(machine, repository, tmp_path_factory) -> Story:
    (fingerprint,) = openpgp.fingerprints(apt.PUBLIC_KEY.read_text())
    return Story(
        machine,
        tmp_path_factory.mktemp("packages"),
        {
            "source": "apt",
            "link": LINK,
            "repository_url": f"file:{apt.SEEN_BY_NODES}/{repository.name}/",
            "repository_fingerprint": fingerprint,
            "repository_key_url": f"file://{apt.SEEN_BY_NODES}/{apt.PUBLIC_KEY.name}",
            "holds": ["cuda-nvcc-13-0"],
        },
    )


def test_packages_make_a_toolkit_that_builds(packages: Story) -> None:
    converges(packages, {"key", "repository", "toolkit", "components", "link", "builds"})
    machine = packages.machine
    assert "cuda-nvcc-13-0" in machine.run("apt-mark", "showhold")
    # The alternative that the package made while it was installed is what was set.
    assert machine.run("readlink", LINK).strip() == "/etc/alternatives/cuda"
    assert "manual" in machine.run("update-alternatives", "--query", "cuda")
    assert packages.result["link"]["alternative"] == "cuda"


def test_no_driver_comes_out_of_that_repository(packages: Story) -> None:
    policies = packages.machine.run("apt-cache", "policy", *DRIVERS)
    assert policies.count("Candidate: (none)") == len(DRIVERS), policies
    assert "Candidate: 13.0.88-1" in packages.machine.run("apt-cache", "policy", "libnvidia-container1")


PACKAGE_DAMAGE = (
    {
        "key": f"rm {sources.KEYRING}",
        "toolkit": "apt-mark unhold cuda-nvcc-13-0",
        "components": f"rm {PREFIX}/bin/nvlink",
        "link": f"rm {LINK}",
    },
    {
        "repository": f"rm {sources.PINS}",
        "key": f"cp /usr/share/keyrings/debian-archive-keyring.gpg {sources.KEYRING}",
        "toolkit": "dpkg --purge --force-depends cuda-nvrtc-dev-13-0",
        "components": f"chmod 0644 {PREFIX}/bin/nvlink",
        "builds": f"rm {PREFIX}/nvvm/bin/cicc",
    },
    {
        "repository": f"sed -i 's/^Signed-By.*/Trusted: yes/' {sources.OURS}",
        "file_extra": f"echo 'Architectures: arm64' >> {sources.OURS}",
        "components": f"ln -sf cuobjdump {PREFIX}/bin/cuobjdump",
    },
)


@pytest.mark.breaks(*(name for damages in PACKAGE_DAMAGE for name in damages), role="cuda_toolchain")
@pytest.mark.parametrize("damages", PACKAGE_DAMAGE, ids=lambda damages: " and ".join(damages))
def test_what_is_broken_by_hand_is_named_and_repaired(packages: Story, damages: dict[str, str]) -> None:
    broken_by_hand(packages, damages)


def test_a_link_that_the_role_made_follows_the_declared_prefix(packages: Story) -> None:
    other = "/opt/cuda-13.0"
    packages.machine.shell(f"cp -al {PREFIX} {other}")
    for extra, prefix in (({"source": "existing", "prefix": other}, other), ({}, PREFIX)):
        predicted = packages.run(check=True, **extra)
        assert drifted(predicted) == {"link"} and predicted["link"]["blocked_by"] == ""
        assert packages.run(check=False, **extra) == predicted
        assert packages.machine.run("realpath", "/usr/local/cuda").strip() == prefix
    packages.machine.shell(f"update-alternatives --remove cuda {other}; rm -r {other}")


def test_a_choice_of_the_administrator_is_asked_for_by_name(packages: Story) -> None:
    machine = packages.machine
    machine.shell(
        f"rm -f {LINK}; mkdir -p /usr/local/cuda-12.9; "
        f"update-alternatives --install {LINK} cuda {PREFIX} 130; "
        f"update-alternatives --install {LINK} cuda /usr/local/cuda-12.9 129; "
        "update-alternatives --set cuda /usr/local/cuda-12.9"
    )
    found = packages.run(check=False, **QUICK)
    assert drifted(found) == {"link"} and found["link"]["blocked_by"] == f"cuda_toolchain_confirm: [{LINK}]"
    assert machine.run("readlink", "-f", LINK).strip() == "/usr/local/cuda-12.9"
    packages.run(check=False, confirm=[LINK], **QUICK)
    assert machine.run("readlink", "-f", LINK).strip() == PREFIX


def test_a_second_source_with_another_key_stops_apt_and_is_named(packages: Story) -> None:
    machine = packages.machine
    url = packages.extra["repository_url"]
    machine.write(THEIRS, f"deb [signed-by={apt.SEEN_BY_NODES}/{apt.PUBLIC_KEY.name}] {url} /\n")
    # It is true of the real apt: without this, the whole control would be about nothing.
    assert "Conflicting values set for option Signed-By" in machine.shell("apt-get update 2>&1 || true")
    found = packages.run(check=False, **QUICK)
    assert drifted(found) == {"repository"}
    assert found["repository"]["blocked_by"] == f"cuda_toolchain_confirm: [{sources.OURS}]"
    packages.run(check=False, confirm=[sources.OURS], **QUICK)
    machine.run("apt-get", "update")
    assert not machine.ok("test", "-e", sources.PINS)


def test_a_wrong_key_is_refused_before_apt_trusts_it(packages: Story) -> None:
    machine = packages.machine
    machine.run("rm", THEIRS, sources.KEYRING)
    found = packages.run(check=False, fails=True, repository_fingerprint="EB693B3035CD5710E231E123A4B469963BF863CC")
    assert packages.result["error"]["key"] == "apt.wrong_key" and drifted(found) == {"key", "repository"}
    # Nor is there a source whose key is missing: every apt-get update would fail.
    for path in (sources.KEYRING, sources.OURS):
        assert not machine.ok("test", "-e", path)


def test_without_a_host_compiler_the_proof_is_unknown_and_the_rest_is_repaired(packages: Story) -> None:
    machine = packages.machine
    machine.shell("mv /usr/bin/g++ /usr/bin/g++.away")
    found = packages.run(check=False)
    machine.shell("mv /usr/bin/g++.away /usr/bin/g++")
    assert drifted(found) == {"key", "repository", "builds"}
    assert found["builds"]["state"] == "unknown" and "ptxas alone assembles for sm_121" in found["builds"]["reason"]
    machine.run("apt-get", "update")


# --- wheels -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheels(machine, tmp_path_factory) -> Story:
    # Not asked, since there are wheels on the node; its password must not stay on it all the same.
    index = "https://me:correct-horse@index.invalid/simple"
    extra = {"source": "wheel", "link": OTHER_LINK, "find_links": WHEELS_ON_NODE, "index_url": index}
    return Story(machine, tmp_path_factory.mktemp("wheels"), extra)


def test_wheels_make_a_toolkit_that_builds_without_a_network(wheels: Story) -> None:
    converges(wheels, {"toolkit", "components", "link", "builds"})
    assert wheels.machine.run("readlink", OTHER_LINK).strip() == MADE
    assert wheels.machine.shell(f"ls -A {PLACE} | wc -l").strip() == "2"
    assert wheels.machine.shell("grep -rl correct-horse /var/lib/nusy /var/log || true") == ""


def test_what_is_done_to_it_is_named_and_replaced_as_a_whole(wheels: Story) -> None:
    found = broken_by_hand(
        wheels,
        {
            "toolkit": f"touch {MADE}/include/more.h; chown nusy {MADE}/bin/nvlink",
            "components": f"printf '#!/bin/sh\\necho hello\\n' > {MADE}/bin/ptxas",
            "builds": "true",  # follows from that ptxas
            "link": f"ln -sfn {PLACE}/12.9 {OTHER_LINK}",
        },
    )
    before = "altered: bin/ptxas; extra: include/more.h; not root's alone: bin/nvlink"
    assert found["toolkit"]["before"] == {f"toolkit {MADE}": before}


def test_a_prefix_of_somebody_else_is_not_taken_over(wheels: Story) -> None:
    theirs = f"{PLACE}/theirs"
    wheels.machine.shell(f"install -d -o ops {theirs} && echo mine > {theirs}/file")
    # A toolkit that is ready saves the time of making it.
    wheels.machine.shell(f"cp -a $(readlink -f {MADE}) {theirs}-$(readlink {MADE} | cut -d- -f2)")
    place = {"prefix": theirs, "link": "", **QUICK}
    assert wheels.run(check=True, **place)["toolkit"]["blocked_by"] == f"cuda_toolchain_confirm: [{theirs}]"
    wheels.run(check=False, confirm=[theirs], **place)
    assert wheels.machine.read(f"{theirs}.replaced.1/file") == "mine\n"


def test_root_makes_no_toolkit_where_somebody_else_could_exchange_it(wheels: Story) -> None:
    found = wheels.run(check=False, fails=True, prefix="/opt/nusy/cuda/13.0", link="", **QUICK)["toolkit"]
    assert found["state"] == "drifted" and "nusy decides what is in /opt/nusy/cuda" in found["reason"]
    assert wheels.result["error"]["key"] == "state.not_ensured"
    assert wheels.machine.shell("ls -A /opt/nusy") == ""


def test_a_missing_wheelhouse_is_an_error_and_what_is_in_use_stays(wheels: Story) -> None:
    wheels.machine.shell(f"touch {MADE}/include/again.h")
    before = wheels.machine.run("readlink", MADE)
    wheels.run(check=False, fails=True, find_links="/srv/nothing", **QUICK)
    assert wheels.result["error"]["key"] == "cuda.not_installed"
    assert wheels.machine.run("readlink", MADE) == before
    assert wheels.machine.shell(f"find {PLACE} -maxdepth 1 -name '.*.work'") == ""


# --- DGX OS -----------------------------------------------------------------------------------


def test_on_dgx_os_the_repository_is_adopted_and_none_is_added(make_node, tmp_path) -> None:
    machine = make_node("dgx")
    story = Story(machine, tmp_path, {"source": "apt", "link": ""})
    assert "none is added" in story.run(check=True)["repository"]["reason"]
    url = "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64/"
    machine.write(sources.NVIDIA, f"Types: deb\nURIs: {url}\nSuites: /\nSigned-By: /usr/share/keyrings/cuda.gpg\n")
    found = story.run(check=True)
    assert found["repository"]["state"] == "in_sync" and found["file_extra"]["state"] == "not_selected"
    assert not [step for step in story.result["plan"] if sources.OURS in step or sources.KEYRING in step]
