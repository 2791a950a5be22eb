# SPDX-License-Identifier: GPL-3.0-or-later
"""spark-ensure-state: the same verdicts as the modules, from what a real run left on the node."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._console import judge as judging
from ansible_collections.nusy.dgx_spark.plugins.module_utils._console import main as console
from ansible_collections.nusy.dgx_spark.plugins.module_utils._console.judge import SPECS, judge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import Declared, keep
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv import parse as venv
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.model import CONTROLS as VENV_CONTROLS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from declare import apply, filled, subject
from fake_node import FakeNode

PLAIN = {"id": "prereqs/plain", "files": [{"path": "/etc/plain", "content": "a"}]}
CLOSED = {
    "id": "prereqs/closed",
    "files": [{"path": "/etc/closed", "content": "key=${secret:key}", "mode": "0600"}],
}


def real_run(node: FakeNode, *controls, **params) -> None:
    """What ensure_state does: it leaves its options, without secrets."""
    given = {"role": "prereqs", "controls": list(controls), **params}
    options = filled(parse.ARGUMENT_SPEC, given)
    apply(node, *controls, role="prereqs", **params)
    hidden = dict.fromkeys(options["secrets"], "<secret>")
    keep(Declared("prereqs", "ensure_state", {**options, "secrets": hidden}), node, node)


def verdicts(node: FakeNode) -> dict[str, str]:
    return {control.id: control.state for block in judge(node) for control in block.controls}


def test_what_was_never_applied_is_unknown_by_name():
    blocks = judge(FakeNode())
    assert [(block.spec, block.name) for block in blocks] == [*enumerate(SPECS, 1)]
    assert {c.state for block in blocks for c in block.controls} == {"unknown"}


def test_verdicts_are_those_of_the_module_in_sync_and_after_damage():
    node = FakeNode()
    real_run(node, PLAIN)
    for text in ("a\n", "b\n", "a\nmore\n"):
        node.files["/etc/plain"].text = text
        module = {c.id: c for c in subject(PLAIN, role="prereqs").plan(node).controls}
        here = {c.id: c for c in judge(node)[0].controls}
        assert here == module


def test_a_secret_is_not_kept_and_what_holds_it_is_unknown():
    node = FakeNode()
    real_run(node, PLAIN, CLOSED, secrets={"key": "hunter2!"})
    assert "hunter2" not in node.files["/var/lib/nusy/declared/prereqs.json"].text
    found = verdicts(node)
    assert (found["prereqs/plain"], found["prereqs/closed"]) == ("in_sync", "unknown")
    node.files["/etc/plain"].text = "b\n"
    assert verdicts(node)["prereqs/plain"] == "drifted"


def test_without_root_every_control_is_unknown_with_the_reason():
    node = FakeNode()
    real_run(node, PLAIN)
    node.root = False
    node.unreadable.add("/var/lib/nusy/declared")
    controls = judge(node)[0].controls
    assert [c.id for c in controls] == ["prereqs/file_extra", "prereqs/plain"]
    assert {c.state for c in controls} == {"unknown"} and "sudo" in controls[0].reason


def test_one_that_breaks_does_not_hide_the_others(monkeypatch):
    node = FakeNode()
    real_run(node, PLAIN)
    keep(Declared("launchers", "launchers", {}), node, node)
    keep(Declared("later", "of_another_release", {}), node, node)
    blocks = {block.name: block for block in judge(node)}
    assert blocks["prereqs"].controls[0].state == "in_sync"
    assert blocks["launchers"].controls[0].state == "unknown" and "KeyError" in blocks["launchers"].controls[0].reason
    assert blocks["later"].spec == 0 and "not of this release" in blocks["later"].controls[0].reason


@pytest.mark.parametrize("index", ["https://me:hunter2!@host/simple", "https://hunter2!@host/simple"])
def test_an_environment_whose_index_has_a_password_is_judged_without_it(index):
    lock = f"engine==1.0 --hash=sha256:{'0' * 64}\n"
    given = {"name": "vllm", "interpreter": "/usr/bin/python3", "python": "3.12"}
    given |= {"stages": [{"name": "engine", "lock": lock, "index_url": index, "assertions": []}]}
    params = filled(venv.ARGUMENT_SPEC, given)
    redact = Redactor(venv.secrets(params, {}))
    node = FakeNode()
    keep(Declared("vllm_venv-vllm", "vllm_venv", redact(params)), node, node)
    assert "hunter2" not in node.files["/var/lib/nusy/declared/vllm_venv-vllm.json"].text
    (block,) = [block for block in judge(node) if block.spec == 3]
    assert {c.id for c in block.controls} == set(VENV_CONTROLS)


@pytest.fixture
def here(monkeypatch):
    node = FakeNode()
    real_run(node, PLAIN)
    monkeypatch.setattr(console, "HostReader", lambda: node)
    monkeypatch.setattr(judging, "SPECS", ("prereqs",))
    return node


def test_the_exit_code_and_the_words(here, capsys):
    assert console.main([]) == 0
    assert "  PASS    prereqs/plain\n" in capsys.readouterr().out
    here.files["/etc/plain"].text = "b\n"
    assert console.main(["prereqs"]) == 2
    text = capsys.readouterr().out
    assert "  FAIL    prereqs/plain" in text and "file /etc/plain: b -> a" in text and "1 FAIL" in text
    here.unreadable.add("/etc/plain")
    assert console.main([]) == 3


def test_the_document(here, capsys):
    here.files["/etc/plain"].text = "b\n"
    assert console.main(["--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "nusy.dgx_spark.ensure-state/1"
    assert document["summary"] == {"pass": 1, "fail": 1, "unknown": 0, "skip": 0}
    (plain,) = [c for spec in document["specs"] for c in spec["controls"] if c["id"] == "prereqs/plain"]
    assert (plain["verdict"], plain["before"], plain["after"]) == (
        *("FAIL", {"file /etc/plain": "b"}, {"file /etc/plain": "a"}),
    )


def test_a_role_that_is_unknown_is_wrong_usage(here, capsys):
    with pytest.raises(SystemExit) as ended:
        console.main(["prerequisites"])
    assert ended.value.code == 64


def test_looking_has_no_effect(here):
    here.effects.clear()
    console.main([])
    assert here.effects == []
