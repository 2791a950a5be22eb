# SPDX-License-Identifier: GPL-3.0-or-later
"""Files line by line: what counts as a line, and whose line it is."""

from __future__ import annotations

import random
import time
from itertools import chain

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import wholes
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import File
from declare import apply, states, subject, verdict
from fake_node import FakeNode, bare


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ()),
        ("\n", ("",)),
        ("a", ("a",)),
        ("a\n", ("a",)),
        ("a\n\n", ("a", "")),
        ("a\r\nb\fc\vd\x1ee\x85f\u2028g\n", ("a\r", "b\fc\vd\x1ee\x85f\u2028g")),
    ],
)
def test_a_line_feed_ends_a_line_and_nothing_else_does(text, lines):
    assert wholes.lines_of(text) == lines


@pytest.mark.parametrize("content", ["a\r\nb\fc\n", "x\u2028y\n", "a\n\n\nb\n", "\n"])
def test_text_is_written_to_the_letter(content):
    node, ensured = FakeNode(), subject({"id": "demo/f", "files": [{"path": "/etc/f", "content": content}]})
    converge(ensured, ensured.plan(node), node, node)
    assert node.files["/etc/f"].text == content
    assert not ensured.plan(node).changed


def test_a_file_its_validator_refuses_is_not_written():
    node = bare()
    control = {
        "id": "demo/conf",
        "files": [{"path": "/etc/demo.conf", "content": "BAD", "validate": ["/x/validator", "%s"]}],
    }
    with pytest.raises(NodeError) as error:
        apply(node, control)
    assert error.value.problem.key == "paths.validation_failed" and "/etc/demo.conf" not in node.files
    assert not [path for path in node.files if path.startswith("/run/nusy/scratch")]


def test_what_is_in_the_way_is_moved_aside_only_when_named_and_never_deleted():
    node = bare()
    node.put("/etc/demo.conf/inner", "precious")
    control = {"id": "demo/conf", "files": [{"path": "/etc/demo.conf", "content": "a"}]}
    assert verdict(apply(node, control), "demo/conf").blocked_by == "demo_confirm: [/etc/demo.conf]"
    apply(node, control, confirm=["/etc/demo.conf"])
    assert node.files["/etc/demo.conf"].text == "a\n"
    assert node.files["/etc/demo.conf.replaced.1/inner"].text == "precious"


def test_a_link_in_the_place_of_a_file_is_shown_as_it_was_found_and_replaced_only_when_named():
    node = bare()
    node.put("/srv/real", "theirs\n")
    node.put("/etc/l2.conf", "/srv/real", kind="link")
    control = {"id": "demo/conf", "files": [{"path": "/etc/l2.conf", "content": "a"}]}
    found = verdict(apply(node, control), "demo/conf")
    assert found.blocked_by == "demo_confirm: [/etc/l2.conf]" and node.files["/etc/l2.conf"].kind == "link"
    assert [(c.key, c.before, c.after) for c in found.changes] == [
        ("file /etc/l2.conf", "link to /srv/real", "file"),
    ]
    found = verdict(apply(node, control, confirm=["/etc/l2.conf"]), "demo/conf")
    assert [(c.before, c.after) for c in found.changes] == [("link to /srv/real", "a")]
    assert found.reason == "a link to /srv/real is in the place of the file"
    assert (node.files["/etc/l2.conf"].text, node.files["/srv/real"].text) == ("a\n", "theirs\n")


def test_a_secret_of_several_lines_in_a_file_that_differs():
    node = bare()
    node.put("/etc/demo.pem", "old\n", mode=0o600)
    file = {"path": "/etc/demo.pem", "content": "${secret:key}", "mode": "0600"}
    control = {"id": "demo/key", "files": [file]}
    apply(node, control, secrets={"key": "line one\nline two\n"}, confirm=["/etc/demo.pem"])
    assert node.files["/etc/demo.pem"].text == "line one\nline two\n", (
        "the line end of the file is not added to its own"
    )


def test_what_a_validator_says_of_a_sensitive_file_stays_hidden():
    node = bare()
    file = {"path": "/etc/demo.conf", "content": "BAD", "validate": ["/x/validator", "%s"], "sensitive": True}
    with pytest.raises(NodeError) as error:
        apply(node, {"id": "demo/conf", "files": [file]})
    assert "BAD" not in error.value.problem.found and "not shown" in error.value.problem.found


SENSITIVE = [  # declared, mode declared, mode found → hidden
    (None, "0644", 0o644, False),
    (None, "0644", 0o640, True),
    (None, "0640", 0o644, True),
    (None, "0600", 0o600, True),
    (None, "0644", None, False),
    (None, "0600", None, True),
    (False, "0440", 0o440, False),
    (False, "0644", 0o600, False),
    (True, "0644", 0o644, True),
]


@pytest.mark.parametrize(("sensitive", "mode", "found", "hidden"), SENSITIVE)
def test_lines_of_a_closed_file_are_hidden_unless_the_role_vouches_for_them(sensitive, mode, found, hidden):
    node = FakeNode()
    if found is not None:
        node.put("/etc/demo.conf", "token = outdated\nrogue = stranger\nend\n", mode=found)
    file = {"path": "/etc/demo.conf", "content": "token = newest\nend", "mode": mode, "sensitive": sensitive}
    file["validate"] = ["/x/validator", "%s"]
    plan = subject({"id": "demo/f", "files": [file]}, confirm=["/etc/demo.conf"]).plan(node)
    assert plan.changed
    told = str([control.as_dict() for control in plan.controls]) + str(plan.diff("demo"))
    lines = ["newest"] if found is None else ["newest", "outdated", "stranger"]
    assert [line in told for line in lines] == [not hidden] * len(lines)
    assert ("<secret>" in told) == hidden
    bad = subject({"id": "demo/f", "files": [{**file, "content": "BAD"}]}, confirm=["/etc/demo.conf"])
    with pytest.raises(NodeError) as error:
        converge(bad, bad.plan(node), node, node)
    assert ("BAD" in error.value.problem.text()) == (not hidden)


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("path", ["/etc/priv/deep/app.conf", "/etc/link/app.conf", "/etc/outer/app.conf"])
def test_lines_of_an_open_file_in_a_folder_that_others_cannot_enter_are_hidden(path, declared):
    node = FakeNode()
    node.put("/etc/priv", mode=0o700, kind="directory")
    node.put("/etc/priv/deep", mode=0o755, kind="directory")
    node.put("/etc/priv/deep/app.conf", "password=OLDSECRET\n")
    node.put("/etc/link", "/etc/outer", kind="link")
    node.put("/etc/outer", "priv/deep", kind="link")
    node.files["/etc/link/app.conf"] = node.files["/etc/outer/app.conf"] = node.files["/etc/priv/deep/app.conf"]
    file = {"path": path, "content": "password=NEW\nBAD", "validate": ["/x/validator", "%s"]}
    plan = subject({"id": "demo/f", "files": [{**file, "sensitive": None if not declared else False}]}).plan(node)
    told = str(plan) + str(plan.diff("demo"))
    assert ("OLDSECRET" in told, "NEW" in told) == (declared, declared)


def test_lines_of_a_file_in_a_folder_that_is_declared_closed_are_hidden():
    node = FakeNode()
    node.put("/etc/priv/app.conf", "password=OLDSECRET\n")
    control = {
        "id": "demo/f",
        "directories": [{"path": "/etc/priv", "mode": "0750"}],
        "files": [{"path": "/etc/priv/app.conf", "content": "BAD", "validate": ["/x/validator", "%s"]}],
    }
    assert "OLDSECRET" not in str(subject(control).plan(node))
    with pytest.raises(NodeError) as error:
        apply(node, control, confirm=["/etc/priv", "/etc/priv/app.conf"])
    assert "BAD" not in error.value.problem.found


def test_a_vouched_for_file_with_a_secret_is_hidden_all_the_same():
    node = FakeNode()
    node.put("/etc/demo.conf", "token = outdated\n", mode=0o600)
    file = {"path": "/etc/demo.conf", "mode": "0600", "sensitive": False, "fragment": True}
    controls = (
        {"id": "demo/a", "files": [{**file, "content": "plain = 1"}]},
        {"id": "demo/b", "files": [{**file, "content": "token = ${secret:token}\nBAD", "validate": []}]},
    )
    ensured = subject(*controls, secrets={"token": "hunter22"})
    told = str(ensured.plan(node))
    assert "outdated" not in told and "hunter22" not in told and "plain" not in told


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [(False, False, False), (False, None, True), (None, False, True), (False, True, True), (True, None, True)],
)
def test_of_the_fragments_of_a_file_the_strictest_word_counts(first, second, hidden):
    node = FakeNode()
    node.put("/etc/demo.conf", "outdated\n", mode=0o600)
    file = {"path": "/etc/demo.conf", "mode": "0600", "fragment": True, "content": "x"}
    controls = ({"id": f"demo/{n}", "files": [{**file, "sensitive": s}]} for n, s in (("a", first), ("b", second)))
    assert ("outdated" in str(subject(*controls).plan(node))) == (not hidden)


# --- fragments that are skipped --------------------------------------------------------------

SHARED = "/etc/demo.conf"
FIRST, SECOND, THIRD = (
    {"id": f"demo/{name}", "files": [{"path": SHARED, "content": f"{name} = 1", "fragment": True}]}
    for name in ("first", "second", "third")
)


def with_second_skipped(found: str | None):
    node = bare()
    if found is not None:
        node.put(SHARED, found)
    params = {"skip_controls": ["demo/second"], "confirm": [SHARED]}
    checked = subject(FIRST, SECOND, THIRD, **params).plan(node)
    assert apply(node, FIRST, SECOND, THIRD, **params) == checked
    node.effects.clear()
    again = apply(node, FIRST, SECOND, THIRD, skip_controls=["demo/second"])
    assert not again.changed and node.effects == []
    return checked, node.files[SHARED].text


@pytest.mark.parametrize(
    ("found", "drifted", "text"),
    [
        # In sync, whatever the skipped setting is: there, not there, moved, or somebody's own.
        ("first = 1\nsecond = 1\nthird = 1\n", set(), None),
        ("first = 1\nthird = 1\n", set(), None),
        ("second = 1\nfirst = 1\nthird = 1\n", set(), None),
        ("first = 1\nthird = 1\nsecond=60\n", set(), None),
        # Only what is selected is repaired, and what is skipped stays where it was.
        (None, {"first", "third"}, "first = 1\nthird = 1\n"),
        ("second = 60\n", {"first", "third"}, "first = 1\nthird = 1\nsecond = 60\n"),
        ("first = 1\nsecond = 60\nthird = 3\n", {"third"}, "first = 1\nsecond = 60\nthird = 1\n"),
        ("first = 9\nsecond = 1\nthird = 1\n", {"first"}, "first = 1\nsecond = 1\nthird = 1\n"),
        ("first = 1\nsecond = 1\nrogue = 1\nthird = 1\n", {"file_extra"}, "first = 1\nsecond = 1\nthird = 1\n"),
        ("first = 1\nsecond = 1\nthird = 1", {"file_extra"}, "first = 1\nsecond = 1\nthird = 1\n"),
    ],
)
def test_a_skipped_fragment_is_left_as_it_is_found(found, drifted, text):
    plan, written = with_second_skipped(found)
    assert {name for name, state in states(plan).items() if state == "drifted"} == {f"demo/{n}" for n in drifted}
    assert written == (found if text is None else text)


def test_a_file_of_which_every_fragment_is_skipped_is_nobodys():
    node = bare()
    node.put(SHARED, "rogue = 1\n")
    plan = apply(node, FIRST, SECOND, skip_controls=["demo/first", "demo/second"])
    assert not plan.changed and node.files[SHARED].text == "rogue = 1\n"


def test_a_line_that_a_selected_control_declares_too_is_judged():
    node = bare()
    twin = {"id": "demo/twin", "files": [{"path": SHARED, "content": "# both\nfirst = 2", "fragment": True}]}
    own = {"id": "demo/own", "files": [{"path": SHARED, "content": "# both\nfirst = 1", "fragment": True}]}
    node.put(SHARED, "# both\nfirst = 7\n")
    plan = apply(node, own, twin, skip_controls=["demo/twin"], confirm=[SHARED])
    assert states(plan)["demo/own"] == "drifted" and node.files[SHARED].text == "# both\nfirst = 1\n"


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_found_one_run_is_enough_and_no_skipped_line_is_lost(seed):
    chance = random.Random(seed)
    alphabet = ["a = 1", "a = 2", "b = 1", "b = 2", "", "# note", "[Section]"]

    def some(most: int) -> list[str]:
        return [chance.choice(alphabet) for _ in range(chance.randint(0, most))]

    whole = wholes.Whole(File(SHARED), (wholes.Part("demo/a", tuple(some(4))),), tuple(some(3)))
    found = "".join(f"{line}\n" for line in some(7))
    once = whole.text(found)
    assert whole.text(once) == once
    rest, left = wholes.divide(wholes.lines_of(once), whole)
    assert tuple(rest) == whole.lines
    assert list(chain(*left)) == list(chain(*wholes.divide(wholes.lines_of(found), whole)[1]))


@pytest.mark.parametrize(
    ("found", "drifted", "text"),
    [
        ("rogue = 1\nfirst = 1\n\nsecond = 1\nlast", set(), None),
        ("first = 1\nrogue = 1\n", {"second"}, "first = 1\nsecond = 1\n"),
        ("first = 1\nrogue = 1\nother = 1\n", {"second"}, "first = 1\nsecond = 1\nother = 1\n"),
        ("rogue = 1\nfirst = 1\nsecond = 2\n", {"second"}, "rogue = 1\nfirst = 1\nsecond = 1\n"),
        ("second = 1\nfirst = 1\n", {"first"}, "first = 1\nsecond = 1\nfirst = 1\n"),
    ],
)
def test_lines_that_nobody_declared_stay_where_that_is_asked_for(found, drifted, text):
    node = bare()
    node.put(SHARED, found)
    plan = apply(node, FIRST, SECOND, skip_controls=["demo/file_extra"], confirm=[SHARED])
    assert {name for name, state in states(plan).items() if state == "drifted"} == {f"demo/{n}" for n in drifted}
    extra = verdict(plan, "demo/file_extra")
    assert (extra.state, extra.reason) == ("not_selected", "named in demo_skip_controls")
    assert node.files[SHARED].text == (found if text is None else text)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_found_one_run_is_enough_where_undeclared_lines_stay(seed):
    chance = random.Random(seed)
    alphabet = ["a = 1", "a = 2", "b = 1", "", "# note"]

    def some(most: int) -> list[str]:
        return [chance.choice(alphabet) for _ in range(chance.randint(0, most))]

    withdrawn = tuple((line, "demo/a") for line in some(1))
    whole = wholes.Whole(
        File(SHARED, withdrawn=withdrawn), (wholes.Part("demo/a", tuple(some(4))),), tuple(some(1)), keeps=True
    )
    found = "".join(f"{line}\n" for line in some(8))
    once = whole.text(found)
    assert whole.text(once) == once
    assert wholes._in_order(whole.lines, wholes.lines_of(once))
    gone = {line for line, _control in withdrawn} - set(whole.lines)
    # Of a skipped control is every line that sets one of its names.
    assert whole.skipped or gone.isdisjoint(wholes.lines_of(once))


def test_nothing_declared_has_nothing_extra_and_says_so():
    plan = apply(bare(), {"id": "demo/a"}, {"id": "demo/file_extra"})
    assert {(one.state, one.reason) for one in plan.controls} == {("not_selected", "nothing is declared for it")}
    assert "demo/file_extra" not in states(apply(bare(), {"id": "demo/a"}))


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("".join(f"line {i % 7}\n" for i in range(4000)), "".join(f"line {i % 7 + 1}\n" for i in range(4000))),
        ("\n" * 200_000, "# a\n\nA=1\n\n# b\n\nB=2\n"),
        ("".join(f"found {i}\nsame {i}\n" for i in range(9000)), "".join(f"want {i}\nsame {i}\n" for i in range(9000))),
    ],
)
def test_a_file_that_grew_without_end_costs_no_more_than_its_size(found, wanted):
    node = bare()
    node.put("/etc/demo.conf", found)
    control = {"id": "demo/a", "files": [{"path": "/etc/demo.conf", "content": wanted}]}
    begin = time.process_time()
    plan = apply(node, control, confirm=["/etc/demo.conf"])
    assert time.process_time() - begin < 10  # it took minutes, or for ever
    (change,) = verdict(plan, "demo/a").changes
    assert "too different to be compared" in change.before and len(change.after) < 9000
    assert node.files["/etc/demo.conf"].text == wanted


def test_a_long_file_of_which_little_differs_is_compared_whatever_its_length():
    node = bare()
    lines = [f"line {i % 3}\n" for i in range(50_000)]
    node.put("/etc/demo.conf", "".join([*lines[:20_000], "rogue\n", *lines[20_000:]]))
    control = {"id": "demo/a", "files": [{"path": "/etc/demo.conf", "content": "".join(lines)}]}
    plan = apply(node, control, confirm=["/etc/demo.conf"])
    assert states(plan) == {"demo/a": "in_sync", "demo/file_extra": "drifted"}
    assert verdict(plan, "demo/file_extra").changes[0].before == "rogue"
