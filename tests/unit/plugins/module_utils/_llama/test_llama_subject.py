# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines of llama.cpp: what is planned for them, what their answers mean, and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import HIDDEN
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import subject as engines
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.model import Fault, Reply
from ansible_collections.nusy.dgx_spark.plugins.module_utils._llama.subject import ARGUMENT_SPEC, MODULE
from declare import filled
from fake_node import FakeNode

UNIT = "llama@swarm.service"
DROPIN = f"/etc/systemd/system/{UNIT}.d/engine.conf"
SWARM = {"name": "swarm", "model": "/srv/models/q/1/model.gguf", "port": 8081}
KEYED = {**SWARM, "api_key": "open-sesame"}


class Node(FakeNode):
    trial: int = 0

    def tool_runuser(self, _args):
        return self.trial, "FAIL model: not there\n" if self.trial else "", ""


class Answers:
    """What the engine says to whom: a Fault or a reply, by key."""

    def __init__(self) -> None:
        self.says: dict[str, Fault | None] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.busy: int | Fault | None = 0

    def complete(self, endpoint, model, _question, tokens):
        self.asked.append((endpoint.key, model, tokens))
        fault = self.says.get(endpoint.key)
        if fault:
            raise fault
        return Reply("yes", 0.1, 0.1, 1)

    def under_way(self, _endpoint):
        if isinstance(self.busy, Fault):
            raise self.busy
        return self.busy


@pytest.fixture
def answers(monkeypatch):
    found = Answers()
    monkeypatch.setattr(engines.client, "complete", found.complete)
    monkeypatch.setattr(engines.client, "under_way", found.under_way)
    return found


@pytest.fixture
def node():
    found = Node()
    found.units[UNIT] = found.unit(state="disabled")
    return found


def subject(*declared, **params):
    return MODULE.subject(filled(ARGUMENT_SPEC, {"engines": list(declared), **params}))


def apply(node, *declared):
    ensured = subject(*declared)
    found = ensured.plan(node)
    return found, converge(ensured, found, node, node)


def states(plan):
    return {control.id.partition("/")[2]: control.state for control in plan.controls}


def of(plan, name):
    return next(control for control in plan.controls if control.id == f"llama_cpp/{name}")


def test_a_bare_node_is_promised_what_a_run_then_does(node, answers):
    planned = subject(SWARM).plan(node)
    assert states(planned) == {
        "credentials": "not_selected", "template": "drifted", "engines": "drifted", "answers": "drifted",
        "others": "in_sync", "file_extra": "in_sync",
    }  # fmt: skip
    assert answers.asked == []
    found, left = apply(node, SWARM)
    assert found == planned
    assert states(left) | {"credentials": "in_sync"} == dict.fromkeys(states(left), "in_sync")
    assert answers.asked == [("", "swarm", 1)]
    assert "--max-num-seqs 4" in node.read(DROPIN) and node.units[UNIT]["UnitFileState"] == "enabled"


def test_nothing_declared_is_nothing_to_do(node, answers):
    planned = subject().plan(node)
    assert set(states(planned).values()) == {"not_selected", "in_sync"} and not planned.changed


def test_a_key_is_in_a_file_of_root_and_nowhere_else_and_who_has_none_must_be_refused(node, answers):
    answers.says[""] = Fault("key_refused", "HTTP 401")
    found, left = apply(node, KEYED)
    path = f"/etc/nusy/credentials/{UNIT}/api-key"
    assert (node.read(path), node.files[path].mode) == ("open-sesame\n", 0o600)
    assert "open-sesame" not in repr(found) + repr(left) + node.read(DROPIN)
    assert answers.asked == [("open-sesame", "swarm", 1), ("", "swarm", 1)]
    answers.says = {}
    control = of(subject(KEYED).plan(node), "answers")
    assert control.state == "drifted" and "open" in control.reason
    # On the node, where the key is not kept, that of the node is used; what it should be nobody knows there.
    answers.says[""] = Fault("key_refused", "HTTP 401")
    kept = subject({**SWARM, "api_key": HIDDEN}).plan(node)
    assert states(kept)["answers"] == "in_sync" and answers.asked[-2][0] == "open-sesame"
    assert states(kept)["credentials"] == "unknown" and not kept.steps


def test_one_that_runs_and_answers_nobody_is_started_anew(node, answers):
    apply(node, SWARM)
    node.effects.clear()
    answers.says[""] = Fault("no_answer", "nothing for 15 s")
    planned = subject(SWARM).plan(node)
    assert [s.text() for s in planned.steps] == [f"restart_unit {UNIT}"]
    assert of(planned, "answers").reason == "swarm: no_answer: nothing for 15 s"
    ensured = subject(SWARM)
    with pytest.raises(NodeError):  # it still does not answer
        converge(ensured, ensured.plan(node), node, node)
    assert f"systemctl restart {UNIT}" in node.effects


@pytest.mark.parametrize("kind", ["no_answer", "busy"])
def test_one_that_others_wait_for_is_not_restarted_and_not_called_fine(node, answers, kind):
    apply(node, SWARM)
    answers.says[""], answers.busy = Fault(kind, "nothing for 15 s"), 7
    planned = subject(SWARM).plan(node)
    assert states(planned)["answers"] == "unknown" and not planned.steps
    assert "7 requests under way" in of(planned, "answers").reason
    answers.busy = Fault("no_answer", "nor its metrics")
    assert states(subject(SWARM).plan(node))["answers"] == "drifted"


def test_what_a_restart_does_not_mend_is_told_and_not_restarted(node, answers):
    apply(node, SWARM)
    answers.says[""] = Fault("no_model", "HTTP 404")
    planned = subject(SWARM).plan(node)
    assert states(planned)["answers"] == "drifted" and not planned.steps


def test_a_change_restarts_it_once_and_not_before_its_files_are_there(node, answers):
    apply(node, SWARM)
    answers.says[""] = Fault("no_answer", "nothing")
    planned = subject({**SWARM, "context": 8192}).plan(node)
    assert [step.action for step in planned.steps] == ["write_file", "reload_manager", "restart_unit"]


def test_each_of_several_that_changed_and_answer_nobody_is_restarted_once(node, answers):
    other = {**SWARM, "name": "worker", "port": 8082}
    node.units["llama@worker.service"] = node.unit(state="disabled")
    apply(node, SWARM, other)
    answers.says[""] = Fault("no_answer", "nothing")
    planned = subject({**SWARM, "context": 8192}, {**other, "context": 8192}).plan(node)
    restarted = [step.target for step in planned.steps if step.action == "restart_unit"]
    assert sorted(restarted) == [UNIT, "llama@worker.service"]


def test_one_that_loads_is_unknown(node, answers):
    apply(node, SWARM)
    node.units[UNIT]["ActiveState"] = "activating"
    planned = subject(SWARM).plan(node)
    assert states(planned)["answers"] == "unknown" and not planned.steps


@pytest.mark.parametrize(
    ("shown", "state", "said"),
    [
        ({"ActiveState": "activating", "NRestarts": "2"}, "unknown", "it ended and was started again 2 times"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "oom-kill"}, "drifted",
         "ended (oom-kill), and waits to be started again"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "78"}, "drifted",
         "refused to start (exit code 78) and is not tried again"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "1",
          "NRestarts": "5"}, "drifted", "failed (exit code 1); systemd gave up after it was started again 5 times"),
        ({"ActiveState": "failed", "Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "11"}, "drifted",
         "failed (signal 11); journalctl"),
        # Its start was ended by another process of it, and it by that.
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainCode": "2", "ExecMainStatus": "15"}, "drifted",
         "failed (exit-code); journalctl"),
        ({"ActiveState": "inactive"}, "drifted", "does not run, and did not fail: it was stopped, or never started"),
        ({"ActiveState": "deactivating"}, "drifted", f"{UNIT} is deactivating"),
    ],
)  # fmt: skip
def test_one_that_does_not_run_is_told_why(node, answers, shown, state, said):
    apply(node, SWARM)
    asked = list(answers.asked)
    node.units[UNIT] |= shown
    found = of(subject(SWARM).plan(node), "answers")
    assert found.state == state and UNIT in found.reason and said in found.reason
    assert answers.asked == asked


def test_one_that_somebody_masked_waits_for_its_name(node, answers):
    """To mask it is somebody's will: the rest of the role is applied, and that is no failure."""
    apply(node, SWARM)
    node.units[UNIT] |= {"ActiveState": "inactive", "UnitFileState": "masked"}
    planned, left = apply(node, SWARM)
    waits = f"llama_cpp_confirm: [{UNIT}]"
    assert of(planned, "answers").blocked_by == of(planned, "engines").blocked_by == waits
    assert of(planned, "answers").reason == f"{UNIT} is masked: nobody can start it" and not planned.steps
    assert left == planned
    named = subject(SWARM, confirm=[UNIT])
    left = converge(named, named.plan(node), node, node)
    assert set(states(left).values()) == {"in_sync", "not_selected"}


def test_a_model_that_is_not_there_stops_nothing(node, answers):
    apply(node, SWARM)
    before = node.read(DROPIN)
    node.trial, invocation = 1, node.units[UNIT]["InvocationID"]
    with pytest.raises(NodeError, match="was not stopped"):
        apply(node, {**SWARM, "model": "/srv/models/q/2/model.gguf"})
    assert node.read(DROPIN) == before and node.units[UNIT]["InvocationID"] == invocation


def test_one_that_is_declared_no_more_is_stopped_and_one_of_somebody_else_is_not(node, answers):
    apply(node, SWARM)
    node.put("/etc/systemd/system/llama@theirs.service.d/engine.conf", "[Service]\n")
    planned = subject().plan(node)
    assert [s.text() for s in planned.steps] == [
        f"stop_unit {UNIT}", f"disable_unit {UNIT}", f"remove_file {DROPIN}", "reload_manager systemd",
    ]  # fmt: skip
    found, left = apply(node)
    assert found.changed and DROPIN not in node.files and not left.steps
    assert node.units[UNIT]["ActiveState"] == "inactive"


@pytest.mark.parametrize("now", [(), (SWARM,)])
def test_a_key_that_no_engine_has_any_more_goes(node, answers, now):
    answers.says[""] = Fault("key_refused", "HTTP 401")
    apply(node, KEYED)
    node.put("/etc/nusy/credentials/vllm@main.service/api-key", "of another role")
    answers.says = {}
    found, left = apply(node, *now)
    path = f"/etc/nusy/credentials/{UNIT}/api-key"
    assert f"remove_file {path}" in [step.text() for step in found.steps]
    assert path not in node.files and not left.steps
    assert "/etc/nusy/credentials/vllm@main.service/api-key" in node.files


def test_one_that_is_not_enabled_is_stopped_and_asked_nothing(node, answers):
    apply(node, SWARM)
    answers.asked.clear()
    apply(node, {**SWARM, "enabled": False})
    assert node.units[UNIT]["ActiveState"] == "inactive" and answers.asked == []


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ([{**SWARM, "name": "a b"}], r"engines\[0\].name"),
        ([{**SWARM, "model": "model.gguf"}], r"engines\[0\].model"),
        ([{**SWARM, "port": 80}], r"engines\[0\].port"),
        ([{**SWARM, "sequences": 0}], r"engines\[0\].sequences"),
        ([{**SWARM, "api_key": "two\nlines"}], r"engines\[0\].api_key"),
        ([SWARM, {**SWARM, "port": 8082}], r"engines\[1\].name: a name of its own"),
        ([SWARM, {**SWARM, "name": "other"}], r"engines\[1\].port: a port of its own"),
    ],
)
def test_what_could_not_run_is_refused(declared, words):
    with pytest.raises(InputError, match=words) as error:
        subject(*declared)
    assert "two\nlines" not in str(error.value)


def test_an_account_that_is_none_is_refused():
    with pytest.raises(InputError, match="user"):
        subject(SWARM, user="a b")


def test_its_launcher_is_told_what_its_cache_takes(node, answers):
    """By the same sum as the budget of memory, and nothing where nobody says it."""
    figures = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
    apply(node, SWARM)
    assert "--kv-cache-memory-bytes" not in node.files[DROPIN].text
    apply(node, {**SWARM, "config": figures, "context": 1024, "sequences": 2})
    # Two sequences of 1024 tokens and a block, keys and values of two bytes.
    assert f"--kv-cache-memory-bytes {2 * 2 * (1024 + 64) * 2 * 4 * 16 * 2}\n" in node.files[DROPIN].text
    apply(node, {**SWARM, "kv_cache_gib": 0.5})
    assert f"--kv-cache-memory-bytes {1 << 29}\n" in node.files[DROPIN].text
    with pytest.raises(InputError, match="nothing beside kv_cache_gib"):
        subject({**SWARM, "kv_cache_gib": 0.5, "config": figures})


TLS = {"certificate": "/t/c.pem", "key": "/t/c.key"}
MUTUAL = {**TLS, "client_ca": "/t/ca.pem", "client_certificate": "/t/p.pem", "client_key": "/t/p.key"}


def test_certificates_reach_the_unit_as_credentials_and_its_own_question_shows_one(node, answers, monkeypatch):
    monkeypatch.setattr(engines, "fingerprint", lambda _path: "ab" * 32)
    apply(node, {**SWARM, "tls": MUTUAL})
    text, place = node.read(DROPIN), f"/run/credentials/{UNIT}/tls-"
    assert f"--tls-certificate {place}certificate --tls-key {place}key --tls-client-ca {place}client-ca" in text
    assert f"--server-certificate {place}certificate --certificate {place}client-certificate" in text
    assert "LoadCredential=tls-key:/t/c.key\n" in text
    plain = apply(node, SWARM)
    assert plain and "tls" not in node.read(DROPIN)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"certificate": "/t/c.pem"}, "engines[0].tls: certificate and key together"),
        ({**TLS, "client_ca": "/t/ca.pem"}, "client_certificate and client_key beside client_ca"),
        ({**TLS, "client_certificate": "/t/p.pem"}, "beside client_ca"),
        ({**TLS, "key": "/a b"}, "engines[0].tls.key"),
        ({**TLS, "key": "relative"}, "engines[0].tls.key"),
    ],
)
def test_half_of_tls_is_refused(files, said):
    with pytest.raises(InputError) as caught:
        subject({**SWARM, "tls": files})
    assert said in str(caught.value)
