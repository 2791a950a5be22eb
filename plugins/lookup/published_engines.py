# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engines that roles declare on a host, with what each takes of its memory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: published_engines
short_description: The engines of this host, and what each takes of its memory
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Every role of this collection that runs engines publishes so in its C(meta/engines.yml). This computes what that
    comes to on the host at hand, with its variables - which units there are, and the summands of each as
    P(nusy.dgx_spark.memory_budget#filter) takes them.
  - What an engine does not say itself follows from its preset. Its weights follow from the sizes of the files in
    C(models_manifest), where its model is one of them, by name or by path.
  - What nobody says is named as unknown, and not guessed.
  - What is declared for a host on which playbooks do not run its role is no engine of that host, as C(meta/groups.yml)
    of the role has it. On a host in none of the groups that any role names all of them count.
  - Computed on the controller, without a connection. Role C(memory_guard) takes all of it.
options: {}
notes:
  - Use C(query()), which returns a list also when there is one engine or none.
  - Engines that are not C(enabled) are among them, since somebody may start them. C(conflicts) says what never runs
    together.
seealso:
  - plugin: nusy.dgx_spark.memory_budget
    plugin_type: filter
  - module: nusy.dgx_spark.memory_guard
"""

EXAMPLES = r"""
- name: Show what the engines of this host take together
  ansible.builtin.debug:
    msg: "{{ (engines | nusy.dgx_spark.memory_budget(total)).arithmetic }}"
  vars:
    engines: "{{ query('nusy.dgx_spark.published_engines') }}"
    total: 130663231488
"""

RETURN = r"""
_raw:
  description: >-
    One mapping for each engine. C(name), which is C(unit) without its ending; C(unit), a service; C(program), C(vllm)
    or C(llama.cpp); the summands that are known, such as C(weights_gib); C(conflicts), units that never run beside it;
    C(unknown), the summands that nobody says; C(health), what tells that it has loaded - C(unit), where its unit has
    started only then, else an address that answers 200.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.engines import published
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.lookups import OfHost
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables


class LookupModule(OfHost):
    name = "nusy.dgx_spark.published_engines"

    def of_host(self, owners: Mapping[str, Path], host: Variables) -> Iterable[dict[str, Any]]:
        return published(owners, host, self._loader, self._templar)
