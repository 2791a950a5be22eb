# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that systemd reads: environment files and command lines.

Both directions are checked against systemd's own parser by the tests, so that what is
written here is what a service gets, byte for byte.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# What is no text for systemd: NUL, surrogates, and the code points that Unicode set apart for
# ever. It drops a variable whose value holds one, and says so only in the journal.
_NOT_TEXT = re.compile(
    "[\\x00\\ud800-\\udfff\\ufdd0-\\ufdef"
    + "".join(f"\\U{plane << 16 | last:08x}" for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Inside double quotes both systemd and a POSIX shell take a backslash before one of these
# as a quote of it, and before anything else as itself.
_QUOTED = re.compile(r'[\\"$`]')
_WHITE = " \t\n\r"
_NEWLINE = "\n\r"
# A word of a command line that means the same with and without quotes.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=,+@-]+\Z")
# The first word names the program. systemd reads @ - : + ! | before it as orders of its own
# and expands no variable in it, so an absolute path of plain characters is all that is taken.
_PROGRAM = re.compile(r"/[A-Za-z0-9_./:=,+@-]*[A-Za-z0-9_.:=,+@-]\Z")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%", "$": "$$"}


def environment_text(variables: Mapping[str, str]) -> str:
    """The text of an ``EnvironmentFile=`` that gives a service exactly these variables.

    Sorted by name, one ``NAME="value"`` each. A newline in a value stands as itself between
    the quotes, so one variable can take several lines. A POSIX shell that sources the text
    gets the same values. ValueError for a name or value that systemd would drop.
    """
    lines = []
    for name in sorted(variables):
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is not a variable name: letters, digits and _ are, not beginning with a digit")
        value = variables[name]
        if bad := _NOT_TEXT.search(value):
            raise ValueError(
                f"the value of {name} holds {bad.group()!r} at position {bad.start()}: it is no text to systemd, "
                "which would drop the whole variable"
            )
        lines.append('{}="{}"\n'.format(name, _QUOTED.sub(r"\\\g<0>", value)))
    return "".join(lines)


def parse_environment(text: str) -> dict[str, str]:
    """What a service gets from an ``EnvironmentFile=`` with this text.

    Reads every form that systemd reads (comments, single and double quotes, joined pieces,
    continued lines), so that a file written by somebody else can be compared too. The last
    of several assignments counts. Like systemd, drops what is no valid assignment.
    A comment ends at its line's end, backslash or not, as of systemd 254.
    """
    found: dict[str, str] = {}
    key: list[str] = []
    value: list[str] = []
    state = "before key"
    trail = 0  # length of the value without white space after its last unquoted character

    def done(length: int | None = None) -> None:
        name, content = "".join(key).rstrip(_WHITE), "".join(value[:length])
        if _NAME.match(name) and not _NOT_TEXT.search(content):
            found.pop(name, None)
            found[name] = content
        key.clear()
        value.clear()

    for char in text:
        if state == "before key":
            if char in "#;":
                state = "comment"
            elif char not in _WHITE:
                state, key[:] = "key", [char]
        elif state == "key":
            if char in _NEWLINE:
                state = "before key"
            elif char == "=":
                state, trail = "before value", 0
            else:
                key.append(char)
        elif state == "before value":
            if char in _NEWLINE:
                state = "before key"
                done()
            elif char == "'":
                state = "single"
            elif char == '"':
                state = "double"
            elif char == "\\":
                state = "escape"
            elif char not in _WHITE:
                state = "value"
                value.append(char)
                trail = len(value)
        elif state == "value":
            if char in _NEWLINE:
                state = "before key"
                done(trail)
            elif char == "\\":
                state, trail = "escape", len(value)
            else:
                value.append(char)
                trail = trail if char in _WHITE else len(value)
        elif state == "escape":
            state = "value"
            if char not in _NEWLINE:
                value.append(char)
            trail = len(value)
        elif state == "single":
            state = "before value" if char == "'" else state
            value += [char] if char != "'" else []
        elif state == "double":
            state = {'"': "before value", "\\": "double escape"}.get(char, state)
            value += [char] if char not in '"\\' else []
        elif state == "double escape":
            state = "double"
            value += [char] if _QUOTED.match(char) else ["\\", char] if char != "\n" else []
        elif char in _NEWLINE:  # comment
            state = "before key"
    if state == "value":
        done(trail)
    elif state not in ("before key", "key", "comment"):  # an open quote ends with the file
        done()
    return found


def command_line(argv: Sequence[str]) -> str:
    """One line for ``ExecStart=`` and its kin that starts a program with exactly these arguments.

    Nothing in it is expanded: neither ``%`` specifiers nor ``$`` variables. ValueError for
    what a command line cannot carry.
    """
    if not argv:
        raise ValueError("the list is empty: the first item names the program")
    if not _PROGRAM.match(argv[0]):
        raise ValueError(
            f"the program {argv[0]!r} is not an absolute path of letters, digits and _./:=,+@-: "
            "systemd expands nothing in the name of the program"
        )
    return " ".join([argv[0], *(_word(number, word) for number, word in enumerate(argv[1:], 1))])


def _word(number: int, word: str) -> str:
    if bad := _NOT_TEXT.search(word):
        raise ValueError(f"item {number} holds {bad.group()!r} at position {bad.start()}: an argument cannot hold it")
    if _PLAIN_WORD.match(word):
        return word
    return '"' + "".join(_ESCAPES.get(c) or (f"\\x{ord(c):02x}" if _CONTROL.match(c) else c) for c in word) + '"'
