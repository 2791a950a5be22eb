# SPDX-License-Identifier: GPL-3.0-or-later
"""Module parameters → Document. What an argument spec cannot say is checked here.

``CONTROL_OPTIONS`` is the one description of the input: the module's argument spec and the
parser are both made from it, and a test holds the documentation against it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import expects, resources, wholes
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Document,
)
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.resources import matching, wrong

ROLE = re.compile(r"[a-z][a-z0-9_]*")
CONTROL = re.compile(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*")


def _list(**options: object) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def _names() -> dict[str, Any]:
    return {"type": "list", "elements": "str", "default": []}


_TEXT: dict[str, Any] = {"type": "str"}
_NEEDED: dict[str, Any] = {"type": "str", "required": True}
_FLAG: dict[str, Any] = {"type": "bool"}
_NO: dict[str, Any] = {"type": "bool", "default": False}
_YES: dict[str, Any] = {"type": "bool", "default": True}
_ROOT: dict[str, Any] = {"type": "str", "default": "root"}
_PATH: dict[str, Any] = {"type": "str", "required": True}

CONTROL_OPTIONS: dict[str, Any] = {
    "id": _NEEDED,
    "packages": _names(),
    "absent_packages": _names(),
    "holds": _names(),
    "groups": _list(name=_NEEDED, gid={"type": "int"}, system=_NO),
    "users": _list(
        name=_NEEDED,
        uid={"type": "int"},
        group=_TEXT,
        groups=_names(),
        home=_TEXT,
        shell=_TEXT,
        comment=_TEXT,
        system=_NO,
    ),
    "directories": _list(path=_PATH, owner=_ROOT, group=_ROOT, mode={"type": "raw", "default": "0755"}),
    "files": _list(
        path=_PATH,
        content={"type": "str", "default": ""},
        owner=_ROOT,
        group=_ROOT,
        mode={"type": "raw", "default": "0644"},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        fragment=_NO,
        sensitive=_FLAG,
        validate=_names(),
    ),
    "links": _list(path=_PATH, target=_NEEDED),
    "settings": _list(path=_PATH, name=_NEEDED, value=_NEEDED, separator={"type": "str", "default": " "}),
    "kernel_modules": _list(name=_NEEDED, loaded=_YES),
    "sysctls": _list(name=_NEEDED, value=_NEEDED),
    "sysfs": _list(path=_PATH, value=_NEEDED),
    "mounts": _list(path=_PATH, source=_NEEDED, fstype=_NEEDED, options={**_names(), "default": ["defaults"]}),
    "probes": _list(
        name=_NEEDED,
        command={"type": "list", "elements": "str", "required": True},
        has=_names(),
        lacks=_names(),
        silent=_NO,
        last=_NO,
        separator={"type": "str", "default": ""},
        root=_YES,
        mend=_names(),
        otherwise={"type": "str", "default": ""},
    ),
    "units": _list(
        name=_NEEDED,
        enabled=_FLAG,
        active=_FLAG,
        masked=_FLAG,
        content=_TEXT,
        dropins={"type": "dict", "default": {}},
        restart_on=_names(),
        on_change={"type": "str", "choices": ["restart", "reload", "none"], "default": "restart"},
        rollback=_NO,
        trial=_names(),
    ),
    "assertions": _list(
        name=_NEEDED,
        state={"type": "str", "choices": ["in_sync", "drifted", "unknown"], "required": True},
        found={"type": "str", "default": ""},
        wanted={"type": "str", "default": ""},
        reason={"type": "str", "default": ""},
        fix={"type": "str", "default": ""},
    ),
    "inputs": {"type": "dict", "default": {}},
}

ARGUMENT_SPEC: dict[str, Any] = {
    "role": _NEEDED,
    "controls": {"type": "list", "elements": "dict", "required": True, "options": CONTROL_OPTIONS},
    **OPTIONS,
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "install_recommends": _NO,
    "packages_first": _NO,
    "systems": _names(),
    "expects": expects.OPTIONS,
}


def document(params: Mapping[str, Any]) -> Document:
    """Raises InputError, with the path of the wrong value, before anything is looked at."""
    expects.judge(params["expects"])
    _writable(params, "")
    role = matching(ROLE, params["role"], "role", "a role name")
    for name, value in params["secrets"].items():
        if not isinstance(value, str):
            raise wrong(f"secrets.{name}", "text", type(value).__name__, "its Python form would become the password")
    # The line end after a reference is the one of the file that has it.
    secrets = {str(name): value.removesuffix("\n") for name, value in params["secrets"].items()}
    declared = tuple(_control(entry, f"controls[{i}]", role) for i, entry in enumerate(params["controls"]))
    controls = tuple(control for control in declared if control.id != f"{role}/file_extra")
    ids = [control.id for control in declared]
    for i, name in enumerate(ids):
        if name in ids[:i]:
            raise wrong(f"controls[{i}].id", "an id used once", name, "two verdicts would share one name")
    for i, name in enumerate(params["skip_controls"]):
        if name not in (*ids, f"{role}/file_extra"):
            known = f"a control of role {role}: {', '.join(dict.fromkeys((*ids, f'{role}/file_extra')))}"
            raise wrong(f"skip_controls[{i}]", known, name, "a misspelt name would skip nothing")
    for name, value in secrets.items():
        if value and any(value in text for text in (role, *ids)):
            why = "redaction would make the verdicts of these controls unreadable"
            raise wrong(f"secrets.{name}", "a value that is no part of an id", "one that is", why)
    for control in controls:
        _check_secrets(control, secrets)
    return Document(
        role=role,
        controls=controls,
        skipped=frozenset(params["skip_controls"]),
        confirmed=frozenset(params["confirm"]),
        secrets=secrets,
        install_recommends=params["install_recommends"],
        packages_first=params["packages_first"],
        systems=tuple(params["systems"]),
        extra=len(controls) < len(declared),
    )


def _control(entry: Mapping[str, Any], at: str, role: str) -> ControlSpec:
    name = matching(CONTROL, entry["id"], f"{at}.id", "<role>/<control> in snake_case")
    if name == f"{role}/file_extra" and any(value for option, value in entry.items() if option != "id"):
        raise wrong(f"{at}.id", "nothing else beside it", name, "ensure_state reports undeclared lines under this one")
    if not name.startswith(f"{role}/"):
        raise wrong(f"{at}.id", f"{role}/<control>", name, "the report attributes a control by its role")

    def each(kind: str) -> list[tuple[dict[str, Any], str]]:
        return [(item, f"{at}.{kind}[{i}]") for i, item in enumerate(entry[kind])]

    return ControlSpec(
        id=name,
        packages=resources.packages(entry, at),
        groups=tuple(resources.group(g, p) for g, p in each("groups")),
        users=tuple(resources.user(u, p) for u, p in each("users")),
        directories=tuple(resources.directory(d, p) for d, p in each("directories")),
        files=tuple(resources.file(f, p) for f, p in each("files")),
        links=tuple(resources.link(x, p) for x, p in each("links")),
        settings=tuple(resources.setting(s, p) for s, p in each("settings")),
        kernel_modules=tuple(resources.kernel_module(m, p) for m, p in each("kernel_modules")),
        sysctls=tuple(resources.sysctl(v, p) for v, p in each("sysctls")),
        sysfs=tuple(resources.sys_value(v, p) for v, p in each("sysfs")),
        mounts=tuple(resources.mount(m, p) for m, p in each("mounts")),
        probes=tuple(resources.probe(q, p) for q, p in each("probes")),
        units=tuple(resources.unit(u, p) for u, p in each("units")),
        assertions=tuple(Assertion(**a) for a in entry["assertions"]),
        inputs=json.dumps(entry["inputs"], sort_keys=True) if entry["inputs"] else "",
    )


def _check_secrets(control: ControlSpec, secrets: Mapping[str, str]) -> None:
    for unit in control.units:
        if any("${secret:" in text for text in (unit.content or "", *(t for _n, t in unit.dropins))):
            why = "everybody can read unit files, and systemctl show prints them"
            raise wrong(
                f"units of {control.id}", "no secret; put it in a file of mode 0600 and name that", unit.name, why
            )
    bare = replace(control, units=(), files=tuple(replace(file, content="") for file in control.files))
    if "${secret:" in json.dumps(asdict(bare)):
        why = "it would be written as it stands"
        raise wrong(control.id, "references to secrets in the content of files only", "${secret:…} elsewhere", why)
    texts = [f.content for f in control.files]
    for name in (match for text in texts for match in wholes.SECRET.findall(text)):
        if name not in secrets:
            raise wrong(
                f"secrets.{name}",
                f"a value, since {control.id} refers to it",
                "nothing",
                "the reference would be written as it stands",
            )
        if len(secrets[name]) < 4:
            raise wrong(
                f"secrets.{name}",
                "at least 4 characters",
                "a shorter value",
                "too short to be kept out of logs by replacement",
            )
    for file in control.files:
        at = f"{file.path} of {control.id}"
        if len(wholes.SECRET.findall(file.content)) != file.content.count("${secret:"):
            why = "it would be written as it stands"
            raise wrong(at, "${secret:name} with a name of letters, digits and _", "another form", why)
        if wholes.SECRET.search(file.content) and file.mode & 0o007:
            why = "everybody on the node could read the secret"
            raise wrong(at, 'a mode that is closed to others, such as "0600"', f"{file.mode:04o}", why)


def _writable(value: object, at: str) -> None:
    """JSON can name half a character, which no file can hold. Found here, and not half-way through a run."""
    if isinstance(value, str):
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise wrong(at, "text", "half of a surrogate pair", "it cannot be written to a file") from None
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _writable(key, f"a name in {at}" if at else "a name")
            _writable(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            _writable(inner, f"{at}[{i}]")
