# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engines fit together, and where."""

from __future__ import annotations

DOCUMENTATION = r"""
name: placement
short_description: Which engine goes to which node, with the arithmetic of every memory
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Puts engines on nodes so that all fit, each memory reckoned as P(nusy.dgx_spark.memory_budget#filter) does.
    An engine that several nodes share takes its part on each of them.
  - Engines are put together on few nodes, so that what is left is whole nodes.
  - Engines that exclude each other (C(conflicts)) may share a node, where the heaviest that may run together count.
  - Where not all fit, it says which one is in the way, and shows the best that was found.
positional: nodes
options:
  _input:
    description: The engines, as P(nusy.dgx_spark.memory_budget#filter) takes them.
    type: list
    elements: dict
    required: true
  nodes:
    description: Name of each node, and all of its memory in bytes.
    type: dict
    required: true
  reserve_gib:
    description: What is left to the system of each node.
    type: float
    default: 12.7
  page_cache_gib:
    description: What is left to files being read, on each node.
    type: float
    default: 4.0
seealso:
  - plugin: nusy.dgx_spark.memory_budget
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show who serves what
  ansible.builtin.debug:
    msg: "{{ found.table }}\n{{ found.explanation }}"
  vars:
    found: "{{ engines | nusy.dgx_spark.placement({'spark1': 130663231488, 'spark2': 130663231488}) }}"
    engines:
      - {name: main, weights_gib: 15, kv_cache_gib: 48}
      - {name: large, weights_gib: 120, nodes: 2, kv_cache_gib: 10}
"""

RETURN = r"""
_value:
  description: The verdict and how it came about.
  type: dict
  contains:
    fits: {description: Whether every engine has its place., type: bool}
    engines: {description: Name of each engine and the nodes it got., type: dict}
    nodes:
      description: >-
        For each node C(engines), C(planned_bytes), C(left_bytes) and C(arithmetic), a table with one line for each
        summand.
      type: dict
    unplaced: {description: The engines without a place., type: list, elements: str}
    table: {description: One line for each node in GiB., type: str}
    explanation: {description: One sentence., type: str}
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory import parse
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.model import PAGE_CACHE_GIB, RESERVE_GIB
from ansible_collections.nusy.dgx_spark.plugins.module_utils._memory.placement import place

NAME = "nusy.dgx_spark.placement"


def placement(
    engines: object,
    nodes: object,
    reserve_gib: object = RESERVE_GIB,
    page_cache_gib: object = PAGE_CACHE_GIB,
) -> dict[str, Any]:
    if not isinstance(nodes, Mapping) or not nodes:
        raise AnsibleFilterError(f"{NAME}: nodes: wants a mapping of names to bytes, with one at least")
    try:
        plans = {str(name): parse.plan(engines, total, reserve_gib, page_cache_gib) for name, total in nodes.items()}
        return place(plans, parse.shares(engines))
    except InputError as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"placement": placement}
