# SPDX-License-Identifier: GPL-3.0-or-later
"""Advisories in the OSV format as rows of the version matrix."""

from __future__ import annotations

DOCUMENTATION = r"""
name: osv_rows
short_description: Advisories in the OSV format as rows of the version matrix
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Makes rows for C(spark_version_matrix) of an advisory export, the JSON of osv.dev. With them no virtual environment
    is built of a lock that holds a vulnerable release, and the refusal names the advisory and the fixed release.
  - Only Python distributions (ecosystem PyPI) become rows, since those are what locks hold. An advisory that was
    withdrawn becomes none.
  - A range that cannot be understood counts for every version. Leave the row out, or write one of the same C(id), for
    a release that you have judged.
options:
  _input:
    description: The advisories, each a mapping as osv.dev exports it.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
# In group_vars, with an export that was fetched where there is a network:
# spark_version_matrix: "{{ lookup('ansible.builtin.file', 'advisories.json') | from_json | nusy.dgx_spark.osv_rows }}"
- name: Show what would be refused
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', 'advisories.json') | from_json | nusy.dgx_spark.osv_rows }}"
"""

RETURN = r"""
_value:
  description: Rows as docs/version-matrix.md describes them.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError, AnsibleTypeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import osv

NAME = "nusy.dgx_spark.osv_rows"


def osv_rows(advisories: object) -> list[dict[str, str]]:
    if not isinstance(advisories, list):
        raise AnsibleTypeError(f"{NAME}: the advisories are {type(advisories).__name__}, not a list")
    try:
        return osv.rows(advisories)
    except (ValueError, AttributeError, TypeError) as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"osv_rows": osv_rows}
