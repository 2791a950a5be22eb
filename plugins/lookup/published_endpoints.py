# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engines that roles run on a host, as endpoints."""

from __future__ import annotations

DOCUMENTATION = r"""
name: published_endpoints
short_description: The engines of this host, as endpoints that can be asked
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Each engine that roles of this collection run on the host at hand, with its address, model, key and certificates, as
    M(nusy.dgx_spark.endpoints_probe) takes them on the node itself. Not those that are declared not to run.
  - Computed on the controller, without a connection. Role C(probe) asks all of them.
options: {}
notes:
  - Use C(query()), which returns a list also when there is one engine or none.
  - The result holds keys. Print it nowhere.
  - What is declared for a host on which playbooks do not run its role is no engine of that host, as
    P(nusy.dgx_spark.published_engines#lookup) has it.
seealso:
  - module: nusy.dgx_spark.endpoints_probe
"""

EXAMPLES = r"""
- name: Ask every engine of this host
  nusy.dgx_spark.endpoints_probe:
    endpoints: "{{ query('nusy.dgx_spark.published_endpoints') }}"
"""

RETURN = r"""
_raw:
  description: Name, C(url), C(model), and what is declared of C(api_key) and certificates.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.endpoints import published
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.lookups import OfHost
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables


class LookupModule(OfHost):
    name = "nusy.dgx_spark.published_endpoints"

    def of_host(self, owners: Mapping[str, Path], host: Variables) -> Iterable[dict[str, Any]]:
        return published(owners, host, self._loader, self._templar)
