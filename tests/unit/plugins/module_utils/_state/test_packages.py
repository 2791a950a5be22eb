# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages: what apt and dpkg do while somebody else is at work."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import installing, packages
from declare import subject, verdict
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
    monkeypatch.setattr(installing.time, "sleep", naps.append)
    monkeypatch.setattr(installing.time, "monotonic", lambda: sum(naps))
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
    assert node.busy == 0 and slept == [installing.LOCK_POLL_SECONDS] * 3
    assert not subject(control).plan(node).changed


def test_it_does_not_wait_for_ever_and_names_who_holds_the_lock(slept):
    node = BusyNode(packages={"jq": ("installed", "1.7")})
    ensured = subject({"id": "demo/p", "packages": ["jq"], "holds": ["jq"]})
    plan = ensured.plan(node)
    node.busy = 10**6
    with pytest.raises(NodeError) as error:
        converge(ensured, plan, node, node)
    assert "locked by /usr/bin/apt-get process with pid 358" in error.value.problem.found
    assert installing.LOCK_SECONDS <= sum(slept) <= installing.LOCK_SECONDS + 2 * installing.LOCK_POLL_SECONDS


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


# --- what apt says and dpkg knows, captured on Debian 13 (apt 3.0.3) and Debian 12 (apt 2.6.1) -------


def said(out: str = "", err: str = "", rc: int = 100) -> packages.Simulation:
    return packages.parse_simulation(Completed(("apt-get",), rc, out, err))


VIRTUAL = "Package x-virt is a virtual package provided by:\n  x-prov 1.0\n  x-prov2 1.0\n\n"
UNMET = (
    "The following packages have unmet dependencies:\n"
    " x-broken : Depends: no-such but it is not installable\n"
    "E: Unable to correct problems, you have held broken packages.\n"
)
CONTEXT = (
    "E: The following information from --solver 3.0 may provide additional context:\n"
    "   1. x-broken:amd64=1.0 is selected for install\n"
    "   2. x-broken:amd64 Depends no-such\n      but none of the choices are installable:\n      [no choices]\n"
)


@pytest.mark.parametrize(
    ("out", "err", "reason"),
    [
        ("", "E: Unable to locate package nosuch\n", "no repository has nosuch"),
        ("", "E: Version '9' for 'x-a' was not found\n", "no repository has x-a=9"),
        ("", "E: Package 'x-ref' has no installation candidate\n", "no repository has x-ref"),
        (
            "",
            "E: Unable to locate package no\nE: Version '9' for 'x' was not found\n",
            "no repository has no; no repository has x=9",
        ),
        (
            VIRTUAL,
            "E: Package 'x-virt' has no installation candidate\n",
            "x-virt is a virtual name; declare what provides it: x-prov, x-prov2",
        ),
        (UNMET, CONTEXT, "x-broken : Depends: no-such but it is not installable"),
        ("", "E: Could not get lock\n", "E: Could not get lock"),
    ],
)
def test_why_apt_cannot_is_said_in_one_line(out, err, reason):
    assert said(out, err).problem == reason


def test_an_apt_that_was_stopped_by_the_time_limit_is_not_said_to_have_a_reason():
    stopped = Completed(("apt-get",), None, "The following NEW packages will be installed:\n  jq\n", "", "over 60 s")
    assert packages.parse_simulation(stopped).problem == "apt-get was not completed (over 60 s)"


def test_a_simulation_names_what_would_go_and_what_would_get_older():
    text = (
        "The following packages will be REMOVED:\n  y\n"
        "The following packages will be DOWNGRADED:\n  x-a x-b:i386\n  x-c\n"
        "0 upgraded, 0 newly installed, 1 downgraded, 0 to remove and 0 not upgraded.\nRemv y [1.0]\n"
        "Inst x-a [2.0] (1.0 ntexp:./ [all])\n"
    )
    assert said(text, rc=0) == packages.Simulation(("y",), ("x-a", "x-b:i386", "x-c"))


DPKG = packages.parse_dpkg(
    "dpkg\tarm64\t1.22\tii \t\n"
    "plain\tarm64\t1\tii \tvirtual (= 1)\n"
    "plain\tarmhf\t2\tii \t\n"
    "foreign\tarmhf\t1\tii \t\n"
    "every\tall\t1\thi \t\n"
    "half\tarm64\t1\tiHR\t\n"
    "gone\tarm64\t\thn \t\n"
)


@pytest.mark.parametrize(
    ("name", "serves"),
    [
        ("plain", "plain"),
        ("plain:armhf", "plain:armhf"),
        ("plain=2", ""),
        ("plain:armhf=2", "plain:armhf"),
        ("foreign", ""),  # apt would install the one of the node's own architecture
        ("foreign:armhf", "foreign:armhf"),
        ("every:arm64", "every:arm64"),
        ("virtual", "plain"),
        ("virtual=1", ""),
        ("half", ""),
        ("gone", ""),
        ("gone | every", "every"),
        ("gone | virtual", "plain"),
    ],
)
def test_which_installed_package_serves(name, serves):
    (control,) = subject({"id": "demo/p", "packages": [name]}).document.controls
    assert packages.serving(control.packages[0], packages.Seen(*DPKG)) == serves


def test_what_serves_is_what_is_held():
    node = FakeNode(packages={"chrony": ("installed", "4")}, available={"ntpsec": "1"})
    control = {"id": "demo/p", "packages": ["ntpsec | chrony"], "holds": ["ntpsec"]}
    ensured = subject(control)
    converge(ensured, ensured.plan(node), node, node)
    assert node.packages == {"chrony": ("held", "4")}


def test_a_downgrade_waits_until_the_package_is_named():
    node = FakeNode(packages={"db": ("installed", "2")}, available={"db": "1"})
    control = {"id": "demo/p", "packages": ["db=1"]}
    plan = subject(control).plan(node)
    found = plan.controls[0]
    assert (found.blocked_by, found.reason) == ("demo_confirm: [db]", "db would be downgraded") and not plan.steps
    ensured = subject(control, confirm=["db"])
    converge(ensured, ensured.plan(node), node, node)
    assert node.packages["db"] == ("installed", "1")


def test_what_no_repository_has_is_said_before_and_after_in_the_same_words():
    node = FakeNode()
    ensured = subject({"id": "demo/p", "packages": ["nosuch"]})
    plan = ensured.plan(node)
    assert plan.controls[0].reason == (
        "no repository has nosuch; a run refreshes the package lists first, and fails if that does not help"
    )
    with pytest.raises(NodeError) as error:
        converge(ensured, plan, node, node)
    assert error.value.problem.key == "packages.failed"
    assert error.value.problem.found == "apt cannot, with the package lists as they are now: no repository has nosuch"
    assert node.effects[-1] == "apt-get update"


def test_without_lists_or_with_new_sources_nothing_is_foretold():
    node = FakeNode()
    del node.files["/var/lib/apt/lists/mirror_Packages"]
    plan = subject({"id": "demo/p", "packages": ["nosuch"]}).plan(node)
    head = "cannot be predicted before the package lists are refreshed: "
    assert plan.controls[0].reason == f"{head}there are none yet"
    source = {"id": "demo/s", "files": [{"path": "/etc/apt/sources.list.d/x.list", "content": "deb x"}]}
    plan = subject(source, {"id": "demo/p", "packages": ["nosuch"]}).plan(node)
    assert plan.controls[1].reason == f"{head}this role changes the sources"


@pytest.mark.parametrize("broken", ["jq", "other"])
def test_what_was_interrupted_while_unpacking_is_unpacked_again(broken):
    node = FakeNode(packages={broken: ("broken", "1")}, available={"jq": "1", "other": "1"})
    ensured = subject({"id": "demo/p", "packages": ["jq"]})
    plan = ensured.plan(node)
    assert plan.controls[0].state == "drifted"
    converge(ensured, plan, node, node)
    assert {status for status, _version in node.packages.values()} == {"installed"}


def test_a_broken_package_is_left_alone_while_nothing_is_to_be_installed():
    node = FakeNode(packages={"jq": ("installed", "1"), "other": ("broken", "1")})
    assert not subject({"id": "demo/p", "packages": ["jq"]}).plan(node).changed


def test_a_name_is_never_a_pattern_to_apt():
    """apt tries an unknown name with a dot as a regular expression, and removes what ends in a minus sign."""
    node = FakeNode()
    node.available["tool"] = "1.0"
    node.packages["old"] = ("installed", "1.0")
    asked = []
    run = node.run

    def recorded(argv, **options):
        asked.append(tuple(argv))
        return run(argv, **options)

    node.run = recorded
    ensured = subject({"id": "demo/one", "packages": ["tool"], "absent_packages": ["old"]}, confirm=["old"])
    converge(ensured, ensured.plan(node), node, node)
    changing = [argv for argv in asked if argv[0].endswith("apt-get") and {"install", "remove"} & set(argv)]
    assert len(changing) >= 4 and all("APT::Cmd::Pattern-Only=true" in argv for argv in changing)
    with pytest.raises(InputError):
        subject({"id": "demo/one", "packages": ["tool-"]})


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("No such file or directory", "unsupported platform: packages are looked up with /usr/bin/dpkg-query"),
        ("still running after 30 s, stopped", "/usr/bin/dpkg-query was not completed (still running after 30 s"),
    ],
)
def test_a_platform_is_unsupported_only_where_there_is_no_dpkg(problem, told):
    class Mute(FakeNode):
        def run(self, argv, **_options):
            return Completed(tuple(argv), None, "", "", problem)

    reason = verdict(subject({"id": "demo/x", "packages": ["jq"]}).plan(Mute()), "demo/x").reason
    assert reason.startswith(told)
