# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of several controls in one transaction, and whose fault it is when that fails."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import installing
from declare import subject
from fake_node import FakeNode

FILE = {"path": "/etc/between.conf", "content": "x"}


class Watched(FakeNode):
    """asked: what apt-get was told, without its options. fails: package whose installation does not come to its end."""

    fails = ""
    patience = 0.0
    words = "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"

    def __post_init__(self):
        super().__post_init__()
        self.asked = []

    def run(self, argv, **options):
        self.patience = options["timeout"] if "install" in argv and "--simulate" not in argv else self.patience
        return super().run(argv, **options)

    def tool_apt_get(self, args):
        verb = "simulate" if "--simulate" in args else "update" if "update" in args else "install"
        names = args[args.index("--") + 1 :] if "--" in args else []
        self.asked.append((verb, *names))
        if verb == "install" and self.fails in names:
            return self.failed(args, names)
        return super().tool_apt_get(args)

    def failed(self, args, names):
        """As dpkg does it: the others are installed."""
        others = [name for name in names if name != self.fails]
        super().tool_apt_get([*args[: args.index("--") + 1], *others])
        return 100, "", self.words


class Offline(Watched):
    """As apt does it when it cannot fetch one of them: it installs none."""

    def failed(self, _args, _names):
        return 100, "", "E: Failed to fetch\n"


def node(kind=Watched, *names, **options):
    return kind(available=dict.fromkeys(names or ("aa", "a2", "bb", "cc"), "1"), **options)


def controls(*more):
    return (
        {"id": "demo/a", "packages": ["aa", "a2"]},
        *more,
        {"id": "demo/b", "packages": ["bb"]},
        {"id": "demo/c", "packages": ["cc"]},
    )


def steps(plan):
    return [step.text() for step in plan.steps]


def test_packages_of_controls_that_follow_each_other_are_one_transaction():
    there = node()
    ensured = subject(*controls())
    plan = ensured.plan(there)
    assert steps(plan) == ["install_packages aa a2 bb cc"]
    assert there.asked == [("simulate", "aa", "a2", "bb", "cc")]
    assert plan.controls == tuple(subject(control).plan(node()).controls[0] for control in controls()), (
        "each control's verdict is what it would be alone"
    )
    converge(ensured, plan, there, there)
    assert there.asked[1:] == [("simulate", "aa", "a2", "bb", "cc"), ("install", "aa", "a2", "bb", "cc")]
    assert set(there.packages) == {"aa", "a2", "bb", "cc"}
    assert there.patience == 3 * installing.INSTALL_SECONDS


def test_a_package_that_two_controls_declare_is_named_once():
    there = node()
    ensured = subject({"id": "demo/x", "packages": ["aa"]}, {"id": "demo/y", "packages": ["aa", "bb"]})
    converge(ensured, ensured.plan(there), there, there)
    assert there.asked[-1] == ("install", "aa", "bb")


@pytest.mark.parametrize(
    "between",
    [
        {"id": "demo/file", "files": [FILE]},
        {"id": "demo/account", "groups": [{"name": "someone"}]},
        {"id": "demo/source", "packages": ["b2"], "files": [{**FILE, "path": "/etc/apt/sources.list.d/x.list"}]},
        {"id": "demo/held", "packages": ["old"], "holds": ["old"]},
        # So that its package does not start it.
        {"id": "demo/unit", "units": [{"name": "x.service", "masked": True}]},
        {"id": "demo/gone", "absent_packages": ["old"]},
    ],
    ids=lambda control: control["id"],
)
def test_what_stands_between_stays_between(between):
    there = node(Watched, "aa", "a2", "bb", "b2", "cc", packages={"old": ("installed", "1")})
    plan = subject(*controls(between), confirm=["old"]).plan(there)
    found = steps(plan)
    wall = next(i for i, step in enumerate(found) if not step.startswith(("install_", "refresh_")))
    assert found[0] == "install_packages " + ("aa a2 b2" if between["id"] == "demo/source" else "aa a2")
    assert [names for verb, *names in there.asked if verb == "simulate" and "old" not in names] == [
        step.split()[1:] for step in found if step.startswith("install_")
    ], "and a check asks apt what the run will ask it"
    assert found[-1] == "install_packages bb cc" and 0 < wall < len(found) - 1


def test_a_document_may_say_that_its_packages_come_first():
    there = node()
    document = controls({"id": "demo/file", "packages": ["bb"], "files": [FILE]})
    assert steps(subject(*document).plan(there)) == [
        "install_packages aa a2 bb",
        "write_file /etc/between.conf",
        "install_packages bb cc",
    ]
    ensured = subject(*document, packages_first=True)
    plan = ensured.plan(there)
    assert steps(plan) == ["install_packages aa a2 bb cc", "write_file /etc/between.conf"]
    assert plan.controls == subject(*document).plan(there).controls
    converge(ensured, plan, there, there)
    assert not subject(*document, packages_first=True).plan(there).changed


def test_an_unknown_name_is_told_of_its_own_control_and_keeps_no_earlier_one_from_its_packages():
    there = node(Watched, "aa", "a2", "cc")
    ensured = subject(*controls())
    plan = ensured.plan(there)
    assert [control.reason.partition(";")[0] for control in plan.controls] == ["", "no repository has bb", ""]
    with pytest.raises(NodeError) as error:
        converge(ensured, plan, there, there)
    assert error.value.problem.wanted == "To install bb" and "no repository has bb" in error.value.problem.found
    assert set(there.packages) == {"aa", "a2"}


def test_new_lists_are_fetched_once_for_all():
    there = Watched(upstream=dict.fromkeys(("aa", "a2", "bb", "cc"), "1"))
    ensured = subject(*controls())
    plan = ensured.plan(there)
    assert steps(plan) == ["refresh_lists package lists", "install_packages aa a2 bb cc"]
    there.asked.clear()
    converge(ensured, plan, there, there)
    assert [verb for verb, *_names in there.asked] == ["update", "simulate", "install"]


@pytest.mark.parametrize(("kind", "left"), [(Watched, {"aa", "a2", "cc"}), (Offline, {"aa", "a2"})])
def test_a_transaction_that_breaks_names_the_control_that_broke_it(kind, left):
    there = node(kind)
    there.fails = "bb"
    ensured = subject(*controls())
    with pytest.raises(NodeError) as error:
        converge(ensured, ensured.plan(there), there, there)
    assert error.value.problem.wanted == "To install bb"
    assert set(there.packages) == left


def test_one_that_succeeds_alone_is_no_failure():
    class Once(Offline):
        def failed(self, args, names):
            self.fails = ""
            return super().failed(args, names)

    there = node(Once)
    there.fails = "bb"
    ensured = subject(*controls())
    converge(ensured, ensured.plan(there), there, there)
    assert there.asked[-3:] == [("install", "bb"), ("simulate", "cc"), ("install", "cc")]


def test_what_fails_beside_the_packages_that_were_asked_for_is_not_passed_over():
    class Beside(Watched):
        def failed(self, args, names):
            self.fails = ""
            self.tool_apt_get(args)
            return 100, "", "Errors were encountered while processing:\n linux-image\n"

    there = node(Beside)
    there.fails = "bb"
    ensured = subject(*controls())
    with pytest.raises(NodeError) as error:
        converge(ensured, ensured.plan(there), there, there)
    assert "linux-image" in error.value.problem.found and set(there.packages) == {"aa", "a2", "bb", "cc"}


def test_a_lock_is_waited_for_once():
    there = node(Offline)
    there.fails = "bb"
    there.failed = lambda *_args: (100, "", "E: Could not get lock /var/lib/dpkg/lock-frontend.\n")
    ensured = subject(*controls())
    with pytest.raises(NodeError) as error:
        converge(ensured, ensured.plan(there), there, there)
    assert "Could not get lock" in error.value.problem.found
    assert [verb for verb, *_names in there.asked].count("install") == 1


@pytest.mark.parametrize("confirm", [[], ["rival"]])
def test_what_would_go_is_asked_of_the_control_that_drives_it_out(confirm):
    there = node(packages={"rival": ("installed", "1")}, conflicts={"bb": "rival"})
    ensured = subject(*controls(), confirm=confirm)
    plan = ensured.plan(there)
    assert [control.blocked_by for control in plan.controls] == ["", "" if confirm else "demo_confirm: [rival]", ""]
    assert steps(plan) == ["install_packages aa a2 bb cc" if confirm else "install_packages aa a2 cc"]
    converge(ensured, plan, there, there)
    assert ("rival" in there.packages) is not bool(confirm)


def test_what_is_to_be_unpacked_again_stays_apart():
    there = node(packages={"bb": ("broken", "1")})
    ensured = subject(*controls())
    plan = ensured.plan(there)
    assert [step for step in steps(plan) if step.startswith("install")] == [
        "install_packages aa a2", "install_packages bb", "install_packages cc"
    ]  # fmt: skip
