# SPDX-License-Identifier: GPL-3.0-or-later
"""One whole probe: look, judge, and have a real compile confirm it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.aot import compile_with_rights
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.model import Request
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.observe import observe
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.plan import compile_environment, confirm, judge


def examined(request: Request, reader: Reader) -> dict[str, object]:
    seen = observe(request, reader)
    judgement = judge(seen, request.arch)
    compiled = None
    if request.compile and seen.triton:
        compiled = compile_with_rights(request, seen, compile_environment(judgement), reader)
        judgement = confirm(judgement, compiled)
    return {
        "triton_version": seen.triton.text if seen.triton else "",
        "triton_dir": seen.triton.folder if seen.triton else "",
        "python": seen.python,
        "arch": request.arch.name,
        "ptxas": [tool.as_dict() for tool in seen.ptxas],
        **judgement.as_dict(),
        **({"compiled": compiled and compiled.as_dict()} if request.compile else {}),
    }
