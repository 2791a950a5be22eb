# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused, and what the archive becomes on a node."""

from __future__ import annotations

import base64
import zlib

import pytest
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.model import ARGUMENT_SPEC, digest_of, tools

ARCHIVE = b"PK\x03\x04\xff\xfe\x00any bytes\r\n"


def params(**given):
    defaults = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    return {**defaults, "suite": base64.b64encode(zlib.compress(ARCHIVE)).decode(), **given}


WRONG = {
    "suite": {"suite": "not base64"},
    "suite:": {"suite": base64.b64encode(b"not compressed").decode()},
    "python": {"python": "python3"},
    "folder": {"folder": "/a/../b"},
    "python:": {"python": "//usr/bin/python3"},
    "binaries.VLLM_BIN": {"binaries": {"VLLM_BIN": "vllm"}},
    "binaries.vllm": {"binaries": {"vllm": "/bin/vllm"}},
    "timeout": {"timeout": 0},
}


@pytest.mark.parametrize("at", WRONG)
def test_wrong_input_is_refused_with_its_place(at):
    with pytest.raises(InputError) as caught:
        tools(params(**WRONG[at]))
    assert caught.value.problem.wanted.startswith(at)


def test_the_archive_keeps_every_byte_behind_its_first_line():
    found = tools(params())
    assert found.content.encode("utf-8", "surrogateescape") == b"#!/usr/bin/python3 -IS\n" + ARCHIVE
    assert found.digest == digest_of(found.content)


def test_its_digest_is_enough_to_judge_it():
    found = tools(params())
    again = tools(params(suite=found.digest))
    assert (again.digest, again.content) == (found.digest, "")
