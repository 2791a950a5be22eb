# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables that make Triton use a ptxas that can build, as a subject of ``_core.entry``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS, Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError, NodeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import absent
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import request_of
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.probe import examined
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.compose import Composed, Look
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import Assertion, ControlSpec, File
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import environment_text

ROLE = "ptxas"
CONTROLS = ("ptxas/assembles", "ptxas/environment", "ptxas/file_extra")
ASSEMBLES, ENVIRONMENT, _EXTRA = CONTROLS

ARGUMENT_SPEC: dict[str, Any] = {
    "venv": {"type": "str", "required": True},
    "environment_file": {"type": "str", "default": "/etc/nusy/ptxas.env"},
    "arch": {"type": "str", "default": "sm_121a"},
    "candidates": {"type": "list", "elements": "str", "default": []},
    "compile": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 60},
    **absent.OPTION,
    **OPTIONS,
}

# Without a Triton there is nothing to judge.
STATES = {
    "ok": "in_sync",
    "forced_ok": "in_sync",
    "unrepairable": "drifted",
    "no_ptxas": "drifted",
    "no_triton": "unknown",
}
FIXES = {
    "unrepairable": (
        "Upgrade Triton (3.6 and later bring a ptxas for this GPU, 3.5 works with the one of CUDA 13), "
        "see docs/guides/ptxas.md"
    ),
    "no_ptxas": "Install the CUDA 13 toolkit (package cuda-nvcc-13-0) or name its ptxas in ptxas_candidates",
}
HEAD = "# Made by role ptxas from what ptxas_probe found; lines added by hand are drift.\n"


def ensure_ptxas(params: Mapping[str, Any]) -> Composed:
    """Raises InputError."""
    path = str(params["environment_file"])
    if not path.startswith("/"):
        raise InputError(
            "ptxas.absolute_path",
            wanted="environment_file: an absolute path",
            found=repr(path[:200]),
            why="units name it in EnvironmentFile=",
            fix="write the whole path, such as /etc/nusy/ptxas.env",
        )
    request = request_of(
        {
            **params,
            "triton_dir": None,
            "candidates": params["candidates"] or None,
            # What services get is in this file, not in the environment of the login.
            "environment": {},
            "environment_files": [path],
        },
        {},
    )

    # The variables follow from the Triton that is found: when that one moves, the node did.
    options = ("venv", "arch", "candidates", "compile", "environment_file", "declared_gpu")
    inputs = json.dumps({name: params[name] for name in options}, sort_keys=True)

    def without_gpu(reader: Reader) -> Look:
        """No variable is set for a GPU that is not there; launchers and units read the file all the same."""
        found = absent.seen(reader)
        if absent.doubt(found):
            return absent.nothing(CONTROLS, found)
        return Look(
            (ControlSpec(ENVIRONMENT, files=(File(path, HEAD),), inputs=inputs),),
            left_out={ASSEMBLES: absent.WITHOUT},
        )

    def look(reader: Reader) -> Look:
        try:
            probe = examined(request, reader)
        except NodeError as error:
            # The lines of the file follow from what is found.
            return Look(hidden=error)
        verdict = str(probe["verdict"])
        assembles = Assertion(
            name=f"Triton {probe['triton_version'] or 'absent'} builds for {request.arch.name}",
            state=STATES[verdict],
            found=verdict,
            wanted="ok or forced_ok",
            reason=str(probe["explanation"]),
            fix=FIXES.get(verdict, ""),
        )
        variables = environment_text(cast("dict[str, str]", probe["environment"]))
        return Look(
            (
                ControlSpec(ASSEMBLES, assertions=(assembles,)),
                ControlSpec(
                    ENVIRONMENT,
                    files=(File(path, HEAD + variables),),
                    inputs=inputs,
                ),
            ),
            facts={"probe": probe},
        )

    return Composed(ROLE, CONTROLS, params, without_gpu if absent.none_declared(params) else look)


MODULE = Ensuring("ptxas_environment", ARGUMENT_SPEC, ensure_ptxas)
