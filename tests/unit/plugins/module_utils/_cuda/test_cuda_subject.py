# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole plan on a node in memory: verdicts, steps, and that one run of them is enough.

What the tools are is told here, since there is nothing to run; test_cuda_look.py has the tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt import keys
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import Declared, find, keep
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda import sources, subject
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.model import (
    CONTROLS,
    PACKAGE_OF,
    ROLE,
    TOOLS,
    Look,
    Proof,
    Tool,
    Toolchain,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.parse import ARGUMENT_SPEC
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.subject import PROVIDES, ensure_toolchain
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed
from fake_node import FakeNode

FIXTURES = Path(__file__).resolve().parents[1] / "_apt" / "fixtures"
KEY = (FIXTURES / "rsa_with_subkey.asc").read_text()
OTHER_KEY = (FIXTURES / "ed25519.asc").read_text()
FINGERPRINT = "759F60F2242DEF5719AD7B839356635CE87B2CC1"
URL = "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/sbsa/"
APT = {"source": "apt", "repository_key": KEY, "repository_fingerprint": FINGERPRINT}
PREFIX, LINK = "/usr/local/cuda-13.0", "/usr/local/cuda"
NVCC = [f"{name}-13-0" for name in ("cuda-nvcc", "cuda-cuobjdump", "cuda-nvdisasm")]


class Node(FakeNode):
    """A node on which packages bring tools. ``broken``: tool → what is wrong with it; ``gpp``: has a g++."""

    broken: dict[str, str]
    gpp = True
    builds = True
    altered: tuple[str, ...] = ()

    def tool_dpkg(self, args: list[str]) -> tuple[int, str, str]:
        if args[0] == "--verify":
            return 0, "??5??????   /usr/local/cuda-13.0/x\n" if args[1] in self.altered else "", ""
        return super().tool_dpkg(args)

    def tool_apt_get(self, args: list[str]) -> tuple[int, str, str]:
        if "--reinstall" in args and "--simulate" not in args:
            package = args[-1].partition("=")[0]
            self.packages[package] = ("installed", self.packages[package][1])  # and a hold is gone, as with apt
            self.effect(f"reinstall {package}")
            if package in self.altered:
                self.altered, self.builds = (), True
            self.broken = {t: f for t, f in self.broken.items() if f"{PACKAGE_OF[t]}-13-0" != package}
            return 0, "", ""
        return super().tool_apt_get(args)

    def look(self, wanted: Toolchain, _reader: Reader) -> Look:
        tools = {name: self._tool(wanted, name) for name in TOOLS}
        ptxas, nvcc = not tools["ptxas"].fault, not tools["nvcc"].fault
        if not nvcc:
            return Look(tools, Proof(ptxas or None, None, "", "there is no nvcc that runs"), 0)
        if not self.gpp:
            return Look(tools, Proof(ptxas, None, "", "there is no g++"), 310)
        return Look(tools, Proof(ptxas, self.builds, "elf", "" if self.builds else "no cicc"), 310)

    def _tool(self, wanted: Toolchain, name: str) -> Tool:
        path = wanted.binary(name)
        fault = self.broken.get(name, "")
        there = self.packages.get(f"{PACKAGE_OF[name]}-13-0", ("",))[0] in ("installed", "held") or path in self.files
        if fault.startswith("CUDA "):
            release = fault.removeprefix("CUDA ")
            return Tool(path, f"{release}.1", release)
        if fault or not there:
            return Tool(path, fault=fault or "missing", said="it is broken" if fault else "it does not exist")
        return Tool(path, "13.0.88", "13.0")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """A bare Ubuntu 24.04 on aarch64, whose package lists know nothing of CUDA yet."""
    made = Node()
    made.broken = {}
    made.put("/etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\n')
    made.put("/usr/bin/apt-get", mode=0o755)
    for folder in ("/usr/local", "/etc/apt/sources.list.d"):
        made.put(folder, kind="directory", mode=0o755)
    names = [f"{p}-13-0" for p in ("cuda-cudart-dev", "cuda-cccl", "cuda-nvrtc-dev", "libcurand-dev")]
    made.upstream = dict.fromkeys([*NVCC, *names], "13.0.88-1")
    monkeypatch.setattr(subject, "look", made.look)
    return made


def with_toolkit(node: Node, prefix: str = PREFIX) -> Node:
    for name in TOOLS:
        node.put(f"{prefix}/bin/{name}", mode=0o755)
    return node


def declared(machine: str = "aarch64", **params: Any) -> Composed:
    defaults = {name: option["default"] for name, option in ARGUMENT_SPEC.items()}
    return ensure_toolchain({**defaults, **params}, machine)


def planned(node: Node, **params: Any) -> Plan:
    effects = list(node.effects)
    plan = declared(**params).plan(node)
    assert node.effects == effects  # looking touches nothing
    return plan


def applied(node: Node, **params: Any) -> Plan:
    wanted = declared(**params)
    return converge(wanted, wanted.plan(node), node, node)


def control(plan: Plan, name: str) -> Control:
    (found,) = [c for c in plan.controls if c.id == f"cuda_toolchain/{name}"]
    return found


def states(plan: Plan) -> Mapping[str, str]:
    assert [c.id for c in plan.controls] == list(CONTROLS)
    return {c.id.partition("/")[2]: c.state for c in plan.controls}


# --- existing -----------------------------------------------------------------------------


def test_a_toolkit_that_is_there_is_adopted_and_nothing_is_changed(node: Node) -> None:
    plan = planned(with_toolkit(node))
    assert states(plan) == {
        "key": "not_selected",
        "repository": "not_selected",
        "toolkit": "in_sync",
        "components": "in_sync",
        "link": "not_selected",
        "builds": "in_sync",
        "file_extra": "not_selected",
    }
    assert plan.steps == () and all(c.reason for c in plan.controls if c.state == "not_selected")
    assert plan.facts["provides"] == {
        "NVCC_BIN": f"{PREFIX}/bin/nvcc",
        "CUOBJDUMP_BIN": f"{PREFIX}/bin/cuobjdump",
        "NVDISASM_BIN": f"{PREFIX}/bin/nvdisasm",
    }


def test_one_that_is_not_there_cannot_be_made_of_nothing(node: Node) -> None:
    assert {name for name, state in states(planned(node)).items() if state == "drifted"} == {
        "toolkit", "components", "builds",
    }  # fmt: skip
    with pytest.raises(NodeError) as caught:
        applied(node)
    assert caught.value.problem.key == "state.not_ensured"
    assert "cuda_toolchain_source: apt or wheel" in caught.value.problem.fix
    assert node.effects == []


def test_a_missing_tool_is_drift_and_one_that_is_not_required_is_not(node: Node) -> None:
    node.broken = {"cuobjdump": "missing"}
    plan = planned(with_toolkit(node))
    found = control(plan, "components")
    assert (found.state, found.changes[0].before, found.changes[0].after) == (
        "drifted",
        "missing",
        "CUDA 13.0 or later",
    )
    assert "CUOBJDUMP_BIN" not in plan.facts["provides"]
    assert states(planned(node, components=["nvcc", "ptxas"]))["components"] == "in_sync"
    with pytest.raises(NodeError, match="leave cuobjdump out of cuda_toolchain_components"):
        applied(node)


@pytest.mark.parametrize(
    ("tool", "release", "state"),
    [
        ("ptxas", "12.9", "drifted"),
        ("ptxas", "13.1", "drifted"),
        ("nvlink", "13.2", "drifted"),
        ("cuobjdump", "13.2", "in_sync"),
        ("nvdisasm", "12.9", "drifted"),
        ("nvdisasm", "14.0", "drifted"),
    ],
)
def test_what_builds_is_of_one_release_and_what_reads_may_be_newer(
    node: Node, tool: str, release: str, state: str
) -> None:
    node.broken = {tool: f"CUDA {release}"}
    found = control(planned(with_toolkit(node)), "components")
    assert found.state == state
    assert [c.before for c in found.changes] == ([f"{release}.1"] if state == "drifted" else [])


def test_without_a_host_compiler_the_proof_is_unknown_and_the_run_goes_on(node: Node) -> None:
    node.gpp = False
    plan = applied(with_toolkit(node))
    found = control(plan, "builds")
    assert (found.state, found.reason) == ("unknown", "there is no g++; ptxas alone assembles for sm_121")
    assert "NVCC_BIN" not in plan.facts["provides"]
    assert states(planned(node, compile=False))["builds"] == "in_sync"


def test_what_may_not_be_run_is_unknown_and_never_fine(node: Node) -> None:
    node.broken = dict.fromkeys(TOOLS, "unjudged")
    plan = applied(with_toolkit(node))
    assert (states(plan)["components"], states(plan)["builds"]) == ("unknown", "unknown")
    assert plan.facts["provides"] == {}


def test_a_toolkit_that_does_not_build_fails_a_real_run(node: Node) -> None:
    node.builds = False
    assert control(planned(with_toolkit(node)), "builds").reason == "no cicc"
    with pytest.raises(NodeError, match="cuda_toolchain/builds is drifted: no cicc"):
        applied(node)


def test_a_skipped_control_is_left_alone_and_said_to_be(node: Node) -> None:
    node.broken = {"cuobjdump": "missing"}
    plan = applied(with_toolkit(node), skip_controls=["cuda_toolchain/components", "cuda_toolchain/repository"])
    assert control(plan, "components").state == "not_selected"
    assert "skip_controls" in control(plan, "components").reason


# --- the link -----------------------------------------------------------------------------


def test_a_missing_link_is_made(node: Node) -> None:
    plan = planned(with_toolkit(node), link=LINK)
    assert [(s.action, s.target) for s in plan.steps] == [("point_link", LINK)]
    assert states(applied(node, link=LINK))["link"] == "in_sync"
    assert node.files[LINK].text == PREFIX


def test_a_link_is_not_made_to_lead_nowhere(node: Node) -> None:
    plan = planned(node, link=LINK)
    assert plan.steps == () and control(plan, "link").reason == "there is no toolkit to lead to"
    with pytest.raises(NodeError, match="there is no toolkit to lead to"):
        applied(node, link=LINK)


def test_a_link_without_a_folder_is_told_and_the_rest_goes_on(node: Node) -> None:
    plan = planned(with_toolkit(node), link="/srv/nothing/cuda")
    assert plan.steps == () and control(plan, "link").reason == "/srv/nothing does not exist"


@pytest.mark.parametrize("kind", ["link", "directory", "file"])
def test_what_somebody_else_put_there_is_asked_for_by_name(node: Node, kind: str) -> None:
    node.put(LINK, "/usr/local/cuda-12.9" if kind == "link" else "", kind=kind)
    found = control(applied(with_toolkit(node), link=LINK), "link")
    assert (found.state, found.blocked_by) == ("drifted", f"cuda_toolchain_confirm: [{LINK}]")
    assert node.files[LINK].kind == kind
    assert states(applied(node, link=LINK, confirm=[LINK]))["link"] == "in_sync"
    assert (f"{LINK}.replaced.1" in node.files) is (kind != "link")


def test_a_link_to_another_toolkit_of_this_role_is_its_own(node: Node) -> None:
    node.put(LINK, "/usr/local/lib/nusy/cuda/13.0", kind="link")
    assert states(applied(with_toolkit(node), link=LINK))["link"] == "in_sync"


def test_a_link_that_this_role_made_follows_the_declared_prefix(node: Node) -> None:
    applied(with_toolkit(node), link=LINK)
    newer = "/opt/cuda-13.0"
    found = control(applied(with_toolkit(node, newer), link=LINK, prefix=newer), "link")
    assert (found.state, node.files[LINK].text) == ("in_sync", newer)
    # And back, with nothing remembered of what it led to before.
    applied(node, link=LINK)
    assert json.loads(node.files["/var/lib/nusy/applied/cuda_toolchain.json"].text)["taken"] == [
        f"link:{LINK} to {PREFIX}"
    ]


def test_a_link_that_was_right_before_this_role_came_is_still_somebodys(node: Node) -> None:
    node.put(LINK, PREFIX, kind="link")
    applied(with_toolkit(node), link=LINK)
    newer = "/opt/cuda-13.0"
    assert control(planned(with_toolkit(node, newer), link=LINK, prefix=newer), "link").blocked_by


def test_a_link_of_this_role_that_somebody_has_led_elsewhere_is_theirs(node: Node) -> None:
    applied(with_toolkit(node), link=LINK)
    node.put(LINK, "/usr/local/cuda-12.9", kind="link")
    found = control(applied(node, link=LINK), "link")
    assert (found.blocked_by, node.files[LINK].text) == (f"cuda_toolchain_confirm: [{LINK}]", "/usr/local/cuda-12.9")


# --- apt ----------------------------------------------------------------------------------


def test_a_bare_node_gets_source_key_and_packages_in_one_run(node: Node) -> None:
    plan = planned(node, link=LINK, **APT)
    assert {name for name, state in states(plan).items() if state == "drifted"} == {
        "key", "repository", "toolkit", "components", "link", "builds",
    }  # fmt: skip
    assert [s.action for s in plan.steps if s.action not in ("make_parent", "make_directory")] == [
        "write_key", "write_file", "write_file", "refresh_lists", "install_packages", "point_link",
    ]  # fmt: skip
    after = applied(node, link=LINK, **APT)
    assert set(states(after).values()) == {"in_sync"}
    assert node.files[sources.KEYRING].text == KEY
    assert f"URIs: {URL}" in node.files[sources.OURS].text
    assert planned(node, link=LINK, **APT).steps == ()
    # Only what is proven is promised to others.
    assert plan.facts["provides"] == {} and set(after.facts["provides"]) == set(PROVIDES)


@pytest.mark.parametrize("name", [PREFIX, f"path:{PREFIX}"])
def test_a_toolkit_that_no_package_owns_is_not_overwritten_unasked(node: Node, name: str) -> None:
    found = control(applied(with_toolkit(node), **APT), "toolkit")
    assert (found.state, found.blocked_by) == ("drifted", f"cuda_toolchain_confirm: [{PREFIX}]")
    assert not set(NVCC) & set(node.packages)
    assert "unused_confirm" not in planned(node, confirm=[name], **APT).facts
    after = applied(node, confirm=[name], **APT)
    assert states(after)["toolkit"] == "in_sync" and set(NVCC) <= set(node.packages)
    assert control(planned(node, **APT), "toolkit").state == "in_sync"


@pytest.fixture
def installed(node: Node) -> Node:
    applied(node, **APT)
    return node


@pytest.mark.parametrize("fault", ["missing", "denied", "garbage", "CUDA 12.9"])
def test_a_tool_that_its_package_has_lost_is_installed_again(installed: Node, fault: str) -> None:
    installed.broken = {"ptxas": fault, "nvlink": fault}
    plan = planned(installed, **APT)
    assert [(s.action, s.target) for s in plan.steps] == [("install_packages", "cuda-nvcc-13-0=13.0.88-1")]
    assert control(plan, "components").cause == "corrective"
    assert states(applied(installed, **APT))["components"] == "in_sync"


def test_a_compiler_that_its_packages_have_lost_a_part_of_is_installed_again(installed: Node) -> None:
    installed.builds = False
    assert planned(installed, **APT).steps == ()
    installed.altered = ("cuda-cccl-13-0",)
    plan = planned(installed, **APT)
    assert [(s.action, s.target) for s in plan.steps] == [("install_packages", "cuda-cccl-13-0=13.0.88-1")]
    assert states(applied(installed, **APT))["builds"] == "in_sync"


@pytest.mark.parametrize("status", ["held", "installed"])
def test_what_is_held_is_held_again_after_it(node: Node, status: str) -> None:
    applied(node, holds=["cuda-nvcc-13-0"], **APT)
    node.broken = {"ptxas": "missing"}
    node.packages["cuda-nvcc-13-0"] = (status, "13.0.88-1")
    assert states(applied(node, holds=["cuda-nvcc-13-0"], **APT))["toolkit"] == "in_sync"
    assert node.packages["cuda-nvcc-13-0"][0] == "held"


def test_a_tool_whose_package_is_not_declared_says_which(node: Node) -> None:
    with pytest.raises(NodeError, match="declare cuda-cuobjdump-13-0 in cuda_toolchain_packages"):
        applied(node, packages=["cuda-nvcc-13-0"], **APT)


@pytest.mark.parametrize(
    ("damage", "name", "steps"),
    [
        (lambda n: n.files.pop(sources.KEYRING), "key", ["write_key"]),
        (lambda n: n.put(sources.KEYRING, OTHER_KEY), "key", ["write_key"]),
        (lambda n: n.put(sources.KEYRING, KEY + OTHER_KEY), "key", ["write_key"]),
        (lambda n: n.put(sources.KEYRING, KEY, mode=0o600), "key", ["write_key"]),
        (lambda n: n.files.pop(sources.OURS), "repository", ["write_file"]),
        (lambda n: n.put(sources.OURS, "Enabled: no\n"), "repository", ["write_file"]),
        (lambda n: n.files.pop(sources.PINS), "repository", ["write_file"]),
    ],
)
def test_a_damaged_repository_is_repaired(installed: Node, damage: Any, name: str, steps: list[str]) -> None:
    damage(installed)
    plan = planned(installed, **APT)
    assert [s.action for s in plan.steps] == steps
    assert {c.id for c in plan.controls if c.state == "drifted"} >= {f"cuda_toolchain/{name}"}
    assert control(plan, name).cause == "corrective"
    assert states(applied(installed, **APT))[name] == "in_sync"


def test_a_foreign_line_in_our_source_is_drift_of_its_own(installed: Node) -> None:
    installed.files[sources.OURS].text += "Trusted: yes\n"
    plan = planned(installed, **APT)
    assert (states(plan)["repository"], states(plan)["file_extra"]) == ("in_sync", "drifted")


@pytest.mark.parametrize("dgx", [False, True])
def test_a_source_that_is_configured_is_adopted_and_none_is_added(node: Node, dgx: bool) -> None:
    if dgx:
        node.put("/etc/dgx-release")
    node.put(sources.NVIDIA, f"Types: deb\nURIs: {URL}\nSuites: /\nSigned-By: /usr/share/keyrings/cuda.gpg\n")
    node.available = dict(node.upstream)
    after = applied(node, **APT)
    assert (states(after)["repository"], states(after)["file_extra"]) == ("in_sync", "not_selected")
    assert sources.OURS not in node.files and sources.KEYRING not in node.files


def test_on_dgx_os_no_source_is_ever_added(node: Node) -> None:
    node.put("/etc/dgx-release")
    plan = planned(node, **APT)
    found = control(plan, "repository")
    assert found.state == "drifted" and "none is added" in found.reason
    assert not [s for s in plan.steps if s.action in ("write_file", "write_key")]


def test_two_keys_for_one_address_are_drift_and_the_later_one_is_asked_for(installed: Node) -> None:
    foreign = "/etc/apt/sources.list.d/cuda-ubuntu2404-sbsa.list"
    installed.put(foreign, f"deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] {URL} /\n")
    found = control(applied(installed, **APT), "repository")
    assert found.state == "drifted" and "apt refuses every package" in found.reason
    # Somebody's own stays, ours goes: when it is named.
    assert found.blocked_by == f"cuda_toolchain_confirm: [{sources.OURS}]"
    assert states(applied(installed, confirm=[sources.OURS], **APT))["repository"] == "in_sync"
    assert sources.OURS not in installed.files and foreign in installed.files
    # And with it what would keep the other one from working as its owner means it.
    assert sources.PINS not in installed.files


def test_pins_whose_source_is_gone_go_too(installed: Node) -> None:
    del installed.files[sources.OURS]
    installed.put("/etc/apt/sources.list.d/cuda.list", f"deb {URL} /\n")
    assert [s.text() for s in planned(installed, **APT).steps] == [f"remove_file {sources.PINS}"]
    assert states(applied(installed, **APT))["repository"] == "in_sync"
    assert sources.PINS not in installed.files


def test_nvidias_own_source_stays_when_somebody_added_another(node: Node) -> None:
    added = "/etc/apt/sources.list.d/cuda.list"
    node.put("/etc/dgx-release")
    node.put(sources.NVIDIA, f"Types: deb\nURIs: {URL}\nSuites: /\nSigned-By: /usr/share/keyrings/cuda.gpg\n")
    node.put(added, f"deb {URL} /\n")
    node.available = dict(node.upstream)
    assert control(planned(node, **APT), "repository").blocked_by == f"cuda_toolchain_confirm: [{added}]"
    assert states(applied(node, confirm=[added], **APT))["repository"] == "in_sync"
    assert sources.NVIDIA in node.files and added not in node.files


def test_a_file_that_holds_other_sources_too_is_never_removed(node: Node) -> None:
    mixed = "/etc/apt/sources.list"
    node.put(sources.NVIDIA, f"Types: deb\nURIs: {URL}\nSuites: /\nSigned-By: /k.gpg\n")
    node.put(mixed, f"deb https://ports.ubuntu.com/ noble main\ndeb {URL} /\n")
    node.available = dict(node.upstream)
    with pytest.raises(NodeError, match=f"remove the lines of this address from {mixed}"):
        applied(node, confirm=[mixed], **APT)
    assert mixed in node.files


def test_declared_holds_are_set(node: Node) -> None:
    applied(node, holds=["cuda-nvcc-13-0"], **APT)
    assert node.packages["cuda-nvcc-13-0"][0] == "held" and node.packages["cuda-cccl-13-0"][0] == "installed"


def test_a_wrong_key_stops_before_anything_of_it_is_trusted(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "fetch", lambda _url: OTHER_KEY)
    with pytest.raises(NodeError) as caught:
        applied(node, source="apt", repository_fingerprint=FINGERPRINT)
    assert caught.value.problem.key == "apt.wrong_key" and f"{URL}3bf863cc.pub" in caught.value.problem.found
    # A source without its key would be an error of every apt-get update.
    assert not {sources.KEYRING, sources.OURS, sources.PINS} & set(node.files)
    assert not any("install" in effect for effect in node.effects)


# --- wheels, as far as there is no disk ---------------------------------------------------


LOCK = f"nvidia-cuda-nvcc==13.0.88 --hash=sha256:{'0' * 64}\n"
WHEEL_PREFIX = "/usr/local/lib/nusy/cuda/13.0"


def test_a_toolkit_of_wheels_is_made_beside_its_prefix(node: Node) -> None:
    plan = planned(node, source="wheel", lock=LOCK)
    (install, link) = plan.steps
    assert (install.action, link.action, link.target) == ("install_wheels", "make_link", WHEEL_PREFIX)
    assert install.target == f"/usr/local/lib/nusy/cuda/{link.args[0]}"


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_a_prefix_of_somebody_else_is_asked_for_by_name(node: Node, kind: str) -> None:
    node.put(WHEEL_PREFIX, "/usr/local/cuda-13.0" if kind == "link" else "", kind=kind)
    plan = planned(node, source="wheel", lock=LOCK)
    assert control(plan, "toolkit").blocked_by == f"cuda_toolchain_confirm: [{WHEEL_PREFIX}]"
    assert plan.steps == ()
    confirmed = planned(node, source="wheel", lock=LOCK, confirm=[WHEEL_PREFIX])
    assert [s.action for s in confirmed.steps] == [
        *(["move_aside"] if kind == "directory" else []), "install_wheels", "make_link",
    ]  # fmt: skip


# --- systems that are not supported ---------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "machine", "release", "why"),
    [
        (APT, "riscv64", "", "no toolkit for riscv64"),
        ({"source": "wheel", "lock": LOCK}, "riscv64", "", "no toolkit for riscv64"),
        (APT, "aarch64", "ID=manjaro\n", "no repository of NVIDIA is known for manjaro on aarch64"),
        (APT, "aarch64", "ID=debian\nVERSION_ID=13\n", "declare repository_url"),
    ],
)
def test_on_an_unsupported_system_a_check_is_unknown_and_a_run_refuses(
    node: Node, params: dict[str, Any], machine: str, release: str, why: str
) -> None:
    if release:
        node.put("/etc/os-release", release)
    plan = planned(node, machine=machine, **params)
    assert set(states(plan).values()) == {"unknown"} and plan.steps == ()
    assert all(why in c.reason for c in plan.controls)
    with pytest.raises(NodeError) as caught:
        applied(node, machine=machine, **params)
    assert caught.value.problem.key == "state.unsupported" and node.effects == []


def test_without_apt_the_source_apt_is_unsupported(node: Node) -> None:
    del node.files["/usr/bin/apt-get"]
    assert "needs apt" in control(planned(node, **APT), "toolkit").reason


def test_a_declared_mirror_makes_any_debian_a_supported_one(node: Node) -> None:
    node.put("/etc/os-release", "ID=debian\nVERSION_ID=13\n")
    params = {**APT, "repository_url": "https://mirror/cuda/"}
    assert set(states(applied(node, **params)).values()) == {"in_sync", "not_selected"}
    assert "URIs: https://mirror/cuda/" in node.files[sources.OURS].text


# --- who moved ------------------------------------------------------------------------------


def test_a_run_leaves_a_record_and_later_checks_say_who_moved(installed: Node) -> None:
    assert "/var/lib/nusy/applied/cuda_toolchain.json" in installed.files
    packages = [*NVCC, "cuda-cccl-13-0", "cuda-sanitizer-13-0"]
    assert control(planned(installed, packages=packages, **APT), "toolkit").cause == "intentional"
    del installed.packages["cuda-cccl-13-0"]
    assert control(planned(installed, **APT), "toolkit").cause == "corrective"


@pytest.mark.parametrize("params", [APT, {"source": "wheel", "lock": LOCK, "link": LINK}])
def test_from_what_is_kept_on_the_node_the_same_follows(node: Node, params: dict[str, Any]) -> None:
    defaults = {name: option["default"] for name, option in ARGUMENT_SPEC.items()}
    keep(Declared(ROLE, "cuda_toolchain", {**defaults, **params}), node, node)
    (kept,) = find(node)
    assert kept.declared is not None
    assert ensure_toolchain(kept.declared.params, "aarch64").plan(node) == planned(node, **params)


def test_a_lock_that_moved_is_an_intention(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheels of it are nothing that ensure_state knows: what is recorded is their digest."""
    digests = []
    for lock in (LOCK, LOCK.replace("0" * 64, "1" * 64)):
        (change,) = control(planned(node, source="wheel", lock=lock), "toolkit").changes
        digests.append(change.after)
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("changed", "control_of_it"),
    [
        ({"link": "/usr/local/other"}, "link"),
        ({"components": ["nvcc", "ptxas", "nvlink"]}, "components"),
        ({"arch": "sm_120"}, "builds"),
        ({"compile": False}, "builds"),
    ],
)
def test_what_was_declared_anew_is_an_intention_and_what_broke_is_not(
    node: Node, changed: dict[str, Any], control_of_it: str
) -> None:
    first = {"link": LINK, "components": ["nvcc", "ptxas"]}
    applied(with_toolkit(node), **first)
    node.broken, node.builds = {"ptxas": "missing"}, False
    del node.files[LINK]
    for name in ("link", "components", "builds"):
        assert control(planned(node, **first), name).cause == "corrective"
        intended = "intentional" if name == control_of_it else "corrective"
        assert control(planned(node, **{**first, **changed}), name).cause == intended


def test_another_prefix_is_another_declaration_of_everything(node: Node) -> None:
    applied(with_toolkit(node))
    plan = planned(node, prefix="/srv/cuda")
    assert {control(plan, name).cause for name in ("toolkit", "components", "builds")} == {"intentional"}
