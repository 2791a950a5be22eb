# SPDX-License-Identifier: GPL-3.0-or-later
"""The words behind the launcher of vLLM."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_arguments
short_description: An engine as a dictionary, as the command line of vLLM
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Writes one entry of C(vllm_engines) as the words that follow the launcher C(vllm-serve). What comes after
    C(--) reaches vLLM as it is.
  - Every option is held against those that the release of vLLM takes, as its own C(vllm serve --help=all) lists
    them. An unknown option, a value that is none of its choices, two options that contradict each other, and what
    is known to hang a Spark are refused.
  - The size of the KV cache follows from the model's configuration, as P(nusy.dgx_spark.memory_budget#filter)
    reckons it.
  - A secret is refused, since everybody on a machine can read a command line.
positional: options
options:
  _input:
    description:
      - The engine. C(name), C(model) and C(port) are required; the role C(vllm) documents the other words.
      - C(options) has further options of vLLM by their names. C(true) and C(false) are for flags, a list for what
        takes several values, and a mapping is written as JSON.
    type: dict
    required: true
  options:
    description: What the release takes, as C(roles/vllm_venv/files/<set>/options.json) has it.
    type: dict
    required: true
  release:
    description: What errors call the release.
    type: str
    default: as installed
seealso:
  - plugin: nusy.dgx_spark.systemd_argv
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show a command line
  ansible.builtin.debug:
    msg: "{{ engine | nusy.dgx_spark.vllm_arguments(options, '0.27.1') | nusy.dgx_spark.argv_quote }}"
  vars:
    options: "{{ lookup('ansible.builtin.file', 'roles/vllm_venv/files/spark-vllm-0.27.1/options.json') | from_json }}"
    engine:
      name: main
      model: /srv/models/mistral-7b-instruct
      port: 8000
      context: 32768
      sequences: 12
      kv_cache_gib: 48
      tool_parser: mistral
# /srv/models/mistral-7b-instruct --port 8000 --max-model-len 32768 --kv-cache-memory-bytes 51539607552
# -- --max-num-seqs 12 --max-num-batched-tokens 8192 --enable-auto-tool-choice --tool-call-parser mistral
"""

RETURN = r"""
_value:
  description: The words, without the launcher itself.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.arguments import argv
from ansible_collections.nusy.dgx_spark.plugins.module_utils._vllm.help import from_data

NAME = "nusy.dgx_spark.vllm_arguments"


def vllm_arguments(engine: object, options: object, release: str = "as installed") -> list[str]:
    if not isinstance(engine, Mapping) or not isinstance(options, Mapping):
        raise AnsibleFilterError(f"{NAME}: wants an engine and the options of a release, both as mappings")
    try:
        return argv(engine, from_data(options), release)
    except (InputError, ValueError) as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vllm_arguments": vllm_arguments}
