# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where secrets leave a result.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

HIDDEN, LEAST_SECRET = "<secret>", 4
# Under which somebody writes a secret where none is asked for. Not every token: models have names for theirs.
NAMED = re.compile(
    r"token$|(?:.*[_-])?(?:(?:hf|hub|auth|access|api|bearer|refresh)[_-]?token|secret|password|passwd|passphrase|"
    r"credentials?|api[_-]?key|(?:access|private|secret)[_-]key)(?:[_-].*)?$",
    re.IGNORECASE,
)


def called(name: object, value: object) -> Iterator[object]:
    """Every value of a nesting whose name calls it a secret."""
    if NAMED.match(str(name)):
        yield value
    elif isinstance(value, Mapping):
        for inner, one in value.items():
            yield from called(inner, one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from called("", one)


def texts(value: object) -> Iterator[str]:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts(item)


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
        self._secrets = sorted((s for s in lines if len(s.strip()) >= LEAST_SECRET), key=len, reverse=True)

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
