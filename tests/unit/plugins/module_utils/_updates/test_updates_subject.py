# SPDX-License-Identifier: GPL-3.0-or-later
"""When a node is up to date, and what a run may do about it, on a node in memory."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import Kernel
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Unknown
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates import subject as updates_subject
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates.subject import ARGUMENT_SPEC, ensure_updates

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import Entry, FakeNode

KERNEL, LIB = "linux-image-nvidia-hwe-24.04", "libssl3t64"
SECURITY = {LIB}
GUID = "c3cccaf0-9a3e-4ee2-992e-9f0cf9b55fa0"


@dataclass
class Node(FakeNode):
    """pending: name → (before, after); coming: what fresh lists add to it. gone: what the upgrade would remove.

    held: pending, but for a hold. stuck: kept back for want of what it needs. silent: a source does not answer.
    """

    pending: dict[str, tuple[str, str]] = field(default_factory=dict)
    coming: dict[str, tuple[str, str]] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    held: dict[str, tuple[str, str]] = field(default_factory=dict)
    stuck: tuple[str, ...] = ()
    silent: bool = False
    audit: str = ""
    ota: str = ""
    devices: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        for tool in ("apt-get", "dpkg", "busctl", "fwupdmgr"):
            self.put(f"/usr/bin/{tool}", mode=0o755)
        self.put("/run/dbus/system_bus_socket", kind="other")
        self.refreshed(0)

    def refreshed(self, hours_ago: float) -> None:
        """A list came then, and apt works in partial at every attempt."""
        self._dated("/var/lib/apt/lists", hours_ago)
        self._dated("/var/lib/apt/lists/partial", 0)

    def _dated(self, path: str, hours_ago: float) -> None:
        now = time.time() - hours_ago * 3600
        self.files[path] = Entry("directory", 0o755, written=now, changed=now)

    def tool_touch(self, args):
        self._dated(args[0], 0)
        return 0, "", ""

    def tool_apt_get(self, args):
        if "update" in args:
            self.effect("apt-get update")
            if self.silent and "APT::Update::Error-Mode=any" in args:
                return 100, "", "E: Failed to fetch http://mirror/InRelease  Unable to connect"
            self.pending |= self.coming
            return 0, "", ""
        if "--simulate" in args:
            lines = [f"Remv {name} [1]\n" for name in self.gone]
            kept = [*self.stuck, *([] if "--ignore-hold" in args else self.held)]
            lines += ["The following packages have been kept back:\n", f"  {' '.join(kept)}\n"] if kept else []
            free = self.held if "--ignore-hold" in args else {}
            for name, (before, after) in {**self.pending, **free}.items():
                old = f" [{before}]" if before else ""
                suite = "noble-security" if name in SECURITY else "noble-updates"
                lines.append(f"Inst {name}{old} ({after} Ubuntu:24.04/{suite} [arm64])\n")
            return 0, "".join(lines), ""
        assert "dist-upgrade" in args and "APT::Get::Always-Include-Phased-Updates=true" in args
        self.effect("upgrade")
        self.pending, self.gone = {}, ()
        return 0, "", ""

    def tool_dpkg(self, args):
        if "--audit" in args:
            return (1 if self.audit else 0), self.audit, ""
        self.effect("dpkg --configure")
        self.audit = ""
        return 0, "", ""

    def tool_busctl(self, _args):
        return (0, self.ota, "") if self.ota else (1, "", "Call failed: no such name")

    def tool_fwupdmgr(self, args):
        if "get-devices" in args:
            return 0, json.dumps({"Devices": self.devices}), ""
        self.effect(f"flash {args[1]}")
        self.devices = []
        return 0, "", ""


OLD, NEW = Kernel("6.17.0-1032-nvidia", True, True, True), Kernel("7.0.0-1019-nvidia", True, True, True)


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """The running one, and that of the next boot."""
    found = {"running": OLD, "next": OLD}
    monkeypatch.setattr(updates_subject.kernels, "running_kernel", lambda reader: found["running"])
    monkeypatch.setattr(updates_subject.kernels, "next_kernel", lambda reader: found["next"])
    return found


def declared(*confirm, **given):
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    return ensure_updates({**defaults, "host": "spark-1", "confirm": list(confirm), **given})


def look(node, *confirm, **given):
    plan = declared(*confirm, **given).plan(node)
    return {control.id.partition("/")[2]: control for control in plan.controls}, plan


def run(node, *confirm, **given):
    subject = declared(*confirm, **given)
    return converge(subject, subject.plan(node), node, node)


def test_nothing_pending_is_in_sync_and_what_was_not_asked_is_not_selected():
    found, plan = look(Node())
    assert {name: control.state for name, control in found.items()} == {
        **dict.fromkeys(("dpkg", "lists", "security", "packages", "booted"), "in_sync"),
        **dict.fromkeys(("ota_level", "firmware", "images"), "not_selected"),
    }
    assert plan.steps == ()


def test_what_is_pending_is_named_with_both_versions_and_waits_for_the_name_of_the_host():
    node = Node(pending={KERNEL: ("6.17", "7.0"), "linux-image-7.0": ("", "7.0")})
    found, plan = look(node)
    packages = found["packages"]
    assert (packages.state, packages.blocked_by, plan.steps) == ("drifted", "updates_confirm: [spark-1]", ())
    changes = {change.key: (change.before, change.after) for change in packages.changes}
    assert changes[f"package {KERNEL}"] == ("6.17", "7.0") and changes["package linux-image-7.0"] == ("absent", "7.0")
    assert packages.reason == "2 pending" and found["security"].state == "in_sync"
    assert run(node).facts["pending"]["upgrades"] and "upgrade" not in node.effects


def test_what_is_for_security_is_a_control_of_its_own():
    found, _plan = look(Node(pending={KERNEL: ("6.17", "7.0"), LIB: ("3.5.1-1", "3.5.1-1+deb13u1")}))
    pending = {name: [change.key for change in found[name].changes] for name in ("security", "packages")}
    assert pending["security"] == [f"package {LIB}", "security updates"]
    assert pending["packages"] == [f"package {KERNEL}", "updates"]


def test_a_hold_hides_no_update_for_security():
    node = Node(held={LIB: ("1", "2"), KERNEL: ("6.17", "7.0")})
    found, plan = look(node, "spark-1")
    held = found["security"]
    assert (held.state, held.blocked_by, plan.steps) == ("drifted", f"a hold of apt on {LIB}", ())
    assert [(change.key, change.before, change.after) for change in held.changes] == [(f"package {LIB}", "1", "2")]
    # To hold the others is a decision.
    assert found["packages"].state == "in_sync"
    run(node, "spark-1")
    assert "upgrade" not in node.effects
    node.pending = {"demo": ("1", "2")}
    run(node, "spark-1")
    assert node.effects.count("upgrade") == 1 and look(node)[0]["security"].state == "drifted"


def test_what_is_kept_back_for_another_reason_is_not_taken_for_harmless():
    found, _plan = look(Node(stuck=("libnccl2",)))
    assert found["security"].state == "unknown" and "libnccl2" in found["security"].reason
    assert found["packages"].state == "in_sync"


def test_a_named_host_is_upgraded_once():
    node = Node(pending={KERNEL: ("6.17", "7.0"), LIB: ("1", "2")})
    assert [step.text() for step in look(node, "spark-1")[1].steps] == ["upgrade_packages spark-1"]
    run(node, "spark-1")
    assert node.effects.count("upgrade") == 1
    assert look(node)[0]["packages"].state == "in_sync"
    run(node, "spark-1")
    assert node.effects.count("upgrade") == 1


def test_the_name_of_another_host_allows_nothing():
    assert look(Node(pending={KERNEL: ("1", "2")}), "spark-2")[1].steps == ()


def test_what_would_be_removed_has_to_be_named_as_well():
    node = Node(pending={KERNEL: ("1", "2")}, gone=("docker-ce",))
    found, plan = look(node, "spark-1")
    assert found["packages"].blocked_by == "updates_confirm: [docker-ce]" and plan.steps == ()
    run(node, "spark-1", "docker-ce")
    assert "upgrade" in node.effects


def test_a_package_that_flashes_is_asked_for():
    node = Node(pending={"mlnx-fw-updater": ("1", "2"), LIB: ("1", "2")})
    found, plan = look(node, "spark-1")
    assert found["packages"].blocked_by == "updates_confirm: [mlnx-fw-updater]" and plan.steps == ()
    assert "flashes firmware" in found["packages"].reason


def test_a_version_that_is_known_to_be_bad_is_asked_for():
    kernel = "linux-image-6.17.0-1008-nvidia"
    node = Node(pending={kernel: ("", "6.17.0-1008.8"), LIB: ("1", "2")})
    found, plan = look(node, "spark-1")
    assert found["packages"].blocked_by == f"updates_confirm: [{kernel}]" and plan.steps == ()
    assert "It panics; boot 6.17.0-1014-nvidia or newer" in found["packages"].reason
    slow = {"id": "slow", "subject": "driver", "range": "==580.200", "verdict": "known_bad", "why": "Slow",
            "source": "us", "remedy": "stay"}  # fmt: skip
    driver = Node(pending={"libnvidia-compute-580": ("580.142-0ubuntu1", "580.200-0ubuntu1")})
    assert "Slow; stay" in look(driver, "spark-1", version_matrix=[slow])[0]["packages"].reason
    assert look(driver, "spark-1")[1].steps
    run(driver, "spark-1", "libnvidia-compute-580", version_matrix=[slow])
    assert "upgrade" in driver.effects


def test_old_lists_make_nothing_pending_unknown_and_a_named_run_refreshes_them_first():
    node = Node(coming={KERNEL: ("1", "2")})
    node.refreshed(72)
    found, plan = look(node)
    assert (found["lists"].state, found["packages"].state, plan.steps) == ("drifted", "unknown", ())
    assert found["lists"].blocked_by == "updates_confirm: [spark-1]"
    steps = [step.text() for step in look(node, "spark-1")[1].steps]
    assert steps == ["refresh_lists package lists", "upgrade_packages spark-1"]
    run(node, "spark-1")
    assert node.effects.index("apt-get update") < node.effects.index("upgrade")
    assert look(node)[0]["packages"].state == "in_sync"


def test_a_refresh_that_no_server_answered_is_none():
    """apt-get ends with 0 then, and has worked in partial: nothing would be pending, for months."""
    node = Node(silent=True)
    node.refreshed(72)
    assert look(node)[0]["security"].state == "unknown"
    with pytest.raises(NodeError, match="Unable to connect"):
        run(node, "spark-1")
    assert "upgrade" not in node.effects and look(node)[0]["security"].state == "unknown"


def test_lists_that_a_clock_ahead_has_dated_say_nothing_about_today():
    node = Node()
    node.refreshed(-24 * 365)
    found = look(node)[0]
    assert found["security"].state == "unknown" and "the clock was ahead" in found["lists"].reason
    run(node, "spark-1")
    assert look(node)[0]["security"].state == "in_sync"


def test_what_fresh_lists_would_remove_is_not_done_unnamed():
    node = Node()
    node.refreshed(72)
    original = node.tool_apt_get

    def update(args):
        done = original(args)
        if "update" in args:
            node.gone = ("nvidia-driver-580-open",)
        return done

    node.tool_apt_get = update
    with pytest.raises(NodeError, match="nvidia-driver-580-open"):
        run(node, "spark-1")
    assert "upgrade" not in node.effects


def test_no_lists_at_all_is_unknown():
    node = Node()
    for path in [path for path in node.files if path.startswith("/var/lib/apt/lists")]:
        del node.files[path]
    found, _plan = look(node)
    assert found["packages"].state == "unknown" and "no package lists" in found["lists"].reason


def test_what_dpkg_left_half_done_is_finished_without_a_name():
    node = Node(audit="The following packages are only half configured: libc6")
    assert look(node)[0]["dpkg"].state == "drifted"
    run(node)
    assert "dpkg --configure" in node.effects


@pytest.mark.parametrize(
    ("answer", "state", "word"),
    [
        ('ssbbs "ready" "2026-09-05T12:33:17+03:00" true false ""', "in_sync", ""),
        ('ssbbs "ready" "2026-09-05T12:33:41+03:00" true true "July 2026"', "drifted", "July 2026"),
        ('ssbbs "cache-pending" "" true false ""', "unknown", "cache-pending"),
        ("", "unknown", "does not answer"),
    ],
)
def test_the_level_is_what_the_dashboard_says(answer, state, word):
    node = Node(ota=answer)
    node.put("/etc/dgx-release", 'DGX_NAME="DGX Spark"\nDGX_OTA_VERSION="7.5.0"\n')
    control = look(node)[0]["ota_level"]
    assert control.state == state and word in control.reason


def test_a_named_host_that_stays_behind_fails_and_an_unnamed_one_waits():
    node = Node(ota='ssbbs "ready" "x" true true "July 2026"')
    node.put("/etc/dgx-release", 'DGX_NAME="DGX Spark"\n')
    run(node)
    with pytest.raises(NodeError, match="July 2026 is due"):
        run(node, "spark-1")


def test_firmware_is_flashed_one_named_device_at_a_time():
    device = {"Name": "Embedded Controller", "Guid": [GUID], "Version": "0x02000005"}
    node = Node(devices=[{**device, "Releases": [{"Version": "0x03000508", "Flags": ["is-upgrade"]}]}])
    control = look(node, firmware=True)[0]["firmware"]
    assert (control.state, control.blocked_by) == ("drifted", f"updates_confirm: [{GUID}]")
    run(node, "spark-1", firmware=True)
    assert f"flash {GUID}" not in node.effects
    run(node, GUID, firmware=True)
    assert f"flash {GUID}" in node.effects
    assert look(node, firmware=True)[0]["firmware"].state == "in_sync"


@pytest.mark.parametrize("given", [{"host": "a b"}, {"host": ""}, {"lists_max_age_hours": 0}])
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(InputError):
        declared(**given)


def test_a_newer_kernel_waits_for_a_reboot_and_says_whom_to_name(kernels):
    kernels["next"] = NEW
    control, plan = look(Node())[0]["booted"], look(Node())[1]
    assert (control.state, control.blocked_by) == ("drifted", "spark_reboot_confirm: [spark-1]")
    assert NEW.release in control.reason and plan.steps == ()
    assert run(Node()).facts["reboot"]["owed"]


def test_what_asks_for_a_reboot_is_named():
    node = Node()
    node.put("/run/reboot-required")
    node.put("/run/reboot-required.pkgs", "libc6\ndbus\nlibc6\n")
    assert "for libc6 dbus" in look(node)[0]["booted"].reason


def test_no_reboot_into_a_kernel_without_its_gpu(kernels):
    kernels["next"] = Kernel(NEW.release, False, True, True)
    node = Node()
    control = look(node)[0]["booted"]
    assert (control.state, control.blocked_by) == ("drifted", "updates_confirm: [spark-1]")
    assert look(node)[1].facts["reboot"]["gaps"] == [f"nvidia.ko of {NEW.release}"]
    with pytest.raises(NodeError, match="do not reboot spark-1"):
        run(node, "spark-1")


def test_a_machine_without_a_gpu_loses_none(kernels):
    kernels["running"] = kernels["next"] = Kernel("6.12.0", False, True, True)
    assert look(Node())[0]["booted"].state == "in_sync"


def test_a_next_kernel_that_nobody_knows_is_unknown(kernels):
    kernels["next"] = Unknown("there is no kernel in /boot")
    control = look(Node())[0]["booted"]
    assert control.state == "unknown" and "no kernel" in control.reason
