# SPDX-License-Identifier: GPL-3.0-or-later
"""The promise of the collection, on two real nodes: a check predicts what an apply then does.

All roles, in one story: bare check → apply → second apply → outside look → every control
broken by hand. What a check says is held against the nodes themselves, listed from outside
before and after, and against a twin on which the packages alone were installed. The first
node has a Triton that needs another ptxas, the second one that does not; both are real ones.
Tests run in the order of this file and share the nodes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import outside
import pytest

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / "tools"), *(str(TESTS / "integration" / name) for name in ("ptxas", "cuda"))]

import parts
import wheelhouse
import wheels

SITE = "site.yml"
VENV = "/srv/venv"
PTXAS = "/usr/local/cuda-13.0/bin/ptxas"
ENVIRONMENT = "/etc/nusy/ptxas.env"
WHEELS = wheelhouse.demo(TESTS.parent / "build" / "cache" / "wheelhouse")
ENGINE = "/opt/nusy/venvs/vllm"
EXTRA = {
    # What torch and vLLM are on a Spark is a tiny stand-in here; the nodes have no network and no uv.
    "vllm_venv_find_links": "/srv/wheels",
    "vllm_venv_interpreter": "/usr/bin/python3.13",
    "vllm_venv_python": "3.13",
    "vllm_venv_cuda": False,
    "vllm_venv_imports": ["engine"],
    "vllm_venv_entry_points": ["engine"],
    "vllm_venv_stages": [
        {
            "name": "base",
            "lock": (WHEELS / "base.lock").read_text(),
            "assertions": [{"distribution": "base", "file": "base/version.py", "suffix": "+cu130"}],
        },
        {"name": "engine", "lock": (WHEELS / "new.lock").read_text()},
    ],
    "ptxas_venv": VENV,
    # Only the binaries of the wheels are on the nodes; real compiles are proven by the ptxas layer.
    "ptxas_compile": False,
    # The host compiler that nvcc needs comes with this very run; whole proofs are in test_cuda.py.
    "cuda_toolchain_compile": False,
    # These two have a story of their own; what other tests of the whole site need of them is that they converge.
    "vllm_runtime_venv": VENV,
    "vllm_runtime_imports": [],
    "vllm_runtime_compile": False,
    "launchers_launchers": [],
    "launchers_cuda_home": "/usr/local/cuda-13.0",
    "launchers_binaries": {"PY_BIN": "/usr/bin/python3"}
    | dict.fromkeys(("NVIDIA_SMI_BIN", "NVCC_BIN", "CUOBJDUMP_BIN", "NVDISASM_BIN"), ""),
    "spark_local": False,
}
# Roles with a story of their own, in test_runtime_roles.py.
ELSEWHERE = ("vllm_runtime", "launchers")
CONTROLS = {
    "prereqs/packages_tools",
    "prereqs/packages_build",
    "prereqs/packages_fabric",
    "prereqs/time_sync",
    "prereqs/service_user",
    "prereqs/root_config",
    "prereqs/root_state",
    "prereqs/root_code",
    "prereqs/root_models",
    # Not of the source "existing": cuda_toolchain/{key,repository,file_extra}.
    "cuda_toolchain/toolkit",
    "cuda_toolchain/components",
    "cuda_toolchain/link",
    "cuda_toolchain/builds",
    "vllm_venv/interpreter",
    "vllm_venv/place",
    "vllm_venv/packages",
    "vllm_venv/files",
    "vllm_venv/current",
    "vllm_venv/use",
    "vllm_venv/generations",
    "ptxas/assembles",
    "ptxas/environment",
    "ptxas/file_extra",
}
# What follows from read-only mounts: it is right from the beginning, and cannot be broken by hand.
MOUNTED = {"cuda_toolchain/toolkit", "cuda_toolchain/components", "cuda_toolchain/builds"}


@pytest.fixture(scope="module")
def site(make_node, tmp_path_factory) -> Iterator[Site]:
    machines = []
    for version in ("3.5.1", "3.6.0"):
        packages = wheels.binaries("triton", version)
        machine = make_node(
            mounts=(
                f"{packages}:{VENV}/lib/python3.13/site-packages",
                f"{parts.toolkit()}:/usr/local/cuda-13.0",
                f"{WHEELS}:/srv/wheels",
            )
        )
        machines.append(machine)
    # Before the first look: nodes know each other by name, so a new one changes the others' /etc/hosts.
    twin = make_node()
    yield Site(machines, twin, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def by_packages(site) -> dict[str, outside.Change]:
    """All that happens on an equal node when nothing but the predicted packages are installed, by apt itself."""
    promised = site.promised(site.machines[0])
    names = [item.removeprefix("package ") for item in promised if item.startswith("package ")]
    before = outside.listing(site.twin)
    site.twin.run("apt-get", "install", "-q", "-y", "--no-install-recommends", *names, timeout=600)
    return outside.changes(before, outside.listing(site.twin))


class Site:
    """Two nodes and the runs over them, kept for the tests that come later in the story."""

    def __init__(self, machines: list[Any], twin: Any, directory: Path) -> None:
        self.machines = machines
        self.twin = twin
        self.directory = directory
        self.runs: dict[str, Any] = {}
        self.listings: dict[str, dict[str, outside.Listing]] = {}

    def run(self, name: str, *, check: bool, extra: dict[str, Any] | None = None, on: Any = None) -> Any:
        import testing

        machines = [on] if on else self.machines
        done = testing.ansible_playbook(
            SITE,
            machines,
            self.directory,
            *("--skip-tags", ",".join(ELSEWHERE)),
            check=check,
            report=True,
            extra={**EXTRA, **(extra or {})},
        )
        self.runs[name] = done
        return done

    def look(self, name: str) -> None:
        self.listings[name] = {machine.name: outside.listing(machine) for machine in self.machines}

    def changes(self, before: str, after: str, machine: Any) -> dict[str, outside.Change]:
        return outside.changes(self.listings[before][machine.name], self.listings[after][machine.name])

    def evidence(self, name: str, machine: Any) -> dict[str, dict[str, Any]]:
        """What the own modules returned, by control: not yet through the report."""
        modules = ("ensure_state", "cuda_toolchain", "vllm_venv", "ptxas_environment")
        results = [entry for module in modules for entry in self.runs[name].of(host=machine.name, action=module)]
        return {control["id"]: control for entry in results for control in entry["result"]["controls"]}

    def promised(self, machine: Any) -> dict[str, dict[str, Any]]:
        """What the bare check said item by item; of an environment it names packages, and the rest follows."""
        evidence = self.evidence("bare check", machine)
        return outside.promised(control for name, control in evidence.items() if not name.startswith("vllm_venv/"))

    def states(self, name: str, machine: Any) -> dict[str, str]:
        """What the report says."""
        (host,) = [host for host in self.runs[name].report["hosts"] if host["name"] == machine.name]
        return {control["id"]: control["state"] for control in host["controls"] if control["id"] in CONTROLS}


# What a look must not move: directories by the time of their content, since an overlay changes
# their inode when something below is first written.
NOT_THERE = " -o ".join(f"-path '{path}'" for path in outside.PRUNED)
LOOKED_AT = (
    f"find / -xdev \\( {NOT_THERE} \\) -prune -o "
    "-type d -printf '%p %m %U:%G %T@\\n' -o -printf '%p %y %m %U:%G %s %C@\\n' | grep -v '^/var/log ' | sort"
)
# What a complete real run leaves about itself: what was declared, and from what later drift is told. In no plan.
RECORD = {
    "directory /var/lib/nusy/applied",
    "file /var/lib/nusy/applied/.key",
    "directory /var/lib/nusy/declared",
    *(
        f"file /var/lib/nusy/{folder}/{name}.json"
        for folder in ("applied", "declared")
        # Of environments one for each.
        for name in ("vllm_venv-vllm", *(control.partition("/")[0] for control in CONTROLS))
    ),
}


def test_a_check_of_a_bare_node_fails_nowhere_and_touches_nothing(site):
    site.look("bare")
    before = [machine.shell(LOOKED_AT) for machine in site.machines]
    done = site.run("bare check", check=True).assert_ok()
    assert done.failed == []
    after = [machine.shell(LOOKED_AT) for machine in site.machines]
    site.look("checked")
    for machine, earlier, later in zip(site.machines, before, after, strict=True):
        assert later == earlier
        assert site.changes("bare", "checked", machine) == {}
        states = site.states("bare check", machine)
        assert set(states) == CONTROLS
        nothing_yet = {"ptxas/assembles", "ptxas/file_extra", "vllm_venv/interpreter", "vllm_venv/generations"}
        expected = CONTROLS - MOUNTED - nothing_yet
        assert {name for name, state in states.items() if state == "drifted"} == expected


def test_apply_does_exactly_what_the_check_predicted(site):
    site.run("apply", check=False).assert_ok()
    site.look("applied")
    for machine in site.machines:
        predicted, done = site.evidence("bare check", machine), site.evidence("apply", machine)
        assert done == predicted
        assert set(site.states("apply", machine).values()) == {"in_sync"}


def test_nothing_changed_on_a_node_but_what_the_check_predicted(site, by_packages):
    """The judge is neither the planner nor Ansible. What packages bring with them, a twin shows."""
    for machine in site.machines:
        promised = site.promised(machine)
        changed = site.changes("bare", "applied", machine)
        others = outside.unexplained(changed, by_packages) - RECORD
        current = site.evidence("bare check", machine)["vllm_venv/current"]["after"][f"{ENGINE}/current"]
        inside = {item for item in others if f" {ENGINE}/{current}/" in item}
        places = {f"directory {path}" for path in (str(Path(ENGINE).parent), ENGINE, f"{ENGINE}/{current}")}
        others -= inside
        assert inside and {f"link {ENGINE}/current", *places} <= others
        others -= {f"link {ENGINE}/current", *places}
        assert others == {item for item in promised if item not in by_packages}
        assert promised.keys() <= changed.keys()
        after = site.listings["applied"][machine.name]
        assert [item for item, promise in promised.items() if not outside.kept(machine, item, promise, after)] == []


def test_the_outside_look_would_have_seen_more(site, by_packages):
    """One change of each kind that no check predicted is found, each by its name."""
    machine = site.machines[0]
    before = outside.listing(machine)
    machine.shell(
        "chmod 0600 /etc/fstab; echo x >> /etc/hosts; mkdir /opt/more; ln -s x /opt/link; useradd more; "
        "apt-mark hold jq >&2; systemctl stop -q ssh.socket; systemctl mask -q apt-daily.service"
    )
    changed = outside.changes(before, outside.listing(machine))
    machine.shell(
        "chmod 0644 /etc/fstab; sed -i '$d' /etc/hosts; rmdir /opt/more; rm /opt/link; userdel more; "
        "apt-mark unhold jq >&2; systemctl unmask -q apt-daily.service"
    )
    assert {
        "file /etc/fstab", "file /etc/hosts", "directory /opt/more", "link /opt/link", "user more", "group more",
        "package jq", "unit apt-daily.service", "link /etc/systemd/system/apt-daily.service",
    } <= outside.unexplained(changed, by_packages)  # fmt: skip


def test_a_second_apply_changes_nothing_and_a_check_is_empty(site):
    assert site.run("second apply", check=False).assert_ok().changed == []
    assert site.run("clean check", check=True).assert_ok().changed == []
    for machine in site.machines:
        assert set(site.states("clean check", machine).values()) == {"in_sync"}


def test_the_report_counts_what_the_controls_say(site):
    summary = site.runs["clean check"].report["summary"]
    assert (summary["drifted"], summary["unknown"], summary["hosts"]) == (0, 0, 2)
    assert site.runs["bare check"].report["summary"]["drifted"] == 2 * 16


def test_from_outside_the_nodes_are_as_declared(site):
    for machine in site.machines:
        outside = machine.outside
        for name in ("git", "jq", "ninja-build", "python3-venv", "ethtool", "rdma-core"):
            assert outside.package(name).is_installed
        assert outside.service("systemd-timesyncd").is_running and outside.service("systemd-timesyncd").is_enabled
        user = outside.user("nusy")
        assert (user.shell, user.home, user.group) == ("/usr/sbin/nologin", "/opt/nusy", "nusy")
        for path, owner in (
            ("/opt/nusy", "nusy"),
            ("/srv/models", "nusy"),
            ("/etc/nusy", "root"),
            ("/var/lib/nusy", "root"),
        ):
            folder = outside.file(path)
            assert (folder.is_directory, folder.user, folder.mode) == (True, owner, 0o755)
        assert outside.file("/var/lib/nusy/applied/.key").mode == 0o600


def test_only_the_triton_that_needs_it_gets_a_variable(site):
    needs, needs_not = site.machines
    assert f'TRITON_PTXAS_PATH="{PTXAS}"' in needs.read(ENVIRONMENT)
    assert "TRITON" not in needs_not.read(ENVIRONMENT)


DAMAGE = {
    "prereqs/packages_tools": "dpkg --remove --force-depends jq",
    "prereqs/packages_build": "dpkg --remove --force-depends ninja-build",
    "prereqs/packages_fabric": "dpkg --remove --force-depends ethtool",
    "prereqs/time_sync": "systemctl disable --now systemd-timesyncd",
    "prereqs/service_user": "usermod --shell /bin/bash nusy",
    "prereqs/root_config": "chmod 0777 /etc/nusy",
    "prereqs/root_state": "chown nusy /var/lib/nusy; chmod 0700 /var/lib/nusy",
    "prereqs/root_code": "chmod 0700 /opt/nusy",
    "prereqs/root_models": "rmdir /srv/models",
    "cuda_toolchain/link": "ln -sfn /usr/local/lib/nusy/cuda/12.9 /usr/local/cuda",
    # The group has no other members, so nothing else is in doubt.
    "vllm_venv/place": f"chmod 0775 {ENGINE}",
    # What a pip by hand leaves: a distribution that no lock names.
    "vllm_venv/packages": f"cd {ENGINE}/current/lib/python3.13/site-packages && mkdir hand-1.0.dist-info"
    " && printf 'Name: hand\nVersion: 1.0\n' > hand-1.0.dist-info/METADATA",
    "vllm_venv/files": f"echo 'import os' >> {ENGINE}/current/lib/python3.13/site-packages/engine.py",
    "vllm_venv/current": f"rm {ENGINE}/current",
    "vllm_venv/generations": f"mkdir {ENGINE}/0123456789abcdef",
    "ptxas/environment": f"sed -i 's/^# Made.*/# Unmade/; s/cuda-13.0/cuda-12.0/' {ENVIRONMENT}",
    "ptxas/file_extra": f"echo SOMETHING_ELSE=1 >> {ENVIRONMENT}",
}


def test_every_control_has_its_damage():
    """Three cannot be broken so that the role mends them.

    Which ptxas assembles follows from read-only wheels; another interpreter breaks the node itself;
    what an intact environment lacks of the node has a test of its own.
    """
    assert set(DAMAGE) == CONTROLS - MOUNTED - {"ptxas/assembles", "vllm_venv/interpreter", "vllm_venv/use"}


# Two at a time, one on each node: a round costs a check and a repair of both.
NAMES = list(DAMAGE)
ROUNDS = list(zip(NAMES[::2], [*NAMES[1::2], *NAMES[: len(NAMES) % 2]], strict=True))


@pytest.mark.parametrize("pair", ROUNDS, ids=" and ".join)
def test_a_control_broken_by_hand_is_named_alone_and_repaired(site, pair):
    for machine, broken in zip(site.machines, pair, strict=True):
        machine.shell(DAMAGE[broken])
    site.run("damaged", check=True).assert_ok()
    confirm = []
    for machine, broken in zip(site.machines, pair, strict=True):
        states = site.states("damaged", machine)
        assert [name for name, state in states.items() if state != "in_sync"] == [broken]
        control = site.evidence("damaged", machine)[broken]
        if broken == "prereqs/root_state":
            # It has content and belongs to somebody else now: named, and left alone until it is named back.
            assert control["blocked_by"] == "prereqs_confirm: [/var/lib/nusy]" and control["cause"] == "blocked"
            confirm.append("/var/lib/nusy")
        else:
            assert control["cause"] == "corrective"
    site.run("repair", check=False, extra={"prereqs_confirm": confirm}).assert_ok()
    for machine in site.machines:
        assert set(site.states("repair", machine).values()) == {"in_sync"}


GENERATION = re.compile(r"\b[0-9a-f]{16}(-\d+)?\b")


def any_generation(listing: outside.Listing) -> outside.Listing:
    """The same for every folder that an environment is built in.

    What lies outside lib names that folder, and so does what Python has compiled.
    """
    found = {}
    for item, seen in listing.items():
        if item == f"link {ENGINE}/current":
            seen = [seen[0], GENERATION.sub("generation", seen[1])]
        elif f" {ENGINE}/" in item:
            item = GENERATION.sub("generation", item)
            if item.startswith("file ") and ("/lib/" not in item or item.endswith(("/RECORD", ".pyc"))):
                seen = seen[:2]  # owner and mode, not content
        found[item] = seen
    return found


def test_the_repairs_led_back_to_the_same_node(site):
    """But for the folder of the environment, which is never repaired in place."""
    site.look("repaired")
    for machine in site.machines:
        before, after = (any_generation(site.listings[name][machine.name]) for name in ("applied", "repaired"))
        changed = outside.changes(before, after)
        assert {item: change for item, change in changed.items() if not outside.DATED.match(item)} == {}


def test_a_triton_that_came_by_hand_is_the_node_that_moved(site):
    """What the file has to say follows from the Triton that is found; the declaration is as it was."""
    changed, other = site.machines
    packages = f"{VENV}/lib/python3.13/site-packages"
    changed.shell(f"mount -t tmpfs none {packages}")
    try:
        site.run("without triton", check=False).assert_ok()
        assert site.evidence("without triton", changed)["ptxas/assembles"]["state"] == "unknown"
        assert "TRITON" not in changed.read(ENVIRONMENT)
    finally:
        changed.shell(f"umount {packages}")
    site.run("triton came", check=True).assert_ok()
    found = site.evidence("triton came", changed)["ptxas/environment"]
    assert (found["state"], found["cause"]) == ("drifted", "corrective")
    assert site.evidence("triton came", other)["ptxas/environment"]["state"] == "in_sync"
    site.run("declared anew", check=True, extra={"ptxas_candidates": [PTXAS]}).assert_ok()
    assert site.evidence("declared anew", changed)["ptxas/environment"]["cause"] == "intentional"
    site.run("repair", check=False).assert_ok()
    assert f'TRITON_PTXAS_PATH="{PTXAS}"' in changed.read(ENVIRONMENT)


def test_what_cannot_be_repaired_here_fails_with_what_to_do(site):
    damaged = site.machines[0]
    # What is forced now counts as a candidate too, so it has to go first.
    damaged.run("rm", ENVIRONMENT)
    done = site.run("no ptxas", check=False, extra={"ptxas_candidates": ["/usr/bin/false"]})
    assert done.rc != 0 and "Upgrade Triton" in done.stdout
    assert site.states("no ptxas", damaged)["ptxas/assembles"] == "drifted"
    site.run("repair", check=False).assert_ok()


def test_what_an_intact_environment_lacks_of_the_node_is_named_and_not_built_again(site):
    """A stage asserts of what its lock names something that is not so: no build mends that."""
    machine = site.machines[0]
    stages = EXTRA["vllm_venv_stages"]
    wrong = {**stages[0], "assertions": [{"distribution": "base", "file": "base/version.py", "suffix": "+cu129"}]}
    done = site.run("cu129", check=False, extra={"vllm_venv_stages": [wrong, stages[1]]}, on=machine)
    assert done.rc != 0 and "2.13.0+cu130" in done.stdout
    assert site.evidence("cu129", machine)["vllm_venv/use"]["state"] == "drifted"
    assert {name for name, state in site.states("cu129", machine).items() if state == "drifted"} == {"vllm_venv/use"}


def test_an_engine_is_updated_beside_itself_and_goes_back(site):
    machine = site.machines[0]
    stages = EXTRA["vllm_venv_stages"]
    old = {"vllm_venv_stages": [stages[0], {"name": "engine", "lock": (WHEELS / "old.lock").read_text()}]}
    site.run("older lock", check=True, extra=old, on=machine).assert_ok()
    predicted = site.evidence("older lock", machine)
    assert predicted["vllm_venv/packages"]["before"] == {"engine": "0.27.1"}
    assert predicted["vllm_venv/packages"]["after"] == {"engine": "0.25.0"}
    assert predicted["vllm_venv/packages"]["cause"] == "intentional"
    site.run("older", check=False, extra=old, on=machine).assert_ok()
    assert site.evidence("older", machine) == predicted
    assert machine.run("runuser", "-u", "nusy", "--", f"{ENGINE}/current/bin/engine") == "engine 0.25.0\n"
    back = {**old, "vllm_venv_generation": "previous"}
    site.run("back", check=False, extra=back, on=machine).assert_ok()
    assert machine.run("runuser", "-u", "nusy", "--", f"{ENGINE}/current/bin/engine") == "engine 0.27.1\n"
    assert site.run("back again", check=True, extra=back, on=machine).assert_ok().changed == []


def test_a_directory_of_somebody_else_is_not_taken_over(site):
    first = site.machines[0]
    first.shell(
        "rmdir /srv/models && mkdir /srv/models && echo precious > /srv/models/weights && chown -R ops /srv/models"
    )
    # A name that is nearly right allows nothing, and is pointed out.
    site.run("taken", check=False, extra={"prereqs_confirm": ["/srv/model"]}).assert_ok()
    assert first.run("stat", "-c", "%U", "/srv/models").strip() == "ops"
    control = site.evidence("taken", first)["prereqs/root_models"]
    assert control["blocked_by"] == "prereqs_confirm: [/srv/models]"
    assert "prereqs_confirm has /srv/model: is /srv/models meant?" in control["reason"]
    assert site.states("taken", first)["prereqs/root_models"] == "drifted"
    site.run("confirmed", check=False, extra={"prereqs_confirm": ["/srv/models"]}).assert_ok()
    assert first.run("stat", "-c", "%U", "/srv/models").strip() == "nusy"
    assert first.read("/srv/models/weights") == "precious\n"
