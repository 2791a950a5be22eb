# SPDX-License-Identifier: GPL-3.0-or-later
"""Trivy's reports of container images in the short form that role updates takes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: trivy_images
short_description: Scans of container images for role updates
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Takes reports of C(trivy image --format json) and keeps what a node needs to be judged by them, which image by which
    digest, when it was scanned, and what was found.
  - A report without the time of its scan, or of something else than an image, is refused.
options:
  _input:
    description: The reports, each a mapping as Trivy writes it (schema version 2).
    type: list
    elements: dict
    required: true
  severity:
    description: Findings of a lower severity are left out. Those that nobody has rated stay.
    type: str
    choices: [LOW, MEDIUM, HIGH, CRITICAL]
    default: HIGH
"""

EXAMPLES = r"""
# In group_vars, with one report for each image, made where there is a network:
# scans: "{{ query('ansible.builtin.file', *query('ansible.builtin.fileglob', 'scans/*.json')) }}"
# updates_images: "{{ scans | map('from_json') | nusy.dgx_spark.trivy_images }}"
- name: Show what is known of an image
  ansible.builtin.debug:
    msg: "{{ [report | from_json] | nusy.dgx_spark.trivy_images('CRITICAL') }}"
  vars:
    report: "{{ lookup('ansible.builtin.file', 'scans/vllm.json') }}"
"""

RETURN = r"""
_value:
  description: Entries of C(updates_images).
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable
from typing import Any

from ansible.errors import AnsibleFilterError, AnsibleTypeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._updates import scans

NAME = "nusy.dgx_spark.trivy_images"


def trivy_images(reports: object, severity: str = "HIGH") -> list[dict[str, Any]]:
    if isinstance(reports, (str, bytes, dict)) or not isinstance(reports, Iterable):
        raise AnsibleTypeError(f"{NAME}: the reports are {type(reports).__name__}, not a list")
    try:
        return scans.short(list(reports), severity)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"trivy_images": trivy_images}
