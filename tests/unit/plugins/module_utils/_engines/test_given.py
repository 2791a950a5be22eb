# SPDX-License-Identifier: GPL-3.0-or-later
"""What no engine of any program may say of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.given import check
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines.model import Engine, Program

PROGRAM = Program("some_role", "Some", "some", "some-serve")
MAIN = Engine("main", ("/m",), "main", 8000)


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"name": "Main"}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "a b"}, "name"),
        ({"host": "localhost"}, "host"),
        ({"host": ""}, "host"),
        ({"port": 80}, "port"),
        ({"port": 1023}, "port"),
        ({"port": 65536}, "port"),
        ({"served": "-x"}, "served_name"),
        ({"served": "two\nlines"}, "served_name"),
        ({"key": "hunter22\n"}, "api_key"),
        ({"key": " hunter22"}, "api_key"),
        ({"key": "abc"}, "api_key"),
        ({"key": "hunter22 ключ"}, "api_key"),
        ({"conflicts": ("nobody",)}, "conflicts"),
        ({"conflicts": ("main",)}, "conflicts"),
        ({"conflicts": ("",)}, "conflicts"),
        ({"conflicts": ("a.service b.service",)}, "conflicts"),
        ({"conflicts": ("%i.service",)}, "conflicts"),
        ({"conflicts": ("a.service\nExecStartPre=+/bin/sh",)}, "conflicts"),
    ],
)
def test_what_a_unit_a_header_or_a_launcher_cannot_hold_is_refused(change: dict[str, object], at: str) -> None:
    with pytest.raises(InputError) as caught:
        check(PROGRAM, [replace(MAIN, **change)])  # type: ignore[arg-type]
    assert caught.value.problem.fix == f"correct some_role_engines[0].{at}"
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("user", ["", "a b", "0", "%i", "nusy\nExecStartPre=+/bin/sh"])
def test_an_account_is_a_name_and_not_a_line_of_a_unit(user: str) -> None:
    with pytest.raises(InputError):
        check(replace(PROGRAM, user=user), [MAIN])
    check(replace(PROGRAM, user=user), [])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_one_port_is_of_one_engine_also_where_the_other_listens_everywhere(host: str) -> None:
    with pytest.raises(InputError) as caught:
        check(PROGRAM, [MAIN, replace(MAIN, name="other", host=host)])
    assert "engines[1].port" in str(caught.value)


def test_what_can_stand_side_by_side() -> None:
    other = replace(MAIN, name="other", host="10.0.0.1", conflicts=("main", "llama@swarm.service"))
    check(PROGRAM, [replace(MAIN, port=1024), replace(MAIN, name="last", port=65535)])
    check(PROGRAM, [MAIN, other, replace(MAIN, name="third", port=8001, key="!~ a", served="org/Model 7B")])
