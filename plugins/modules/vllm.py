#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm
short_description: Ensure that engines of vLLM run on a node, and answer
version_added: 0.1.0
description:
  - Each engine is a unit C(vllm@NAME.service), which counts as started when it has answered with one token. Its
    launcher C(vllm-serve) is that of M(nusy.dgx_spark.launchers).
  - Its dictionary is written as a command line by the rules of P(nusy.dgx_spark.vllm_arguments#filter). What the
    declared release does not take is refused before anything is looked at; what the installed one does not take by its
    own C(--help), before anything is changed. Its answer is noted on the node until another one is installed.
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
        description: >-
          What it is called: C(vllm@NAME.service). Small letters, digits, C(-) and C(_).
        type: str
        required: true
      model:
        description: >-
          Name of one of O(models), a folder with C(config.json), or C(<owner>/<name>) of the hub. With the revision in
          the path a new one is a new path.
        type: str
        required: true
      served_name:
        description: >-
          Name that clients use. Without it that is O(engines[].name).
        type: str
      host:
        description: >-
          Address of this node on which it listens. Without it that is C(127.0.0.1).
        type: str
      port:
        description: >-
          Where it listens.
        type: int
        required: true
      nodes:
        description: >-
          How many nodes share the model. A unit is of one node, so anything but 1 is refused here.
        type: int
      context:
        description: >-
          Longest context of one request, in tokens (C(--max-model-len)).
        type: int
      share_gpu:
        description: >-
          Another engine may hold the GPU, too. Mind both budgets.
        type: bool
      dtype:
        description: >-
          Type of numbers (C(--dtype)).
        type: str
      quantization:
        description: >-
          How the weights are kept, where the model does not say so (C(--quantization)).
        type: str
      kv_cache_dtype:
        description: >-
          How what is kept of tokens is (C(--kv-cache-dtype)). Of C(auto), C(bfloat16), C(float16), C(fp8), C(fp8_e4m3),
          C(fp8_e5m2), C(fp8_inc), C(nvfp4) and C(nvfp4_4over6) the bytes are known. Beside any other say
          O(engines[].kv_cache_gib).
        type: str
      sequences:
        description: >-
          Requests that are answered at once (C(--max-num-seqs)).
        type: int
      batched_tokens:
        description: >-
          Tokens computed at a time. Without it 8192, and never more than 32768.
        type: int
      enforce_eager:
        description: >-
          Compile and capture nothing.
        type: bool
      reasoning_parser:
        description: >-
          How the model says that it thinks (C(--reasoning-parser)).
        type: str
      tool_parser:
        description: >-
          How the model calls tools (C(--tool-call-parser)). With it tools are offered.
        type: str
      lora:
        description: >-
          Adapters, name to folder. Empty lets them be loaded later, where the environment allows it.
        type: dict
      lora_rank:
        description: >-
          Highest rank of an adapter (C(--max-lora-rank)).
        type: int
      tls:
        description: >-
          C(certificate) and C(key), and C(client_ca) where only clients with a certificate are let in.
          Then C(client_certificate) and C(client_key) are those with which the engine itself is asked.
          Files on the node that root alone need be able to read.
        type: dict
      options:
        description: >-
          Further options of vLLM by their names. What takes memory that cannot be counted wants
          O(engines[].process_gib) beside it.
        type: dict
      preset:
        description: >-
          One of O(presets), for what the engine does not say itself.
        type: str
      conflicts:
        description: >-
          Names of engines, or whole names of units, that are stopped when it starts.
        type: list
        elements: str
      enabled:
        description: >-
          Whether it runs, now and after a boot. Without it that is V(true).
        type: bool
      api_key:
        description: >-
          Key that clients must show. It is kept in a file for root alone, and reaches the engine as a
          credential of its unit.
        type: str
      start_seconds:
        description: >-
          Time until it must have answered. Without it 1800.
        type: int
      drain_seconds:
        description: >-
          Time that a stop waits for requests under way, up to 600. Without it 60; V(0) is a stop that waits for nobody.
        type: int
      weights_gib:
        description: >-
          Size of the model's files, for the budget of memory.
        type: float
      config:
        description: >-
          What the KV cache follows from, of the model's C(config.json).
        type: dict
      kv_cache_gib:
        description: >-
          Size of the KV cache, instead of O(engines[].config).
        type: float
      activation_gib:
        description: >-
          Peak while a batch is computed, for the budget of memory.
        type: float
      graphs_gib:
        description: >-
          Captured graphs, for the budget of memory.
        type: float
      process_gib:
        description: >-
          The process itself, for the budget of memory. Required beside O(engines[].lora) and options that take
          memory of a size that does not follow from them, which it has in it.
        type: float
  presets:
    description: Engines that others can begin with, by name.
    type: dict
    default: {}
  options:
    description: What the release takes, as C(roles/vllm_venv/files/<set>/options.json) has it.
    type: dict
    default: {}
  release:
    description: Which release that is. Another one on the node is drift.
    type: str
    default: ""
  user:
    description: Account with whose rights they run.
    type: str
    default: nusy
  writes:
    description: Folders that they may write to, as far as these are there.
    type: list
    elements: path
    default: []
author:
  - The nusy.dgx_spark maintainers (@nusy)
seealso:
  - module: nusy.dgx_spark.launchers
  - plugin: nusy.dgx_spark.vllm_arguments
    plugin_type: filter
  - plugin: nusy.dgx_spark.memory_budget
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ensure that a shared model answers
  nusy.dgx_spark.vllm:
    release: 0.27.1
    options: "{{ lookup('ansible.builtin.file', 'roles/vllm_venv/files/spark-vllm-0.27.1/options.json') | from_json }}"
    writes: [/var/lib/nusy/cache]
    engines:
      - name: main
        model: /srv/models/mistral-7b/e0bc86c23ce5aae1db576c8cca6f06f1f73af2db
        port: 8000
        context: 16384
        sequences: 12
        kv_cache_gib: 24
        api_key: "{{ vault_main_key }}"
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
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
