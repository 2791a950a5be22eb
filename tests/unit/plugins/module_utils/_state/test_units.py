# SPDX-License-Identifier: GPL-3.0-or-later
"""Units that systemd calls started and that do not run."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import starts, units
from declare import apply, states, subject, verdict
from fake_node import FakeNode, bare

CONTROL = {"id": "demo/s", "units": [{"name": "demo.service", "active": True}]}


class Dying(FakeNode):
    """The start of demo.service succeeds; a moment later it is as ``after`` says."""

    after: dict[str, str]

    def tool_systemctl(self, args):
        done = super().tool_systemctl(args)
        if args[0] == "start":
            self.units["demo.service"].update(self.after)
        return done

    def tool_journalctl(self, _args):
        return 0, "demo: no such device\n", ""


@pytest.mark.parametrize(
    "after",
    [{"ActiveState": "failed", "SubState": "failed"}, {"ActiveState": "activating", "SubState": "auto-restart"}],
)
def test_a_service_that_dies_at_its_start_is_an_error_with_its_log(after):
    node = Dying()
    node.after = after
    node.units["demo.service"] = node.unit()
    ensured = subject(CONTROL)
    with pytest.raises(NodeError) as error:
        converge(ensured, ensured.plan(node), node, node)
    assert error.value.problem.key == "units.failed"
    assert error.value.problem.found == "it ended right after its start; its log ends: demo: no such device"


def test_the_first_exception_of_its_last_start_is_told_as_well_as_the_end():
    before = ["Starting demo.service - Demo...", "ValueError: of an earlier start"]
    said = [
        "WARNING: this can cause errors like `OSError: Too many open files`",
        "(Core pid=7) ERROR x.py:1] Traceback:",
    ]
    said += ["(Core pid=7) ERROR [x.py:1] RuntimeError: 160 MiB required, 62 MiB free", "ValueError: of who caught it"]
    node = Dying()
    node.after = {"ActiveState": "failed"}
    node.units["demo.service"] = node.unit()
    lines = [*before, before[0], *said, *["  in x.py"] * 7, "RuntimeError: See root cause above."]
    node.tool_journalctl = lambda _args: (0, "\n".join(lines), "")
    ensured = subject(CONTROL)
    with pytest.raises(NodeError) as error:
        converge(ensured, ensured.plan(node), node, node)
    found = error.value.problem.found
    assert "; it said first: RuntimeError: 160 MiB required, 62 MiB free; its log ends: in x.py" in found
    assert found.endswith("RuntimeError: See root cause above.") and "earlier" not in found


def test_a_service_that_restarts_for_ever_is_not_active():
    node = FakeNode()
    node.units["demo.service"] = node.unit(active="activating", state="enabled") | {"SubState": "auto-restart"}
    plan = subject(CONTROL).plan(node)
    assert plan.controls[0].state == "drifted"


def test_nothing_is_waited_for_when_nothing_was_started(monkeypatch):
    monkeypatch.setattr(starts.time, "sleep", lambda _seconds: pytest.fail("waited"))
    node = FakeNode()
    node.units["demo.service"] = node.unit(active="active", state="enabled")
    control = {"id": "demo/s", "units": [{"name": "demo.service", "active": True, "enabled": False}]}
    ensured = subject(control)
    converge(ensured, ensured.plan(node), node, node)


def test_a_unit_that_systemd_skips_here_is_unknown_and_not_drift_for_ever():
    node = bare()
    skipped = {"ConditionResult": "no", "ConditionTimestampMonotonic": "123"}
    node.units["systemd-timesyncd.service"] = node.unit(state="enabled") | skipped
    control = {"id": "demo/time", "units": [{"name": "systemd-timesyncd.service", "active": True}]}
    plan = subject(control).plan(node)
    assert verdict(plan, "demo/time").state == "unknown" and not plan.steps
    assert "condition of the unit did not hold" in verdict(plan, "demo/time").reason


def test_a_template_unit_has_files_and_its_instance_has_the_state():
    node = bare()
    controls = (
        {"id": "demo/template", "units": [{"name": "engine@.service", "content": "[Service]\nExecStart=/bin/true"}]},
        {"id": "demo/instance", "units": [{"name": "engine@main.service", "enabled": True, "active": True}]},
    )
    node.units["engine@main.service"] = node.unit()
    apply(node, *controls)
    assert node.files["/etc/systemd/system/engine@.service"].text.startswith("[Service]")
    assert node.units["engine@main.service"]["ActiveState"] == "active"
    with pytest.raises(InputError):
        subject({"id": "demo/x", "units": [{"name": "engine@.service", "active": True}]})


def test_a_foreign_line_in_a_unit_file_is_gone_before_the_unit_restarts():
    node = bare()
    control = {
        "id": "demo/service",
        "units": [{"name": "demo.service", "content": "[Service]\nExecStart=/bin/true", "active": True}],
    }
    apply(node, control)
    node.files["/etc/systemd/system/demo.service"].text += "User=rogue\n"
    plan = apply(node, control)
    actions = [step.action for step in plan.steps]
    assert actions.index("write_file") < actions.index("reload_manager") < actions.index("restart_unit")
    assert not subject(control).plan(node).changed


def test_a_file_of_a_later_control_restarts_the_unit_too():
    node = bare()
    node.units["chrony.service"] = node.unit(active="active", state="enabled")
    controls = (
        {"id": "demo/service", "units": [{"name": "chrony.service", "active": True, "restart_on": ["/etc/demo.conf"]}]},
        {"id": "demo/file", "files": [{"path": "/etc/demo.conf", "content": "a"}]},
    )
    apply(node, *controls)
    assert node.effects.index("write /etc/demo.conf") < node.effects.index("systemctl restart chrony.service")
    assert node.effects.count("systemctl restart chrony.service") == 1


def test_a_service_that_podman_makes_of_a_quadlet_comes_and_changes_with_it():
    node = bare()
    path = "/etc/containers/systemd/demo.container"

    def control(image):
        return {
            "id": "demo/worker",
            "files": [{"path": path, "content": f"[Container]\nImage={image}"}],
            "units": [{"name": "demo.service", "active": True, "restart_on": [path]}],
        }

    plan = apply(node, control("a:1"))
    assert verdict(plan, "demo/worker").state == "drifted"
    assert [step.action for step in plan.steps][-3:] == ["write_file", "reload_manager", "restart_unit"]
    assert not subject(control("a:1")).plan(node).changed
    plan = apply(node, control("a:2"))
    assert [step.action for step in plan.steps] == ["write_file", "reload_manager", "restart_unit"]


def test_an_override_that_is_moved_aside_ends_with_a_restart():
    node = bare()
    node.units["chrony.service"] = node.unit(active="active", state="enabled")
    control = {"id": "demo/nice", "units": [{"name": "chrony.service", "dropins": {"10-nusy": "[Service]\nNice=5"}}]}
    apply(node, control)
    other = "/etc/systemd/system/chrony.service.d/99-other.conf"
    node.put(other, "[Service]\nNice=0\n")
    node.effects.clear()
    apply(node, control, confirm=[other])
    assert "systemctl restart chrony.service" in node.effects


OURS = {"nusy": '[Service]\nEnvironment=TRITON=/good A=1 \\\n  "B=x y"\nNice=3'}


@pytest.mark.parametrize(
    ("name", "theirs", "directives"),
    [
        ("zz", "Environment=OTHER=2", []),
        ("zz", "# Environment=TRITON=/evil", []),
        ("zz", "Environment=TRITON=/evil", ["Environment"]),
        ("zz", "Environment=OTHER=1 \\\n'B=z'", ["Environment"]),
        ("zz", "Environment=", ["Environment"]),
        ("zz", "UnsetEnvironment=A", ["Environment"]),
        ("aa", "UnsetEnvironment=A", ["Environment"]),
        ("zz", "EnvironmentFile=-/etc/evil.env", ["Environment"]),
        ("aa", "EnvironmentFile=/etc/evil.env", ["Environment"]),
        ("zz", "EnvironmentFile=-/etc/nowhere.env", []),
        ("zz", "Nice=3", []),
        ("zz", "Nice=9\nEnvironment=A=2", ["Environment", "Nice"]),
        ("aa", "Nice=9\nEnvironment=A=2\nEnvironment=", []),
    ],
)
def test_a_drop_in_that_sets_a_variable_again_or_empties_a_list_overrides_and_one_that_adds_does_not(
    name, theirs, directives
):
    node = bare()
    node.units["chrony.service"] = node.unit(active="active", state="enabled")
    node.put("/etc/evil.env", "A=evil\n")
    control = {"id": "demo/env", "units": [{"name": "chrony.service", "dropins": OURS}]}
    other = f"/etc/systemd/system/chrony.service.d/{name}.conf"
    node.put(other, f"[Service]\n{theirs}\n")
    expected = [(f"unit chrony.service: Service/{d}", f"overridden by {other}") for d in directives]
    first = verdict(apply(node, control), "demo/env").changes
    assert [(c.key, c.before) for c in first if c.key.startswith("unit")] == expected
    assert [(c.key, c.before) for c in verdict(subject(control).plan(node), "demo/env").changes] == expected


def test_an_empty_list_of_dependencies_resets_nothing():
    node = bare()
    node.units["chrony.service"] = node.unit(active="active", state="enabled")
    dropins = {"nusy": "[Unit]\nAfter=a.service\n[Service]\nExecStartPre=/bin/true"}
    control = {"id": "demo/after", "units": [{"name": "chrony.service", "dropins": dropins}]}
    apply(node, control)
    node.put("/etc/systemd/system/chrony.service.d/zz.conf", "[Unit]\nAfter=\n[Service]\nExecStartPre=/bin/false\n")
    assert states(subject(control).plan(node))["demo/after"] == "in_sync"
    node.put("/etc/systemd/system/chrony.service.d/zz.conf", "[Service]\nExecStartPre=\n")
    assert states(subject(control).plan(node))["demo/after"] == "drifted"


def test_a_drop_in_or_its_file_that_cannot_be_read_may_override():
    node = bare()
    node.units["chrony.service"] = node.unit(active="active", state="enabled")
    control = {"id": "demo/env", "units": [{"name": "chrony.service", "dropins": OURS}]}
    apply(node, control)
    other = "/etc/systemd/system/chrony.service.d/zz.conf"
    node.put(other, "[Service]\nEnvironmentFile=/etc/closed.env\n")
    for path in ("/etc/closed.env", other):
        node.unreadable = {path}
        found = verdict(subject(control).plan(node), "demo/env")
        assert found.state == "unknown" and path in found.reason


@pytest.mark.parametrize("folder", ["engine@1.service.d", "engine@.service.d", "service.d"])
@pytest.mark.parametrize("theirs", ["Nice=9", "ExecStart=\nExecStart=/bin/false"])
def test_what_overrides_the_template_overrides_its_instance(folder, theirs):
    controls = (
        {"id": "demo/t", "units": [{"name": "engine@.service", "content": "[Service]\nExecStart=/bin/true\nNice=3"}]},
        {"id": "demo/i", "units": [{"name": "engine@1.service", "active": True}]},
    )
    node = bare()
    node.units["engine@1.service"] = node.unit()
    apply(node, *controls)
    node.put(f"/etc/systemd/system/{folder}/zz.conf", f"[Service]\n{theirs}\n")
    found = verdict(subject(*controls).plan(node), "demo/i")
    assert found.blocked_by == f"demo_confirm: [/etc/systemd/system/{folder}/zz.conf]"
    assert found.changes[0].key == f"unit engine@1.service: Service/{theirs.partition('=')[0]}"


def test_a_drop_in_of_the_same_name_in_a_folder_that_counts_more_hides_ours():
    controls = (
        {"id": "demo/t", "units": [{"name": "engine@.service", "dropins": {"nusy": "[Service]\nNice=3"}}]},
        {"id": "demo/i", "units": [{"name": "engine@1.service", "active": True}]},
    )
    node = bare()
    node.units["engine@1.service"] = node.unit()
    apply(node, *controls)
    node.put("/etc/systemd/system/engine@1.service.d/nusy.conf", "[Service]\n")
    assert verdict(subject(*controls).plan(node), "demo/i").changes[0].key == "unit engine@1.service: Service/Nice"


def test_a_masked_unit_is_unmasked_only_when_named_and_a_static_one_cannot_be_disabled():
    node = bare()
    node.units["chrony.service"] = node.unit(state="masked")
    control = {"id": "demo/time", "units": [{"name": "chrony.service", "enabled": True, "active": True}]}
    assert verdict(apply(node, control), "demo/time").blocked_by == "demo_confirm: [chrony.service]"
    apply(node, control, confirm=["chrony.service"])
    assert node.units["chrony.service"]["ActiveState"] == "active"
    node.units["chrony.service"] = node.unit(state="static")
    off = {"id": "demo/time", "units": [{"name": "chrony.service", "enabled": False}]}
    assert states(subject(off).plan(node))["demo/time"] == "in_sync"


@pytest.mark.parametrize("state", ["masked", "masked-runtime"])
def test_a_mask_that_ends_at_the_next_boot_is_a_mask(state):
    node = bare()
    node.units["demo.service"] = node.unit(state=state)
    assert verdict(apply(node, CONTROL), "demo/s").blocked_by == "demo_confirm: [demo.service]"
    apply(node, CONTROL, confirm=["demo.service"])
    assert "systemctl unmask --runtime demo.service" in node.effects
    assert node.units["demo.service"]["ActiveState"] == "active"


def test_a_mask_that_ends_at_the_next_boot_is_not_the_mask_that_was_declared():
    node = bare()
    node.units["demo.service"] = node.unit(state="masked-runtime")
    masked = {"id": "demo/s", "units": [{"name": "demo.service", "masked": True}]}
    apply(node, masked)
    assert node.units["demo.service"]["UnitFileState"] == "masked"
    assert not subject(masked).plan(node).changed


def test_the_mask_of_a_unit_of_ours_is_a_link_in_the_place_of_its_file_and_needs_the_units_name():
    node = bare()
    control = {"id": "demo/s", "units": [{"name": "demo.service", "content": "[Service]", "active": True}]}
    node.put("/etc/systemd/system/demo.service", "/dev/null", kind="link")
    node.put("/dev/null", kind="other")
    node.units["demo.service"] = node.unit(state="masked")
    plan = apply(node, control)
    assert verdict(plan, "demo/s").blocked_by == "demo_confirm: [demo.service]" and not plan.steps
    assert node.files["/etc/systemd/system/demo.service"].kind == "link"
    apply(node, control, confirm=["demo.service"])
    assert node.files["/etc/systemd/system/demo.service"].text == "[Service]\n"
    assert node.units["demo.service"]["ActiveState"] == "active"


def test_a_service_that_is_to_be_stopped_and_restarts_for_ever_is_stopped():
    node = bare()
    node.units["demo.service"] = node.unit(active="activating") | {"SubState": "auto-restart"}
    stopped = {"id": "demo/s", "units": [{"name": "demo.service", "active": False}]}
    assert [step.text() for step in apply(node, stopped).steps] == ["stop_unit demo.service"]
    assert not subject(stopped).plan(node).changed


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_in_the_place_of_a_mask_is_refused_and_not_met_half_way(kind):
    node = bare()
    node.units["demo.service"] = node.unit(active="active", state="disabled")
    node.put("/etc/systemd/system/demo.service", "/opt/demo.service", kind=kind)
    file = {"path": "/etc/demo.conf", "content": "a"}
    control = {"id": "demo/s", "files": [file], "units": [{"name": "demo.service", "masked": True}]}
    plan = subject(control).plan(node)
    (reason,) = plan.facts["refused"]
    assert "/etc/systemd/system/demo.service is in the place of the mask" in reason
    node.effects.clear()
    with pytest.raises(NodeError) as error:
        apply(node, control)
    assert error.value.problem.key == "state.refused" and not node.effects


def test_a_unit_that_is_masked_already_has_its_mask_in_that_place():
    node = bare()
    node.units["demo.service"] = node.unit(state="masked")
    node.put("/etc/systemd/system/demo.service", "/dev/null", kind="link")
    assert states(apply(node, {"id": "demo/s", "units": [{"name": "demo.service", "masked": True}]})) == {
        "demo/s": "in_sync"
    }


ONESHOT = "[Service]\nType=oneshot\nExecStart=/bin/true\n"


@pytest.mark.parametrize(
    ("found", "declared", "stays"),
    [
        ({"Type": "oneshot", "RemainAfterExit": "no"}, {}, False),
        ({"Type": "oneshot", "RemainAfterExit": "yes"}, {}, True),
        ({"Type": "simple", "RemainAfterExit": "no"}, {}, True),
        ({}, {"content": ONESHOT}, False),
        ({}, {"content": f"{ONESHOT}RemainAfterExit=on\n"}, True),
        ({}, {"content": ONESHOT, "dropins": {"stay": "[Service]\nRemainAfterExit=true\n"}}, True),
        ({"Type": "oneshot", "RemainAfterExit": "no"}, {"dropins": {"stay": "[Service]\nRemainAfterExit=1\n"}}, True),
        ({"Type": "oneshot", "RemainAfterExit": "no"}, {"content": "[Service]\nExecStart=/bin/true\n"}, True),
    ],
)
def test_a_oneshot_that_cannot_stay_active_is_named_and_not_started(found, declared, stays):
    node = bare()
    if found:
        node.units["demo.service"] = node.unit(state="static") | found
    ensured = subject({"id": "demo/s", "units": [{"name": "demo.service", "active": True, **declared}]})
    plan = ensured.plan(node)
    started = [step for step in plan.steps if step.action in units.STARTS]
    assert verdict(plan, "demo/s").state == "drifted"
    if stays:
        assert started
        return
    assert not started and "oneshot service without RemainAfterExit=yes" in verdict(plan, "demo/s").reason
    with pytest.raises(NodeError) as error:
        converge(ensured, plan, node, node)
    assert error.value.problem.key == "state.not_ensured" and "RemainAfterExit" in error.value.problem.found


ON = {"active": "active", "state": "enabled"}


@pytest.mark.parametrize(
    ("name", "found", "wanted", "waits"),
    [
        ("ssh.service", ON, {"active": False}, True),
        ("ssh.service", ON, {"enabled": False}, True),
        ("ssh.socket", ON, {"masked": True}, True),
        ("systemd-networkd.service", ON, {"masked": True, "active": False}, True),
        ("ssh.service", {}, {"active": False, "enabled": False}, False),
        ("ssh.service", {}, {"active": True, "enabled": True}, False),
        ("nftables.service", {}, {"active": True}, True),
        ("nftables.service", {"active": "active"}, {"enabled": True}, True),
        ("nftables.service", ON, {"active": False, "enabled": False}, False),
        ("cups.service", ON, {"active": False, "masked": True}, False),
    ],
)
def test_what_may_cut_somebody_off_waits_for_its_name(name, found, wanted, waits):
    node = bare()
    node.units[name] = node.unit(**found)
    control = {"id": "demo/s", "units": [{"name": name, **wanted}]}
    plan = subject(control).plan(node)
    assert verdict(plan, "demo/s").blocked_by == (f"demo_confirm: [{name}]" if waits else "")
    assert not waits or (plan.steps == () and verdict(plan, "demo/s").changes)
    apply(node, control, confirm=[name])
    assert states(subject(control).plan(node)) == {"demo/s": "in_sync"}


def test_a_firewall_that_runs_is_restarted_with_a_file_that_changes():
    node = bare()
    node.units["nftables.service"] = node.unit(**ON)
    node.put("/etc/nftables.conf", "")
    files = [{"path": "/etc/nftables.conf", "content": "table inet x {}"}]
    unit = {"name": "nftables.service", "active": True, "restart_on": ["/etc/nftables.conf"]}
    plan = subject({"id": "demo/s", "files": files, "units": [unit]}).plan(node)
    assert [step.action for step in plan.steps] == ["write_file", "restart_unit"]
