# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether engines fit into one memory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: memory_budget
short_description: Whether engines fit into the one memory of a machine, with the arithmetic
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - CPU and GPU of a DGX Spark share one memory. An engine that takes more than there is does not
    end with an error. The machine freezes. This filter adds up what engines will take, before any starts.
  - The sum has, for each engine, the weights, what is kept of every token (KV cache), activations, captured
    graphs and the process itself. For the machine it has what is left to the system and to files being read.
  - The KV cache is reckoned from the model's own C(config.json), with every sequence at its longest, rounded
    up to the blocks in which engines hand it out. Layers with a sliding window count with their window where
    C(layer_types) names them, and in full otherwise. Latent attention (C(kv_lora_rank)) is known. Layers that
    keep a state instead of tokens are refused, because nobody could trust the sum. Say O(_input[].kv_cache_gib) then.
  - Where engines exclude each other, the heaviest that may run together count. Who is left out is shown below the sum.
  - What nobody said is assumed and named as assumed in the answer.
notes:
  - All figures are those of one node. 1 GiB is 1024 * 1024 * 1024 bytes.
  - It reads nothing from any machine, so it says the same in check mode.
positional: total_bytes
options:
  _input:
    description: The engines, also those that exclude each other.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: What the engine is called., type: str, required: true}
      weights_gib:
        description: The model's files in GiB, all of them, also where several nodes share them.
        type: float
        required: true
      nodes: {description: How many nodes share the model by tensor parallelism., type: int, default: 1}
      config:
        description: The model's C(config.json). Either this with O(_input[].context), or O(_input[].kv_cache_gib).
        type: dict
      context: {description: Tokens of one sequence at most., type: int}
      sequences: {description: Sequences served at the same time., type: int, default: 1}
      batched_tokens:
        description: Tokens computed at a time. 65536 was seen to hang a Spark.
        type: int
        default: 8192
      kv_cache_dtype:
        description: >-
          How a number is kept. V(auto) counts two bytes. Of what is none of these say the size,
          O(_input[].kv_cache_gib).
        type: str
        choices: [auto, bfloat16, float16, fp8, fp8_e4m3, fp8_e5m2, fp8_inc, nvfp4, nvfp4_4over6]
        default: auto
      kv_cache_gib: {description: The KV cache on one node in GiB., type: float}
      activation_gib:
        description: >-
          The peak while a batch is computed, as the engine's log gives it. Without it an allowance, not measured: 2 for
          vLLM, 1 for llama.cpp.
        type: float
      graphs_gib:
        description: >-
          Captured graphs, as the engine's log gives it. Without it an allowance, not measured: 2 for vLLM.
        type: float
      process_gib:
        description: >-
          Libraries, buffers and the GPU's context. Without it an allowance, not measured: 4 for vLLM, 1 for llama.cpp.
        type: float
      options_gib:
        description: What options of the program take beside all that in GiB, by their names.
        type: dict
        default: {}
      enforce_eager: {description: No graphs are captured., type: bool, default: false}
      program:
        description: Whose allowances count where nothing is said.
        type: str
        choices: [vllm, llama.cpp]
        default: vllm
      conflicts:
        description: >-
          Engines that never run beside it, by their names or units. One of the two says it for both. Units of none of
          these engines are left out. At most 16 engines may exclude others.
        type: list
        elements: str
        default: []
      unit: {description: Its service. The sum does not need it., type: str}
      health: {description: What tells that it has loaded. The sum does not need it., type: str}
      unknown:
        description: >-
          Of C(weights_gib), C(kv_cache_gib) and C(process_gib) what nobody says, as
          P(nusy.dgx_spark.published_engines#lookup) has it.
        type: list
        elements: str
        default: []
  total_bytes:
    description: All memory of the machine in bytes, as C(ansible_facts.spark.memory.total_bytes) has it.
    type: int
    required: true
  reserve_gib:
    description:
      - What is left to the system. A Spark of 121.7 GiB froze at 113 to 114 GiB in use, and its operator plans
        109 at most (one measured report).
    type: float
    default: 12.7
  page_cache_gib:
    description: What is left to files being read, the weights above all. An allowance, not measured.
    type: float
    default: 4.0
"""

EXAMPLES = r"""
- name: Refuse a plan that would freeze the machine
  ansible.builtin.assert:
    that: budget.fits
    fail_msg: "{{ budget.explanation }}. To do: {{ budget.fix }}\n{{ budget.arithmetic }}"
  vars:
    budget: "{{ engines | nusy.dgx_spark.memory_budget(ansible_facts.spark.memory.total_bytes) }}"
    engines:
      - name: main
        weights_gib: 15.0
        config: "{{ lookup('ansible.builtin.file', 'config.json') | from_json }}"
        context: 32768
        sequences: 12
"""

RETURN = r"""
_value:
  description: The verdict and how it came about.
  type: dict
  contains:
    fits: {description: Whether the sum is at most what there is. It is false where a summand is unknown., type: bool}
    unknown: {description: The summands that nobody knows. They count as nothing., type: list, elements: str}
    total_bytes: {description: What there is., type: int}
    planned_bytes: {description: The sum., type: int}
    left_bytes: {description: The difference. It is negative where too much is planned., type: int}
    explanation: {description: One sentence., type: str}
    fix: {description: What would fit instead. It is empty where the plan fits., type: str}
    assumed: {description: The summands that nobody said., type: list, elements: str}
    arithmetic: {description: A table in GiB with one line for each summand., type: str}
    engines:
      description: >-
        For each engine C(name), C(bytes), C(kv_cache_bytes) (for C(--kv-cache-memory-bytes)),
        C(share) of all memory, C(counted), which is false for one that is left out for others, and C(parts)
        with C(what), C(bytes), C(how) and C(assumed).
      type: list
      elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import budget, parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import PAGE_CACHE_GIB, RESERVE_GIB

NAME = "nusy.dgx_spark.memory_budget"


def memory_budget(
    engines: object,
    total_bytes: object,
    reserve_gib: object = RESERVE_GIB,
    page_cache_gib: object = PAGE_CACHE_GIB,
) -> dict[str, Any]:
    try:
        return budget.budget(parse.plan(engines, total_bytes, reserve_gib, page_cache_gib))
    except InputError as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"memory_budget": memory_budget}
