# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in force, as tools say."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from declare import apply, document, states, subject, verdict
from fake_node import FakeNode

ASK = "/usr/sbin/rules"


class Node(FakeNode):
    """Has a tool that says what is loaded, and one that loads what the file says."""

    def __init__(self, answer="", *, stubborn=False, **more):
        super().__init__(available={"rules": "1"}, **more)
        self.answer, self.stubborn = answer, stubborn

    def run(self, argv, *, timeout=10.0, env=None, stdin=""):
        if argv[0] == "/usr/sbin/gone":
            return Completed(tuple(argv), None, "", "", "No such file or directory")
        return super().run(argv, timeout=timeout, env=env, stdin=stdin)

    def tool_rules(self, args):
        if args == ["bad"]:
            return 3, "", "rules: broken\n"
        return 0, self.answer, ""

    def tool_load(self, args):
        self.effect("load")
        if args:
            return 1, "", "load: no\n"
        if self.stubborn:
            return 0, "", "load: somebody edited them\n"
        self.answer = self.files["/etc/rules"].text
        return 0, "", ""


def probe(**more):
    return {"name": "rules", "command": [ASK], **more}


def control(*, file=None, **more):
    files = [] if file is None else [{"path": "/etc/rules", "content": file}]
    return {"id": "demo/rules", "files": files, "probes": [probe(**more)]}


@pytest.mark.parametrize(
    ("answer", "wanted", "before"),
    [
        ("a\nb  c\n", {"has": ["b c"]}, None),
        ("a\nb c d\n", {"has": ["b c"]}, {"probe rules: b c": "absent"}),
        ("a, b,c\n", {"has": ["b"], "separator": ","}, None),
        ("a, b,c\n", {"has": ["b"]}, {"probe rules: b": "absent"}),
        ("a\n", {"lacks": ["a"]}, {"probe rules: a": "present"}),
        ("ab\n", {"lacks": ["a"]}, None),
        ("o=NVIDIA\no=Debian\n", {"lacks": ["o=*nvidia*"]}, {"probe rules: o=NVIDIA": "present"}),
        ("o=*\no=De*\n", {"lacks": ["o=[*]"]}, {"probe rules: o=*": "present"}),
        ("x = 1\nx=1\n", {"has": ["x=1"], "last": True}, None),
        ("x=1\nx=2\n", {"has": ["x=1"], "last": True}, {"probe rules: x=1": "x=2"}),
        ("x=1\nx=2\n", {"has": ["x=1"]}, None),
        ("", {"has": ["x=1"], "last": True}, {"probe rules: x=1": "absent"}),
        ("\n \n", {"silent": True}, None),
        ("/etc/open\n", {"silent": True}, {"probe rules": ["/etc/open"]}),
        ("\n".join("abcdefghijkl"), {"silent": True}, {"probe rules": [*"abcdefghij", "and 2 more"]}),
    ],
)
def test_an_answer_is_compared_line_by_line(answer, wanted, before):
    found = verdict(subject(control(**wanted)).plan(Node(answer)), "demo/rules")
    assert (found.state, found.as_dict()["before"]) == ("drifted" if before else "in_sync", before or {})


def test_a_check_predicts_what_the_file_and_its_loading_make_of_it():
    node = Node()
    declared = control(file="a\n", has=["a"], mend=["/usr/sbin/load"])
    plan = apply(node, declared)
    assert [step.text() for step in plan.steps] == ["write_file /etc/rules", "mend /usr/sbin/load"]
    assert verdict(plan, "demo/rules").as_dict()["after"]["probe rules: a"] == "present"
    assert states(subject(declared).plan(node))["demo/rules"] == "in_sync"


def test_what_only_the_running_one_lacks_is_loaded_again_and_nothing_else():
    node = Node()
    declared = control(file="a\n", has=["a"], mend=["/usr/sbin/load"])
    apply(node, declared)
    node.answer = ""
    plan = subject(declared).plan(node)
    assert [step.text() for step in plan.steps] == ["mend /usr/sbin/load"]
    assert verdict(plan, "demo/rules").cause == "corrective"


def test_who_needs_the_same_asks_once_and_mends_once():
    node = Node()
    two = [
        {"id": f"demo/{word}", "probes": [probe(name=word, has=[word], mend=["/usr/sbin/load"])]} for word in ("a", "b")
    ]
    node.put("/etc/rules", "a\nb\n")
    asked = []
    node.tool_rules = lambda args: (asked.append(args), (0, node.answer, ""))[1]
    plan = subject(*two).plan(node)
    assert [step.text() for step in plan.steps] == ["mend /usr/sbin/load"] and len(asked) == 1
    apply(node, *two)
    assert node.effects.count("load") == 1


def test_what_succeeds_without_effect_fails_the_run_with_its_words():
    with pytest.raises(NodeError) as error:
        apply(Node(stubborn=True), control(file="a\n", has=["a"], mend=["/usr/sbin/load"]))
    assert error.value.problem.key == "state.not_ensured"
    assert "load ended well and mended nothing: load: somebody edited them" in error.value.problem.found


def test_what_cannot_be_loaded_fails_the_run_with_its_words():
    with pytest.raises(NodeError) as error:
        apply(Node(), control(file="a\n", has=["a"], mend=["/usr/sbin/load", "no"]))
    assert error.value.problem.key == "probes.not_mended" and "load: no" in error.value.problem.found


def test_a_file_that_does_not_count_fails_the_run_and_is_not_promised_again():
    node = Node("b\n")
    declared = control(file="a\n", has=["a"], otherwise="a later file wins")
    assert "a later file wins" not in verdict(subject(declared).plan(node), "demo/rules").reason
    with pytest.raises(NodeError) as error:
        apply(node, declared)
    assert error.value.problem.key == "state.not_ensured" and "a later file wins" in error.value.problem.found
    plan = subject(declared).plan(node)
    assert plan.steps == () and verdict(plan, "demo/rules").reason == "a later file wins"


def test_nobody_is_asked_what_only_root_may_know():
    closed, open_ = control(has=["a"]), control(has=["a"], root=False)
    assert states(subject(closed).plan(Node("a", root=False))) == {"demo/rules": "unknown"}
    assert states(subject(open_).plan(Node("a", root=False))) == {"demo/rules": "in_sync"}


def test_a_tool_that_fails_makes_it_unknown_and_the_run_fail():
    bad = {"id": "demo/rules", "probes": [{"name": "rules", "command": [ASK, "bad"], "silent": True}]}
    found = verdict(subject(bad).plan(Node()), "demo/rules")
    assert found.state == "unknown" and "rules: broken" in found.reason
    with pytest.raises(NodeError):
        apply(Node(), bad)


def test_a_tool_that_is_not_there_is_unknown_unless_the_run_may_bring_it():
    gone = {"name": "rules", "command": ["/usr/sbin/gone"], "has": ["a"], "mend": ["/usr/sbin/load"]}
    assert states(subject({"id": "demo/rules", "probes": [gone]}).plan(Node())) == {"demo/rules": "unknown"}
    plan = subject({"id": "demo/rules", "packages": ["rules"], "probes": [gone]}).plan(Node())
    assert verdict(plan, "demo/rules").state == "drifted" and plan.steps[-1].text() == "mend /usr/sbin/load"
    assert plan.assumptions == ("a package brings /usr/sbin/gone",)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"has": ["a"], "command": []},
        {"has": ["a"], "command": ["rules"]},
        {"has": ["a"], "mend": ["load"]},
        {"has": ["a"], "name": "two words"},
    ],
)
def test_a_probe_that_says_nothing_or_searches_its_program_is_refused(wrong):
    with pytest.raises(InputError):
        document({"id": "demo/rules", "probes": [{**probe(), **wrong}]})


def test_a_name_is_used_once():
    with pytest.raises(InputError):
        subject(control(has=["a"]), {"id": "demo/other", "probes": [probe(has=["a"])]})
