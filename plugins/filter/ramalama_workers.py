# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared workers as quadlets."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ramalama_workers
short_description: Workers that are declared, as quadlets for Podman
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - A quadlet is a file in C(/etc/containers/systemd) that Podman's generator makes a service of. This filter writes
    the one that RamaLama writes for the same model, without its tool on the node.
  - What cannot be is refused here, before any host is touched.
notes:
  - RamaLama binds a model by its path in its own store. Here it is any file on the node, such as one of role C(models).
positional: image, devices
options:
  _input:
    description: The workers.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called, in lower-case letters, digits and hyphens.
        type: str
        required: true
      model: {description: Absolute path of a GGUF file on the node., type: str, required: true}
      port: {description: Port on 127.0.0.1., type: int, required: true}
      context: {description: Tokens of one sequence at most., type: int, required: true}
      sequences: {description: Sequences at a time. Memory is taken for all of them., type: int, default: 1}
      projector: {description: Absolute path of the projector (mmproj) of a model that sees., type: str}
      served_model_name: {description: Name that clients use. Unset it is that of the worker., type: str}
      image: {description: Image of this worker instead of the common one., type: str}
      devices: {description: Devices of this worker instead of the common ones., type: list, elements: str}
      arguments: {description: Further words for C(llama-server)., type: list, elements: str, default: []}
      weights_gib: {description: "Size of its files, for the budget of memory.", type: float}
      config: {description: "What the KV cache follows from, for the budget of memory.", type: dict}
      kv_cache_gib: {description: "Size of the KV cache, for the budget of memory.", type: float}
      activation_gib: {description: "Peak while a batch is computed, for the budget of memory.", type: float}
      process_gib: {description: "The process itself, for the budget of memory.", type: float}
  image:
    description: Image with C(llama-server), with a tag other than C(latest) or with its digest.
    type: str
    required: true
  devices:
    description: Devices in the container, as CDI names such as C(nvidia.com/gpu=all) or as paths below C(/dev).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show the quadlet of a worker
  ansible.builtin.debug:
    msg: "{{ (workers | nusy.dgx_spark.ramalama_workers('quay.io/ramalama/ramalama:0.25'))[0].file.content }}"
  vars:
    workers:
      - {name: swarm, model: /srv/models/swarm.gguf, port: 8081, context: 8192}
"""

RETURN = r"""
_value:
  description: >-
    For each worker C(name), C(port), C(file) (the quadlet) and C(unit) (its service). The last two are what
    M(nusy.dgx_spark.ensure_state) takes.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils import quadlet

NAME = "nusy.dgx_spark.ramalama_workers"


def ramalama_workers(workers: object, image: object, devices: object = ()) -> list[dict[str, Any]]:
    try:
        return quadlet.workers(workers, image, devices)
    except InputError as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"ramalama_workers": ramalama_workers}
