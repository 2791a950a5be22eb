# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit that does not start with its new files gets back those with which it last ran."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import former, starts
from declare import apply, document, subject, verdict
from fake_node import FakeNode, Killed, bare

NAME = "engine@main.service"
TEMPLATE = {"name": "engine@.service", "content": "[Service]\nExecStart=/bin/true\n"}
DROPIN = f"/etc/systemd/system/{NAME}.d/engine.conf"
KEY = "/etc/engine.key"
KEPT = former.path_of("demo")
TRIAL = ["/usr/bin/validator", DROPIN]


class Engine(FakeNode):
    """It starts unless one of its files says BAD; DYING lets it end a moment later."""

    trials: int = 0

    def tool_systemctl(self, args):
        texts = "".join(entry.text for path, entry in self.files.items() if path in (DROPIN, KEY))
        done = super().tool_systemctl(args)
        if args[0] in ("start", "restart") and ("BAD" in texts or "DYING" in texts):
            self.units[NAME] |= {"ActiveState": "failed", "SubState": "failed"}
            return (1, "", f"Job for {NAME} failed.\n") if "BAD" in texts else done
        if args[0] in ("start", "restart"):
            self.units[NAME].pop("SubState", None)
        return done

    def tool_journalctl(self, _args):
        return 0, "engine: no such model\n", ""

    def tool_validator(self, args):
        self.trials += 1
        return (1, "", "FAIL model\n") if "MISSING" in self.files[args[0]].text else (0, "", "")


def control(text: str, key: str = "one", **unit: object) -> dict:
    instance = {"name": NAME, "dropins": {"engine": text}, "active": True, "restart_on": [KEY], "rollback": True}
    files = [{"path": KEY, "content": key, "mode": "0600"}]
    return {"id": "demo/engine", "files": files, "units": [TEMPLATE, {**instance, **unit}]}


def serving(**unit: object) -> Engine:
    """An engine that runs with its first files."""
    node = Engine(**{name: getattr(bare(), name) for name in ("available",)})
    node.units[NAME] = node.unit(state="static")
    apply(node, control("[Service]\nA=1\n", **unit))
    assert node.units[NAME]["ActiveState"] == "active"
    node.effects.clear()
    return node


def fails(node: FakeNode, *controls: dict) -> NodeError:
    with pytest.raises(NodeError) as error:
        apply(node, *controls)
    return error.value


@pytest.mark.parametrize("word", ["BAD", "DYING"])
def test_what_does_not_start_is_undone_and_the_former_one_runs(word):
    node = serving()
    wanted = control(f"[Service]\nA={word}\n", key="two")
    problem = fails(node, wanted).problem
    assert problem.key == "units.rolled_back"
    assert DROPIN in problem.wanted and KEY in problem.wanted
    assert "engine: no such model" in problem.found and "it runs with them again" in problem.found
    assert node.read(DROPIN) == "[Service]\nA=1\n" and node.read(KEY) == "one\n"
    assert node.files[KEY].mode == 0o600 and node.units[NAME]["ActiveState"] == "active"
    last = node.effects[-node.effects[::-1].index(f"write {DROPIN}") :]
    assert last.index("daemon-reload") < last.index(f"systemctl restart {NAME}")
    # What is left to do is what was undone, and nothing else; the next run of a good one does it.
    left = verdict(subject(wanted).plan(node), "demo/engine")
    assert [change.key for change in left.changes] == [f"file {KEY}", f"file {DROPIN}"]
    good = control("[Service]\nA=3\n", key="two")
    apply(node, good)
    assert node.read(DROPIN) == "[Service]\nA=3\n" and not subject(good).plan(node).changed


def test_a_check_promises_the_change_and_keeps_nothing():
    node = serving()
    before = node.snapshot()
    planned = subject(control("[Service]\nA=BAD\n")).plan(node)
    assert [s.text() for s in planned.steps] == [
        f"write_file {DROPIN}", "reload_manager systemd", f"restart_unit {NAME}",
    ]  # fmt: skip
    assert node.snapshot() == before


def test_without_rollback_the_new_files_stay_and_the_error_is_that_of_the_start():
    node = serving(rollback=False)
    assert KEPT not in node.files, node.files[KEPT].text
    assert fails(node, control("[Service]\nA=BAD\n", rollback=False)).problem.key == "units.failed"
    assert node.read(DROPIN) == "[Service]\nA=BAD\n"


def test_a_file_that_was_not_there_goes_again():
    node = serving()
    later = f"/etc/systemd/system/{NAME}.d/later.conf"
    wanted = control("[Service]\nA=1\n", key="BAD", dropins={"engine": "[Service]\nA=1\n", "later": "[Service]\nB=1\n"})
    assert later in fails(node, wanted).problem.wanted
    assert later not in node.files and node.read(KEY) == "one\n"


def test_one_that_never_ran_has_nothing_to_go_back_to():
    node = Engine()
    node.units[NAME] = node.unit(state="static")
    assert fails(node, control("[Service]\nA=BAD\n")).problem.key == "units.failed"
    assert node.read(DROPIN) == "[Service]\nA=BAD\n"
    apply(node, control("[Service]\nA=2\n"))
    assert node.units[NAME]["ActiveState"] == "active"


def test_one_that_does_not_start_with_the_former_files_either_says_both():
    node = serving()
    node.tool_systemctl = lambda args: (
        (1, "", "no memory\n") if args[0] == "restart" else Engine.tool_systemctl(node, args)
    )
    problem = fails(node, control("[Service]\nA=2\n")).problem
    assert "does not start with them either" in problem.found and node.read(DROPIN) == "[Service]\nA=1\n"


def test_a_failed_trial_puts_the_files_back_and_stops_nothing():
    node = serving(trial=TRIAL)
    invocation = node.units[NAME]["InvocationID"]
    problem = fails(node, control("[Service]\nA=MISSING\n", trial=TRIAL)).problem
    assert "FAIL model" in problem.found and "it was not stopped" in problem.found
    assert node.read(DROPIN) == "[Service]\nA=1\n" and node.units[NAME]["InvocationID"] == invocation
    assert not [effect for effect in node.effects if "systemctl" in effect]
    node.trials = 0
    node.units[NAME] |= {"ActiveState": "failed"}
    apply(node, control("[Service]\nA=2\n", trial=TRIAL))
    assert node.trials == 0  # what does not run is not stopped


def test_killed_at_every_effect_it_runs_old_or_new_and_the_next_run_finishes():
    """A run that is killed leaves the former files known, whatever the next one finds on disk."""
    bad, good = control("[Service]\nA=BAD\n", key="two"), control("[Service]\nA=2\n", key="two")
    for lives in range(30):
        node = serving()
        node.lives = lives
        try:
            fails(node, bad)
            break
        except Killed:
            pass
        node.lives = None
        fails(node, bad)
        assert node.read(DROPIN) == "[Service]\nA=1\n" and node.read(KEY) == "one\n", lives
        assert node.units[NAME]["ActiveState"] == "active", lives
        apply(node, good)
        assert not subject(good).plan(node).changed, lives
    else:
        pytest.fail("it never came to its end")
    assert lives > 5


def test_what_is_kept_is_for_root_alone_and_not_believed_where_others_can_write():
    node = serving()
    assert node.files[former.FOLDER].mode == 0o700 and node.files[KEPT].mode == 0o600
    node.files[former.FOLDER].uid = 1000
    assert fails(node, control("[Service]\nA=BAD\n")).problem.key == "units.failed"


def test_what_is_declared_no_more_and_gone_is_not_kept():
    """The key of an engine that was removed would stay on the node, where nobody looks for it."""
    node = serving()
    assert "one" in node.files[KEPT].text and "A=1" in node.files[KEPT].text
    # Skipped, or left to somebody: what is there may come back.
    apply(node, {"id": "demo/engine"})
    assert "one" in node.files[KEPT].text
    # The template is that of all engines, and stays.
    node.files.pop(DROPIN)
    apply(node, {"id": "demo/engine"})
    assert KEPT not in node.files and node.read(KEY) == "one\n"


def test_a_key_that_a_stopped_unit_had_is_not_kept():
    node = serving()
    node.units[NAME] |= {"ActiveState": "inactive"}
    stopped = control("[Service]\nA=1\n", active=False, restart_on=[])
    stopped["files"] = []
    node.files.pop(KEY)
    apply(node, stopped)
    assert "one" not in node.files[KEPT].text and "A=1" in node.files[KEPT].text


def test_a_file_that_somebody_took_away_comes_back_as_it_was():
    node = serving()
    node.files.pop(KEY)
    fails(node, control("[Service]\nA=BAD\n", key="two"))
    assert node.read(KEY) == "one\n" and node.read(DROPIN) == "[Service]\nA=1\n"


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ({"on_change": "reload"}, "rollback"),
        ({"trial": ["validator"]}, "absolute path"),
        ({"trial": TRIAL, "rollback": False}, "rollback"),
    ],
)
def test_what_could_not_be_undone_is_refused(unit, words):
    with pytest.raises(InputError, match=words):
        document(control("", **unit))


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ({"TimeoutStartUSec": "1min 30s", "TimeoutStopUSec": "1min 30s"}, 540),
        ({"TimeoutStartUSec": "30min", "TimeoutStopUSec": "10s"}, 5430),
        ({"TimeoutStartUSec": "1s 500ms", "TimeoutStopUSec": "1s"}, starts.CHANGE_SECONDS),
        ({"TimeoutStartUSec": "infinity", "TimeoutStopUSec": "1s"}, starts.LONGEST_SECONDS),
    ],
)
def test_a_start_has_the_time_that_its_unit_allows(spans, seconds):
    node = FakeNode()
    node.units["demo.service"] = node.unit(active="inactive", state="enabled") | spans
    given = []
    node_run = node.run
    node.run = lambda argv, **more: (given.append((argv[1], more.get("timeout"))), node_run(argv, **more))[1]
    apply(node, {"id": "demo/s", "units": [{"name": "demo.service", "active": True}]})
    assert ("start", seconds) in given
