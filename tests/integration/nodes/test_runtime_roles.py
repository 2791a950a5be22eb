# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles ptxas, vllm_runtime and launchers on two real nodes, and the node's own judgement of itself.

Bare check → apply → second apply → every control broken by hand, and at each stage the verdicts of
``spark-ensure-state`` are those of the modules, control by control. Engines are stand-ins here; those of
test_launched_engines.py are real. Tests share the nodes and run in order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import calls
import outside
import pytest
import testing

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ptxas"))

import wheels

VENV = "/srv/venv"
CACHE = "/var/lib/nusy/cache"
FOLDER = "/usr/local/libexec/nusy"
PTXAS = "/usr/local/cuda-13.0/bin/ptxas"
TOOL = "/usr/local/sbin/spark-ensure-state"
ROLES = ("prereqs", "ptxas", "vllm_runtime", "launchers")
MODULES = ("ensure_state", "ptxas_environment", "vllm_runtime", "launchers")
# Those that are broken here: prereqs is in test_site.py.
OURS = ROLES[1:]
EXTRA: dict[str, Any] = {
    "prereqs_packages_tools": [],
    "prereqs_packages_build": [],
    "prereqs_packages_fabric": [],
    # A container may not keep a clock.
    "prereqs_skip_controls": ["prereqs/time_sync"],
    "ptxas_venv": VENV,
    "ptxas_compile": False,
    "vllm_runtime_venv": VENV,
    "vllm_runtime_imports": ["demo_engine"],
    # There are the binaries of Triton, not the package: tests/integration/ptxas compiles for real.
    "vllm_runtime_compile": False,
    "vllm_runtime_home_cache": "/opt/nusy/triton",
    "vllm_runtime_cache_limit_gib": 1,
    "launchers_launchers": ["ray-head", "ray-worker"],
    "launchers_venv": VENV,
    "launchers_cuda_home": "/usr/local/cuda-13.0",
    # What the mounted wheel has not.
    "launchers_binaries": {"NVCC_BIN": "", "CUOBJDUMP_BIN": "", "NVDISASM_BIN": ""},
}
# Stand-ins for what a container cannot have: a driver, and programs that are not proven here but elsewhere.
PROGRAMS = {
    "/usr/bin/nvidia-smi": '#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: stand-in"\necho "version 580"\n',
    f"{VENV}/bin/ray": "#!/bin/sh\necho ray, version 2.60.0\n",
}
# What EXTRA leaves empty. Nothing is looked at for these, so they are not fine either.
NOT_DECLARED = {
    *(f"prereqs/packages_{name}" for name in ("tools", "build", "fabric")),
    "vllm_runtime/compiles",
}
FINE = {"in_sync", "not_selected"}


class Site:
    def __init__(self, machines: list[Any], directory: Path) -> None:
        self.machines = machines
        self.directory = directory

    def run(
        self,
        roles: Iterable[str] = ROLES,
        *,
        check: bool,
        extra: dict[str, Any] | None = None,
        mitogen: bool = False,
        become: bool = True,
    ) -> Any:
        play: dict[str, Any] = {"hosts": "all", "gather_facts": False}
        play["roles"] = [f"nusy.dgx_spark.{role}" for role in roles]
        if mitogen:
            play["strategy"] = "mitogen_linear"
        return testing.ansible_playbook(
            [play],
            self.machines,
            self.directory,
            check=check,
            become=become,
            extra={**EXTRA, **(extra or {})},
            env=testing.MITOGEN if mitogen else {},
        )


def evidence(done: Any, machine: Any) -> dict[str, dict[str, Any]]:
    results = [entry for name in MODULES for entry in done.of(host=machine.name, action=name)]
    assert results
    return {control["id"]: control for entry in results for control in entry["result"]["controls"]}


def on_the_node(machine: Any) -> dict[str, dict[str, Any]]:
    """What the tool says, for the specs that are applied here."""
    document = json.loads(machine.run(TOOL, "--json", check=False))
    words = {"PASS": "in_sync", "FAIL": "drifted", "UNKNOWN": "unknown", "SKIP": "not_selected"}
    controls = [c for spec in document["specs"] for c in spec["controls"]]
    assert all(words[control["verdict"]] == control["state"] for control in controls)
    assert len(json.dumps(document)) < 65536
    return {c["id"]: c for c in controls if c["id"] not in ("cuda_toolchain", "vllm_venv")}


@pytest.fixture(scope="module")
def site(make_node, tmp_path_factory) -> Iterator[Site]:
    machines = []
    cuda = wheels.ptxas("nvidia-cuda-nvcc", "13.0.88").parent
    for version in ("3.5.1", "3.6.0"):
        packages = wheels.binaries("triton", version)
        machine = make_node(
            mounts=(f"{packages}:{VENV}/lib/python3.13/site-packages", f"{cuda}:/usr/local/cuda-13.0/bin")
        )
        machine.shell(f"mkdir -p {VENV}/bin && ln -s /usr/bin/python3 {VENV}/bin/python")
        machine.write(f"{VENV}/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = true\n")
        machine.shell("echo > /usr/lib/python3/dist-packages/demo_engine.py")
        for path, text in PROGRAMS.items():
            machine.write(path, text, "0755")
        machines.append(machine)
    yield Site(machines, tmp_path_factory.mktemp("runtime"))


def test_a_check_predicts_what_an_apply_then_does(site):
    before = [machine.shell(outside.LOOKED_AT) for machine in site.machines]
    checked = site.run(check=True).assert_ok()
    assert [machine.shell(outside.LOOKED_AT) for machine in site.machines] == before
    done = site.run(check=False).assert_ok()
    for machine in site.machines:
        predicted = evidence(checked, machine)
        found = evidence(done, machine)
        # A check of one role does not know what an earlier one makes: it says what it relies on.
        assert {name: {**c, "reason": ""} for name, c in found.items()} == {
            name: {**c, "reason": ""} for name, c in predicted.items()
        }
        assert {name for name in predicted if predicted[name]["reason"] != found[name]["reason"]} <= {
            "vllm_runtime/caches"
        }
        assert {name for name, control in predicted.items() if control["state"] == "in_sync"} >= {
            *("vllm_runtime/imports", "launchers/engine_binaries", "launchers/cuda_binaries", "ptxas/assembles")
        }


def test_a_second_apply_changes_nothing_and_a_check_is_empty(site):
    # The archive that another transport carries is the same byte for byte.
    assert site.run(check=False, mitogen=True).assert_ok().changed == []
    before = [calls.as_root(machine.name) for machine in site.machines]
    done = site.run(check=True).assert_ok()
    assert done.changed == []
    for machine, earlier in zip(site.machines, before, strict=True):
        calls.keep_the_promise(done, machine, ROLES, calls.as_root(machine.name) - earlier)
        controls = evidence(done, machine)
        assert {name: c["reason"] for name, c in controls.items() if c["state"] != "in_sync"} == {
            "prereqs/time_sync": "named in prereqs_skip_controls",
            **dict.fromkeys(NOT_DECLARED, "nothing is declared for it"),
        }
        assert on_the_node(machine).keys() == controls.keys()


def test_what_is_kept_is_for_root_alone(site):
    for machine in site.machines:
        assert machine.run("stat", "-c", "%a %U", "/var/lib/nusy/declared").split() == ["700", "root"]
        files = machine.shell("stat -c '%a %U' /var/lib/nusy/declared/*.json").splitlines()
        assert files == ["600 root"] * 4


def test_without_root_the_tool_says_what_it_cannot_see(site):
    machine = site.machines[0]
    text = machine.run("setpriv", "--reuid=nusy", "--clear-groups", TOOL, check=False)
    assert "UNKNOWN launchers/suite  what is declared is for root: run it with sudo" in text
    assert "PASS" not in text and "FAIL" not in text


def test_a_check_without_root_fails_nowhere_and_calls_nothing_fine_that_is_closed_to_it(site):
    """By the login of the nodes, without sudo: first as root leaves a node, then with the roots closed."""
    machine = site.machines[0]
    open_ = evidence(site.run(check=True, become=False).assert_ok(), machine)
    assert {name: c["state"] for name, c in open_.items() if c["state"] != "in_sync"} == {
        **dict.fromkeys(NOT_DECLARED | {"prereqs/time_sync"}, "not_selected"),
        "vllm_runtime/cache_size": "unknown",
    }
    places = f"/etc/nusy {FOLDER} {VENV}/bin"
    machine.shell(f"chmod 0700 {places}")
    try:
        done = site.run(OURS, check=True, become=False).assert_ok()
    finally:
        machine.shell(f"chmod 0755 {places}")
    found = evidence(done, machine)
    seen = {"vllm_runtime/caches", "launchers/driver_binaries", "launchers/cuda_binaries"}
    assert {name for name, c in found.items() if c["state"] == "in_sync"} == seen
    # The folder itself can be seen, and that it is closed is drift.
    assert {name: c["state"] for name, c in found.items() if c["state"] not in ("in_sync", "unknown")} == {
        "vllm_runtime/compiles": "not_selected",
        "launchers/suite": "drifted",
    }
    assert all("Permission denied" in c["reason"] for c in found.values() if c["state"] == "unknown")


def test_launchers_print_what_the_service_gets_whatever_the_caller_has(site):
    for machine, variable in zip(site.machines, ("TRITON_PTXAS_PATH=/usr/local/cuda-13.0/bin/ptxas", ""), strict=True):
        printed = machine.run(
            *("setpriv", "--reuid=nusy", "--clear-groups", "env", "-i", "PATH=/tmp/evil", "LD_PRELOAD=/tmp/evil.so"),
            *(f"{FOLDER}/ray-head", "--print", "--node-ip-address", "127.0.0.1"),
        ).splitlines()
        assert printed[-1].startswith(f"{VENV}/bin/ray start --head --port 6380 ")
        assert "MAX_JOBS=2" in printed and "RAY_memory_monitor_refresh_ms=0" in printed
        assert f"PATH={VENV}/bin:/usr/sbin:/usr/bin:/sbin:/bin" in printed
        assert [line for line in printed if line.startswith("TRITON_")] == ([variable] if variable else [])


def test_a_unit_becomes_the_engine(site):
    """As a service: the process of the unit is the program itself, with neither a shell nor a launcher around it."""
    machine = site.machines[0]
    machine.write(f"{VENV}/bin/ray", "#!/bin/sh\n[ $# = 1 ] && echo 2.60.0 && exit\nexec sleep 60 \n", "0755")
    machine.run(
        *("systemd-run", "--unit=probe-launcher", "--uid=nusy", "--service-type=exec"),
        *(f"{FOLDER}/ray-head", "--node-ip-address", "127.0.0.1"),
    )
    try:
        machine.shell(
            "for i in $(seq 50); do p=$(systemctl show -P MainPID probe-launcher); "
            "grep -q sleep /proc/$p/comm && exit 0; sleep 0.1; done; exit 1"
        )
        assert machine.shell("tr '\\0' ' ' < /proc/$(systemctl show -P MainPID probe-launcher)/cmdline") == "sleep 60 "
    finally:
        machine.run("systemctl", "stop", "probe-launcher")
        machine.write(f"{VENV}/bin/ray", PROGRAMS[f"{VENV}/bin/ray"], "0755")


DAMAGE = {
    "ptxas/environment": "sed -i 's/^# Made.*/# Unmade/' /etc/nusy/ptxas.env",
    "ptxas/file_extra": "echo OTHER=1 >> /etc/nusy/ptxas.env",
    "vllm_runtime/caches": f"chmod 0777 {CACHE}/vllm",
    "vllm_runtime/environment": "sed -i 's/^HF_HUB_OFFLINE=.*/HF_HUB_OFFLINE=\"0\"/' /etc/nusy/vllm.env",
    "vllm_runtime/jit_limits": "sed -i 's/^MAX_JOBS=.*/MAX_JOBS=\"20\"/' /etc/nusy/vllm.env",
    "vllm_runtime/memory": "sed -i 's/0.76/0.95/' /etc/nusy/vllm.env",
    "vllm_runtime/file_extra": "echo TRITON_CACHE_DIR=/tmp >> /etc/nusy/vllm.env",
    "launchers/paths": f"sed -i 's#{VENV}/bin/ray#/tmp/ray#' /etc/nusy/paths.env",
    "launchers/file_extra": "echo EVIL_BIN=/tmp/evil >> /etc/nusy/paths.env",
    "launchers/suite": f"echo >> {FOLDER}/spark.pyz",
    "launchers/entries": f"rm {FOLDER}/ray-head; ln -s spark.pyz {FOLDER}/vllm-serve",
}
# What these roles see and cannot make: how it is broken, and mended again by hand.
NOT_OURS = {
    "vllm_runtime/imports": (
        "echo 'raise ImportError(\"broken\")' > /usr/lib/python3/dist-packages/demo_engine.py",
        "echo > /usr/lib/python3/dist-packages/demo_engine.py",
    ),
    "launchers/engine_binaries": (f"chmod 0644 {VENV}/bin/ray", f"chmod 0755 {VENV}/bin/ray"),
    "launchers/cuda_binaries": (f"mount --bind /usr/bin/false {PTXAS}", f"umount {PTXAS}"),
    "launchers/driver_binaries": ("mv /usr/bin/nvidia-smi /tmp/away", "mv /tmp/away /usr/bin/nvidia-smi"),
}


# One of each role at a time on each node: a round costs a check and a repair of all.
BY_ROLE = [[name for name in DAMAGE if name.startswith(f"{role}/")] for role in OURS]
ROUNDS = range((max(map(len, BY_ROLE)) + 1) // 2)


def agree(site: Site, done: Any) -> None:
    """Every control, in state and in what differs; who moved, too: the record is there to be read by root."""
    for machine in site.machines:
        there = on_the_node(machine)
        for name, control in evidence(done, machine).items():
            keys = ("state", "blocked_by", "cause")
            assert {key: there[name][key] for key in keys} == {key: control[key] for key in keys}, name
            assert there[name]["before"].keys() == control["before"].keys(), name


@pytest.mark.breaks(*(name for names in BY_ROLE for name in names))
@pytest.mark.parametrize("number", ROUNDS)
def test_a_control_broken_by_hand_is_named_alone_by_both_and_repaired(site, number):
    broken = {}
    for place, machine in enumerate(site.machines, 2 * number):
        broken[machine.name] = {names[place] for names in BY_ROLE if place < len(names)}
        for name in broken[machine.name]:
            machine.shell(DAMAGE[name])
    done = site.run(OURS, check=True, mitogen=number > 0).assert_ok()
    for machine in site.machines:
        found = {name: c["cause"] for name, c in evidence(done, machine).items() if c["state"] == "drifted"}
        assert {c["state"] for name, c in evidence(done, machine).items() if name not in found} <= FINE
        assert found == dict.fromkeys(broken[machine.name], "corrective")
    # One that alters the archive alters the tool itself: it then still runs, and says so.
    agree(site, done)
    site.run(OURS, check=False, mitogen=number > 0).assert_ok()
    for machine in site.machines:
        assert {c["state"] for c in on_the_node(machine).values()} == FINE


@pytest.mark.names(*NOT_OURS)
def test_what_these_roles_cannot_make_is_named_and_fails_a_real_run(site):
    """One role on each node, since a role that fails ends the run of its node."""
    here = {name: int(name.startswith("launchers/")) for name in NOT_OURS}
    for name, place in here.items():
        site.machines[place].shell(NOT_OURS[name][0])
    done = site.run(OURS, check=True).assert_ok()
    for place, machine in enumerate(site.machines):
        found = {name for name, c in evidence(done, machine).items() if c["state"] == "drifted"}
        # A binary that is not proven is not in the list of paths either: its own control says so.
        assert found == {n for n, there in here.items() if there == place}
    agree(site, done)
    failed = site.run(OURS, check=False)
    assert failed.rc != 0 and all(f"{name} is drifted" in failed.stdout for name in here)
    for name, place in here.items():
        site.machines[place].shell(NOT_OURS[name][1])
    site.run(OURS, check=False).assert_ok()
    for machine in site.machines:
        assert {c["state"] for c in on_the_node(machine).values()} == FINE


@pytest.mark.breaks("vllm_runtime/cache_size")
def test_a_cache_that_is_too_large_is_emptied_when_it_is_named(site):
    machine = site.machines[0]
    machine.shell(
        f"mkdir -p {CACHE}/vllm/old && fallocate -l 1100M {CACHE}/vllm/old/kernels && ln -s /etc {CACHE}/vllm/etc"
    )
    done = site.run(["vllm_runtime"], check=True).assert_ok()
    control = evidence(done, machine)["vllm_runtime/cache_size"]
    assert control["blocked_by"] == f"vllm_runtime_confirm: [{CACHE}/vllm/*]"
    agree(site, done)
    site.run(["vllm_runtime"], check=False, extra={"vllm_runtime_confirm": [f"{CACHE}/vllm/*"]}).assert_ok()
    assert machine.run("ls", "-A", f"{CACHE}/vllm") == "" and machine.ok("test", "-e", "/etc/nusy/vllm.env")
