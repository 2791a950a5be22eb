# SPDX-License-Identifier: GPL-3.0-or-later
"""Options are refused by name before anything is looked at; texts of a boot loader become words."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning import parse


def params(**given):
    spec = parse.ARGUMENT_SPEC
    assert set(given) <= set(spec)
    return {
        "host": "node1",
        **{name: given.get(name, option.get("default")) for name, option in spec.items() if name != "host"},
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"parameters": ["a=$(reboot)"]}, "parameters[0]"),
        ({"parameters": ["quiet", 'a="b']}, "parameters[1]"),
        ({"parameters": ["module_blacklist=a"]}, "parameters[0]"),
        ({"killed_modules": ["a,b"]}, "killed_modules[0]"),
        ({"barred_modules": ["a b"]}, "barred_modules[0]"),
        ({"barred_modules": ["nouveau", "nvidia-uvm"]}, "barred_modules[1]"),
        ({"killed_modules": ["r8127"]}, "killed_modules[0]"),
        ({"killed_modules": ["nvme-core"]}, "killed_modules[0]"),
        ({"barred_modules": ["overlay"]}, "barred_modules[0]"),
        ({"sysctls": {"kernel.sysrq": 1}}, "sysctls"),
        ({"sysctls": {"net.ipv4.ip_forward": 1}}, "sysctls"),
        ({"sysctls": {"vm.swappiness": True}}, "sysctls.vm.swappiness"),
        ({"watchdog_seconds": 601}, "watchdog_seconds"),
        ({"watchdog_seconds": -1}, "watchdog_seconds"),
    ],
)
def test_what_would_be_read_differently_is_refused(given, named):
    with pytest.raises(InputError) as error:
        parse.tuning(params(**given))
    assert error.value.problem.key == "tuning.bad_input"
    assert error.value.problem.wanted.startswith(f"{named}:")


def test_killed_modules_are_one_parameter():
    wanted = parse.tuning(params(parameters=["quiet"], killed_modules=["a", "b"]))
    assert wanted.command_line == ("quiet", "module_blacklist=a,b")


@pytest.mark.parametrize(("named", "expected"), [([], False), (["node2"], False), (["node1"], True)])
def test_a_reboot_is_for_the_host_that_is_named(named, expected):
    assert parse.tuning(params(reboot_confirm=named)).reboot_named is expected


def test_every_kernel_line_of_a_menu_is_read():
    text = "menuentry a {\n\tlinux\t/boot/vmlinuz root=/dev/vda ro kho=off\n\tinitrd /x\n}\n  linux /boot/old ro\n"
    assert parse.menu(text) == (("root=/dev/vda", "ro", "kho=off"), ("ro",))


def test_the_words_of_settings_are_read_and_not_their_variables():
    ours = '# a\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX a=1 b"\n'
    text = f"{ours}GRUB_CMDLINE_LINUX_DEFAULT='quiet splash'\nGRUB_TIMEOUT=0\n"
    assert parse.dropin(text) == ("a=1", "b", "quiet", "splash")


def test_a_module_is_barred_under_either_spelling():
    assert parse.barring("# blacklist a\nblacklist snd-pcsp\noptions b c=1\n blacklist d # e\n") == {"snd_pcsp"}
