# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options: those that the kernel shows are compared with the declared ones.

Compared are the flags of every mount, and the values below where the kernel shows another one. Not
compared: what mount(8), systemd or a helper consumes (auto, nofail, _netdev, x-…), what the kernel
leaves out because it is its default, what client and server agree on (rsize, wsize, nconnect), and
values in percent.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Option → the flag that the kernel shows, and whether it must be there.
FLAGS = {
    **{flag: (flag, True) for flag in ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime")},
    **{flag: (flag, True) for flag in ("sync", "dirsync")},
    **{"suid": ("nosuid", False), "dev": ("nodev", False), "exec": ("noexec", False), "async": ("sync", False)},
    **{"atime": ("noatime", False), "diratime": ("nodiratime", False), "strictatime": ("relatime", False)},
}
NEVER_WRITABLE = frozenset(("squashfs", "erofs", "iso9660", "cramfs", "udf"))
NFS = frozenset(("nfs", "nfs4"))
NUMBERS = frozenset(("size", "nr_inodes"))
# A remount changes these; those of NFS are settled when it is mounted.
CHANGEABLE = NUMBERS | {"errors", "commit"}
SETTLED = frozenset(("vers", "proto", "sec"))
UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# The kernel rounds sizes up to whole pages, of up to 64 KiB on arm64.
PAGE = 1 << 16


@dataclass(frozen=True)
class Difference:
    """how: "remount", "anew" (only mounting it again helps), or "writable": somebody, or the kernel
    after an error, made it read-only, which is not undone unasked.
    """

    option: str
    found: str
    meant: str
    how: str = "remount"


def same_type(wanted: str, live: str) -> bool:
    """The kernel names the version of NFS and the kind of FUSE; a bound folder shows where it comes from."""
    return wanted in ("none", "auto", live) or {wanted, live} <= NFS or live in (f"fuse.{wanted}", f"fuseblk.{wanted}")


def compare(fstype: str, wanted: Sequence[str], live: Sequence[str]) -> tuple[Difference, ...]:
    found = []
    if "ro" not in wanted and "ro" in live and fstype not in NEVER_WRITABLE:
        found.append(Difference("rw", "ro", "rw", "writable"))
    shown = dict(option.split("=", 1) for option in live if "=" in option)
    for option in wanted:
        name, equals, value = option.partition("=")
        name = "vers" if name == "nfsvers" else name
        flag, there = FLAGS.get(option, ("", False))
        if flag and (flag in live) != there:
            found.append(Difference(option, "absent" if there else flag, option))
        elif option == "hard" and fstype in NFS and not {"soft", "softerr"}.isdisjoint(live):
            found.append(Difference(option, "soft", option, "anew"))
        elif option in ("soft", "softerr") and fstype in NFS and "hard" in live:
            found.append(Difference(option, "hard", option, "anew"))
        elif equals and name in shown and not _equal(name, value, shown[name]):
            if name in CHANGEABLE:
                found.append(Difference(name, shown[name], value))
            elif name in SETTLED and fstype in NFS:
                found.append(Difference(name, shown[name], value, "anew"))
    return tuple(found)


def _equal(name: str, wanted: str, live: str) -> bool:
    if name == "vers":  # 4 is any of 4.x
        return live == wanted or live.startswith(f"{wanted}.")
    if name == "proto":  # over IPv6 the kernel shows tcp6
        return live.removesuffix("6") == wanted.removesuffix("6")
    if name in NUMBERS:
        want, have = _number(wanted), _number(live)
        return want is None or have is None or abs(want - have) < (PAGE if name == "size" else 1)
    return wanted == live


def _number(text: str) -> int | None:
    digits, unit = (text[:-1], text[-1:].lower()) if text[-1:].isalpha() else (text, "")
    return int(digits) * UNITS.get(unit, 1) if digits.isdigit() else None
