# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module takes and returns what its documentation says."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml
from ansible_collections.nusy.dgx_spark.plugins.module_utils._console.judge import SUBJECTS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import result_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Plan
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import probes
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference import request
from ansible_collections.nusy.dgx_spark.plugins.modules import ptxas_probe
from documented import options_of, said_twice

ACCEPTED = {
    **{name: one.options for name, one in SUBJECTS.items()},
    "endpoints_probe": probes.ARGUMENT_SPEC,
    "inference_probe": request.ARGUMENT_SPEC,
    "ptxas_probe": ptxas_probe.SPEC,
}


def module(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.nusy.dgx_spark.plugins.modules.{name}")


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_documented_options_are_the_accepted_ones(name: str) -> None:
    assert said_twice(options_of(module(name))) == said_twice(ACCEPTED[name])


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_any_run_may_return_is_documented(name: str) -> None:
    returned = {*result_of(Plan(), ""), "left", "error"} - {"changed", "diff"}
    # Environments are planned without a document of controls, and say in their own way what is in the way.
    returned |= {"obstacles"} if name == "vllm_venv" else {"refused", "unused_confirm"}
    assert returned <= set(yaml.safe_load(module(name).RETURN))
