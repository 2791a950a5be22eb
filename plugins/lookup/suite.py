# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The archive of tools for a node, as text that an option can carry."""

from __future__ import annotations

DOCUMENTATION = r"""
name: suite
short_description: The archive of tools for a node
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Makes one archive of the node code of this collection, which Python runs - the launchers and
    C(spark-ensure-state) - and returns it compressed, as text for the option C(suite) of M(nusy.dgx_spark.launchers).
  - The archive that reaches the node is the same byte for byte for the same release.
options: {}
seealso:
  - module: nusy.dgx_spark.launchers
"""

EXAMPLES = r"""
- name: Ensure the tools on the node
  nusy.dgx_spark.launchers:
    suite: "{{ lookup('nusy.dgx_spark.suite') }}"
    launchers: [vllm-serve]
  become: true
"""

RETURN = r"""
_raw:
  description: One text of about 250 KB.
  type: list
  elements: str
"""

import base64
import zlib
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.suite import archive


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: object = None, **_options: Any) -> list[str]:
        if terms:
            raise AnsibleLookupError(f"nusy.dgx_spark.suite: takes no terms, got {len(terms)}")
        return [base64.b64encode(zlib.compress(archive(), 9)).decode("ascii")]
