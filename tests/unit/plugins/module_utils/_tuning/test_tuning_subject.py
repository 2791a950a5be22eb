# SPDX-License-Identifier: GPL-3.0-or-later
"""The document that follows from a look, judged and applied on a node in memory, also that of a DGX Spark."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import converge
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning import look, model, parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.subject import UNIFIED, ensure_tuning
from test_tuning_parse import params

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_state"))

from fake_node import FakeNode, Killed

# Recorded on a stock DGX Spark, without its paths and its screen.
STOCK = "BOOT_IMAGE=/boot/vmlinuz-6.17.0-1014-nvidia ro init_on_alloc=0 iommu.passthrough=0 crashkernel=1G-:0M quiet"
KHO_KERNEL = "7.0.0-1019-nvidia"
WATCHDOG = "/sys/class/watchdog/watchdog0"


class Spark(FakeNode):
    """A DGX Spark that boots by GRUB: its tools answer from its files."""

    def __init__(self, *, desktop="", menu_only=""):
        super().__init__()
        self.desktop, self.target, self.manager = desktop, "graphical.target" if desktop else "multi-user.target", True
        self.put("/etc/os-release", 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\n')
        self.put("/proc/sys/kernel/osrelease", "6.17.0-1014-nvidia\n")
        self.put("/proc/cmdline", f"{STOCK}\n")
        self.install("6.17.0-1014-nvidia")
        self.put("/etc/default/grub")
        self.put("/etc/default/grub.d/iommu.cfg", 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu.passthrough=0"\n')
        self.put("/usr/sbin/update-grub")
        self.put("/sys/fs/cgroup/cgroup.controllers", "memory\n")
        self.put("/sys/kernel/kexec_crash_size", "0\n")
        self.put(f"{look.THP}/enabled", "always [madvise] never\n")
        self.put(f"{look.THP}/defrag", "always defer defer+madvise [madvise] never\n")
        self.put("/proc/sys/vm/max_map_count", "1048576\n")
        self.put("/proc/modules", "r8127 1 0\nnvidia 1 0\n")
        self.put("/sys/module/r8127", kind="directory")
        self.put(f"{WATCHDOG}/identity", "SBSA Generic Watchdog\n")
        self.put(look.CPPC, "1\n")
        self.tool_update_grub([])

    def install(self, release, *, whole=True):
        """A kernel; without its GPU module where the package of that did not come."""
        self.put(f"/boot/vmlinuz-{release}", "x")
        self.put(f"/boot/initrd.img-{release}", "x")
        self.put(f"/lib/modules/{release}/kernel/nvidia.ko" if whole else f"/lib/modules/{release}/kernel/loop.ko")

    def tool_find(self, args):
        return (
            0,
            "".join(f"{path}\n" for path in self.files if path.startswith(args[0]) and "nvidia.ko" in path),
            "",
        )

    def effects_of(self, name):
        return [effect for effect in self.effects if effect == name]

    def tool_update_grub(self, _args):
        words = [w for path, entry in sorted(self.files.items()) if path.startswith("/etc/default/grub.d/")
                 for line in re.findall(r"LINUX (.*)\"", entry.text) for w in line.split()]  # fmt: skip
        self.effects.append("update-grub")
        # Newest first, as sort -V has it for these.
        kernels = sorted((path for path in self.files if path.startswith("/boot/vmlinuz-")), reverse=True)
        self.put(look.MENU, "".join(f"linux {path} ro {' '.join(words)}\n" for path in kernels))
        return 0, "", ""

    def boot(self):
        self.put("/proc/cmdline", f"{STOCK} {' '.join(self.files[look.MENU].text.splitlines()[0].split()[3:])}\n")

    def tool_busctl(self, _args):
        lines = [entry.text for path, entry in sorted(self.files.items()) if path.startswith(model.MANAGER + "/")]
        text = "".join(lines)
        seconds = re.findall(r"RuntimeWatchdogSec=(\d+)", text)
        limit = model.INFINITE if "DefaultLimitMEMLOCK=infinity" in text else "8388608"
        out = f"t {limit}\nt {int(seconds[-1]) * 10**6 if seconds else 0}\n"
        return (0, out, "") if self.manager else (1, "", "Failed to connect to bus")

    def tool_systemctl(self, args):
        if args[0] == "show" and args[-1] == "display-manager.service":
            state = "active" if self.desktop else "inactive"
            return 0, f"Id={self.desktop or 'display-manager.service'}\nActiveState={state}\n", ""
        if args[0] == "get-default":
            return 0, f"{self.target}\n", ""
        if args[0] == "set-default":
            self.target = args[1]
        elif args[0] == "stop":
            self.desktop = ""
        elif args[0] != "daemon-reexec":
            return super().tool_systemctl(args)
        self.effects.append(" ".join(args))
        return 0, "", ""


def declared(**given):
    defaults = {"sysctls": {"vm.max_map_count": 1048576}, "barred_modules": ["nouveau", "r8169"]}
    return ensure_tuning(params(**{**defaults, **given}))


def apply(node, **given):
    subject = declared(**given)
    found = subject.plan(node)
    converge(subject, found, node, node)
    return found


def of(node, name, **given):
    return next(one for one in declared(**given).plan(node).controls if one.id == f"kernel_tuning/{name}")


def states(node, **given):
    return {one.id.partition("/")[2]: one.state for one in declared(**given).plan(node).controls}


def test_a_stock_spark_lacks_what_it_does_not_ship_and_no_more():
    found = states(Spark())
    assert {name for name, state in found.items() if state == "drifted"} == {
        "thp", "sysctl", "memlock", "modules", "watchdog",
    }  # fmt: skip
    assert (found["matrix"], found["parameters"]) == ("not_selected", "not_selected")
    assert (found["cppc"], found["headless"], found["cgroup_v2"]) == ("in_sync",) * 3


def test_an_apply_does_all_but_boot_and_the_check_after_it_is_empty():
    node = Spark()
    apply(node)
    assert set(states(node).values()) == {"in_sync", "not_selected"}
    assert node.effects_of("daemon-reexec")


def test_a_parameter_waits_for_the_reboot_and_the_run_does_not_fail():
    node = Spark()
    apply(node, parameters=["a=1"])
    waiting = of(node, "parameters", parameters=["a=1"])
    assert (waiting.state, waiting.blocked_by) == ("drifted", "spark_reboot_confirm: [node1]")
    plan = declared(parameters=["a=1"]).plan(node)
    assert plan.steps == () and plan.facts["reboot_needed"] == ["a=1"]
    node.boot()
    assert of(node, "parameters", parameters=["a=1"]).state == "in_sync"
    assert declared(parameters=["a=1"]).plan(node).facts["reboot_needed"] == []


def test_a_named_host_is_not_blocked_and_not_failed_before_its_reboot():
    node = Spark()
    given = {"parameters": ["a=1"], "reboot_confirm": ["node1"]}
    apply(node, **given)
    waiting = of(node, "parameters", **given)
    assert (waiting.state, waiting.blocked_by, waiting.unmet) == ("drifted", "", ())


def test_nobody_is_rebooted_into_a_kernel_without_its_gpu():
    node = Spark()
    apply(node, parameters=["a=1"])
    node.install("6.17.0-1022-nvidia", whole=False)
    node.tool_update_grub([])
    waiting = declared(parameters=["a=1"]).plan(node)
    assert waiting.facts["reboot_needed"] == []
    (control,) = [control for control in waiting.controls if control.id == model.PARAMETERS]
    assert control.state == "drifted" and "nvidia.ko of 6.17.0-1022-nvidia" in control.reason
    with pytest.raises(NodeError, match="do not reboot"):
        apply(node, parameters=["a=1"], reboot_confirm=["node1"])


def test_what_a_reboot_did_not_bring_fails_the_run():
    node = Spark()
    given = {"parameters": ["a=1"], "reboot_confirm": ["node1"]}
    apply(node, **given)
    with pytest.raises(NodeError) as error:
        apply(node, **given, rebooted=True)
    assert "a=1 is not in force although this run rebooted the node" in error.value.problem.found


def test_a_parameter_of_another_file_is_adopted():
    node = Spark()
    apply(node, parameters=["iommu.passthrough=0"])
    assert of(node, "parameters", parameters=["iommu.passthrough=0"]).state == "in_sync"
    assert model.DROPIN not in node.files and node.effects_of("update-grub") == ["update-grub"]


def test_our_own_word_is_not_taken_for_that_of_another_while_the_menu_still_has_it():
    node = Spark()
    apply(node, parameters=["a=1"])
    node.boot()
    apply(node, parameters=["a=1"])
    node.put(model.DROPIN, node.files[model.DROPIN].text.replace("a=1", "a=0"))
    found = of(node, "parameters", parameters=["a=1"])
    assert found.cause == "corrective"
    apply(node, parameters=["a=1"])
    assert "a=1" in node.files[model.DROPIN].text and "a=1" in node.files[look.MENU].text


def test_a_word_that_not_every_entry_has_is_not_adopted():
    node = Spark()
    node.put("/etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="a=1"\n')
    apply(node, parameters=["a=1"])
    assert "a=1" in node.files[model.DROPIN].text


def test_a_parameter_that_is_declared_no_more_leaves_the_menu():
    node = Spark()
    apply(node, parameters=["a=1", "b=2"])
    apply(node, parameters=["b=2"])
    assert "a=1" not in node.files[look.MENU].text and "b=2" in node.files[look.MENU].text
    apply(node)
    assert "b=2" not in node.files[model.DROPIN].text + node.files[look.MENU].text
    assert states(node)["parameters"] == "in_sync"


def test_a_run_that_is_killed_before_the_menu_is_made_leaves_that_to_the_next(monkeypatch):
    node = Spark()
    apply(node, parameters=["a=1"])

    def die(_args):
        raise Killed

    with monkeypatch.context() as broken, pytest.raises(Killed):
        broken.setattr(node, "tool_update_grub", die, raising=False)
        apply(node)
    node.put("/etc/default/grub.d", mode=0o755, kind="directory")  # a file in it was replaced
    assert "a=1" in node.files[look.MENU].text
    apply(node)
    assert "a=1" not in node.files[look.MENU].text


def test_a_menu_older_than_its_files_is_made_again():
    node = Spark()
    apply(node, parameters=["a=1"])
    assert declared(parameters=["a=1"]).plan(node).steps == ()
    node.put("/etc/default/grub", "GRUB_TIMEOUT=5\n")
    assert [step.action for step in declared(parameters=["a=1"]).plan(node).steps] == ["update_grub"]


def test_without_grub_what_is_missing_is_unknown_and_what_is_there_is_adopted():
    node = Spark()
    del node.files[look.MENU]
    missing = of(node, "parameters", parameters=["a=1"])
    assert missing.state == "unknown" and "does not boot by GRUB" in missing.reason
    assert of(node, "parameters", parameters=["quiet"]).state == "in_sync"
    assert declared(parameters=["a=1"]).plan(node).facts["reboot_needed"] == []


@pytest.mark.parametrize("place", ["running", "next"])
def test_the_matrix_counts_for_the_running_and_the_next_kernel(place):
    node = Spark()
    if place == "running":
        node.put("/proc/sys/kernel/osrelease", f"{KHO_KERNEL}\n")
    else:
        node.put(f"/boot/vmlinuz-{KHO_KERNEL}")
    apply(node)
    assert "kho=off" in node.files[look.MENU].text
    assert of(node, "matrix").blocked_by == "spark_reboot_confirm: [node1]"
    assert states(node, matrix=False)["matrix"] == "not_selected"


def test_a_reserved_crash_kernel_leaves_the_choice_to_the_operator():
    node = Spark()
    node.put(f"/boot/vmlinuz-{KHO_KERNEL}")
    node.put("/sys/kernel/kexec_crash_size", str(256 << 20))
    found = of(node, "matrix")
    assert found.state == "not_selected" and "crash kernel" in found.reason


def test_a_machine_on_the_old_control_groups_is_booted_into_the_new_ones_and_stays_there():
    node = Spark()
    del node.files["/sys/fs/cgroup/cgroup.controllers"]
    apply(node)
    assert of(node, "cgroup_v2").blocked_by == "spark_reboot_confirm: [node1]"
    node.boot()
    node.put("/sys/fs/cgroup/cgroup.controllers", "memory\n")
    assert of(node, "cgroup_v2").state == "in_sync"
    assert declared().plan(node).steps == () and UNIFIED in node.files[look.MENU].text


def test_a_running_desktop_is_named_before_it_goes():
    node = Spark(desktop="gdm.service")
    apply(node)
    blocked = of(node, "headless")
    assert blocked.blocked_by == "kernel_tuning_confirm: [gdm.service]"
    assert (node.desktop, node.target) == ("gdm.service", "graphical.target")
    apply(node, confirm=["gdm.service"])
    assert (node.desktop, node.target) == ("", "multi-user.target")
    assert of(node, "headless").state == "in_sync"


def test_a_target_that_nobody_sits_at_is_changed_unasked():
    node = Spark()
    node.target = "graphical.target"
    apply(node)
    assert node.target == "multi-user.target"
    assert states(Spark(desktop="gdm.service"), headless=False)["headless"] == "not_selected"


def _routed_by_r8169():
    node = Spark()
    node.put(
        "/proc/net/route", "Iface Destination Gateway Flags RefCnt Use Metric Mask\nbr0 00000000 0 3 0 0 0 00000000\n"
    )
    node.put("/sys/class/net/br0/lower_enP7s7", "../enP7s7", kind="link")
    node.put("/sys/class/net/enP7s7/device/driver/module", "../../module/r8169", kind="link")
    return node


@pytest.mark.parametrize("others", [[], ["dccp"]])
def test_the_driver_of_the_default_route_is_never_killed(others):
    """A boot would bring the node up without a way in."""
    node, killed = _routed_by_r8169(), [*others, "r8169"]
    found = of(node, "parameters", killed_modules=killed)
    assert found.state == "drifted" and "r8169 carries the default route (br0)" in " ".join(found.unmet)
    with pytest.raises(NodeError, match="take r8169 out of kernel_tuning_killed_modules"):
        apply(node, killed_modules=killed)
    dropin = node.files.get(model.DROPIN)
    assert "module_blacklist=dccp" in dropin.text if others else dropin is None
    # Where it carries nothing it is killed.
    assert "killed_modules" not in of(Spark(), "parameters", killed_modules=killed).reason
    free = Spark()
    apply(free, killed_modules=killed)
    assert "r8169" in free.files[model.DROPIN].text


def test_the_driver_of_the_default_route_is_never_barred():
    node = _routed_by_r8169()
    assert "r8169" not in _barred_by(node)
    assert "nouveau" in _barred_by(node)
    assert "carries the default route (br0)" in of(node, "modules", barred_modules=["r8169"]).reason


def _barred_by(node):
    apply(node)
    return node.files["/etc/modprobe.d/90-nusy-kernel_tuning.conf"].text


def test_the_replaced_driver_is_barred_only_beside_its_replacement():
    assert "r8169" in _barred_by(Spark())
    node = Spark()
    del node.files["/sys/module/r8127"]
    assert "r8169" not in _barred_by(node)


def test_what_another_file_bars_is_adopted():
    node = Spark()
    node.put("/usr/lib/modprobe.d/nvidia-graphics-drivers.conf", "blacklist nouveau\nblacklist r8169\n")
    apply(node)
    assert "/etc/modprobe.d/90-nusy-kernel_tuning.conf" not in node.files
    assert of(node, "modules").state == "in_sync"


def test_a_watchdog_that_is_not_there_is_not_asked_for():
    node = Spark()
    del node.files[f"{WATCHDOG}/identity"], node.files[WATCHDOG]
    found = of(node, "watchdog")
    assert (found.state, found.reason) == ("not_selected", "this node has no hardware watchdog")


def test_a_later_file_of_systemd_is_seen_in_what_systemd_goes_by_and_named():
    node = Spark()
    apply(node)
    node.put(f"{model.MANAGER}/99-admin.conf", "[Manager]\nRuntimeWatchdogSec=5\n")
    assert [(c.key, c.before) for c in of(node, "watchdog").changes] == [("RuntimeWatchdogUSec", "5000000")]
    with pytest.raises(NodeError) as error:
        apply(node)
    assert error.value.problem.key == "state.not_ensured"
    assert error.value.problem.fix == f"take RuntimeWatchdogSec out of {model.MANAGER}/99-admin.conf"


def test_a_file_that_another_of_its_name_hides_does_not_count():
    node, wanted = Spark(), parse.tuning(params())
    node.put("/usr/lib/systemd/system.conf.d/99-vendor.conf", "[Manager]\nRuntimeWatchdogSec=5\n")
    assert look.found(wanted, node).later == {"RuntimeWatchdogSec": ("/usr/lib/systemd/system.conf.d/99-vendor.conf",)}
    node.put(f"{model.MANAGER}/99-vendor.conf", "# empty\n")
    assert look.found(wanted, node).later == {}


def test_a_manager_that_does_not_answer_is_unknown():
    node = Spark()
    apply(node)
    node.manager = False
    assert (of(node, "memlock").state, of(node, "watchdog").state) == ("unknown", "unknown")


def test_cppc_is_looked_at_by_parameter_or_by_policy():
    node = Spark()
    node.put(look.CPPC, "0\n")
    assert of(node, "cppc").state == "drifted" and "nvidia-cppc-cpufreq-options" not in of(node, "cppc").reason
    del node.files[look.CPPC]
    assert of(node, "cppc").state == "not_selected"
    node.put(f"{look.POLICIES}/policy0/auto_select", "1\n")
    assert of(node, "cppc").state == "in_sync"


def test_another_system_is_unknown_and_refused():
    node = Spark()
    node.put("/etc/os-release", "ID=fedora\n")
    assert set(states(node).values()) == {"unknown"}
    with pytest.raises(NodeError) as error:
        apply(node)
    assert error.value.problem.key == "state.unsupported"


def test_a_kernel_without_huge_pages_has_nothing_to_set():
    node = Spark()
    for path in [path for path in node.files if path.startswith(look.THP)]:
        del node.files[path]
    assert of(node, "thp").state == "not_selected"


def test_a_watchdog_that_nobody_wants_is_left_as_it_is():
    off = of(Spark(), "watchdog", watchdog_seconds=0)
    assert (off.state, off.reason) == ("not_selected", "kernel_tuning_watchdog_seconds is 0")


def test_huge_pages_that_are_to_be_left_are_left():
    left = of(Spark(), "thp", thp="leave", thp_defrag="leave")
    assert (left.state, left.reason) == ("not_selected", "left as it is")
    node = Spark()
    enabled, defrag = (node.files[f"{look.THP}/{name}"].text for name in ("enabled", "defrag"))
    apply(node, thp="leave", thp_defrag="never")
    assert node.files[f"{look.THP}/enabled"].text == enabled
    assert node.files[f"{look.THP}/defrag"].text != defrag


def test_a_tool_that_fails_says_what_follows(monkeypatch):
    node = Spark()
    monkeypatch.setattr(node, "tool_update_grub", lambda args: (1, "", "no space left"), raising=False)
    with pytest.raises(NodeError) as error:
        apply(node, parameters=["a=1"])
    assert error.value.problem.key == "tuning.tool_failed"
