# SPDX-License-Identifier: GPL-3.0-or-later
"""A dictionary as the text of a systemd environment file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: systemd_environment
short_description: A dictionary as the text of a systemd environment file
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - Writes one C(NAME="value") for each variable, sorted by name, quoted so that a service
    with this text in its C(EnvironmentFile=) gets exactly these variables.
  - A newline in a value is kept, between the quotes, so one variable can take several lines.
  - A POSIX shell that sources the text gets the same values. C(docker --env-file) does not,
    as it knows no quotes.
notes:
  - Tested against systemd's own parser with thousands of generated values.
options:
  _input:
    description:
      - Variable names and their values.
      - A name is made of letters, digits and C(_), and does not begin with a digit.
      - A value is text or a whole number. Booleans are refused, as programs disagree on how
        to write them; quote what the program wants.
      - A value cannot hold NUL, lone surrogates or Unicode noncharacters. systemd would drop the variable.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write the environment of a service
  ansible.builtin.copy:
    dest: /etc/nusy/example.env
    content: "{{ {'PORT': 8000, 'GREETING': 'say \"hello\" for $5'} | nusy.dgx_spark.systemd_environment }}"
    mode: "0644"
# GREETING="say \"hello\" for \$5"
# PORT="8000"
"""

RETURN = r"""
_value:
  description: The text of the file, with a newline at its end; empty for an empty dictionary.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError, AnsibleTypeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text.systemd import environment_text

NAME = "nusy.dgx_spark.systemd_environment"


def systemd_environment(variables: object) -> str:
    if not isinstance(variables, Mapping):
        raise AnsibleTypeError(f"{NAME}: wants a dictionary of variables, got {type(variables).__name__}")
    for name, value in variables.items():
        if not isinstance(name, str):
            raise AnsibleTypeError(f"{NAME}: the name {name!r} is {type(name).__name__}, not text: quote it")
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise AnsibleTypeError(
                f"{NAME}: the value of {name} is {type(value).__name__}, not text or a whole number: quote it"
            )
    try:
        return environment_text({name: str(value) for name, value in variables.items()})
    except ValueError as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"systemd_environment": systemd_environment}
