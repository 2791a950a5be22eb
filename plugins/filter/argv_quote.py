# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of arguments as one line for a shell."""

from __future__ import annotations

DOCUMENTATION = r"""
name: argv_quote
short_description: A list of arguments as one line for a POSIX shell
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Joins the arguments with spaces and quotes those that need it, so that a POSIX shell
    splits the line into exactly this list and expands nothing in it.
seealso:
  - plugin: nusy.dgx_spark.systemd_argv
    plugin_type: filter
options:
  _input:
    description:
      - The arguments. Each is text or a whole number, and holds no NUL.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show a command that can be pasted
  ansible.builtin.debug:
    msg: "{{ ['vllm', 'serve', '/srv/models/my model', '--port', 8000] | nusy.dgx_spark.argv_quote }}"
# vllm serve '/srv/models/my model' --port 8000
"""

RETURN = r"""
_value:
  description: The line, without a newline at its end; empty for an empty list.
  type: str
"""

import shlex
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.arguments import arguments

NAME = "nusy.dgx_spark.argv_quote"


def argv_quote(argv: object) -> str:
    words = arguments(NAME, argv)
    for number, word in enumerate(words):
        if "\0" in word:
            raise AnsibleFilterError(f"{NAME}: item {number} holds NUL, which ends an argument")
    return shlex.join(words)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"argv_quote": argv_quote}
