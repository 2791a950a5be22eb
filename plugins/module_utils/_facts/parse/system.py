# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel, the operating system and its security state.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import ParseError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._facts.parse.text import MAX_LINE, assignments


def release(text: str) -> str:
    """A kernel release such as ``6.17.0-1014-nvidia``."""
    word = text.strip()
    if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,4}[A-Za-z0-9._+~-]{0,80}", word, re.ASCII):
        raise ParseError("kernel release", text, "a version such as 6.17.0-1014-nvidia")
    return word


def parameters(text: str) -> dict[str, list[str]]:
    """The kernel command line: name → its values in order (``console`` comes three times).

    A parameter without ``=`` has the value ``""``. Double quotes keep blanks together, as in the kernel.
    """
    found: dict[str, list[str]] = {}
    for word in re.findall(r'(?:"[^"]*"?|[^\s"])+', text):
        if word == "--":  # what follows is for init, not for the kernel
            break
        name, _equals, value = word.replace('"', "").partition("=")
        if name:
            found.setdefault(name, []).append(value)
    if not found:
        raise ParseError("/proc/cmdline", text, "at least one parameter")
    return found


def os_release(text: str) -> dict[str, str]:
    found = assignments("/etc/os-release", text)
    if not found.get("ID"):
        raise ParseError("/etc/os-release", text, "a line ID=…")
    return found


def lockdown(text: str) -> str:
    """``none [integrity] confidentiality`` → the chosen one."""
    match = re.search(r"\[([a-z]{1,20})\]", text, re.ASCII)
    if match is None:
        raise ParseError("kernel lockdown", text, "a choice in square brackets")
    return match[1]


def security_modules(text: str) -> list[str]:
    words = text.strip().split(",")
    if not all(re.fullmatch(r"[a-z0-9_]{1,32}", word, re.ASCII) for word in words):
        raise ParseError("Linux security modules", text, "names separated by commas")
    return words


def ufw_enabled(text: str) -> bool:
    """/etc/ufw/ufw.conf: whether ufw comes up at boot."""
    value = assignments("/etc/ufw/ufw.conf", text).get("ENABLED", "").lower()
    if value not in {"yes", "no"}:
        raise ParseError("/etc/ufw/ufw.conf", text, "ENABLED=yes or ENABLED=no")
    return value == "yes"


def package_names(text: str) -> list[str]:
    """/run/reboot-required.pkgs: one name a line, repeated for each reason."""
    names = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+.:_-]{0,200}", name, re.ASCII) for name in names):
        raise ParseError("/run/reboot-required.pkgs", text, "one package name a line")
    return names


def dpkg_query(text: str) -> dict[str, str]:
    """Lines ``package,version,status``: the installed ones. Without a status all count as installed."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        cells = line[:MAX_LINE].split(",")
        if len(cells) not in {2, 3} or not re.fullmatch(r"[a-z0-9][a-z0-9+.:-]{0,200}", cells[0], re.ASCII):
            raise ParseError("dpkg-query", line, "package,version,status")
        if len(cells) == 2 or cells[2] == "installed":
            found[cells[0]] = cells[1]
    return found
