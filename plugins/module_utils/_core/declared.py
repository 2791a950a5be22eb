# SPDX-License-Identifier: GPL-3.0-or-later
"""The declaration of a role, kept on the node for whoever stands before it without Ansible.

``/var/lib/nusy/declared/<name>.json`` holds the module and its options as the last real run gave
them, so that ``spark-ensure-state`` judges what was declared and not what somebody remembers. For
root alone, and without secrets: what was one reads ``<secret>``.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable, doing
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import HIDDEN
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Reader, Writer

STATE = "/var/lib/nusy"
FOLDER = f"{STATE}/declared"
SCHEMA = "nusy.dgx_spark.declared/1"
# In an address: who and with what.
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True)
class Declared:
    """name: the role, or the thing where one role may declare several."""

    name: str
    module: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """What is kept under a name: a declaration, or why there is none to be had."""

    name: str
    declared: Declared | None = None
    problem: str = ""


def path_of(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def keep(declared: Declared, reader: Reader, writer: Writer) -> None:
    """Before the first step: after a run that failed it tells what was wanted.

    Nothing is kept in a folder that somebody else can write to: whoever reads it would be lied to.
    """
    with doing(f"the declaration of {declared.name} on the node"):
        if not _trusted(reader):
            return
        for folder, mode in ((STATE, 0o755), (FOLDER, 0o700)):
            if reader.stat(folder) is None:
                writer.mkdir(folder, mode=mode, uid=0, gid=0)
        content = {"schema": SCHEMA, "module": declared.module, "params": _bare(declared.params)}
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        path = path_of(declared.name)
        stat = reader.stat(path)
        if stat is None or (stat.kind, stat.mode, stat.uid) != ("file", 0o600, 0) or reader.read(path) != text:
            writer.write(path, text, mode=0o600, uid=0, gid=0)


def find(reader: Reader) -> tuple[Kept, ...]:
    """Everything that is kept, by name. Raises Unreadable for who may not look."""
    if not _trusted(reader):
        raise Unreadable(f"{FOLDER} can be written to by others than root, so nothing in it counts")
    names = [name[: -len(".json")] for name in reader.listdir(FOLDER) or () if name.endswith(".json")]
    return tuple(_read(name, reader) for name in names)


def _read(name: str, reader: Reader) -> Kept:
    path = path_of(name)
    try:
        stat = reader.stat(path)
        if stat is None or stat.kind != "file" or stat.uid != 0 or stat.mode & 0o022:
            return Kept(name, problem=f"{path} is not a file that root alone can write")
        content = json.loads(reader.read(path) or "")
        if content["schema"] != SCHEMA:
            return Kept(name, problem=f"{path} is of another release ({content['schema']}): run the role again")
        return Kept(name, Declared(name, str(content["module"]), dict(content["params"])))
    except Unreadable as error:
        return Kept(name, problem=str(error))
    except (ValueError, KeyError, TypeError) as error:
        return Kept(name, problem=f"{path} cannot be understood ({type(error).__name__}): run the role again")


def _trusted(reader: Reader) -> bool:
    stats = [reader.stat(folder) for folder in (STATE, FOLDER)]
    return all(s is None or (s.kind == "directory" and s.uid == 0 and not s.mode & 0o022) for s in stats)


def _bare(value: object) -> object:
    """Known secrets are gone already; what an address says before its host may be one that nobody declared so."""
    if isinstance(value, str):
        return _USERINFO.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {str(key): _bare(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_bare(item) for item in value]
    return value
