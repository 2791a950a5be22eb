# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages: what apt and dpkg do while somebody else is at work."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import packages
from declare import subject
from fake_node import FakeNode

# Captured on Debian 13 (apt 3.0.3, dpkg 1.22.21) while another apt-get was installing.
BUSY = {
    "dpkg": "dpkg: error: dpkg frontend lock was locked by /usr/bin/apt-get process with pid 286\n"
    "Note: removing the lock file is always wrong, can damage the locked area\n",
    "apt-mark": "dpkg: error: dpkg frontend lock was locked by /usr/bin/apt-get process with pid 358\n"
    "E: Sub-process dpkg --set-selections returned an error code (2)\n",
    "apt-get": "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 337 (python3)\n"
    "E: Unable to lock directory /var/lib/apt/lists/\n",
}


class BusyNode(FakeNode):
    """Somebody else holds the locks for ``busy`` attempts of tools that do not wait by themselves."""

    busy = 0

    def run(self, argv, **options):
        tool = argv[0].rsplit("/", 1)[-1]
        waits = tool == "apt-get" and "update" not in argv
        if self.busy and tool in BUSY and not waits:
            self.busy -= 1
            return Completed(tuple(argv), 100, "", BUSY[tool])
        return super().run(argv, **options)


@pytest.fixture
def slept(monkeypatch):
    """Time passes only in sleeps."""
    naps = []
    monkeypatch.setattr(packages.time, "sleep", naps.append)
    monkeypatch.setattr(packages.time, "monotonic", lambda: sum(naps))
    return naps


@pytest.mark.parametrize("prepare", ["half-configured", "new in the lists", "hold"])
def test_it_waits_for_another_apt_to_finish(slept, prepare):
    node = BusyNode(available={"jq": "1.7"})
    control = {"id": "demo/p", "packages": ["jq"]}
    if prepare == "half-configured":
        node.packages["jq"] = ("unpacked", "1.7")
    elif prepare == "new in the lists":
        node.available, node.upstream = {}, {"jq": "1.7"}
    else:
        control["holds"] = ["jq"]
        node.packages["jq"] = ("installed", "1.7")
    ensured = subject(control)
    plan = ensured.plan(node)
    node.busy = 3
    converge(ensured, plan, node, node)
    assert node.busy == 0 and slept == [packages.LOCK_POLL_SECONDS] * 3
    assert not subject(control).plan(node).changed


def test_it_does_not_wait_for_ever_and_names_who_holds_the_lock(slept):
    node = BusyNode(packages={"jq": ("installed", "1.7")})
    ensured = subject({"id": "demo/p", "packages": ["jq"], "holds": ["jq"]})
    plan = ensured.plan(node)
    node.busy = 10**6
    with pytest.raises(NodeError) as error:
        converge(ensured, plan, node, node)
    assert "locked by /usr/bin/apt-get process with pid 358" in error.value.problem.found
    assert packages.LOCK_SECONDS <= sum(slept) <= packages.LOCK_SECONDS + 2 * packages.LOCK_POLL_SECONDS


def test_a_failure_of_its_own_is_not_repeated(slept):
    node = FakeNode(packages={"jq": ("installed", "1.7")})
    node.tool_apt_mark = lambda _args: (100, "", "E: No changes possible\n")
    ensured = subject({"id": "demo/p", "packages": ["jq"], "holds": ["jq"]})
    with pytest.raises(NodeError):
        converge(ensured, ensured.plan(node), node, node)
    assert slept == []


def test_another_version_of_a_held_package_is_installed_and_held_again():
    node = FakeNode(packages={"jq": ("held", "1.6")}, available={"jq": "1.7"})
    control = {"id": "demo/p", "packages": ["jq=1.7"], "holds": ["jq"]}
    ensured = subject(control)
    converge(ensured, ensured.plan(node), node, node)
    assert node.packages["jq"] == ("held", "1.7")


def test_a_hold_of_somebody_else_is_respected_until_the_package_is_named():
    node = FakeNode(packages={"jq": ("held", "1.6")}, available={"jq": "1.7"})
    control = {"id": "demo/p", "packages": ["jq=1.7"]}
    plan = subject(control).plan(node)
    assert plan.controls[0].blocked_by == "demo_confirm: [jq]" and not plan.steps
    assert plan.controls[0].reason == "somebody holds jq at 1.6"
    ensured = subject(control, confirm=["jq"])
    converge(ensured, ensured.plan(node), node, node)
    assert node.packages["jq"] == ("held", "1.7")
