#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_runtime
short_description: Ensure what an engine needs around it - environment, caches, bounds
version_added: 0.1.0
description:
  - Writes one environment file with what engines need on a machine where CPU and GPU share one memory, makes the
    folders of their caches, and proves by an import and a real compile that the virtual environment works with it.
  - No C(TRITON_*) variable is written here. Which of them helps follows from the Triton that is installed, see
    M(nusy.dgx_spark.ptxas_environment).
  - A cache that outgrows its limit is drift. It is emptied only when O(confirm) names its content, C(<path>/*).
attributes:
  check_mode:
    description: Imports and compiles as a real run does, in a private folder that is removed.
    support: full
  diff_mode:
    description: Shows each line, folder and truth that differs.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment: nusy.dgx_spark.ensuring
options:
  venv:
    description: Absolute path of the virtual environment that holds the engine.
    type: str
    required: true
  environment_file:
    description: File that launchers and units read. It belongs to this module whole.
    type: str
    default: /etc/nusy/vllm.env
  ptxas_file:
    description: File of role C(ptxas), read so that the compile has what a service has.
    type: str
    default: /etc/nusy/ptxas.env
  owner:
    description: Account that services run as. The caches belong to it.
    type: str
    default: nusy
  caches:
    description: Folders of what engines compile and keep, each for itself.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path. The folder is made with the mode 0750.
        type: str
        required: true
      limit_gib:
        description: Size above which the cache is drift.
        type: float
        required: true
      variable:
        description: Variable that leads the engine to it, if one is needed. Its parent folder is then made, too.
        type: str
        default: ""
  environment:
    description: Further variables. Values are text or whole numbers.
    type: dict
    default: {}
  max_jobs:
    description: How many compilers may run at a time (C(MAX_JOBS)).
    type: int
    default: 2
  nvcc_threads:
    description: Threads of one nvcc (C(FLASHINFER_NVCC_THREADS)).
    type: int
    default: 1
  kv_cache_memory_bytes:
    description: Size of the KV cache that launchers ask for. 0 leaves it to O(gpu_memory_utilization).
    type: int
    default: 0
  gpu_memory_utilization:
    description:
      - Share of the memory that an engine takes when O(kv_cache_memory_bytes) is 0.
      - More than 0.85 can freeze a machine with one memory. Until O(confirm) names it, for example
        C(gpu_memory_utilization=0.9), 0.85 is written and the control is blocked.
    type: float
    default: 0.76
  imports:
    description: Modules that must import.
    type: list
    elements: str
    default: []
  compile:
    description: Whether a kernel must compile for O(arch). Takes 0.5 to 2 seconds and no GPU.
    type: bool
    default: true
  arch:
    description: GPU target of the compile.
    type: str
    default: sm_121a
  timeout:
    description: Seconds for the imports, and for the compile.
    type: float
    default: 300
  measure_seconds:
    description: Seconds for counting one cache. What is not counted whole by then, and below its limit, is unknown.
    type: float
    default: 5
notes:
  - Programs of the virtual environment are run with the rights of its owner.
seealso:
  - module: nusy.dgx_spark.ptxas_environment
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure the surroundings of vLLM
  nusy.dgx_spark.vllm_runtime:
    venv: /opt/nusy/venvs/vllm/current
    kv_cache_memory_bytes: 42949672960
    caches:
      - {path: /var/lib/nusy/cache/vllm, limit_gib: 20, variable: VLLM_CACHE_ROOT}
    environment:
      CUDA_HOME: /usr/local/cuda
    imports: [torch, vllm]
  become: true
"""

RETURN = r"""
controls:
  description: One verdict for each control. See docs/contracts/evidence.md.
  returned: always, also with a failed run that got as far as looking
  type: list
  elements: dict
left:
  description: The controls as a failed real run left them.
  returned: when a real run fails after it has looked
  type: list
  elements: dict
plan:
  description: The steps, in order, that were or would be done.
  returned: always
  type: list
  elements: str
assumptions:
  description: What the plan relies on.
  returned: always
  type: list
  elements: str
caches:
  description: Size of each cache in GiB.
  returned: always
  type: dict
environment:
  description: The variables that are declared.
  returned: always
  type: dict
refused:
  description: Why a real run stops before its first step, since it would certainly fail half-way.
  returned: when there is such a reason
  type: list
  elements: str
unused_confirm:
  description: Names in O(confirm) that no step asked for.
  returned: when there are such names
  type: list
  elements: str
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._runtime.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
