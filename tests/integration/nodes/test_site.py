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

import calls
import outside
import pytest
from whole_site import CONTROLS, ENGINE, ENVIRONMENT, EXTRA, MOUNTED, PTXAS, ROLES, VENV, WHEELS, Site

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in ("ptxas", "cuda")]

import parts
import wheels


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


# What a complete real run leaves about itself: what was declared, and from what later drift is told. In no plan.
RECORD = {
    "directory /var/lib/nusy/applied",
    "file /var/lib/nusy/applied/.key",
    "directory /var/lib/nusy/declared",
    *(
        f"file /var/lib/nusy/{folder}/{name}.json"
        for folder in ("applied", "declared")
        # Of environments one for each.
        for name in ("vllm_venv-vllm", *ROLES)
    ),
}


def test_a_check_of_a_bare_node_fails_nowhere_and_touches_nothing(site):
    site.look("bare")
    before = [machine.shell(outside.LOOKED_AT) for machine in site.machines]
    done = site.run("bare check", check=True).assert_ok()
    assert done.failed == []
    after = [machine.shell(outside.LOOKED_AT) for machine in site.machines]
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
    before = [calls.as_root(machine.name) for machine in site.machines]
    clean = site.run("clean check", check=True).assert_ok()
    assert clean.changed == []
    for machine, earlier in zip(site.machines, before, strict=True):
        assert set(site.states("clean check", machine).values()) == {"in_sync"}
        calls.keep_the_promise(clean, machine, ROLES, calls.as_root(machine.name) - earlier)


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


# In a round a row is broken on the first node and a column on the second: each control on both, and
# no two of them together on both. What would hide or change another one stands apart from it.
GRID = (
    ("vllm_venv/place", "vllm_venv/generations", "prereqs/packages_tools", "prereqs/root_config"),
    ("ptxas/environment", "vllm_venv/packages", "prereqs/packages_build", "prereqs/root_code"),
    ("prereqs/time_sync", "ptxas/file_extra", "vllm_venv/files", "prereqs/packages_fabric"),
    ("prereqs/root_models", "cuda_toolchain/link", "prereqs/service_user", "vllm_venv/current"),
)
# The record, which tells the cause of the others, is below it.
ALONE = ("prereqs/root_state",)
PLACED = (*ALONE, *(name for row in GRID for name in row))
ROUNDS = [*zip(GRID, zip(*GRID, strict=True), strict=True), (ALONE, ALONE)]


@pytest.mark.breaks(*PLACED)
@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_what_is_broken_by_hand_is_named_alone_and_repaired(site, number):
    broken = dict(zip(site.machines, ROUNDS[number], strict=True))
    for machine, names in broken.items():
        for name in names:
            machine.shell(DAMAGE[name])
    # Once as everybody runs it; over Mitogen the others take a third less.
    site.run("damaged", check=True, mitogen=number > 0).assert_ok()
    confirm = []
    for machine, names in broken.items():
        states = site.states("damaged", machine)
        assert {name for name, state in states.items() if state != "in_sync"} == {*names}
        evidence = site.evidence("damaged", machine)
        if names == ALONE:
            # It has content and belongs to somebody else now: named, and left alone until it is named back.
            control = evidence["prereqs/root_state"]
            assert control["blocked_by"] == "prereqs_confirm: [/var/lib/nusy]" and control["cause"] == "blocked"
            confirm = ["/var/lib/nusy"]
        else:
            assert {name: evidence[name]["cause"] for name in names} == dict.fromkeys(names, "corrective")
    site.run("repair", check=False, extra={"prereqs_confirm": confirm}, mitogen=number > 0).assert_ok()
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
        site.run("without triton", check=False, role="ptxas").assert_ok()
        assert site.evidence("without triton", changed)["ptxas/assembles"]["state"] == "unknown"
        assert "TRITON" not in changed.read(ENVIRONMENT)
    finally:
        changed.shell(f"umount {packages}")
    site.run("triton came", check=True, role="ptxas").assert_ok()
    found = site.evidence("triton came", changed)["ptxas/environment"]
    assert (found["state"], found["cause"]) == ("drifted", "corrective")
    assert site.evidence("triton came", other)["ptxas/environment"]["state"] == "in_sync"
    site.run("declared anew", check=True, role="ptxas", extra={"ptxas_candidates": [PTXAS]}).assert_ok()
    assert site.evidence("declared anew", changed)["ptxas/environment"]["cause"] == "intentional"
    site.run("repair", check=False, role="ptxas").assert_ok()
    assert f'TRITON_PTXAS_PATH="{PTXAS}"' in changed.read(ENVIRONMENT)


@pytest.mark.names("ptxas/assembles")
def test_what_cannot_be_repaired_here_fails_with_what_to_do(site):
    damaged = site.machines[0]
    # What is forced now counts as a candidate too, so it has to go first.
    damaged.run("rm", ENVIRONMENT)
    done = site.run("no ptxas", check=False, role="ptxas", extra={"ptxas_candidates": ["/usr/bin/false"]})
    assert done.rc != 0 and "Upgrade Triton" in done.stdout
    assert site.states("no ptxas", damaged)["ptxas/assembles"] == "drifted"
    site.run("repair", check=False, role="ptxas").assert_ok()


@pytest.mark.names("vllm_venv/use")
def test_what_an_intact_environment_lacks_of_the_node_is_named_and_not_built_again(site):
    """A stage asserts of what its lock names something that is not so: no build mends that."""
    machine = site.machines[0]
    stages = EXTRA["vllm_venv_stages"]
    wrong = {**stages[0], "assertions": [{"distribution": "base", "file": "base/version.py", "suffix": "+cu129"}]}
    done = site.run("cu129", check=False, role="vllm_venv", extra={"vllm_venv_stages": [wrong, stages[1]]}, on=machine)
    assert done.rc != 0 and "2.13.0+cu130" in done.stdout
    assert site.evidence("cu129", machine)["vllm_venv/use"]["state"] == "drifted"
    assert {name for name, state in site.states("cu129", machine).items() if state == "drifted"} == {"vllm_venv/use"}


def test_an_engine_is_updated_beside_itself_and_goes_back(site):
    machine = site.machines[0]
    stages = EXTRA["vllm_venv_stages"]
    old = {"vllm_venv_stages": [stages[0], {"name": "engine", "lock": (WHEELS / "old.lock").read_text()}]}
    site.run("older lock", check=True, role="vllm_venv", extra=old, on=machine).assert_ok()
    predicted = site.evidence("older lock", machine)
    assert predicted["vllm_venv/packages"]["before"] == {"engine": "0.27.1"}
    assert predicted["vllm_venv/packages"]["after"] == {"engine": "0.25.0"}
    assert predicted["vllm_venv/packages"]["cause"] == "intentional"
    site.run("older", check=False, role="vllm_venv", extra=old, on=machine).assert_ok()
    assert site.evidence("older", machine) == predicted
    assert machine.run("runuser", "-u", "nusy", "--", f"{ENGINE}/current/bin/engine") == "engine 0.25.0\n"
    back = {**old, "vllm_venv_generation": "previous"}
    site.run("back", check=False, role="vllm_venv", extra=back, on=machine).assert_ok()
    assert machine.run("runuser", "-u", "nusy", "--", f"{ENGINE}/current/bin/engine") == "engine 0.27.1\n"
    assert site.run("back again", check=True, role="vllm_venv", extra=back, on=machine).assert_ok().changed == []


def test_a_directory_of_somebody_else_is_not_taken_over(site):
    first = site.machines[0]
    first.shell(
        "rmdir /srv/models && mkdir /srv/models && echo precious > /srv/models/weights && chown -R ops /srv/models"
    )
    # A name that is nearly right allows nothing, and is pointed out.
    site.run("taken", check=False, role="prereqs", on=first, extra={"prereqs_confirm": ["/srv/model"]}).assert_ok()
    assert first.run("stat", "-c", "%U", "/srv/models").strip() == "ops"
    control = site.evidence("taken", first)["prereqs/root_models"]
    assert control["blocked_by"] == "prereqs_confirm: [/srv/models]"
    assert "prereqs_confirm has /srv/model: is /srv/models meant?" in control["reason"]
    assert site.states("taken", first)["prereqs/root_models"] == "drifted"
    site.run("confirmed", check=False, role="prereqs", on=first, extra={"prereqs_confirm": ["/srv/models"]}).assert_ok()
    assert first.run("stat", "-c", "%U", "/srv/models").strip() == "nusy"
    assert first.read("/srv/models/weights") == "precious\n"
