# SPDX-License-Identifier: GPL-3.0-or-later
"""Module parameters → Document. What an argument spec cannot say is checked here.

``CONTROL_OPTIONS`` is the one description of the input: the module's argument spec and the
parser are both made from it, and a test holds the documentation against it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import OPTIONS
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state import expects, files
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Assertion,
    ControlSpec,
    Directory,
    Document,
    File,
    Group,
    KernelModule,
    Link,
    Mount,
    Package,
    Probe,
    Setting,
    Sysctl,
    SysValue,
    Unit,
    User,
)

ROLE = re.compile(r"[a-z][a-z0-9_]*")
CONTROL = re.compile(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*")
# Debian Policy 5.6.1, with an optional :architecture and =version. To apt a "-" at the end means: remove it.
PACKAGE = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9]+)?)(?:=(?P<version>[A-Za-z0-9.+:~-]+))?")
# useradd's own rule on Debian (NAME_REGEX), and systemd.unit(5).
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(service|socket|timer|path|mount|automount|target|slice|swap)")
GECOS = re.compile(r"[^:\n]*")
MODE = re.compile(r"0?[0-7]{3,4}")
# With "*" for the interface, as in net.ipv4.conf.*.send_redirects.
SYSCTL = re.compile(r"[a-z](?!.*(?:\.\.|//))[A-Za-z0-9_./:-]+(?:\.\*\.[a-z0-9_]+)?")
# What /proc/sys takes: one line, not blank.
VALUE = re.compile(r"[\t -~]*[!-~][\t -~]*")
# A line of a file that others own: what stands before its value.
SETTING = re.compile(r"[^\s=#]+")
SEPARATOR = re.compile(r"[ \t]+|[ \t]*=[ \t]*")
PROBE = re.compile(r"[A-Za-z0-9_./@-]+")
SYS_PATH = re.compile(r"/sys/[A-Za-z0-9_./:,@+-]+")
SYS_VALUE = re.compile(r"[!#$&(-\[\]-~](?:[ !#$&(-\[\]-~]*[!#$&(-\[\]-~])?")
LINE = re.compile(r"[^\n\0]+")
# Fields of fstab. A line that begins with # is a comment, and blanks and commas divide what follows the path.
SOURCE = re.compile(r"[^#].*")
FSTYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
OPTION = re.compile(r"[^\s,]+")
DROPIN = re.compile(r"[A-Za-z0-9_.@-]+")
MODULE = re.compile(r"[A-Za-z0-9_-]+")


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
    role = _match(ROLE, params["role"], "role", "a role name")
    for name, value in params["secrets"].items():
        if not isinstance(value, str):
            raise _wrong(f"secrets.{name}", "text", type(value).__name__, "its Python form would become the password")
    # The line end after a reference is the one of the file that has it.
    secrets = {str(name): value.removesuffix("\n") for name, value in params["secrets"].items()}
    declared = tuple(_control(entry, f"controls[{i}]", role) for i, entry in enumerate(params["controls"]))
    controls = tuple(control for control in declared if control.id != f"{role}/file_extra")
    ids = [control.id for control in declared]
    for i, name in enumerate(ids):
        if name in ids[:i]:
            raise _wrong(f"controls[{i}].id", "an id used once", name, "two verdicts would share one name")
    for i, name in enumerate(params["skip_controls"]):
        if name not in (*ids, f"{role}/file_extra"):
            known = f"a control of role {role}: {', '.join(dict.fromkeys((*ids, f'{role}/file_extra')))}"
            raise _wrong(f"skip_controls[{i}]", known, name, "a misspelt name would skip nothing")
    for name, value in secrets.items():
        if value and any(value in text for text in (role, *ids)):
            why = "redaction would make the verdicts of these controls unreadable"
            raise _wrong(f"secrets.{name}", "a value that is no part of an id", "one that is", why)
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
    name = _match(CONTROL, entry["id"], f"{at}.id", "<role>/<control> in snake_case")
    if name == f"{role}/file_extra" and any(value for option, value in entry.items() if option != "id"):
        raise _wrong(f"{at}.id", "nothing else beside it", name, "ensure_state reports undeclared lines under this one")
    if not name.startswith(f"{role}/"):
        raise _wrong(f"{at}.id", f"{role}/<control>", name, "the report attributes a control by its role")

    def each(kind: str) -> list[tuple[dict[str, Any], str]]:
        return [(item, f"{at}.{kind}[{i}]") for i, item in enumerate(entry[kind])]

    return ControlSpec(
        id=name,
        packages=_packages(entry, at),
        groups=tuple(Group(_account(g["name"], f"{p}.name"), g["gid"], g["system"]) for g, p in each("groups")),
        users=tuple(_user(u, p) for u, p in each("users")),
        directories=tuple(
            Directory(
                _path(d["path"], f"{p}.path"),
                _account(d["owner"], f"{p}.owner"),
                _account(d["group"], f"{p}.group"),
                _mode(d["mode"], f"{p}.mode"),
            )
            for d, p in each("directories")
        ),
        files=tuple(_file(f, p) for f, p in each("files")),
        links=tuple(
            Link(_path(x["path"], f"{p}.path"), _match(LINE, x["target"], f"{p}.target", "one line that is not empty"))
            for x, p in each("links")
        ),
        settings=tuple(_setting(s, p) for s, p in each("settings")),
        kernel_modules=tuple(
            KernelModule(_match(MODULE, m["name"], f"{p}.name", "a module name"), m["loaded"])
            for m, p in each("kernel_modules")
        ),
        sysctls=tuple(
            Sysctl(
                _match(SYSCTL, v["name"], f"{p}.name", "a kernel value such as vm.swappiness"),
                _match(VALUE, v["value"], f"{p}.value", "one line of ASCII that is not empty"),
            )
            for v, p in each("sysctls")
        ),
        sysfs=tuple(_sys_value(v, p) for v, p in each("sysfs")),
        mounts=tuple(_mount(m, p) for m, p in each("mounts")),
        probes=tuple(_probe(q, p) for q, p in each("probes")),
        units=tuple(_unit(u, p) for u, p in each("units")),
        assertions=tuple(Assertion(**a) for a in entry["assertions"]),
        inputs=json.dumps(entry["inputs"], sort_keys=True) if entry["inputs"] else "",
    )


def _packages(entry: Mapping[str, Any], at: str) -> tuple[Package, ...]:
    holds = set(entry["holds"])
    found = []
    for i, text in enumerate(entry["packages"]):
        first, *others = (part.strip() for part in text.split("|"))
        match = PACKAGE.fullmatch(first)
        if match is None or any("=" in name or PACKAGE.fullmatch(name) is None for name in others):
            expected = "name, name=version or name | alternative"
            raise _wrong(f"{at}.packages[{i}]", expected, text, "apt would read it as something else")
        found.append(Package(match["name"], match["version"], hold=match["name"] in holds, alternatives=tuple(others)))
        holds.discard(match["name"])
    for name in sorted(holds):
        raise _wrong(
            f"{at}.holds", "packages declared in the same control", name, "a hold on an absent package holds nothing"
        )
    for i, name in enumerate(entry["absent_packages"]):
        if "=" in _match(PACKAGE, name, f"{at}.absent_packages[{i}]", "a package name"):
            raise _wrong(f"{at}.absent_packages[{i}]", "a name without a version", name, "it would match no package")
        found.append(Package(name, present=False))
    return tuple(found)


def _user(entry: Mapping[str, Any], at: str) -> User:
    return User(
        name=_account(entry["name"], f"{at}.name"),
        uid=entry["uid"],
        group=None if entry["group"] is None else _account(entry["group"], f"{at}.group"),
        groups=tuple(_account(name, f"{at}.groups[{i}]") for i, name in enumerate(entry["groups"])),
        # System accounts without a home of their own have "/".
        home=entry["home"] if entry["home"] in (None, "/") else _path(entry["home"], f"{at}.home"),
        shell=None if entry["shell"] is None else _path(entry["shell"], f"{at}.shell"),
        comment=None
        if entry["comment"] is None
        else _match(GECOS, entry["comment"], f"{at}.comment", "one line without :"),
        system=entry["system"],
    )


def _file(entry: Mapping[str, Any], at: str) -> File:
    if "\0" in entry["content"]:
        raise _wrong(f"{at}.content", "text", "a NUL byte", "only text files are owned line by line")
    if entry["validate"] and not any("%s" in part for part in entry["validate"]):
        raise _wrong(
            f"{at}.validate",
            "a command with %s for the file",
            " ".join(entry["validate"]),
            "it would check another file",
        )
    return File(
        path=_path(entry["path"], f"{at}.path"),
        content=entry["content"],
        owner=_account(entry["owner"], f"{at}.owner"),
        group=_account(entry["group"], f"{at}.group"),
        mode=_mode(entry["mode"], f"{at}.mode"),
        present=entry["state"] == "present",
        fragment=entry["fragment"],
        sensitive=entry["sensitive"],
        validate=tuple(entry["validate"]),
    )


def _setting(entry: Mapping[str, Any], at: str) -> Setting:
    return Setting(
        path=_path(entry["path"], f"{at}.path"),
        name=_match(SETTING, entry["name"], f"{at}.name", "a name without blanks and equals signs"),
        value=_match(VALUE, entry["value"], f"{at}.value", "one line of ASCII that is not empty"),
        separator=_match(SEPARATOR, entry["separator"], f"{at}.separator", "blanks, with an equals sign or without"),
    )


def _probe(entry: Mapping[str, Any], at: str) -> Probe:
    if not entry["command"] or not (entry["has"] or entry["lacks"] or entry["silent"]):
        why = "a probe that expects nothing is always fine"
        raise _wrong(at, "a command, and what its answer has, lacks, or that it is silent", entry["name"], why)
    for name in ("command", "mend"):
        if entry[name]:
            _path(entry[name][0], f"{at}.{name}[0]")
    return Probe(
        name=_match(PROBE, entry["name"], f"{at}.name", "a word of letters, digits and _-./@"),
        command=tuple(entry["command"]),
        has=tuple(entry["has"]),
        lacks=tuple(entry["lacks"]),
        silent=entry["silent"],
        last=entry["last"],
        separator=entry["separator"],
        root=entry["root"],
        mend=tuple(entry["mend"]),
        otherwise=entry["otherwise"],
    )


def _sys_value(entry: Mapping[str, Any], at: str) -> SysValue:
    # Blanks and % mean something else in the line of tmpfiles.d that sets it at boot.
    path = _match(SYS_PATH, _path(entry["path"], f"{at}.path"), f"{at}.path", "a path below /sys/")
    return SysValue(path, _match(SYS_VALUE, entry["value"], f"{at}.value", "one line without %, \\ and quotes"))


def _mount(entry: Mapping[str, Any], at: str) -> Mount:
    source = _match(SOURCE, entry["source"], f"{at}.source", "a source that does not begin with #")
    options = [
        _match(OPTION, option, f"{at}.options[{i}]", "one mount option, without a blank or a comma")
        for i, option in enumerate(entry["options"])
    ]
    return Mount(
        path=_path(entry["path"], f"{at}.path"),
        source=_printable(source, f"{at}.source"),
        fstype=_match(FSTYPE, entry["fstype"], f"{at}.fstype", "one file system type such as ext4"),
        options=tuple(_printable(option, f"{at}.options[{i}]") for i, option in enumerate(options)) or ("defaults",),
    )


def _unit(entry: Mapping[str, Any], at: str) -> Unit:
    if entry["masked"] and (entry["enabled"] or entry["active"] or entry["content"] is not None):
        raise _wrong(
            f"{at}.masked", "masked alone", "masked with enabled, active or content", "a masked unit can be neither"
        )
    if "@." in entry["name"] and any(entry[key] is not None for key in ("enabled", "active", "masked")):
        raise _wrong(
            f"{at}.name", "an instance such as x@1.service", entry["name"], "a template has no state of its own"
        )
    for dropin, text in entry["dropins"].items():
        _match(DROPIN, str(dropin), f"{at}.dropins", "a file name without .conf")
        if not isinstance(text, str):
            why = "its Python form would become the drop-in"
            raise _wrong(f"{at}.dropins.{dropin}", "text", type(text).__name__, why)
    name, *others = (part.strip() for part in entry["name"].split("|"))
    if any(UNIT.fullmatch(part) is None for part in (name, *others)):
        expected = "a full unit name such as chrony.service, or name | alternative"
        raise _wrong(f"{at}.name", expected, entry["name"], "systemctl would take it for another unit")
    if entry["rollback"] and entry["on_change"] != "restart":
        why = "what does not start with a file is found by a start"
        raise _wrong(f"{at}.rollback", "on_change: restart beside it", entry["on_change"], why)
    if entry["trial"] and not (entry["rollback"] and entry["trial"][0].startswith("/")):
        expected = "a program by its absolute path, of a unit with rollback"
        raise _wrong(f"{at}.trial", expected, " ".join(entry["trial"]), "it would run another program, or none")
    return Unit(
        name=name,
        alternatives=tuple(others),
        enabled=entry["enabled"],
        active=entry["active"],
        masked=entry["masked"],
        content=entry["content"],
        dropins=tuple(sorted((str(name), text) for name, text in entry["dropins"].items())),
        restart_on=tuple(_path(path, f"{at}.restart_on[{i}]") for i, path in enumerate(entry["restart_on"])),
        on_change=entry["on_change"],
        rollback=entry["rollback"],
        trial=tuple(entry["trial"]),
    )


def _check_secrets(control: ControlSpec, secrets: Mapping[str, str]) -> None:
    for unit in control.units:
        if any("${secret:" in text for text in (unit.content or "", *(t for _n, t in unit.dropins))):
            why = "everybody can read unit files, and systemctl show prints them"
            raise _wrong(
                f"units of {control.id}", "no secret; put it in a file of mode 0600 and name that", unit.name, why
            )
    bare = replace(control, units=(), files=tuple(replace(file, content="") for file in control.files))
    if "${secret:" in json.dumps(asdict(bare)):
        why = "it would be written as it stands"
        raise _wrong(control.id, "references to secrets in the content of files only", "${secret:…} elsewhere", why)
    texts = [f.content for f in control.files]
    for name in (match for text in texts for match in files.SECRET.findall(text)):
        if name not in secrets:
            raise _wrong(
                f"secrets.{name}",
                f"a value, since {control.id} refers to it",
                "nothing",
                "the reference would be written as it stands",
            )
        if len(secrets[name]) < 4:
            raise _wrong(
                f"secrets.{name}",
                "at least 4 characters",
                "a shorter value",
                "too short to be kept out of logs by replacement",
            )
    for file in control.files:
        at = f"{file.path} of {control.id}"
        if len(files.SECRET.findall(file.content)) != file.content.count("${secret:"):
            why = "it would be written as it stands"
            raise _wrong(at, "${secret:name} with a name of letters, digits and _", "another form", why)
        if files.SECRET.search(file.content) and file.mode & 0o007:
            why = "everybody on the node could read the secret"
            raise _wrong(at, 'a mode that is closed to others, such as "0600"', f"{file.mode:04o}", why)


def _writable(value: object, at: str) -> None:
    """JSON can name half a character, which no file can hold. Found here, and not half-way through a run."""
    if isinstance(value, str):
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise _wrong(at, "text", "half of a surrogate pair", "it cannot be written to a file") from None
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _writable(key, f"a name in {at}" if at else "a name")
            _writable(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            _writable(inner, f"{at}[{i}]")


def _path(text: str, at: str) -> str:
    # normpath keeps two slashes at the start: POSIX leaves their meaning open.
    plain = text.startswith("/") and text != "/" and not text.startswith("//") and os.path.normpath(text) == text
    if not plain:
        expected = "an absolute path without .., // or a / at the end"
        raise _wrong(at, expected, text, "it could mean another place on the node")
    return _printable(text, at)


def _printable(text: str, at: str) -> str:
    if not text.isprintable():
        raise _wrong(at, "one line without control characters", text, "it could mean another place on the node")
    return text


def _mode(text: object, at: str) -> int:
    if not isinstance(text, str):
        # Unquoted, YAML has made 420 of 0644.
        raise _wrong(at, 'a quoted octal mode such as "0644"', f"the number {text}", "it would be another mode")
    _match(MODE, text, at, 'a quoted octal mode such as "0644"')
    return int(text, 8)


def _account(text: str, at: str) -> str:
    return _match(ACCOUNT, text, at, "an account name")


def _match(pattern: re.Pattern[str], text: str, at: str, expected: str) -> str:
    if pattern.fullmatch(text) is None:
        raise _wrong(at, expected, text, "the tools that change it would read it differently or refuse it half-way")
    return text


def _wrong(at: str, expected: str, found: str, why: str) -> InputError:
    return InputError(
        "state.bad_input",
        wanted=f"{at}: {expected}",
        found=repr(found),
        why=why,
        fix=f"correct {at} in the declaration",
    )
