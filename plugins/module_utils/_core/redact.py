# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where secrets leave a result.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

HIDDEN = "<secret>"


class Redactor:
    """Replaces every known secret, in any string of any nesting, by ``<secret>``.

    Those shorter than four characters are left alone: replacing them would turn the result into
    noise and still give them away by their length. ``ensure_state`` refuses such secrets.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        lines = {part for secret in secrets for part in (secret, *secret.splitlines())}
        # Tools quote what they do not like, and so do Python and JSON.
        lines |= {form for part in lines for form in (repr(part)[1:-1], json.dumps(part)[1:-1], shlex.quote(part))}
        # Longest first, so that a secret that contains another one is replaced whole.
        self._secrets = sorted((s for s in lines if len(s.strip()) >= 4), key=len, reverse=True)

    def text(self, value: str) -> str:
        for secret in self._secrets:
            value = value.replace(secret, HIDDEN)
        return value

    def __call__(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self(k): self(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(v) for v in value]
        return value
