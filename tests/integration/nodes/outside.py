# SPDX-License-Identifier: GPL-3.0-or-later
"""A node as it is, listed from outside: nothing of the collection and nothing of Ansible takes part.

Every item is named as a check names it ("package jq", "user nusy", "directory /opt/nusy"), so
that what changed can be held against what was predicted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import testing

# Left out: what the kernel shows, run-time trees, the records of being logged in to, and the folder of repositories,
# which is one for all nodes: tests of others publish there meanwhile.
LOGIN = ("/var/log/journal", "/var/log/wtmp*", "/var/log/btmp", "/var/log/lastlog*", "/home/ops", "/root")
PRUNED = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/lib/systemd", "/srv/apt", *LOGIN)
# apt and dpkg write the time, or numbers of inodes, into these: that they changed is compared, not how.
DATED = re.compile(r"file /var/(log|cache)/|file /var/lib/dpkg/[a-z]+-old$")
# A new account of the system gets the next free number, which depends on what was made before it.
NUMBER = re.compile(r":\d+(?=:)")

# What a look must not move: directories by the time of their content, since an overlay changes
# their inode when something below is first written.
NOT_THERE = " -o ".join(f"-path '{path}'" for path in PRUNED)
LOOKED_AT = (
    f"find / -xdev \\( {NOT_THERE} \\) -prune -o "
    "-type d -printf '%p %m %U:%G %T@\\n' -o -printf '%p %y %m %U:%G %s %C@\\n' | grep -v '^/var/log ' | sort"
)

LIST = r"""
import fnmatch, grp, hashlib, json, os, pwd, stat, subprocess, sys

pruned, found = json.loads(sys.argv[1]), {}
ACCOUNTS = {f"/etc/{name}{end}" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
            for end in ("", "-")}

# Lists in which the order of the lines says only what was installed first.
UNORDERED = ("/var/lib/apt/extended_states", "/var/lib/dpkg/triggers/File")

def named(number, table):
    try:
        return table(number)[0]
    except KeyError:
        return str(number)

def digest(path):
    with open(path, "rb") as handle:
        if path in UNORDERED:
            return sorted(handle.read().decode().splitlines())
        return hashlib.file_digest(handle, "sha256").hexdigest()

def see(path):
    seen = os.lstat(path)
    owner = f"{named(seen.st_uid, pwd.getpwuid)}:{named(seen.st_gid, grp.getgrgid)}"
    who = [owner, "%04o" % stat.S_IMODE(seen.st_mode)]
    if stat.S_ISDIR(seen.st_mode):
        found["directory " + path] = who
    elif stat.S_ISLNK(seen.st_mode):
        found["link " + path] = [owner, os.readlink(path)]
    elif stat.S_ISREG(seen.st_mode):
        found["file " + path] = [*who, seen.st_size, digest(path)]
    else:
        found["node " + path] = [*who, seen.st_rdev]

device = os.lstat("/").st_dev
for folder, folders, names in os.walk("/"):
    keep = []
    for name in folders:
        path = os.path.join(folder, name)
        if not any(fnmatch.fnmatch(path, pattern) for pattern in pruned):
            see(path)
            if not os.path.islink(path) and not os.path.ismount(path):
                keep.append(name)
    folders[:] = keep
    for name in names:
        path = os.path.join(folder, name)
        if path not in ACCOUNTS and not any(fnmatch.fnmatch(path, pattern) for pattern in pruned):
            see(path)

def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()

for line in run("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n"):
    name, *rest = line.split()
    found["package " + name] = rest
for kind, files in (("user", ("passwd", "shadow", "subuid", "subgid")), ("group", ("group", "gshadow"))):
    for file in files:
        if os.path.exists("/etc/" + file):
            with open("/etc/" + file) as handle:
                for line in handle:
                    found.setdefault(f"{kind} {line.split(':')[0]}", []).append(f"{file}: {line.rstrip()}")
for line in run("systemctl", "list-unit-files", "--no-legend", "--no-pager"):
    name, state, *_preset = line.split()
    if state != "transient":
        found["unit " + name] = [state]
for line in run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager",
                "--type=service,socket,timer,path,mount,swap"):
    name, load, active, *_rest = line.split()
    # A session comes and goes with whoever looks; loaded but absent is as good as not there.
    if load != "not-found" and not name.startswith(("user@", "user-runtime-dir@", "run-user-")):
        found.setdefault("unit " + name, []).append(active)
print(json.dumps(found))
"""

Listing = Mapping[str, Any]
Change = tuple[Any, Any]


def listing(machine: testing.Machine) -> Listing:
    return json.loads(machine.run("python3", "-c", LIST, json.dumps(PRUNED)))


def changes(before: Listing, after: Listing) -> dict[str, Change]:
    """Item → (before, after) of everything that is not as it was; None where it is not there."""
    return {
        item: (before.get(item), after.get(item))
        for item in sorted({*before, *after})
        if before.get(item) != after.get(item)
    }


def unexplained(changed: Mapping[str, Change], cause: Mapping[str, Change]) -> set[str]:
    """What changed otherwise than it did where ``cause`` was the only thing that happened."""
    return {item for item, change in changed.items() if not (item in cause and _alike(item, change, cause[item]))}


def _alike(item: str, one: Change, other: Change) -> bool:
    if one == other or DATED.match(item):
        return True
    numbered = item.startswith(("user ", "group ")) and one[0] is other[0] is None
    return numbered and [NUMBER.sub(":N", line) for line in one[1]] == [NUMBER.sub(":N", line) for line in other[1]]


def promised(controls: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a check says it would change: item → property → the value it would have."""
    found: dict[str, dict[str, Any]] = {}
    for control in controls:
        if control["state"] == "drifted" and not control["blocked_by"]:
            for key, value in control["after"].items():
                words = re.fullmatch(r"(?P<item>\w+ [^\s:]+)(?:: (?P<property>.*))?", key)
                assert words, f"a check names what it would change in another way: {key}"
                found.setdefault(words["item"], {})[words["property"] or ""] = value
    return found


def kept(machine: testing.Machine, item: str, promise: Mapping[str, Any], after: Listing) -> bool:
    """Whether what a check said about an item is how it is now."""
    kind, _blank, name = item.partition(" ")
    seen = after.get(item)
    match kind:
        case "package":
            return promise == {"": "installed"} and bool(seen) and seen[-1] == "ii"
        case "unit":
            return bool(seen) and {*promise.values()} == {*seen}
        case "directory":
            return bool(seen) and promise == {"": " ".join(seen)}
        case "file":
            return bool(seen) and machine.read(name).rstrip("\n") == promise[""]
        case "link":
            return bool(seen) and promise == {"": f"to {seen[-1]}"}
        case "user" | "group":
            return promise == {"": "present"} and bool(seen)
    return False
