# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters take as a list of arguments.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible.errors import AnsibleTypeError


def arguments(filter_name: str, argv: object) -> list[str]:
    """The list as text. Booleans are refused: programs disagree on how to write them."""
    if isinstance(argv, (str, bytes)) or not isinstance(argv, Sequence):
        raise AnsibleTypeError(f"{filter_name}: wants a list of arguments, got {type(argv).__name__}")
    for number, word in enumerate(argv):
        if isinstance(word, bool) or not isinstance(word, (str, int)):
            raise AnsibleTypeError(
                f"{filter_name}: item {number} is {type(word).__name__}, not text or a whole number: quote it"
            )
    return [str(word) for word in argv]
