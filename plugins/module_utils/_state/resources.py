# SPDX-License-Identifier: GPL-3.0-or-later
"""One resource of a document, as an option of the module says it → as ``model`` has it.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.inputs import plain_path
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.model import (
    Directory,
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


def packages(entry: Mapping[str, Any], at: str) -> tuple[Package, ...]:
    holds = set(entry["holds"])
    found = []
    for i, text in enumerate(entry["packages"]):
        first, *others = (part.strip() for part in text.split("|"))
        match = PACKAGE.fullmatch(first)
        if match is None or any("=" in name or PACKAGE.fullmatch(name) is None for name in others):
            expected = "name, name=version or name | alternative"
            raise wrong(f"{at}.packages[{i}]", expected, text, "apt would read it as something else")
        found.append(Package(match["name"], match["version"], hold=match["name"] in holds, alternatives=tuple(others)))
        holds.discard(match["name"])
    for name in sorted(holds):
        raise wrong(
            f"{at}.holds", "packages declared in the same control", name, "a hold on an absent package holds nothing"
        )
    for i, name in enumerate(entry["absent_packages"]):
        if "=" in matching(PACKAGE, name, f"{at}.absent_packages[{i}]", "a package name"):
            raise wrong(f"{at}.absent_packages[{i}]", "a name without a version", name, "it would match no package")
        found.append(Package(name, present=False))
    return tuple(found)


def group(entry: Mapping[str, Any], at: str) -> Group:
    return Group(account(entry["name"], f"{at}.name"), entry["gid"], entry["system"])


def user(entry: Mapping[str, Any], at: str) -> User:
    return User(
        name=account(entry["name"], f"{at}.name"),
        uid=entry["uid"],
        group=None if entry["group"] is None else account(entry["group"], f"{at}.group"),
        groups=tuple(account(name, f"{at}.groups[{i}]") for i, name in enumerate(entry["groups"])),
        # System accounts without a home of their own have "/".
        home=entry["home"] if entry["home"] in (None, "/") else absolute(entry["home"], f"{at}.home"),
        shell=None if entry["shell"] is None else absolute(entry["shell"], f"{at}.shell"),
        comment=None
        if entry["comment"] is None
        else matching(GECOS, entry["comment"], f"{at}.comment", "one line without :"),
        system=entry["system"],
    )


def directory(entry: Mapping[str, Any], at: str) -> Directory:
    return Directory(
        path=absolute(entry["path"], f"{at}.path"),
        owner=account(entry["owner"], f"{at}.owner"),
        group=account(entry["group"], f"{at}.group"),
        mode=octal(entry["mode"], f"{at}.mode"),
    )


def file(entry: Mapping[str, Any], at: str) -> File:
    if "\0" in entry["content"]:
        raise wrong(f"{at}.content", "text", "a NUL byte", "only text files are owned line by line")
    if entry["validate"] and not any("%s" in part for part in entry["validate"]):
        raise wrong(
            f"{at}.validate",
            "a command with %s for the file",
            " ".join(entry["validate"]),
            "it would check another file",
        )
    return File(
        path=absolute(entry["path"], f"{at}.path"),
        content=entry["content"],
        owner=account(entry["owner"], f"{at}.owner"),
        group=account(entry["group"], f"{at}.group"),
        mode=octal(entry["mode"], f"{at}.mode"),
        present=entry["state"] == "present",
        fragment=entry["fragment"],
        sensitive=entry["sensitive"],
        validate=tuple(entry["validate"]),
    )


def link(entry: Mapping[str, Any], at: str) -> Link:
    return Link(
        absolute(entry["path"], f"{at}.path"),
        matching(LINE, entry["target"], f"{at}.target", "one line that is not empty"),
    )


def setting(entry: Mapping[str, Any], at: str) -> Setting:
    return Setting(
        path=absolute(entry["path"], f"{at}.path"),
        name=matching(SETTING, entry["name"], f"{at}.name", "a name without blanks and equals signs"),
        value=matching(VALUE, entry["value"], f"{at}.value", "one line of ASCII that is not empty"),
        separator=matching(SEPARATOR, entry["separator"], f"{at}.separator", "blanks, with an equals sign or without"),
    )


def probe(entry: Mapping[str, Any], at: str) -> Probe:
    if not entry["command"] or not (entry["has"] or entry["lacks"] or entry["silent"]):
        why = "a probe that expects nothing is always fine"
        raise wrong(at, "a command, and what its answer has, lacks, or that it is silent", entry["name"], why)
    for name in ("command", "mend"):
        if entry[name]:
            absolute(entry[name][0], f"{at}.{name}[0]")
    return Probe(
        name=matching(PROBE, entry["name"], f"{at}.name", "a word of letters, digits and _-./@"),
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


def kernel_module(entry: Mapping[str, Any], at: str) -> KernelModule:
    return KernelModule(matching(MODULE, entry["name"], f"{at}.name", "a module name"), entry["loaded"])


def sysctl(entry: Mapping[str, Any], at: str) -> Sysctl:
    return Sysctl(
        matching(SYSCTL, entry["name"], f"{at}.name", "a kernel value such as vm.swappiness"),
        matching(VALUE, entry["value"], f"{at}.value", "one line of ASCII that is not empty"),
    )


def sys_value(entry: Mapping[str, Any], at: str) -> SysValue:
    # Blanks and % mean something else in the line of tmpfiles.d that sets it at boot.
    path = matching(SYS_PATH, absolute(entry["path"], f"{at}.path"), f"{at}.path", "a path below /sys/")
    return SysValue(path, matching(SYS_VALUE, entry["value"], f"{at}.value", "one line without %, \\ and quotes"))


def mount(entry: Mapping[str, Any], at: str) -> Mount:
    source = matching(SOURCE, entry["source"], f"{at}.source", "a source that does not begin with #")
    options = [
        matching(OPTION, option, f"{at}.options[{i}]", "one mount option, without a blank or a comma")
        for i, option in enumerate(entry["options"])
    ]
    return Mount(
        path=absolute(entry["path"], f"{at}.path"),
        source=printable(source, f"{at}.source"),
        fstype=matching(FSTYPE, entry["fstype"], f"{at}.fstype", "one file system type such as ext4"),
        options=tuple(printable(option, f"{at}.options[{i}]") for i, option in enumerate(options)) or ("defaults",),
    )


def unit(entry: Mapping[str, Any], at: str) -> Unit:
    if entry["masked"] and (entry["enabled"] or entry["active"] or entry["content"] is not None):
        raise wrong(
            f"{at}.masked", "masked alone", "masked with enabled, active or content", "a masked unit can be neither"
        )
    if "@." in entry["name"] and any(entry[key] is not None for key in ("enabled", "active", "masked")):
        raise wrong(
            f"{at}.name", "an instance such as x@1.service", entry["name"], "a template has no state of its own"
        )
    for dropin, text in entry["dropins"].items():
        matching(DROPIN, str(dropin), f"{at}.dropins", "a file name without .conf")
        if not isinstance(text, str):
            why = "its Python form would become the drop-in"
            raise wrong(f"{at}.dropins.{dropin}", "text", type(text).__name__, why)
    name, *others = (part.strip() for part in entry["name"].split("|"))
    if any(UNIT.fullmatch(part) is None for part in (name, *others)):
        expected = "a full unit name such as chrony.service, or name | alternative"
        raise wrong(f"{at}.name", expected, entry["name"], "systemctl would take it for another unit")
    if entry["rollback"] and entry["on_change"] != "restart":
        why = "what does not start with a file is found by a start"
        raise wrong(f"{at}.rollback", "on_change: restart beside it", entry["on_change"], why)
    if entry["trial"] and not (entry["rollback"] and entry["trial"][0].startswith("/")):
        expected = "a program by its absolute path, of a unit with rollback"
        raise wrong(f"{at}.trial", expected, " ".join(entry["trial"]), "it would run another program, or none")
    return Unit(
        name=name,
        alternatives=tuple(others),
        enabled=entry["enabled"],
        active=entry["active"],
        masked=entry["masked"],
        content=entry["content"],
        dropins=tuple(sorted((str(name), text) for name, text in entry["dropins"].items())),
        restart_on=tuple(absolute(path, f"{at}.restart_on[{i}]") for i, path in enumerate(entry["restart_on"])),
        on_change=entry["on_change"],
        rollback=entry["rollback"],
        trial=tuple(entry["trial"]),
    )


def absolute(text: str, at: str) -> str:
    if not plain_path(text):
        expected = "an absolute path without .., // or a / at the end"
        raise wrong(at, expected, text, "it could mean another place on the node")
    return text


def printable(text: str, at: str) -> str:
    if not text.isprintable():
        raise wrong(at, "one line without control characters", text, "it could mean another place on the node")
    return text


def octal(text: object, at: str) -> int:
    if not isinstance(text, str):
        # Unquoted, YAML has made 420 of 0644.
        raise wrong(at, 'a quoted octal mode such as "0644"', f"the number {text}", "it would be another mode")
    matching(MODE, text, at, 'a quoted octal mode such as "0644"')
    return int(text, 8)


def account(text: str, at: str) -> str:
    return matching(ACCOUNT, text, at, "an account name")


def matching(pattern: re.Pattern[str], text: str, at: str, expected: str) -> str:
    if pattern.fullmatch(text) is None:
        raise wrong(at, expected, text, "the tools that change it would read it differently or refuse it half-way")
    return text


def wrong(at: str, expected: str, found: str, why: str) -> InputError:
    return InputError(
        "state.bad_input",
        wanted=f"{at}: {expected}",
        found=repr(found),
        why=why,
        fix=f"correct {at} in the declaration",
    )
