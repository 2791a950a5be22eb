# SPDX-License-Identifier: GPL-3.0-or-later
"""What an argument spec lets through and a node would read differently, or refuse half-way."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from declare import document

MOUNT = {"path": "/srv/data", "source": "nas:/data", "fstype": "nfs"}


def refused(control: dict[str, Any], **params: Any) -> str:
    """The place that the error names."""
    with pytest.raises(InputError) as error:
        document({"id": "demo/x", **control}, **params)
    return error.value.problem.wanted.split(": ")[0]


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"fstype": ""}, "fstype"),
        ({"fstype": "ext 4"}, "fstype"),
        ({"fstype": "ext4,xfs"}, "fstype"),
        ({"source": ""}, "source"),
        ({"source": "#data"}, "source"),
        ({"source": "nas:/a\n/dev/sda1"}, "source"),
        ({"source": "nas:/a\u00a0b"}, "source"),
        ({"options": ["ro", "rw noexec"]}, "options[1]"),
        ({"options": ["ro,noexec"]}, "options[0]"),
        ({"options": ["ro\n/dev/sda1 /x ext4 defaults 0 0"]}, "options[0]"),
        ({"options": ["a\x07b"]}, "options[0]"),
        ({"options": [""]}, "options[0]"),
    ],
)
def test_what_fstab_would_divide_otherwise_is_refused(given, place):
    assert refused({"mounts": [{**MOUNT, **given}]}) == f"controls[0].mounts[0].{place}"


def test_a_mount_without_options_has_the_defaults():
    found = document({"id": "demo/x", "mounts": [{**MOUNT, "source": "//nas/my data", "options": []}]})
    (mount,) = found.controls[0].mounts
    assert (mount.source, mount.options) == ("//nas/my data", ("defaults",))


@pytest.mark.parametrize("value", ["é", "1\n2", "", "  "])
def test_a_kernel_value_is_one_line_of_ascii(value):
    place = refused({"sysctls": [{"name": "kernel.domainname", "value": value}]})
    assert place == "controls[0].sysctls[0].value"


@pytest.mark.parametrize("text", [None, 5, {"Service": 1}, ["x"]])
def test_a_drop_in_is_text(text):
    unit = {"name": "demo.service", "dropins": {"limit": text}}
    assert refused({"units": [unit]}) == "controls[0].units[0].dropins.limit"


@pytest.mark.parametrize(
    ("control", "params", "place"),
    [
        ({"files": [{"path": "/a", "content": "\ud83d"}]}, {}, "controls[0].files[0].content"),
        ({"inputs": {"\ud83d": 1}}, {}, "a name in controls[0].inputs"),
        ({}, {"secrets": {"token": "hunter22\udfff"}}, "secrets.token"),
    ],
)
def test_half_a_character_is_refused_before_a_file_refuses_it(control, params, place):
    assert refused(control, **params) == place


def test_a_byte_that_is_no_text_can_be_declared_as_it_can_be_found():
    found = document({"id": "demo/x", "files": [{"path": "/a", "content": "\udce9"}]})
    assert found.controls[0].files[0].content == "\udce9"


@pytest.mark.parametrize(
    ("control", "secrets", "found"),
    [
        ({"id": "demo/x"}, {"pw": "demo"}, "one that is"),
        ({"id": "demo/redis"}, {"pw": "redi"}, "one that is"),
        (
            {
                "id": "demo/x",
                "mounts": [{"path": "/m", "source": "//n/s", "fstype": "cifs", "options": ["p=${secret:x}"]}],
            },
            {"x": "hunter22"},
            "${secret:…} elsewhere",
        ),
        (
            {"id": "demo/x", "links": [{"path": "/l", "target": "/x/${secret:x}"}]},
            {"x": "hunter22"},
            "${secret:…} elsewhere",
        ),
    ],
)
def test_a_secret_stands_in_contents_of_files_alone(control, secrets, found):
    with pytest.raises(InputError) as error:
        document(control, secrets=secrets)
    assert found in error.value.problem.found
    assert "hunter22" not in error.value.problem.text()
