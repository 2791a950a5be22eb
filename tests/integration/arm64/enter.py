# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a root for arm64 on any machine, by emulating its processor.

usage: enter.py ROOT COMMAND [ARGUMENT …]      ROOT "/": the machine's own, to make another one

The kernel is told of the emulator inside a user namespace alone (Linux 6.7): nothing of the
machine changes, and nothing is left when the command ends. Needs root and qemu-user-static.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

NAMESPACES = 0x10000000 | 0x00020000  # CLONE_NEWUSER | CLONE_NEWNS
BINFMT = "/proc/sys/fs/binfmt_misc"
EMULATOR = "/usr/lib/binfmt.d/qemu-aarch64.conf"
SCRIPT = f"""
mount -t binfmt_misc none {BINFMT}
cat {EMULATOR} > {BINFMT}/register
root=$1; shift
[ "$root" = / ] && exec "$@"
for place in proc sys dev; do mount --rbind "/$place" "$root/$place"; done
for place in run tmp; do mount -t tmpfs -o mode=1777 none "$root/$place"; done
cat /etc/resolv.conf > "$root/etc/resolv.conf"
exec chroot "$root" "$@"
"""
# All that files of a Debian can belong to.
MAP = "0 0 65536\n"


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        sys.stderr.write(f"{__doc__}\n")
        return 64
    there, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(NAMESPACES):
            sys.stderr.write(f"no namespaces: {os.strerror(ctypes.get_errno())}\n")
            os._exit(1)
        os.write(there[1], b"x")
        os.read(go[0], 1)  # the maps are written
        os.setgid(0)
        os.setuid(0)
        os.execv("/bin/sh", ["/bin/sh", "-euc", SCRIPT, "enter", *arguments])
    os.close(there[1])
    if os.read(there[0], 1):
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(MAP, encoding="ascii")
        os.write(go[1], b"x")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
