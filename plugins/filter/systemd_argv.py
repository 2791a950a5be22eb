# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of arguments as one line for a systemd unit."""

from __future__ import annotations

DOCUMENTATION = r"""
name: systemd_argv
short_description: A list of arguments as one command line of a systemd unit
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Writes the arguments so that C(ExecStart=) and its kin start the program with exactly this
    list. Nothing in it is expanded, neither C(%) specifiers nor C($) variables.
notes:
  - Tested against systemd's own parser with thousands of generated arguments.
seealso:
  - plugin: nusy.dgx_spark.argv_quote
    plugin_type: filter
options:
  _input:
    description:
      - The program and its arguments. Each is text or a whole number.
      - The first is an absolute path of letters, digits and C(_./:=,+@-), as systemd expands
        nothing in it and takes some characters before it as orders of its own.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show a line of a unit
  ansible.builtin.debug:
    msg: "ExecStart={{ ['/usr/bin/printf', '100% of $HOME'] | nusy.dgx_spark.systemd_argv }}"
# ExecStart=/usr/bin/printf "100%% of $$HOME"
"""

RETURN = r"""
_value:
  description: The line, without a newline at its end.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import command_line
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.arguments import arguments

NAME = "nusy.dgx_spark.systemd_argv"


def systemd_argv(argv: object) -> str:
    words = arguments(NAME, argv)
    try:
        return command_line(words)
    except ValueError as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"systemd_argv": systemd_argv}
