#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: launchers
short_description: Ensure launchers, the paths they start, and spark-ensure-state on the node
version_added: 0.1.0
description:
  - Proves each binary of O(binaries) by use and writes those that are proven to O(paths_file). One that is not is
    drift, is left out, and lets a real run fail at its end with what to do.
  - Installs one archive of this collection's node code and a link to it for each of O(launchers), and for
    C(spark-ensure-state). All of it belongs to root, in folders of root, since root runs it.
attributes:
  check_mode:
    description: Proves binaries as a real run does, in a private folder that is removed.
    support: full
  diff_mode:
    description: Shows each binary, line and link that differs; the archive by its digest.
    support: full
  idempotent:
    description: The archive of one release is the same byte for byte.
    support: full
extends_documentation_fragment: nusy.dgx_spark.ensuring
options:
  suite:
    description: What the lookup P(nusy.dgx_spark.suite#lookup) returns, or a digest with which one is only judged.
    type: str
    required: true
  python:
    description: Interpreter of the archive, Python 3.10 or newer.
    type: str
    default: /usr/bin/python3
  folder:
    description: Where archive and launchers are.
    type: str
    default: /usr/local/libexec/nusy
  launchers:
    description: Which launchers this node has. Others of this collection are removed from O(folder).
    type: list
    elements: str
    choices: [llama-serve, ray-head, ray-worker, vllm-node, vllm-serve]
    default: []
  state_tool:
    description: Link that starts C(spark-ensure-state).
    type: str
    default: /usr/local/sbin/spark-ensure-state
  paths_file:
    description: File with the proven paths. It belongs to this module whole.
    type: str
    default: /etc/nusy/paths.env
  binaries:
    description:
      - Name, ending in C(_BIN), to absolute path. Every one must say its version.
      - C(NVCC_BIN) and C(PTXAS_BIN) must build for O(arch), C(CUOBJDUMP_BIN) and C(NVDISASM_BIN) read what they built,
        C(NVIDIA_SMI_BIN) list a GPU. Without a GPU that one is unknown.
    type: dict
    default: {}
  arch:
    description: GPU target of the proof.
    type: str
    default: sm_121a
  timeout:
    description: Seconds that one program may take before it is stopped.
    type: float
    default: 120
notes:
  - A binary is run with the rights of who owns it.
  - Restarts nothing. A unit that runs a launcher belongs to another role.
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure the launcher of vLLM and the paths it starts
  nusy.dgx_spark.launchers:
    suite: "{{ lookup('nusy.dgx_spark.suite') }}"
    launchers: [vllm-serve]
    binaries:
      NVIDIA_SMI_BIN: /usr/bin/nvidia-smi
      NVCC_BIN: /usr/local/cuda/bin/nvcc
      VLLM_BIN: /opt/nusy/venvs/vllm/current/bin/vllm
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
paths:
  description: Each proven binary with its C(path), what that C(leads_to), and its C(version).
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
from ansible_collections.nusy.dgx_spark.plugins.module_utils._suite.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
