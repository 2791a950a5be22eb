# SPDX-License-Identifier: GPL-3.0-or-later
"""A node in memory: what Reader and Writer see and touch, with the tools that are called.

It answers like the tools answer on Debian (the differential tests hold it against real
ones), and it can die: ``lives`` is the number of effects after which the next one kills.
"""

from __future__ import annotations

import copy
import grp
import hashlib
import os
import posixpath
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.command import Completed
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import Unreadable
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.runner import Stat


class Killed(BaseException):
    """The process was killed: nothing after this happens, and no handler may stop it."""


@dataclass
class Entry:
    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    text: str = ""
    changed: float = 0.0
    written: float = 0.0


@dataclass
class FakeNode:
    files: dict[str, Entry] = field(default_factory=dict)
    users: dict[str, list] = field(default_factory=dict)  # name → [uid, gid, comment, home, shell]
    groups: dict[str, list] = field(default_factory=dict)  # name → [gid, [members]]
    packages: dict[str, tuple[str, str]] = field(default_factory=dict)  # name → (status, version)
    available: dict[str, str] = field(default_factory=dict)  # name → version, as the lists know it
    upstream: dict[str, str] = field(default_factory=dict)  # what a refresh would add to them
    brings_units: dict[str, tuple[str, ...]] = field(default_factory=dict)  # package → units
    conflicts: dict[str, str] = field(default_factory=dict)  # package → what its installation removes
    needs: dict[str, str] = field(default_factory=dict)  # package → what it cannot be without
    conffiles: dict[str, str] = field(default_factory=dict)  # path → text, as a package brought it
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)  # unit → what fails; "" = all hold; not there = old tool
    modules: set[str] = field(default_factory=set)
    no_modules: set[str] = field(default_factory=set)  # that this kernel does not have
    brings_values: dict[str, dict[str, str]] = field(default_factory=dict)  # module → files below /proc/sys
    root: bool = True
    systemd: bool = True
    unreadable: set[str] = field(default_factory=set)
    clock: int = 1000  # seconds; every effect takes one
    effects: list[str] = field(default_factory=list)
    lives: int | None = None

    def __post_init__(self) -> None:
        for path in ("/", "/etc", "/run", "/var", "/var/lib", "/var/lib/dpkg", "/var/lib/dpkg/updates", "/opt", "/srv"):
            self.files.setdefault(path, Entry("directory", 0o755))
        for path in ("/var/lib/apt", "/var/lib/apt/lists", "/var/lib/apt/lists/mirror_Packages"):
            self.files.setdefault(path, Entry("directory", 0o755))
        for path in ("/etc/systemd", "/etc/systemd/system", "/etc/sysctl.d", "/tmp", "/proc/sys", "/proc/sys/vm"):
            self.files.setdefault(path, Entry("directory", 0o755))
        self.users.setdefault("root", [0, 0, "", "/root", "/bin/sh"])
        self.groups.setdefault("root", [0, []])

    # --- test helpers ---

    def put(
        self, path: str, text: str = "", *, mode: int = 0o644, uid: int = 0, gid: int = 0, kind: str = "file"
    ) -> None:
        parent = posixpath.dirname(path)
        if parent not in self.files:
            self.put(parent, mode=0o755, kind="directory")
        self.clock += 1
        self.files[path] = Entry(kind, mode, uid, gid, text, self.clock, self.clock)

    def begin(self, name: str) -> None:
        """A unit starts: a new instance. By systemctl, by hand or by a boot."""
        self.clock += 1
        unit = self.units[name]
        unit |= {"ActiveState": "active", "InvocationID": f"{self.clock:032x}"}
        unit["InactiveExitTimestampMonotonic"] = str(self.clock * 1_000_000)

    def snapshot(self) -> object:
        """Everything that survives, for comparing two nodes; scratch and debts are not state."""
        files = {p: vars(e).copy() for p, e in sorted(self.files.items()) if not p.startswith(("/run/nusy", "/tmp/"))}
        for path, entry in files.items():
            if path.startswith(("/var/lib/nusy/applied/", "/var/lib/nusy/started/")):
                entry["text"] = ""  # keyed with a key of the node
            del entry["changed"], entry["written"]
        times = ("InvocationID", "InactiveExitTimestampMonotonic", "StateChangeTimestampMonotonic")
        units = {name: {k: v for k, v in unit.items() if k not in times} for name, unit in self.units.items()}
        return copy.deepcopy((files, self.users, self.groups, self.packages, units, self.modules))

    def effect(self, what: str) -> None:
        if self.lives is not None:
            if self.lives == 0:
                raise Killed
            self.lives -= 1
        self.clock += 1
        self.effects.append(what)

    # --- Reader ---

    def read(self, path: str) -> str | None:
        if path in self.unreadable:
            raise Unreadable(f"{path}: Permission denied")
        if path == "/proc/modules":
            return "".join(f"{name} 16384 0 - Live 0x0\n" for name in sorted(self.modules))
        entry = self._entry(path)
        if entry is not None and entry.kind == "link":
            return self.read(posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.text)))
        if entry is None:
            return None
        if entry.kind != "file":
            raise Unreadable(f"{path}: not a regular file")
        return entry.text

    def file(self, path: str) -> tuple[Stat, str] | None:
        stat = self.stat(path)
        if stat is not None and stat.kind == "link":
            raise Unreadable(f"{path}: not a regular file")
        text = self.read(path)
        return None if stat is None or text is None else (stat, text)

    def stat(self, path: str) -> Stat | None:
        entry = self._entry(path)
        times = entry and (entry.changed, entry.written)
        return entry and Stat(entry.kind, entry.mode, entry.uid, entry.gid, len(entry.text), *times)

    def _entry(self, path: str) -> Entry | None:
        """The thing itself; links of its folders are followed."""
        folder, name = posixpath.split(path)
        above = self._entry(folder) if name else None
        if above is not None and above.kind == "link":
            return self._entry(posixpath.normpath(posixpath.join(posixpath.dirname(folder), above.text, name)))
        return self.files.get(path)

    def listdir(self, path: str) -> tuple[str, ...] | None:
        if path in self.unreadable:
            raise Unreadable(f"{path}: Permission denied")
        if path not in self.files:
            return None
        base = path.rstrip("/") + "/"
        return tuple(sorted({p[len(base) :].split("/")[0] for p in self.files if p.startswith(base)}))

    def readlink(self, path: str) -> str | None:
        entry = self.files.get(path)
        return entry.text if entry and entry.kind == "link" else None

    def user(self, name: str) -> pwd.struct_passwd | None:
        found = self.users.get(name)
        return found and pwd.struct_passwd((name, "x", *found))

    def group(self, name: str) -> grp.struct_group | None:
        found = self.groups.get(name)
        return found and grp.struct_group((name, "x", found[0], list(found[1])))

    def user_name(self, uid: int) -> str:
        return next((n for n, u in self.users.items() if u[0] == uid), str(uid))

    def group_name(self, gid: int) -> str:
        return next((n for n, g in self.groups.items() if g[0] == gid), str(gid))

    def is_root(self) -> bool:
        return self.root

    def run(
        self, argv: Sequence[str], *, timeout: float = 10.0, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Completed:
        argv = list(argv)
        tool = os.path.basename(argv[0])
        rc, out, err = getattr(self, "tool_" + tool.replace("-", "_"))(argv[1:])
        return Completed(tuple(argv), rc, out, err)

    # --- Writer ---

    def write(self, path: str, content: str, *, mode: int, uid: int, gid: int) -> None:
        self._replace(path, Entry("file", mode, uid, gid, content), f"write {path}")
        self._touched(path)

    def mkdir(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Two effects, as in HostWriter: a kill in between leaves an empty directory of root."""
        self._parent(path)
        if path in self.files:
            raise FileExistsError(17, "File exists", path)
        self.effect(f"mkdir {path}")
        self.files[path] = Entry("directory", mode if (uid, gid) == (0, 0) else 0o700)
        self.effect(f"attributes {path}")
        self.files[path] = Entry("directory", mode, uid, gid)

    def attributes(self, path: str, *, mode: int | None, uid: int | None, gid: int | None) -> None:
        entry = self.files[path]
        self.effect(f"attributes {path}")
        entry.mode = entry.mode if mode is None else mode
        entry.uid = entry.uid if uid is None else uid
        entry.gid = entry.gid if gid is None else gid
        entry.changed = self.clock

    def symlink(self, path: str, target: str) -> None:
        self._replace(path, Entry("link", 0o777, text=target), f"symlink {path}")

    def _replace(self, path: str, entry: Entry, effect: str) -> None:
        """As HostWriter does it: a kill leaves the new thing beside the old, under its one name."""
        self._parent(path)
        self.files[self._beside(path)] = entry
        self.effect(effect)
        del self.files[self._beside(path)]
        entry.changed = entry.written = self.clock
        self.files[path] = entry

    @staticmethod
    def _beside(path: str) -> str:
        folder, name = posixpath.split(path)
        return posixpath.join(folder, f".{name}.nusy")

    def remove(self, path: str) -> None:
        self.files.pop(self._beside(path), None)
        self.effect(f"remove {path}")
        self.files.pop(path, None)
        self._touched(path)

    def rename(self, path: str, new: str) -> None:
        self.effect(f"rename {path}")
        for old in [p for p in self.files if p == path or p.startswith(path + "/")]:
            self.files[new + old[len(path) :]] = self.files.pop(old)
        self.files[new].changed = self.clock
        self._touched(path)

    def scratch(self, name: str, content: str, *, uid: int, gid: int) -> str:
        path = f"/run/nusy/scratch/{name}"
        self.files[path] = Entry("file", 0o600, uid, gid, content)
        return path

    def set_kernel_value(self, path: str, value: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        self.effect(f"set {path}")
        self.files[path].text = value + "\n"

    def _parent(self, path: str) -> None:
        parent = self.files.get(posixpath.dirname(path))
        if parent is None or parent.kind != "directory":
            raise FileNotFoundError(2, "No such file or directory", path)

    def _touched(self, path: str) -> None:
        """systemd notices changed files of units it has loaded."""
        for name, unit in self.units.items():
            if path.startswith(f"/etc/systemd/system/{name}") and unit["LoadState"] == "loaded":
                unit["NeedDaemonReload"] = "yes"

    # --- the tools ---

    def tool_dpkg_query(self, args: list[str]) -> tuple[int, str, str]:
        if "--showformat=${Conffiles}\\n" in args:
            digests = {path: hashlib.md5(text.encode()).hexdigest() for path, text in self.conffiles.items()}
            return 0, "".join(f"\n {path} {digest}" for path, digest in digests.items()) + "\n", ""
        letters = {"installed": "ii ", "held": "hi ", "unpacked": "iU ", "broken": "iUR"}
        lines = [f"{n}\tarm64\t{v}\t{letters[s]}\t" for n, (s, v) in sorted(self.packages.items())]
        return 0, "".join(line + "\n" for line in lines), ""

    def tool_apt_get(self, args: list[str]) -> tuple[int, str, str]:
        names = args[args.index("--") + 1 :] if "--" in args else []
        if "update" in args:
            self.effect("apt-get update")
            self.available.update(self.upstream)
            return 0, "", ""
        if "remove" in args:
            gone = [*names, *(user for user, lib in self.needs.items() if lib in names and user in self.packages)]
            if "--simulate" in args:
                return 0, "".join(f"Remv {name} [1.0]\n" for name in gone), ""
            for name in gone:
                self.effect(f"apt-get remove {name}")
                self.packages.pop(name, None)
            return 0, "", ""
        plain = [name.split("=")[0].split(":")[0] for name in names]
        for name in plain:
            if name not in self.available:
                return 100, "", f"E: Unable to locate package {name}\n"
        older = [n for n in plain if n in self.packages and self.available[n] < self.packages[n][1]]
        gone = [self.conflicts[n] for n in plain if self.conflicts.get(n) in self.packages]
        if "--simulate" in args:
            head = (
                "".join(["The following packages will be DOWNGRADED:\n", *(f"  {n}\n" for n in older)]) if older else ""
            )
            return (
                0,
                head + "".join(f"Remv {n} [1.0]\n" for n in gone) + "".join(f"Inst {n} (1.0)\n" for n in plain),
                "",
            )
        if any(status == "unpacked" for status, _v in self.packages.values()):
            return 100, "", "E: dpkg was interrupted, you must manually run 'dpkg --configure -a'\n"
        if any(s == "broken" and (n not in plain or "--reinstall" not in args) for n, (s, _v) in self.packages.items()):
            return 100, "", "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
        for name in gone:
            self.effect(f"apt-get removes {name}")
            del self.packages[name]
        for name in plain:
            # Unpacking and configuring are two moments; a kill in between is the usual accident.
            self.effect(f"unpack {name}")
            self.packages[name] = ("unpacked", self.available[name])
        for name in plain:
            self.effect(f"configure {name}")
            self._configure(name)
        return 0, "", ""

    def _configure(self, name: str) -> None:
        self.packages[name] = ("installed", self.packages[name][1])
        for unit in self.brings_units.get(name, ()):
            self.units[unit] = self.unit(state="enabled")
            self.begin(unit)

    def tool_dpkg(self, _args: list[str]) -> tuple[int, str, str]:
        for name, (status, _version) in sorted(self.packages.items()):
            if status == "unpacked":
                self.effect(f"configure {name}")
                self._configure(name)
        if any(status == "broken" for status, _version in self.packages.values()):
            return 1, "", "Errors were encountered while processing:\n"
        return 0, "", ""

    def tool_apt_mark(self, args: list[str]) -> tuple[int, str, str]:
        for name in args[args.index("--") + 1 :]:
            self.effect(f"hold {name}")
            self.packages[name] = ("held", self.packages[name][1])
        return 0, "", ""

    def tool_groupadd(self, args: list[str]) -> tuple[int, str, str]:
        name = args[-1]
        if name in self.groups:
            return 9, "", f"groupadd: group '{name}' already exists\n"
        self.effect(f"groupadd {name}")
        self.groups[name] = [int(_option(args, "--gid") or 990 - len(self.groups)), []]
        return 0, "", ""

    def tool_groupmod(self, args: list[str]) -> tuple[int, str, str]:
        self.effect(f"groupmod {args[-1]}")
        self.groups[args[-1]][0] = int(_option(args, "--gid") or 0)
        return 0, "", ""

    def tool_useradd(self, args: list[str]) -> tuple[int, str, str]:
        name, group = args[-1], _option(args, "--gid")
        for member in (group, *(_option(args, "--groups") or "").split(",")):
            if member and member not in self.groups:
                return 6, "", f"useradd: group '{member}' does not exist\n"
        self.effect(f"useradd {name}")
        if "--user-group" in args:
            self.groups[name] = [980 - len(self.groups), []]
            group = name
        self.users[name] = [
            int(_option(args, "--uid") or 980 - len(self.users)),
            # Where login.defs says so, a group of its own would come by itself.
            self.groups[group][0] if group else 100,
            _option(args, "--comment") or "",
            _option(args, "--home-dir") or f"/home/{name}",
            _option(args, "--shell") or "/bin/sh",
        ]
        for member in (_option(args, "--groups") or "").split(","):
            if member:
                self.groups[member][1].append(name)
        return 0, "", ""

    def tool_usermod(self, args: list[str]) -> tuple[int, str, str]:
        name = args[-1]
        self.effect(f"usermod {' '.join(args)}")
        user = self.users[name]
        for option, index in (("--uid", 0), ("--comment", 2), ("--home", 3), ("--shell", 4)):
            value = _option(args, option)
            if value is not None:
                user[index] = int(value) if index == 0 else value
        if (group := _option(args, "--gid")) is not None:
            user[1] = self.groups[group][0]
        for member in (_option(args, "--groups") or "").split(","):
            if member:
                self.groups[member][1].append(name)
        return 0, "", ""

    def unit(self, *, active: str = "inactive", state: str = "disabled", load: str = "loaded") -> dict[str, str]:
        running = active in ("active", "activating")
        return {
            "InvocationID": f"{self.clock:032x}" if running else "",
            "InactiveExitTimestampMonotonic": str(self.clock * 1_000_000) if running else "0",
            "LoadState": load,
            "ActiveState": active,
            "UnitFileState": state,
            "DropInPaths": "",
            "NeedDaemonReload": "no",
        }

    def tool_systemctl(self, args: list[str]) -> tuple[int, str, str]:
        if not self.systemd:
            return 1, "", "System has not been booted with systemd as init system (PID 1). Can't operate.\n"
        names = args[args.index("--") + 1 :] if "--" in args else []
        if args[0] == "show":
            return 0, "\n\n".join(self._shown(name) for name in names) + "\n", ""
        if args[0] == "reset-failed":
            return 0, "", ""
        if args[0] == "daemon-reload":
            self.effect("daemon-reload")
            for unit in self.units.values():
                unit["NeedDaemonReload"] = "no"
            self._load_new()
            self._generate()
            return 0, "", ""
        self._load_new()
        unit = self.units.get(names[0])
        if unit is None:
            return 5, "", f"Failed to {args[0]} {names[0]}: Unit {names[0]} not found.\n"
        runtime = "--runtime" in args
        self.effect(f"systemctl {args[0]} {'--runtime ' if runtime else ''}{names[0]}")
        if args[0] == "unmask" and unit["UnitFileState"] != ("masked-runtime" if runtime else "masked"):
            return 0, "", ""
        if args[0] == "mask" and f"/etc/systemd/system/{names[0]}" in self.files:
            return 1, "", f"Failed to mask unit: File '/etc/systemd/system/{names[0]}' already exists\n"
        changes = {
            "enable": ("UnitFileState", "enabled"),
            "disable": ("UnitFileState", "disabled"),
            "mask": ("UnitFileState", "masked"),
            "unmask": ("UnitFileState", "disabled"),
            "start": ("ActiveState", "active"),
            "restart": ("ActiveState", "active"),
            "reload": ("ActiveState", "active"),
            "stop": ("ActiveState", "inactive"),
        }
        key, value = changes[args[0]]
        unit[key] = value
        if args[0] in ("start", "restart"):
            self.begin(names[0])
        unit["StateChangeTimestampMonotonic"] = str(self.clock * 1_000_000)
        return 0, "", ""

    def _load_new(self) -> None:
        for path in self.files:
            folder, name = posixpath.split(path)
            if folder == "/etc/systemd/system" and name not in self.units and "." in name and not name.endswith(".d"):
                self.units[name] = self.unit()

    def _generate(self) -> None:
        """What Podman's generator makes whenever systemd reads its files, and only then."""
        for path in self.files:
            folder, name = posixpath.split(path)
            if folder == "/etc/containers/systemd" and name.endswith(".container"):
                self.units.setdefault(name.replace(".container", ".service"), self.unit(state="generated"))

    def _shown(self, name: str) -> str:
        unit = self.units.get(name) or self.unit(state="", load="not-found")
        names = (f"{name}.d", f"{name.partition('@')[0]}@.service.d", "service.d")
        folders = [f"/etc/systemd/system/{folder}" for folder in names]
        dropins = {posixpath.basename(p): p for f in reversed(folders) for p in self.files if posixpath.dirname(p) == f}
        ordered = [dropins[file] for file in sorted(dropins)]
        for path in (f"/etc/systemd/system/{name}", *ordered):
            if unit["NeedDaemonReload"] != "yes" and path in self.files and self.files[path].kind == "file":
                pairs = [line.split("=", 1) for line in self.files[path].text.splitlines() if "=" in line]
                unit = {**unit, **{key: value for key, value in pairs if key in ("Type", "RemainAfterExit")}}
        unit = {**unit, "DropInPaths": " ".join(ordered)}
        return "\n".join([f"Id={name}", *(f"{key}={value}" for key, value in unit.items())])

    def tool_systemd_analyze(self, args: list[str]) -> tuple[int, str, str]:
        name = args[-1].partition("=")[2]
        failing = self.conditions.get(name)
        if failing is None:
            return 1, "", "systemd-analyze: unrecognized option '--unit'\n"
        text = f"{name}: {failing} failed.\nConditions failed.\n" if failing else ""
        return (1 if failing else 0), "", text

    def tool_journalctl(self, _args: list[str]) -> tuple[int, str, str]:
        return 0, "", ""

    def tool_modprobe(self, args: list[str]) -> tuple[int, str, str]:
        if args[-1] in self.no_modules:
            return 1, "", f"modprobe: FATAL: Module {args[-1]} not found in directory /lib/modules/6.17.0\n"
        if "--dry-run" in args:
            return 0, "", ""
        self.effect(f"modprobe {' '.join(args)}")
        for path, text in self.brings_values.get(args[-1], {}).items():
            self.put(path, text)
        (self.modules.discard if "--remove" in args else self.modules.add)(args[-1])
        return 0, "", ""

    def tool_validator(self, args: list[str]) -> tuple[int, str, str]:
        """Stands for sshd -t and the like: refuses the word BAD."""
        return (1, "", "line 1: BAD\n") if "BAD" in self.files[args[-1]].text else (0, "", "")


def bare() -> FakeNode:
    """As its installer leaves it; two packages can be had."""
    node = FakeNode(available={"jq": "1.7", "chrony": "4.5"}, brings_units={"chrony": ("chrony.service",)})
    node.put("/proc/sys/vm/swappiness", "60\n")
    return node


def _option(args: list[str], name: str) -> str | None:
    return args[args.index(name) + 1] if name in args else None
