# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads Ansible's command line: how the same playbooks are run again, for real.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import yaml
from ansible_collections.nusy.dgx_spark.plugins.plugin_utils.drift import text


def again(cli: Mapping[str, Any]) -> dict[str, Any]:
    """How to run the same playbooks for real, as far as no secret can be in it.

    command     ansible-playbook, the playbooks, and where and as whom they run
    flags       the last of these alone, for another playbook
    tags        what the run was restricted to, by --tags; skip_tags likewise
    variables   names that were given with -e: their values may be secrets
    local       what a real run against this machine needs in addition
    directory   where it was called: paths of the command are relative to it
    """
    flags = []
    for source in cli.get("inventory") or ():
        flags += ["-i", source if "," in source else _from_here(source)]
    for name in ("remote_user", "private_key_file", "become_user", "become_method", "become_password_file"):
        if (value := cli.get(name)) and value != _USUAL.get(name):
            flags += ["--" + name.replace("remote_", "").replace("_key_file", "-key").replace("_", "-"), str(value)]
    for name, flag in (("vault_ids", "--vault-id"), ("vault_password_files", "--vault-password-file")):
        for value in cli.get(name) or ():
            flags += [flag, str(value)]
    for name in ("become", "become_ask_pass", "ask_pass", "ask_vault_pass"):
        if cli.get(name):
            flags.append({"become_ask_pass": "--ask-become-pass"}.get(name, "--" + name.replace("_", "-")))
    names: list[str] = []
    for given in cli.get("extra_vars") or ():
        if str(given).startswith("@"):
            flags += ["-e", "@" + _from_here(str(given)[1:])]
        else:
            names += _names(str(given))
    local = ["-e", f"spark_local_apply={os.uname().nodename}"]
    if os.geteuid() and not cli.get("become"):
        local += ["--become", "--ask-become-pass"]
    playbooks = [_from_here(name) if "/" in name else name for name in cli.get("args") or ()]
    return {
        "command": [_program(), *playbooks, *flags],
        "flags": flags,
        "tags": [str(tag) for tag in cli.get("tags") or () if tag != "all"],
        "skip_tags": [str(tag) for tag in cli.get("skip_tags") or ()],
        "variables": sorted(set(names)),
        "local": local,
        "directory": text.line(os.getcwd()),
    }


_USUAL = {"become_method": "sudo"}


def _names(given: str) -> list[str]:
    """The variables of one -e, as far as they can be told without keeping a value."""
    if given.lstrip().startswith(("{", "[")):
        try:
            loaded = yaml.safe_load(given)
        except yaml.YAMLError:
            return []
        return [text.line(name, 100) for name in loaded] if isinstance(loaded, Mapping) else []
    with contextlib.suppress(ValueError):
        return [text.line(word.partition("=")[0], 100) for word in shlex.split(given) if "=" in word]
    return []


def _program() -> str:
    """ansible-playbook as it can be called from here."""
    if os.path.basename(sys.argv[0]) != "ansible-playbook":
        return "ansible-playbook"
    found = shutil.which("ansible-playbook")
    if found and os.path.samefile(found, sys.argv[0]):
        return "ansible-playbook"
    return _from_here(sys.argv[0])


def _from_here(path: str) -> str:
    """Below the working directory as one would type it, else from the root."""
    whole, here = os.path.abspath(os.path.expanduser(path)), os.getcwd()
    return os.path.relpath(whole, here) if whole.startswith(here.rstrip("/") + "/") else whole
