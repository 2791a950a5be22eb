# SPDX-License-Identifier: GPL-3.0-or-later
"""A value that a program would read otherwise is refused by the name of its variable, before anything is looked at."""

from __future__ import annotations

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from declare import subject

FILE = {"id": "demo/file", "files": [{"path": "/etc/demo", "content": "x"}]}


def expecting(value, **bounds):
    return {"name": "demo_value", "value": value, "wanted": "what fits", **bounds}


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (5, {"least": 1, "most": 5}),
        ("5", {"least": 5}),
        (["a", "b"], {"pattern": "[a-z]"}),
        ([], {"pattern": "[a-z]"}),
        ("anything\n", {}),
    ],
)
def test_what_fits_passes(value, bounds):
    assert subject(FILE, expects=[expecting(value, **bounds)])


@pytest.mark.parametrize(
    ("value", "bounds", "found"),
    [
        (0, {"least": 1}, "0"),
        (6, {"least": 1, "most": 5}, "6"),
        ("many", {"least": 1}, "'many'"),
        ("/var/log/x\nDefaults !authenticate", {"pattern": "/[a-z/]*"}, "!authenticate"),
        (["a", 'b"'], {"pattern": "[a-z]"}, "'b\"'"),
    ],
)
def test_what_does_not_is_named(value, bounds, found):
    with pytest.raises(InputError) as error:
        subject(FILE, expects=[expecting("ok"), expecting(value, **bounds)])
    assert error.value.problem.key == "state.unexpected" and found in error.value.problem.found
    assert error.value.problem.wanted == "demo_value: what fits" and error.value.problem.fix == "correct demo_value"
