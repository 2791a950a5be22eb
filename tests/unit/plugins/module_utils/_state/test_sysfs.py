# SPDX-License-Identifier: GPL-3.0-or-later
"""Values below /sys: the chosen word is judged, tmpfiles.d sets it at boot."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import sysfs
from declare import apply, document, states, subject, verdict
from fake_node import FakeNode

THP = "/sys/kernel/mm/transparent_hugepage/enabled"
CONTROL = {"id": "demo/thp", "sysfs": [{"path": THP, "value": "madvise"}]}
OURS = "/etc/tmpfiles.d/90-nusy-demo.conf"


@pytest.fixture
def node():
    node = FakeNode()
    node.put(THP, "[always] madvise never\n")
    return node


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("always [madvise] never\n", "madvise"),
        ("1\n", "1"),
        ("a  b\n", "a b"),
        ("defer [defer+madvise]", "defer+madvise"),
    ],
)
def test_the_chosen_word_is_the_value(text, word):
    assert sysfs.chosen(text) == word


def test_it_is_set_now_and_at_boot(node):
    plan = apply(node, CONTROL)
    assert [(change.before, change.after) for change in verdict(plan, "demo/thp").changes if "live" in change.key] == [
        ("always", "madvise")
    ]
    assert node.files[THP].text == "madvise\n"
    assert f"w- {THP} - - - - madvise\n" in node.files[OURS].text
    assert states(subject(CONTROL).plan(node))["demo/thp"] == "in_sync"


def test_a_value_that_was_moved_by_hand_is_named_with_what_it_is(node):
    apply(node, CONTROL)
    node.put(THP, "always madvise [never]\n")
    found = verdict(subject(CONTROL).plan(node), "demo/thp")
    assert [(change.key, change.before) for change in found.changes] == [(f"{THP}: live", "never")]


def test_what_this_kernel_lacks_is_drift_that_no_run_promises_to_mend(node):
    del node.files[THP]
    assert verdict(subject(CONTROL).plan(node), "demo/thp").unmet == (f"this kernel has no {THP}",)
    with pytest.raises(NodeError) as error:
        apply(node, CONTROL)
    assert error.value.problem.key == "state.not_ensured"


@pytest.mark.parametrize(
    ("path", "line", "counts"),
    [
        ("/usr/lib/tmpfiles.d/thp.conf", f"w {THP} - - - - always", False),  # sorts behind ours
        ("/usr/lib/tmpfiles.d/10-thp.conf", f"w {THP} - - - - always", True),
        ("/etc/tmpfiles.d/10-thp.conf", "w /sys/kernel/mm/transparent_hugepage/* - - - - always", True),
        ("/etc/tmpfiles.d/10-thp.conf", f"w! {THP} - - - - madvise", False),
        ("/etc/tmpfiles.d/10-thp.conf", f"# w {THP} - - - - always", False),
    ],
)
def test_a_file_that_counts_before_ours_is_named(node, path, line, counts):
    node.put(path, f"{line}\n")
    found = verdict(subject(CONTROL).plan(node), "demo/thp")
    assert (path in found.reason) is counts
    assert any(path in reason for reason in found.unmet) is counts


def test_a_value_that_the_kernel_refuses_says_so(node, monkeypatch):
    def refuse(path, value):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(node, "set_kernel_value", refuse)
    with pytest.raises(NodeError) as error:
        apply(node, CONTROL)
    assert error.value.problem.key == "sysfs.value_refused"


@pytest.mark.parametrize(
    ("path", "value"),
    [("/proc/sys/vm/swappiness", "1"), ("/sys/a b", "1"), (THP, "%b"), (THP, 'a"b'), (THP, " "), (THP, "a\nb")],
)
def test_what_tmpfiles_would_read_differently_is_refused(path, value):
    with pytest.raises(InputError):
        document({"id": "demo/thp", "sysfs": [{"path": path, "value": value}]})


def test_two_controls_cannot_want_two_values():
    other = {"id": "demo/other", "sysfs": [{"path": THP, "value": "never"}]}
    with pytest.raises(InputError) as error:
        subject(CONTROL, other)
    assert error.value.problem.key == "state.declared_twice"
