# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running unit was started with, and whether it would start at all, as a real systemd has it."""

from __future__ import annotations

import pytest

OTHER = "/etc/r/other.env"  # of another role
SEEN = "/run/r-seen"  # what the service has read of it
UNIT = """
[Service]
ExecStart=/bin/sh -c 'cp /etc/r/other.env /run/r-seen; exec /usr/bin/sleep infinity'
ExecReload=/usr/bin/cp /etc/r/other.env /run/r-seen
"""


def control(**unit):
    given = {"name": "r.service", "content": UNIT, "active": True, "restart_on": [OTHER], **unit}
    return {"id": "runs/service", "units": [given]}


@pytest.fixture(scope="module")
def node(make_node):
    return make_node()


@pytest.fixture
def look(node, ansible_playbook):
    """The verdict on the control: (state, plan, reason)."""

    def run(wanted, *, check=True, become=True, ok=True):
        module = {"role": "runs", "controls": [wanted]}
        task = {"name": "Run", "nusy.dgx_spark.ensure_state": module}
        play = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
        done = ansible_playbook(play, [node], check=check, become=become)
        assert (done.rc == 0) == ok, done.failed
        result = done.of(task="Run")[0]["result"]
        found = next(c for c in result["controls"] if c["id"] == wanted["id"])
        return found["state"], result["plan"], found["reason"]

    return run


def invocation(node):
    return node.run("systemctl", "show", "--value", "--property=InvocationID", "r.service").strip()


@pytest.fixture
def service(node, look):
    """Applied, and running with A=1."""
    node.shell(f"mkdir -p /etc/r; echo A=1 > {OTHER}; systemctl stop r.service; rm -rf /etc/systemd/system/r.service.d")
    node.shell("rm -rf /var/lib/nusy", check=False)
    look(control(), check=False)
    assert look(control())[0] == "in_sync"
    return node


@pytest.fixture(autouse=True)
def _gone(node):
    yield
    node.shell("systemctl stop r.service c.service; rm -rf /etc/systemd/system/[rc].service*; systemctl daemon-reload")


def test_an_edit_by_hand_is_drift_until_the_unit_is_restarted(service, look):
    assert service.run("stat", "-c", "%a %U", "/var/lib/nusy/started/runs.json").split() == ["600", "root"]
    assert look(control(), become=False)[0] == "in_sync"
    service.shell(f"echo A=2 > {OTHER}")
    state, plan, _reason = look(control())
    assert (state, plan) == ("drifted", ["restart_unit r.service"])
    state, plan, reason = look(control(), become=False)
    assert (state, plan) == ("unknown", []) and "for root only" in reason
    before = invocation(service)
    assert look(control(), check=False)[1] == ["restart_unit r.service"]
    assert invocation(service) != before and service.read(SEEN) == "A=2\n"
    assert look(control(), check=False)[:2] == ("in_sync", [])
    assert look(control(), become=False)[0] == "in_sync"


def test_a_restart_by_hand_repairs_it_and_an_old_file_moved_in_afterwards_does_not_look_old(service, look):
    service.shell(f"echo A=2 > {OTHER}; systemctl restart r.service")
    assert look(control())[0] == "in_sync"
    service.shell(f"echo A=3 > /etc/r/new; touch -d 2001-01-01 /etc/r/new; mv /etc/r/new {OTHER}")
    state, plan, reason = look(control())
    assert (state, plan) == ("unknown", []) and "cannot tell whether r.service runs with an older" in reason
    service.shell(f"echo A=3 > {OTHER}")
    assert look(control())[:2] == ("drifted", ["restart_unit r.service"])


def test_a_link_or_a_folder_above_that_leads_elsewhere_is_seen_and_a_change_of_group_restarts_nothing(service, look):
    service.shell(
        "cd /opt; rm -rf rel; mkdir -p rel/1 rel/2; echo 1 > rel/1/c; echo 2 > rel/2/c; ln -sfn 1 rel/current"
    )
    wanted = control(restart_on=["/opt/rel/current/c"])
    look(wanted, check=False)
    service.shell("systemctl restart r.service")
    assert look(wanted)[0] == "in_sync" and look(wanted, become=False)[0] == "in_sync"
    service.shell("ln -sfn 2 /opt/rel/current")
    assert look(wanted, become=False)[0] == "unknown"
    assert look(wanted)[:2] == ("drifted", ["restart_unit r.service"])
    look(wanted, check=False)
    service.shell("ln -sfn 1 /opt/rel/current; systemctl restart r.service; touch /opt/rel/1/more /opt/rel/more")
    assert look(wanted)[0] == "in_sync"
    # The clock that files are stamped by ticks every 4 to 10 ms.
    for touch in ("chgrp adm rel/1/c", "ln rel/1/c rel/1/d", "mv rel/1 rel/0; mv rel/0 rel/1"):
        service.shell(f"cd /opt; rm -f rel/1/d; systemctl restart r.service; sleep 0.1; {touch}")
        assert look(wanted)[:2] == ("unknown", []), touch
    before = invocation(service)
    assert look(wanted, check=False, ok=False)[:2] == ("unknown", []) and invocation(service) == before
    service.shell("systemctl restart r.service")
    assert look(wanted, check=False)[:2] == ("in_sync", [])


def test_systemd_agrees_on_which_drop_ins_override(service, look):
    dropin = control(dropins={"nusy": "[Service]\nEnvironment=TRITON=/good A=1\nNice=3"})
    look(dropin, check=False)
    folder = "/etc/systemd/system/r.service.d"
    for name, theirs, overrides in (
        ("zz", "Environment=B=2", False),
        ("zz", "Environment=TRITON=/evil", True),
        ("zz", "Environment=", True),
        ("aa", "UnsetEnvironment=A", True),
        ("aa", "Nice=9", False),
    ):
        service.shell(f"rm -f {folder}/zz.conf {folder}/aa.conf; printf '[Service]\n{theirs}\n' > {folder}/{name}.conf")
        service.shell("systemctl daemon-reload")
        lines = "import os; print(os.environ.get('TRITON'), os.environ.get('A'), os.nice(0))"
        service.write("/opt/r-show.py", lines)
        service.write(
            f"{folder}/zzz.conf", "[Service]\nExecStartPre=/bin/sh -c '/usr/bin/python3 /opt/r-show.py > /run/r-env'\n"
        )
        service.shell("systemctl daemon-reload; systemctl restart r.service")
        assert (service.read("/run/r-env") != "/good 1 3\n") == overrides, theirs
        assert look(dropin)[0] == ("drifted" if overrides else "in_sync"), theirs


def test_what_overrides_a_template_is_seen_on_its_instance(node, ansible_playbook):
    controls = [
        {
            "id": "runs/t",
            "units": [{"name": "c@.service", "content": "[Service]\nExecStart=/bin/sleep 9999\nNice=3\n"}],
        },
        {"id": "runs/i", "units": [{"name": "c@1.service", "active": True}]},
    ]
    task = {"name": "Run", "nusy.dgx_spark.ensure_state": {"role": "runs", "controls": controls}}
    play = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
    ansible_playbook(play, [node]).assert_ok()
    for folder in ("c@1.service.d", "c@.service.d", "service.d", "c@1-.service.d"):
        node.shell(f"mkdir -p /etc/systemd/system/{folder}")
        node.write(f"/etc/systemd/system/{folder}/zz.conf", "[Service]\nNice=9\n")
        node.shell("systemctl daemon-reload")
        loaded = node.run("systemctl", "show", "--value", "--property=Nice", "c@1.service").strip()
        found = ansible_playbook(play, [node], check=True).of(task="Run")[0]["result"]["controls"]
        state = next(c["state"] for c in found if c["id"] == "runs/i")
        node.shell(f"rm -r /etc/systemd/system/{folder}; systemctl daemon-reload")
        assert (loaded, state) in (("9", "drifted"), ("3", "in_sync")), folder
        assert loaded == "9" or folder == "c@1-.service.d"
    node.shell("systemctl stop c@1.service")


def test_a_service_that_systemd_starts_again_has_read_what_is_there(service, look):
    service.shell("mkdir -p /etc/systemd/system/r.service.d")
    restarting = control(dropins={"nusy": "[Service]\nRestart=always\nRestartSec=300ms\n"})
    look(restarting, check=False)
    before = invocation(service)
    service.shell(f"echo A=4 > {OTHER}; systemctl kill -s KILL r.service; sleep 1.5")
    assert invocation(service) != before and service.read(SEEN) == "A=4\n"
    assert look(restarting)[0] == "in_sync"


def test_after_a_boot_it_runs_with_what_is_on_disk(service, look):
    service.shell(f"systemctl enable r.service 2>/dev/null; echo A=5 > {OTHER}")
    service.restart()
    service.run("systemctl", "start", "r.service")
    assert look(control())[0] == "in_sync" and service.read(SEEN) == "A=5\n"
    service.shell(f"echo A=6 > {OTHER}")
    assert look(control())[0] == "drifted"


def test_a_reload_does_for_what_the_service_reads_and_not_for_its_definition(service, look):
    reloading = control(on_change="reload")
    before = invocation(service)
    service.shell(f"echo A=7 > {OTHER}")
    assert look(reloading, check=False)[1] == ["reload_unit r.service"]
    assert invocation(service) == before and service.read(SEEN) == "A=7\n"
    assert look(reloading)[0] == "in_sync" and look(reloading, become=False)[0] == "in_sync"
    nicer = control(on_change="reload", dropins={"nusy": "[Service]\nNice=7\n"})
    assert look(nicer, check=False)[1][-1] == "restart_unit r.service"
    pid = service.run("systemctl", "show", "--value", "--property=MainPID", "r.service").strip()
    assert service.run("ps", "-o", "ni=", "-p", pid).strip() == "7"


def test_a_definition_that_was_never_loaded_is_older_even_after_a_restart(service, look):
    text = UNIT + "Nice=3\n"
    service.write("/etc/systemd/system/r.service", text)
    service.shell("sleep 1.1; touch /etc/systemd/system/r.service; systemctl restart r.service 2>/dev/null")
    assert look(control(content=text))[:2] == ("drifted", ["reload_manager systemd", "restart_unit r.service"])


def test_a_condition_is_asked_for_and_named_and_no_memory_keeps_the_unit_from_starting(node, look):
    text = "[Unit]\nConditionPathExists=/run/c-token\n" + UNIT.lstrip().replace(OTHER, "/etc/hostname")
    wanted = {"id": "runs/service", "units": [{"name": "c.service", "content": text, "active": True}]}
    # A new unit: nobody can know before its file is there, and then the run says why.
    assert look(wanted)[0] == "drifted"
    look(wanted, check=False, ok=False)
    state, plan, reason = look(wanted)
    assert (state, plan) == ("unknown", []) and "ConditionPathExists=/run/c-token failed" in reason
    node.shell("touch /run/c-token")
    assert look(wanted)[:2] == ("drifted", ["start_unit c.service"])
    look(wanted, check=False)
    assert look(wanted)[0] == "in_sync"
    # Never tried by this systemd, so that there is nothing to remember.
    node.shell("systemctl stop c.service; rm /run/c-token; systemctl daemon-reload")
    assert look(wanted)[:2] == ("unknown", [])
