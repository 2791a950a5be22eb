# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running unit was started with, and whether it would start at all, as a real systemd has it.

Each test is a story: what root does on the node by hand, and what ensure_state sees or does in
between. A story is one run of Ansible, whose start costs more than many looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import testing

OTHER = "/etc/r/other.env"  # of another role
SEEN = "/run/r-seen"  # what the service has read of it
# Stories go on faster than systemd lets a unit start again.
UNIT = """
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'cp /etc/r/other.env /run/r-seen; exec /usr/bin/sleep infinity'
ExecReload=/usr/bin/cp /etc/r/other.env /run/r-seen
"""
RESTART = ["restart_unit r.service"]
DROPINS = "/etc/systemd/system/r.service.d"
INVOCATION = "systemctl show --value --property=InvocationID r.service"


@dataclass(frozen=True)
class Step:
    """A task, and what must be in its result."""

    task: dict[str, Any]
    expected: dict[str, Any]


def hand(script: str, prints: str | None = None) -> Step:
    """Root at the shell of the node; it must succeed."""
    return Step({"ansible.builtin.shell": f"set -e\n{script}"}, {} if prints is None else {"prints": prints})


def look(
    wanted: dict[str, Any],
    state: str | None,
    plan: list[str] | None = None,
    because: str = "",
    *,
    beside: tuple[dict[str, Any], ...] = (),
    real: bool = False,
    become: bool = True,
    fails: bool = False,
) -> Step:
    """What ensure_state says of a control. beside: others of the role. real: it also does what it says."""
    task: dict[str, Any] = {"nusy.dgx_spark.ensure_state": {"role": "runs", "controls": [*beside, wanted]}}
    task |= {"check_mode": not real, "become": become, "ignore_errors": fails}
    expected = {"state": state, "plan": plan, "because": because, "failed": fails}
    return Step(task, {name: value for name, value in expected.items() if value is not None})


def differs(step: Step, entry: dict[str, Any]) -> dict[str, Any]:
    """What is not as the step expects it."""
    result = entry["result"]
    *_beside, wanted = step.task.get("nusy.dgx_spark.ensure_state", {}).get("controls", [{"id": ""}])
    control = next((c for c in result.get("controls", []) if c["id"] == wanted["id"]), {})
    found = {
        "prints": result.get("stdout"),
        "state": control.get("state"),
        "plan": result.get("plan"),
        "because": control.get("reason"),
        "failed": entry["status"] in ("failed", "ignored"),
    }
    return {
        name: found[name]
        for name, value in step.expected.items()
        if (value not in (found[name] or "") if name == "because" else value != found[name])
    }


def control(**unit: Any) -> dict[str, Any]:
    given = {"name": "r.service", "content": UNIT, "active": True, "restart_on": [OTHER], **unit}
    return {"id": "runs/service", "units": [given]}


# Applied, and running with A=1.
SERVICE = (
    hand(f"mkdir -p /etc/r; echo A=1 > {OTHER}; rm -rf /var/lib/nusy"),
    look(control(), "drifted", real=True),
    look(control(), "in_sync", []),
)


@pytest.fixture(scope="module")
def node(make_node):
    return make_node()


@pytest.fixture
def story(node, ansible_playbook):
    def play(*steps: Step, mitogen: bool = True) -> None:
        tasks = [{"name": f"Step {number}", **step.task} for number, step in enumerate(steps)]
        strategy = {"strategy": "mitogen_linear"} if mitogen else {}
        done = ansible_playbook(
            [{"hosts": "all", "gather_facts": False, "tasks": tasks, **strategy}],
            [node],
            env=testing.MITOGEN if mitogen else {},
        )
        for number, (step, entry) in enumerate(zip(steps, done.tasks, strict=False)):
            assert differs(step, entry) == {}, f"step {number}: {step}\n{entry['result']}"
        assert len(done.tasks) == len(steps), done.stdout[-3000:]
        done.assert_ok()

    yield play
    node.shell("systemctl stop r.service c.service; rm -rf /etc/systemd/system/[rc].service*; systemctl daemon-reload")


def test_an_edit_by_hand_is_drift_until_the_unit_is_restarted(story):
    story(
        *SERVICE,
        hand("stat -c '%a %U' /var/lib/nusy/started/runs.json", "600 root"),
        look(control(), "in_sync", become=False),
        hand(f"{INVOCATION} > /run/r-before; echo A=2 > {OTHER}"),
        look(control(), "drifted", RESTART),
        look(control(), "unknown", [], "for root only", become=False),
        look(control(), "drifted", RESTART, real=True),
        hand(f"! {INVOCATION} | cmp -s - /run/r-before; cat {SEEN}", "A=2"),
        look(control(), "in_sync", [], real=True),
        look(control(), "in_sync", become=False),
        mitogen=False,  # once as everybody runs it
    )


def test_a_restart_by_hand_repairs_it_and_an_old_file_moved_in_afterwards_does_not_look_old(story):
    story(
        *SERVICE,
        hand(f"echo A=2 > {OTHER}; systemctl restart r.service"),
        look(control(), "in_sync"),
        hand(f"echo A=3 > /etc/r/new; touch -d 2001-01-01 /etc/r/new; mv /etc/r/new {OTHER}"),
        look(control(), "unknown", [], "cannot tell whether r.service runs with an older"),
        hand(f"echo A=3 > {OTHER}"),
        look(control(), "drifted", RESTART),
    )


def test_a_link_or_a_folder_above_that_leads_elsewhere_is_seen_and_a_change_of_group_restarts_nothing(story):
    wanted = control(restart_on=["/opt/rel/current/c"])
    # The clock that files are stamped by ticks every 4 to 10 ms.
    touched = [
        step
        for touch in ("chgrp adm rel/1/c", "ln rel/1/c rel/1/d", "mv rel/1 rel/0; mv rel/0 rel/1")
        for step in (
            hand(f"cd /opt; rm -f rel/1/d; systemctl restart r.service; sleep 0.1; {touch}"),
            look(wanted, "unknown", []),
        )
    ]
    story(
        *SERVICE,
        hand("cd /opt; rm -rf rel; mkdir -p rel/1 rel/2; echo 1 > rel/1/c; echo 2 > rel/2/c; ln -sfn 1 rel/current"),
        look(wanted, None, real=True),
        hand("systemctl restart r.service"),
        look(wanted, "in_sync"),
        look(wanted, "in_sync", become=False),
        hand("ln -sfn 2 /opt/rel/current"),
        look(wanted, "unknown", become=False),
        look(wanted, "drifted", RESTART),
        look(wanted, "drifted", RESTART, real=True),
        hand("ln -sfn 1 /opt/rel/current; systemctl restart r.service; touch /opt/rel/1/more /opt/rel/more"),
        look(wanted, "in_sync"),
        *touched,
        hand(f"{INVOCATION} > /run/r-before"),
        look(wanted, "unknown", [], real=True, fails=True),
        hand(f"{INVOCATION} | cmp - /run/r-before; systemctl restart r.service"),
        look(wanted, "in_sync", [], real=True),
    )


def test_systemd_agrees_on_which_drop_ins_override(story):
    dropin = control(dropins={"nusy": "[Service]\nEnvironment=TRITON=/good A=1\nNice=3"})
    show = "import os; print(os.environ.get('TRITON'), os.environ.get('A'), os.nice(0))"
    steps = [
        *SERVICE,
        look(dropin, "drifted", real=True),
        hand(f'echo "{show}" > /opt/r-show.py'),
    ]
    shows = "[Service]\\nExecStartPre=/bin/sh -c '/usr/bin/python3 /opt/r-show.py > /run/r-env'\\n"
    for name, theirs, env in (
        ("zz", "Environment=B=2", "/good 1 3"),
        ("zz", "Environment=TRITON=/evil", "/evil 1 3"),
        ("zz", "Environment=", "None None 3"),
        ("aa", "UnsetEnvironment=A", "/good None 3"),
        ("aa", "Nice=9", "/good 1 3"),
    ):
        steps += [
            hand(
                f"cd {DROPINS}; rm -f zz.conf aa.conf; printf '[Service]\\n{theirs}\\n' > {name}.conf; "
                f'printf "{shows}" > zzz.conf; systemctl daemon-reload; systemctl restart r.service; cat /run/r-env',
                env,
            ),
            look(dropin, "in_sync" if env == "/good 1 3" else "drifted"),
        ]
    story(*steps)


def test_what_overrides_a_template_is_seen_on_its_instance(story):
    text = "[Service]\nExecStart=/bin/sleep 9999\nNice=3\n"
    template = {"id": "runs/t", "units": [{"name": "c@.service", "content": text}]}
    instance = {"id": "runs/i", "units": [{"name": "c@1.service", "active": True}]}
    steps = [look(instance, "drifted", beside=(template,), real=True)]
    # Not the last: that is for units of which the name begins so and goes on.
    for folder, nice in (("c@1.service.d", 9), ("c@.service.d", 9), ("service.d", 9), ("c@1-.service.d", 3)):
        place = f"/etc/systemd/system/{folder}"
        steps += [
            hand(
                f"mkdir -p {place}; printf '[Service]\\nNice=9\\n' > {place}/zz.conf; systemctl daemon-reload; "
                "systemctl show --value --property=Nice c@1.service",
                str(nice),
            ),
            look(instance, "drifted" if nice == 9 else "in_sync", beside=(template,)),
            hand(f"rm -r {place}; systemctl daemon-reload"),
        ]
    story(*steps, hand("systemctl stop c@1.service"))


def test_a_service_that_systemd_starts_again_has_read_what_is_there(story):
    restarting = control(dropins={"nusy": "[Service]\nRestart=always\nRestartSec=300ms\n"})
    story(
        *SERVICE,
        look(restarting, "drifted", real=True),
        hand(f"{INVOCATION} > /run/r-before; echo A=4 > {OTHER}; systemctl kill -s KILL r.service; sleep 1.5"),
        hand(f"! {INVOCATION} | cmp -s - /run/r-before; cat {SEEN}", "A=4"),
        look(restarting, "in_sync"),
    )


def test_after_a_boot_it_runs_with_what_is_on_disk(node, story):
    story(*SERVICE, hand(f"systemctl enable r.service; echo A=5 > {OTHER}"))
    node.restart()
    story(
        hand(f"systemctl start r.service; sleep 0.1; cat {SEEN}", "A=5"),
        look(control(), "in_sync"),
        hand(f"echo A=6 > {OTHER}"),
        look(control(), "drifted"),
    )


def test_a_reload_does_for_what_the_service_reads_and_not_for_its_definition(story):
    reloading = control(on_change="reload")
    nicer = control(on_change="reload", dropins={"nusy": "[Service]\nNice=7\n"})
    folder, dropin = f"make_parent {DROPINS}", f"write_file {DROPINS}/nusy.conf"
    story(
        *SERVICE,
        hand(f"{INVOCATION} > /run/r-before; echo A=7 > {OTHER}"),
        look(reloading, "drifted", ["reload_unit r.service"], real=True),
        hand(f"{INVOCATION} | cmp - /run/r-before; cat {SEEN}", "A=7"),
        look(reloading, "in_sync"),
        look(reloading, "in_sync", become=False),
        look(nicer, "drifted", [folder, dropin, "reload_manager systemd", *RESTART], real=True),
        hand("ps -o ni= -p $(systemctl show --value --property=MainPID r.service) | tr -d ' '", "7"),
    )


def test_a_definition_that_was_never_loaded_is_older_even_after_a_restart(story):
    text = UNIT + "Nice=3\n"
    file = "/etc/systemd/system/r.service"
    story(
        *SERVICE,
        hand(f"cat > {file} <<'END'\n{text}END\nsleep 1.1; touch {file}; systemctl restart r.service"),
        look(control(content=text), "drifted", ["reload_manager systemd", *RESTART]),
    )


def test_a_condition_is_asked_for_and_named_and_no_memory_keeps_the_unit_from_starting(story):
    text = "[Unit]\nConditionPathExists=/run/c-token\n" + UNIT.lstrip().replace(OTHER, "/etc/hostname")
    wanted = {"id": "runs/service", "units": [{"name": "c.service", "content": text, "active": True}]}
    story(
        # A new unit: nobody can know before its file is there, and then the run says why.
        look(wanted, "drifted"),
        look(wanted, "drifted", real=True, fails=True),
        look(wanted, "unknown", [], "ConditionPathExists=/run/c-token failed"),
        hand("touch /run/c-token"),
        look(wanted, "drifted", ["start_unit c.service"]),
        look(wanted, "drifted", ["start_unit c.service"], real=True),
        look(wanted, "in_sync"),
        # Never tried by this systemd, so that there is nothing to remember.
        hand("systemctl stop c.service; rm /run/c-token; systemctl daemon-reload"),
        look(wanted, "unknown", []),
    )


# Its start is over when it answers, and fails when it does not.
ENGINE = """
[Unit]
StartLimitIntervalSec=3600
StartLimitBurst=3
[Service]
Type=exec
ExecStart=/bin/sh -c 'echo $MODEL > /run/r-serves; exec /usr/bin/sleep infinity'
ExecStartPost=/bin/sh -c 'sleep 0.2; test "$MODEL" != broken || { echo no answer; exit 1; }'
Restart=on-failure
RestartSec=100ms
TimeoutStartSec=20
"""


def engine(model: str, **more: Any) -> dict[str, Any]:
    dropin = f"[Service]\nEnvironment=MODEL={model}\n"
    instance = {"name": "r@main.service", "dropins": {"model": dropin}, "enabled": True, "active": True}
    template = {"name": "r@.service", "content": ENGINE + "[Install]\nWantedBy=multi-user.target\n"}
    return {"id": "runs/engine", "units": [template, {**instance, "rollback": True, **more}]}


def test_a_new_model_that_does_not_answer_leaves_the_old_one_serving(story):
    text = "grep -ho 'MODEL=.*' /etc/systemd/system/r@main.service.d/model.conf; cat /run/r-serves"
    dropin = "write_file /etc/systemd/system/r@main.service.d/model.conf"
    swap = [dropin, "reload_manager systemd", "restart_unit r@main.service"]
    missing = engine("broken", trial=["/bin/sh", "-c", "echo FAIL model; exit 1"])
    running = "systemctl is-active r@main.service; systemctl show -P InvocationID r@main.service"
    story(
        look(engine("one"), "drifted"),
        look(engine("one"), "drifted", real=True),
        hand(f"{text}; systemctl is-enabled r@main.service", "MODEL=one\none\nenabled"),
        look(engine("broken"), "drifted", swap),
        look(engine("broken"), "drifted", swap, real=True, fails=True),
        hand(f"{text}; systemctl is-active r@main.service", "MODEL=one\none\nactive"),
        # What was undone is what is left, and nobody else is told that anything is wrong.
        look(engine("broken"), "drifted", swap),
        look(engine("one"), "in_sync", []),
        # Without a stop where it is known beforehand.
        hand(f"{{ {running}; }} > /run/r-before"),
        look(missing, "drifted", swap, real=True, fails=True),
        hand(f"{{ {running}; }} | cmp - /run/r-before; {text}", "MODEL=one\none"),
        # More starts than systemd allows in this hour, and one more works.
        look(engine("broken"), "drifted", real=True, fails=True),
        look(engine("two"), "drifted", swap, real=True),
        hand(text, "MODEL=two\ntwo"),
        look(engine("two"), "in_sync", [], real=True),
        # A run that was killed after its file was written: the next one knows what ran.
        hand("sed -i s/=two/=broken/ /etc/systemd/system/r@main.service.d/model.conf; systemctl daemon-reload"),
        look(engine("broken"), "drifted", ["restart_unit r@main.service"], real=True, fails=True),
        hand(text, "MODEL=two\ntwo"),
        hand("systemctl disable --now r@main.service; rm -rf /etc/systemd/system/r@*; systemctl daemon-reload"),
    )
