# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared engines as endpoints."""

from __future__ import annotations

DOCUMENTATION = r"""
name: declared_endpoints
short_description: Engines that are declared, as endpoints that can be asked
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Each engine that is to run, with its address, model, key and certificates, as M(nusy.dgx_spark.endpoints_probe)
    takes them on the node itself. The roles C(vllm), C(llama_cpp) and C(ramalama) have the words of an engine.
notes:
  - The result holds keys. Print it nowhere.
positional: llama_cpp, workers
options:
  _input: {description: C(vllm_engines)., type: list, elements: dict, required: true}
  llama_cpp: {description: C(llama_cpp_engines)., type: list, elements: dict, default: []}
  workers: {description: C(ramalama_workers)., type: list, elements: dict, default: []}
"""

EXAMPLES = r"""
- name: Ask every engine of vLLM
  nusy.dgx_spark.endpoints_probe:
    endpoints: "{{ vllm_engines | nusy.dgx_spark.declared_endpoints }}"
"""

RETURN = r"""
_value:
  description: Name, C(url), C(model), and what is declared of C(api_key) and certificates.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import endpoints

NAME = "nusy.dgx_spark.declared_endpoints"


def declared_endpoints(vllm: object, llama_cpp: object = (), workers: object = ()) -> list[dict[str, Any]]:
    try:
        return endpoints.endpoints(vllm, llama_cpp, workers)
    except InputError as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"declared_endpoints": declared_endpoints}
