#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: llama_cpp
short_description: Ensure that engines of llama.cpp run on a node, and answer
version_added: 0.1.0
description:
  - Each engine is a unit C(llama@NAME.service), which counts as started when it has answered with one token. Its
    launcher C(llama-serve) is that of M(nusy.dgx_spark.launchers).
  - An engine that does not start as it is declared now goes back to how it ran before; the run fails and says why.
  - Every look asks each engine that runs for one token, as its clients would.
attributes:
  check_mode:
    description: Predicts what a run does. Whether an engine will answer as it is declared now only its start tells.
    support: full
  diff_mode:
    description: Shows each file and unit that differs, and no keys.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
extends_documentation_fragment:
  - nusy.dgx_spark.ensuring
  - nusy.dgx_spark.model_names
options:
  engines:
    description: The engines of the node. One that this module has made and that is declared no more is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Small letters, digits, C(-) and C(_).
        type: str
        required: true
      model:
        description:
          - Name of one of O(models), C(NAME/FILE) where it has several files, or the absolute path of a C(.gguf) file.
          - With the revision in it a new one is a new path.
        type: str
        required: true
      port:
        description: Where it listens.
        type: int
        required: true
      host:
        description: Address of this node on which it listens.
        type: str
        default: 127.0.0.1
      served_name:
        description: Name that clients use; its O(engines[].name) if it is empty.
        type: str
        default: ""
      context:
        description: Longest context of one request, in tokens.
        type: int
        default: 4096
      sequences:
        description: Requests that are answered at once. Each has a context of its own in memory.
        type: int
        default: 4
      threads:
        description: Processors to compute with; V(0) is all of them.
        type: int
        default: 0
      api_key:
        description:
          - Key that clients must show. It is kept in a file for root alone, and reaches the engine as a credential of
            its unit.
        type: str
        default: ""
      conflicts:
        description: Names of engines, or whole names of units, that are stopped when it starts.
        type: list
        elements: str
        default: []
      tls:
        description: >-
          Files on the node that root alone need be able to read; they reach the engine as credentials of its unit. The
          server of the wheel speaks no TLS, so that its launcher stands in front of it, in the same process.
        type: dict
        suboptions:
          certificate:
            description: What clients are shown, in PEM.
            type: str
          key:
            description: Its key.
            type: str
          client_ca:
            description: Only who shows a certificate of it is let in.
            type: str
          client_certificate:
            description: With which the unit asks its own engine then.
            type: str
          client_key:
            description: Its key.
            type: str
      start_seconds:
        description: Time until it must have answered.
        type: int
        default: 300
      drain_seconds:
        description: Time that a stop waits for requests under way, up to 600. V(0) is a stop that waits for nobody.
        type: int
        default: 30
      enabled:
        description: Whether it runs, now and after a boot.
        type: bool
        default: true
      weights_gib:
        description: Size of the file, for the budget of memory.
        type: float
      config:
        description: What the KV cache follows from, of the model's own C(config.json), for the budget of memory.
        type: dict
      kv_cache_gib:
        description: Size of the KV cache, instead of O(engines[].config).
        type: float
      activation_gib:
        description: Peak while a batch is computed, for the budget of memory.
        type: float
      process_gib:
        description: The process itself, for the budget of memory.
        type: float
  user:
    description: Account with whose rights they run.
    type: str
    default: nusy
author:
  - The nusy.dgx_spark maintainers (@nusy)
seealso:
  - module: nusy.dgx_spark.launchers
"""

EXAMPLES = r"""
- name: Ensure that a small worker answers
  nusy.dgx_spark.llama_cpp:
    engines:
      - {name: swarm, model: /srv/models/qwen/6f2c/model.gguf, port: 8081, context: 8192, sequences: 4}
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
engines:
  description: Name, unit, host and port of each engine.
  returned: always
  type: list
  elements: dict
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
from ansible_collections.nusy.dgx_spark.plugins.module_utils._llama.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
