# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ports that are listened on at a host, as data for a firewall."""

from __future__ import annotations

DOCUMENTATION = r"""
name: published_ports
short_description: The ports that services of this host listen on
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Every role of this collection that listens publishes so in its C(meta/ports.yml). This computes
    what that comes to on the host at hand, with its variables, and adds what C(spark_ports) says.
  - Computed on the controller, without a connection. What M(nusy.dgx_spark.preflight) refuses is an error here too.
  - A role publishes for every host on which playbooks run it, as its C(meta/groups.yml) says, unless its variables say
    that the service is not there. For a host in none of the groups that any role names, all of them publish.
options: {}
notes:
  - Use C(query()), which returns a list also when there is one service or none.
seealso:
  - module: nusy.dgx_spark.preflight
"""

EXAMPLES = r"""
- name: Show who may reach what
  ansible.builtin.debug:
    msg: "{{ query('nusy.dgx_spark.published_ports') | rejectattr('bind', 'eq', 'loopback') }}"
"""

RETURN = r"""
_raw:
  description: >-
    One mapping for each service. C(service); C(ports), a list of texts such as C(8000) or C(6381-6386);
    C(protocol), C(tcp) or C(udp); C(bind), one of C(loopback), C(fabric), C(any) or an address; C(peers), a list of
    C(fabric), C(any), addresses and networks that may connect, empty for nobody from outside; C(reason);
    C(role), empty for a service of C(spark_ports).
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Problem
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.lookups import OfHost
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.ports import Service, clashes, published
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables


class LookupModule(OfHost):
    name = "nusy.dgx_spark.published_ports"

    def of_host(self, owners: Mapping[str, Path], host: Variables) -> Iterable[dict[str, Any]]:
        found = list(published(owners, host, self._loader, self._templar))
        services = [one for one in found if isinstance(one, Service)]
        problems = [one for one in found if isinstance(one, Problem)] or list(clashes(services, host.host))
        if problems:
            raise AnsibleLookupError("\n".join(problem.text() for problem in problems))
        return [service.public() for service in services]
