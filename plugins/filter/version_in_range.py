# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a version is in a range."""

from __future__ import annotations

DOCUMENTATION = r"""
name: version_in_range
short_description: Whether a version is in a range
version_added: 0.1.0
author:
  - The nusy.dgx_spark maintainers (@nusy)
description:
  - One order for the versions of drivers, kernels, toolkits, packages and wheels. It is that of
    numbers, so it agrees with dpkg and with PEP 440 about versions made of numbers; where those
    two differ from each other it is defined here.
  - A version begins with a digit and has up to three parts, C(MAIN[-FLAVOUR][+LOCAL]).
  - C(MAIN) is cut into numbers and words. C(.), C(-), C(_) and a change from digit to letter only
    separate them. Numbers compare as numbers, words as lower-case text, and a number that is not
    there counts as 0, so C(13.0) equals C(13.0.0) and C(580.126.09) equals C(580.126.9).
  - C(a), C(alpha), C(b), C(beta), C(c), C(rc), C(pre), C(preview), C(dev) and anything after C(~)
    come before the bare version. Every other word comes after it and before the next number.
  - C(FLAVOUR) begins at the first C(-) followed by a word that is neither one of those nor C(post),
    as C(nvidia) in C(6.17.0-1014-nvidia). C(LOCAL) follows the first C(+), as C(cu130) in C(2.13.0+cu130)
    or C(1) in C(1.19.0-1+1). Each is compared only when the bound names one, and after C(MAIN).
  - So a Debian revision counts. C(580.159.03-0ubuntu1) is higher than C(580.159.03).
  - A pre-release of the upper bound is below it. C(581~rc1) is in C(<581).
  - Debian epochs (C(1:2.0)) are refused, as is anything else that is not a version.
positional: wanted
options:
  _input:
    description: The version. White space around it is ignored.
    type: str
    required: true
  wanted:
    description:
      - Bounds, each one of C(>=), C(<=), C(==), C(!=), C(>), C(<) and a version.
      - C(,) between two bounds means that both hold. C(|) separates alternatives.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show which of these holds (all do)
  ansible.builtin.debug:
    msg:
      - "{{ '580.159.03' | nusy.dgx_spark.version_in_range('>=580.126.09,<581') }}"
      - "{{ '6.17.0-1014-nvidia' | nusy.dgx_spark.version_in_range('>=6.14.0-1015,<6.15 | >=6.17.0-1014') }}"
      - "{{ '2.13.0+cu130' | nusy.dgx_spark.version_in_range('==2.13.0') }}"
      - "{{ '1.3.0rc13' | nusy.dgx_spark.version_in_range('<1.3.0') }}"
"""

RETURN = r"""
_value:
  description: Whether the version is in the range.
  type: bool
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError, AnsibleTypeError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._text import versions

NAME = "nusy.dgx_spark.version_in_range"


def version_in_range(version: object, wanted: object) -> bool:
    for what, value in (("version", version), ("range", wanted)):
        if not isinstance(value, str):
            raise AnsibleTypeError(f"{NAME}: the {what} is {type(value).__name__}, not text: quote it")
    try:
        return versions.version_in_range(str(version), str(wanted))
    except ValueError as error:
        raise AnsibleFilterError(f"{NAME}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"version_in_range": version_in_range}
