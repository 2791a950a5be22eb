# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values in files that belong to somebody else."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import settings
from declare import apply, document, states, subject, verdict
from fake_node import bare

DEFS = "/etc/login.defs"
TEXT = "# UMASK is for new files\n#UMASK 022\nMAIL_DIR\t/var/mail\nUMASK\t\t022\nHOME_MODE 0700\n"


def control(value="027", name="UMASK", path=DEFS, **more):
    return {"id": "demo/umask", "settings": [{"path": path, "name": name, "value": value, **more}]}


@pytest.fixture
def node():
    node = bare()
    node.put(DEFS, TEXT, mode=0o640, gid=7)
    return node


@pytest.mark.parametrize(
    ("line", "value"),
    [("a b", "b"), ("a = b c ", "b c"), (" a=b", "b"), ("a\tb", "b"), ("#a b", None), ("ab b", None), ("a", None)],
)
def test_a_name_ends_at_a_blank_or_an_equals_sign(line, value):
    node = bare()
    node.put("/etc/x", line + "\n")
    found = verdict(subject(control(name="a", value="wanted", path="/etc/x")).plan(node), "demo/umask")
    assert found.changes[0].before == (value or "absent")


def test_one_line_changes_and_all_others_stay(node):
    plan = apply(node, control())
    assert verdict(plan, "demo/umask").as_dict()["before"] == {f"setting {DEFS}: UMASK": "022"}
    entry = node.files[DEFS]
    assert entry.text == TEXT.replace("UMASK\t\t022", "UMASK 027") and (entry.mode, entry.gid) == (0o640, 7)
    assert states(subject(control()).plan(node)) == {"demo/umask": "in_sync"}


def test_the_last_of_two_lines_is_the_one_that_counts(node):
    node.put(DEFS, "UMASK 027\nUMASK 022\n")
    apply(node, control())
    assert node.files[DEFS].text == "UMASK 027\nUMASK 027\n"


def test_a_value_that_is_not_there_comes_last_in_the_form_of_the_file(node):
    node.put("/etc/auditd.conf", "log = yes")
    apply(node, control(path="/etc/auditd.conf", name="num_logs", value="8", separator=" = "))
    assert node.files["/etc/auditd.conf"].text == "log = yes\nnum_logs = 8\n"


def test_a_file_that_nothing_brings_is_drift_that_no_run_promises_to_mend(node):
    gone = control(path="/etc/nowhere.conf")
    assert verdict(subject(gone).plan(node), "demo/umask").reason == "there is no /etc/nowhere.conf"
    with pytest.raises(NodeError) as error:
        apply(node, gone)
    assert error.value.problem.key == "state.not_ensured" and "/etc/nowhere.conf" not in node.files


def test_a_file_that_a_package_of_the_run_may_bring_is_changed_in_the_same_run(node):
    both = {**control(path="/etc/jq.conf"), "packages": ["jq"]}
    plan = subject(both).plan(node)
    assert plan.assumptions == ("a package brings /etc/jq.conf",)
    assert [step.action for step in plan.steps][-1] == "change_setting"
    with pytest.raises(NodeError) as error:
        settings.change(plan.steps[-1], node, node)
    assert error.value.problem.key == "settings.no_file"


def test_a_link_is_not_followed_and_a_closed_file_is_unknown(node):
    node.put(DEFS, "/etc/other", kind="link")
    assert states(subject(control()).plan(node)) == {"demo/umask": "unknown"}
    node.put("/etc/shut", "x")
    node.unreadable.add("/etc/shut")
    assert states(subject(control(path="/etc/shut")).plan(node)) == {"demo/umask": "unknown"}


def test_a_service_that_reads_it_starts_again(node):
    node.units["x.service"] = node.unit(active="active", state="enabled")
    reading = {**control(), "units": [{"name": "x.service", "active": True, "restart_on": [DEFS]}]}
    assert [step.action for step in apply(node, reading).steps] == ["change_setting", "restart_unit"]


@pytest.mark.parametrize(
    "other",
    [
        {"settings": [{"path": DEFS, "name": "UMASK", "value": "022"}]},
        {"files": [{"path": DEFS, "content": "whole"}]},
        {"files": [{"path": DEFS, "content": "part", "fragment": True}]},
        {"directories": [{"path": DEFS}]},
    ],
)
def test_two_controls_that_contradict_each_other_are_refused(other):
    with pytest.raises(InputError):
        subject(control(), {"id": "demo/other", **other})


def test_the_same_value_may_be_declared_twice(node):
    twice = subject(control(), {**control(), "id": "demo/other"})
    assert set(states(twice.plan(node)).values()) == {"drifted"}


@pytest.mark.parametrize(
    "wrong", [{"name": "a b"}, {"name": "#a"}, {"name": ""}, {"value": "a\nb"}, {"value": ""}, {"separator": ":"}]
)
def test_what_would_be_read_in_another_way_is_refused(wrong):
    with pytest.raises(InputError):
        document(control(**wrong))
