# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookups that say something of the host at hand, computed on the controller from its variables.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.variables import Variables, of_collection


class OfHost(LookupBase):
    """What ``of_host`` finds, as a list; its InputError in the words of Ansible, under the lookup's own name."""

    name: str

    def of_host(self, owners: Mapping[str, Path], host: Variables) -> Iterable[dict[str, Any]]:
        raise NotImplementedError

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_options: Any) -> list[dict[str, Any]]:
        if terms:
            raise AnsibleLookupError(f"{self.name}: takes no terms, got {len(terms)}")
        written = variables or {}
        host = Variables(str(written.get("inventory_hostname")), written, self._templar.template)
        try:
            return list(self.of_host(of_collection(), host))
        except InputError as error:
            raise AnsibleLookupError(f"{self.name}: {error}") from error
