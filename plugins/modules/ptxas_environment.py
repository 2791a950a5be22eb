#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ptxas_environment
short_description: Ensure the variables that make Triton use a ptxas that can build
version_added: 0.1.0
description:
  - Finds out, as M(nusy.dgx_spark.ptxas_probe) does, which variables the Triton of O(venv) needs to
    build for O(arch), and ensures that O(environment_file) holds these and no others. Often that is none.
  - With O(declared_gpu=none) nothing is probed, and the file holds no variable.
  - When no variable helps, everything else is applied and the run fails with what to do.
attributes:
  check_mode:
    description: Looks and compiles as a real run does, and predicts the file.
    support: full
  diff_mode:
    description: Shows each line that differs.
    support: full
  idempotent:
    description: The variables do not depend on whether they are set already.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.declared_gpu
  - nusy.dgx_spark.ensuring
options:
  venv:
    description: Absolute path of the virtual environment that Triton is installed in.
    type: str
    required: true
  environment_file:
    description: File that units and launchers read. It belongs to this module whole.
    type: str
    default: /etc/nusy/ptxas.env
  arch:
    description: GPU target to build for.
    type: str
    default: sm_121a
  candidates:
    description: Absolute paths of C(ptxas) binaries that may be forced, best first. Empty means the known CUDA places.
    type: list
    elements: str
    default: []
  compile:
    description: Also compile a kernel ahead of time with this Triton. It has the last word.
    type: bool
    default: true
  timeout:
    description: Seconds that one program may take before it is stopped.
    type: float
    default: 60
notes:
  - Programs of the virtual environment are run with the rights of its owner.
seealso:
  - module: nusy.dgx_spark.ptxas_probe
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure that the Triton of vLLM builds for the GPU
  nusy.dgx_spark.ptxas_environment:
    venv: /opt/nusy/vllm/current
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
probe:
  description: What M(nusy.dgx_spark.ptxas_probe) returns.
  returned: when the machine is declared to have a GPU, and it could be looked at
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
from ansible_collections.nusy.dgx_spark.plugins.module_utils._ptxas.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
