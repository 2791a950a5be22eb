# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was declared on this node to verdicts, by the same subjects and plans as the modules.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from ansible_collections.nusy.dgx_spark.plugins.module_utils._access.subject import MODULE as ACCESS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core import declared as declarations
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.declared import Declared, Kept
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import Ensuring
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import SparkError, Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.plan import Control, one_line
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader
from ansible_collections.nusy.dgx_spark.plugins.module_utils._cuda.subject import MODULE as CUDA
from ansible_collections.nusy.dgx_spark.plugins.module_utils._guard.subject import MODULE as MEMORY
from ansible_collections.nusy.dgx_spark.plugins.module_utils._llama.subject import MODULE as LLAMA
from ansible_collections.nusy.dgx_spark.plugins.module_utils._models.subject import MODULE as MODELS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.subject import MODULE as NVIDIA
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.subject import MODULE as PTXAS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.subject import MODULE as RUNTIME
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import claims, parse, record, wholes
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.subject import MODULE as STATE
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.subject import MODULE as LAUNCHERS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._tuning.subject import MODULE as TUNING
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates.subject import MODULE as UPDATES
from ansible_collections.nusy.dgx_spark.plugins.module_utils._venv.subject import MODULE as VENV
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.subject import MODULE as VLLM

# Every module that ensures something, by its name.
SUBJECTS: dict[str, Ensuring] = {
    one.module: one
    for one in (
        ACCESS,
        CUDA,
        STATE,
        LAUNCHERS,
        LLAMA,
        MEMORY,
        MODELS,
        NVIDIA,
        PTXAS,
        RUNTIME,
        TUNING,
        UPDATES,
        VENV,
        VLLM,
    )
}
# The six specs of the Bootstrap suite, as they are numbered there.
SPECS = ("prereqs", "cuda_toolchain", "vllm_venv", "vllm_runtime", "ptxas", "launchers")


@dataclass(frozen=True)
class Block:
    """One declared thing and its verdicts. ``spec`` 0: none of the six."""

    spec: int
    name: str
    controls: tuple[Control, ...]


def judge(reader: Reader) -> tuple[Block, ...]:
    """The specs in their order, then whatever else is declared. A spec that is not declared is unknown."""
    try:
        kept = {item.name: item for item in declarations.find(reader)}
        problem = "it was never applied to this node"
    except Unreadable as error:
        kept, problem = {}, str(error) if reader.is_root() else "what is declared is for root: run it with sudo"
    blocks = []
    for number, role in enumerate(SPECS, 1):
        # One role may declare several: vllm_venv-<name>.
        names = [name for name in sorted(kept) if name == role or name.startswith(f"{role}-")]
        blocks += [Block(number, name, _verdicts(kept.pop(name), reader)) for name in names]
        if not names:
            blocks.append(Block(number, role, _unknown(role, problem, reader)))
    return (*blocks, *(Block(0, name, _verdicts(item, reader)) for name, item in sorted(kept.items())))


def _verdicts(kept: Kept, reader: Reader) -> tuple[Control, ...]:
    if kept.declared is None:
        return _unknown(kept.name, kept.problem, reader)
    ensuring = SUBJECTS.get(kept.declared.module)
    if ensuring is None:
        return _unknown(kept.name, f"module {kept.declared.module} is not of this release: run the role again", reader)
    try:
        controls = ensuring.subject(kept.declared.params).plan(reader).controls
    except SparkError as error:
        return _unknown(kept.name, str(error), reader)
    except Exception as error:  # one spec that breaks must not hide the others
        why = f"it could not be judged ({type(error).__name__}: {error}): run the role again"
        return _unknown(kept.name, why, reader)
    return _without_secrets(kept.declared, controls)


def _without_secrets(declared: Declared, controls: tuple[Control, ...]) -> tuple[Control, ...]:
    """What holds a secret cannot be compared here: its value is not kept on the node."""
    if declared.module != "ensure_state" or not declared.params.get("secrets"):
        return controls
    document = parse.document(declared.params)
    hidden = {
        c.id for c in document.controls for f in claims.files_of(c, document.role) if wholes.SECRET.search(f.content)
    }
    hidden |= {f"{document.role}/file_extra"} if hidden else set()
    why = "it holds a secret, whose value is not kept on the node"
    return tuple(
        replace(control, state="unknown", changes=(), reason=why, cause="")
        if control.id in hidden and control.state == "drifted"
        else control
        for control in controls
    )


def _unknown(name: str, why: str, reader: Reader) -> tuple[Control, ...]:
    """By control where the applied record, which everybody can read, tells them."""
    try:
        content = json.loads(reader.read(record.path_of(name)) or "{}")
        ids = sorted(str(control) for control in content.get("controls", {}))
    except (Unreadable, ValueError, AttributeError):
        ids = []
    return tuple(Control(control, "unknown", reason=one_line(why)) for control in ids or [name])
