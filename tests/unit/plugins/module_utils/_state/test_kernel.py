# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel values and kernel modules."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import kernel
from declare import apply, states, subject, verdict
from fake_node import FakeNode


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vm.swappiness", "/proc/sys/vm/swappiness"),
        ("vm/swappiness", "/proc/sys/vm/swappiness"),
        ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_the_separator_that_comes_first_is_the_separator(name, path):
    assert kernel.sysctl_path(name) == path


@pytest.fixture
def node():
    node = FakeNode(brings_values={"nf_conntrack": {"/proc/sys/net/netfilter/nf_conntrack_max": "65536\n"}})
    node.put("/proc/sys/vm/swappiness", "60\n")
    return node


CONNTRACK = {"name": "net.netfilter.nf_conntrack_max", "value": "131072"}


@pytest.mark.parametrize("together", [True, False])
def test_a_value_that_a_module_of_the_document_brings_is_set_in_the_same_run(node, together):
    module, value = {"kernel_modules": [{"name": "nf_conntrack"}]}, {"sysctls": [CONNTRACK]}
    both = [{"id": "demo/m", **module}, {"id": "demo/v", **value}]
    plan = apply(node, *([{"id": "demo/v", **module, **value}] if together else both))
    found = verdict(plan, "demo/v")
    sentence = "net.netfilter.nf_conntrack_max comes with kernel module nf_conntrack"
    assert (found.state, found.reason) == ("drifted", f"only if {sentence}") and plan.assumptions == (sentence,)
    assert node.files["/proc/sys/net/netfilter/nf_conntrack_max"].text == "131072\n"


def test_a_value_that_the_module_does_not_bring_stops_the_run_in_words(node):
    with pytest.raises(NodeError) as error:
        apply(node, {"id": "demo/v", "kernel_modules": [{"name": "dummy"}], "sysctls": [CONNTRACK]})
    assert error.value.problem.key == "kernel.value_refused"
    assert error.value.problem.found == "this kernel has no net.netfilter.nf_conntrack_max"


def test_what_this_kernel_lacks_is_drift_that_no_run_promises_to_mend(node):
    node.no_modules.add("nosuch")
    controls = (
        {"id": "demo/v", "sysctls": [{"name": "vm.nosuch", "value": "1"}]},
        {"id": "demo/m", "kernel_modules": [{"name": "nosuch"}]},
        {"id": "demo/s", "sysctls": [{"name": "vm.swappiness", "value": "10"}]},
    )
    plan = subject(*controls).plan(node)
    assert [c.reason for c in plan.controls[:2]] == ["this kernel has no vm.nosuch", "this kernel has no module nosuch"]
    assert {s.target for s in plan.steps if s.action in ("set_sysctl", "load_module")} == {"vm.swappiness"}
    with pytest.raises(NodeError) as error:
        apply(node, *controls)
    assert error.value.problem.key == "state.not_ensured"
    assert "demo/v is drifted: this kernel has no vm.nosuch; demo/m is drifted: this kernel has no module nosuch" in (
        error.value.problem.found
    )
    assert node.files["/proc/sys/vm/swappiness"].text == "10\n"


def test_a_module_that_a_package_of_the_run_may_bring_is_loaded(node):
    node.no_modules.add("extra")
    node.available["extra-dkms"] = "1"
    plan = subject({"id": "demo/m", "packages": ["extra-dkms"], "kernel_modules": [{"name": "extra"}]}).plan(node)
    assert plan.assumptions == ("a package brings kernel module extra",)
    assert [step.action for step in plan.steps if step.target != "/etc/modules-load.d"] == [
        "install_packages",
        "write_file",
        "load_module",
    ]


SWAP = {"id": "demo/swap", "sysctls": [{"name": "vm.swappiness", "value": "10"}]}
VENDOR = "# tuned by the vendor\nvm.swappiness = 1\nvm.panic_on_oom = 0\n"


@pytest.mark.parametrize("folder", ["/usr/lib/sysctl.d", "/run/sysctl.d"])
def test_a_file_of_a_package_that_comes_after_ours_is_hidden_by_its_name_and_not_touched(node, folder):
    path = f"{folder}/99-vendor.conf"
    node.put(path, VENDOR)
    plan = apply(node, SWAP)
    assert verdict(plan, "demo/swap").blocked_by == f"demo_confirm: [{path}]"
    assert "/etc/sysctl.d/99-vendor.conf" not in node.files
    apply(node, SWAP, confirm=[path])
    assert node.files[path].text == VENDOR
    head, *lines = node.files["/etc/sysctl.d/99-vendor.conf"].text.splitlines()
    assert path in head and lines == ["# tuned by the vendor", "# vm.swappiness = 1", "vm.panic_on_oom = 0"]
    assert states(subject(SWAP).plan(node))["demo/swap"] == "in_sync"


def test_a_link_out_of_etc_becomes_the_file_that_hides(node):
    node.put("/usr/share/vendor/tuning.conf", VENDOR)
    node.put("/etc/sysctl.d/99-vendor.conf", "/usr/share/vendor/tuning.conf", kind="link")
    apply(node, SWAP, confirm=["/etc/sysctl.d/99-vendor.conf"])
    assert node.files["/usr/share/vendor/tuning.conf"].text == VENDOR
    assert node.files["/etc/sysctl.d/99-vendor.conf"].kind == "file"
    assert states(subject(SWAP).plan(node))["demo/swap"] == "in_sync"


def test_a_vendor_file_that_somebody_hides_already_is_no_override(node):
    node.put("/usr/lib/sysctl.d/99-vendor.conf", VENDOR)
    node.put("/etc/sysctl.d/99-vendor.conf", "/dev/null", kind="link")
    apply(node, SWAP)
    assert states(subject(SWAP).plan(node))["demo/swap"] == "in_sync"


# --- a value of every interface ------------------------------------------------------------------

EACH = {"id": "demo/each", "sysctls": [{"name": "net.ipv4.conf.*.send_redirects", "value": "0"}]}
OURS = "/etc/sysctl.d/90-nusy-demo.conf"


@pytest.fixture
def wired():
    node = FakeNode()
    for name, value in (("all", 0), ("default", 0), ("eth0", 0), ("eth0.7", 1), ("wlan0", 1)):
        node.put(f"/proc/sys/net/ipv4/conf/{name}/send_redirects", f"{value}\n")
    return node


def test_the_interfaces_that_differ_are_named_and_only_they_are_set(wired):
    wired.put(OURS, "net.ipv4.conf.*.send_redirects = 0\n")
    effects = len(wired.effects)
    plan = apply(wired, EACH)
    assert verdict(plan, "demo/each").as_dict()["before"] == {
        "sysctl net.ipv4.conf.eth0/7.send_redirects: live": "1",
        "sysctl net.ipv4.conf.wlan0.send_redirects: live": "1",
    }
    written = [effect for effect in wired.effects[effects:] if "/proc/sys" in effect]
    assert len(written) == 2 and "eth0.7" in written[0] and "wlan0" in written[1]
    assert states(subject(EACH).plan(wired)) == {"demo/each": "in_sync", "demo/file_extra": "in_sync"}


def test_an_interface_that_goes_while_one_looks_is_not_missed(wired):
    wired.put("/proc/sys/net/ipv4/conf/veth1/forwarding", "0\n")
    assert not verdict(apply(wired, EACH), "demo/each").reason
    for path in [path for path in wired.files if path.startswith("/proc/sys/net")]:
        del wired.files[path]
    assert verdict(subject(EACH).plan(wired), "demo/each").reason == "this kernel has no net.ipv4.conf.*.send_redirects"


@pytest.mark.parametrize(
    ("file", "line", "counts"),
    [
        ("10-site", "net.ipv4.conf.eth0.send_redirects = 1", True),  # a name counts more than a pattern
        ("99-site", "net.ipv4.conf.eth0.send_redirects = 1", True),
        ("99-site", "net/ipv4/conf/eth0.7/send_redirects = 1", True),
        ("99-site", "net.ipv4.conf.*.send_redirects = 1", True),
        ("10-site", "net.ipv4.conf.*.send_redirects = 1", False),  # ours comes later
        ("99-site", "net.ipv4.conf.eth0.send_redirects = 0", False),
        ("99-site", "net.ipv4.conf.eth0.accept_redirects = 1", False),
        ("99-site", "net.ipv6.conf.eth0.send_redirects = 1", False),
    ],
)
def test_what_a_pattern_is_at_boot(wired, file, line, counts):
    apply(wired, EACH)
    path = f"/etc/sysctl.d/{file}.conf"
    wired.put(path, f"{line}\n")
    found = verdict(subject(EACH).plan(wired), "demo/each")
    assert found.blocked_by == (f"demo_confirm: [{path}]" if counts else "")
    apply(wired, EACH, confirm=[path] if counts else [])
    assert wired.files[path].text == (f"# {line}\n" if counts else f"{line}\n")
    assert states(subject(EACH).plan(wired))["demo/each"] == "in_sync"
