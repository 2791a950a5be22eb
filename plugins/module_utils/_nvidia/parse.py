# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the module nvidia_toolkit → what is wanted.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nusy.dgx_spark.plugins.module_utils._apt.keys import wrong_key
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia import absent
from ansible_collections.nusy.dgx_spark.plugins.module_utils._nvidia.model import (
    REPOSITORY_FINGERPRINT,
    REPOSITORY_KEY_URL,
    REPOSITORY_URL,
    Wanted,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions import judge

_TEXTS: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
ARGUMENT_SPEC: dict[str, Any] = {
    "gpu": {"type": "str", "choices": ["auto", "expected"], "default": "auto"},
    "branch": {"type": "str", "default": "580"},
    "driver_packages": _TEXTS,
    "version": {"type": "str", "default": ""},
    "repository_url": {"type": "str", "default": REPOSITORY_URL},
    "repository_fingerprint": {"type": "str", "default": REPOSITORY_FINGERPRINT},
    # A public key, and where it is.
    "repository_key": {"type": "str", "default": "", "no_log": False},
    "repository_key_url": {"type": "str", "default": REPOSITORY_KEY_URL, "no_log": False},
    "holds": _TEXTS,
    "docker_users": _TEXTS,
    **absent.OPTION,
    **judge.OPTIONS,
    **OPTIONS,
}
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")  # Debian policy 5.6.7
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~-]*\Z")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]*\Z")
_URL = re.compile(r"(?:https|file):/\S+\Z")


def wanted(params: Mapping[str, Any]) -> Wanted:
    """Raises InputError with the name of the option."""
    if params["gpu"] == "expected" and absent.none_declared(params):
        raise _wrong("gpu", "not expected on a machine that is declared without one (spark_gpu: none)", "'expected'")
    _fits("branch", params["branch"], re.compile(r"[0-9]{3}\Z"), "the number of a driver branch, such as 580")
    for option in ("driver_packages", "holds"):
        for number, name in enumerate(params[option]):
            _fits(f"{option}[{number}]", name, _PACKAGE, "the exact name of a package, without a version or *")
    for number, name in enumerate(params["docker_users"]):
        _fits(f"docker_users[{number}]", name, _ACCOUNT, "the name of an account")
    if params["version"]:
        _fits("version", params["version"], _VERSION, "the version of a package, such as 1.19.0-1")
    for option in ("repository_url", "repository_key_url"):
        if "@" in urlsplit(params[option]).netloc:
            # Everybody on the node can read it in the source, and it would be in every report: here it is not shown.
            what = "an address without a user or password; those are for /etc/apt/auth.conf.d"
            raise _wrong(option, what, "one with them")
        _fits(option, params[option], _URL, "an https or file address")
    fingerprint = re.sub(r"\s", "", params["repository_fingerprint"]).upper()
    _fits("repository_fingerprint", fingerprint, re.compile(r"[0-9A-F]{40}\Z"), "40 hexadecimal digits")
    problem = wrong_key(params["repository_key"], fingerprint) if params["repository_key"] else ""
    if problem:
        raise _wrong("repository_key", f"the key {fingerprint}, and no other", problem)
    return Wanted(
        expected=params["gpu"] == "expected",
        branch=params["branch"],
        driver_packages=tuple(params["driver_packages"]),
        version=params["version"],
        repository_url=params["repository_url"],
        fingerprint=fingerprint,
        key=params["repository_key"],
        key_url=params["repository_key_url"],
        holds=tuple(params["holds"]),
        docker_users=tuple(params["docker_users"]),
        rows=judge.matrix(params["version_matrix"]),
        confirmed=frozenset(params["confirm"]),
    )


def _fits(option: str, text: str, pattern: re.Pattern[str], what: str) -> None:
    if not pattern.match(text):
        raise _wrong(option, what, repr(text[:200]))


def _wrong(option: str, what: str, found: str) -> InputError:
    return InputError(
        "nvidia.input",
        wanted=f"{option}: {what}",
        found=found,
        why="nothing is looked at or changed with a declaration that cannot be what was meant",
        fix=f"correct {option}; the documentation of nvidia_toolkit shows an example",
    )
