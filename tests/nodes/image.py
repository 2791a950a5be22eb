# SPDX-License-Identifier: GPL-3.0-or-later
"""The one image of all test nodes, and the packages they can install without a network.

Both come from one mmdebstrap run, so the packages fit the image. The result is kept under
a key made of everything that decides its content; a second call costs nothing.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import tempfile
import time
from pathlib import Path

from apt_repo import APT, PUBLIC_KEY, SEEN_BY_NODES, AptRepo
from host import CACHE, lock, podman, run

SUITE = "trixie"
PACKAGES = Path(__file__).with_name("packages.txt")
# A small server as its installer leaves it. No python3-apt: the collection must do without.
INCLUDE = (
    "systemd-sysv", "libpam-systemd", "dbus", "python3", "openssh-server", "sudo",
    "ca-certificates", "iproute2", "procps", "netbase", "tzdata",
)  # fmt: skip
USER = "ops"
# Units that make no sense in a container or would reach out of it. systemd-binfmt once
# removed the host's own registrations; udev would answer for the host's devices.
MASKED = (
    "systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket",
    "systemd-udev-trigger.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount", "modprobe@.service", "systemd-modules-load.service",
    "auditd.service", "audit-rules.service", "console-getty.service", "getty@.service",
    "systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service",
    "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-sysctl.service",
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
)  # fmt: skip
SOURCES = f"""\
Types: deb
URIs: file:{SEEN_BY_NODES}/debian
Suites: ./
Signed-By: {SEEN_BY_NODES}/{PUBLIC_KEY.name}
"""
# Runs in the finished root ($1), before apt's lists and archives are cleaned away.
# shellcheck-style note: every step must succeed, a half-made image is thrown away.
CUSTOMIZE = """\
set -eu
root=$1
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }
fetch() { in_root apt-get -q -y --download-only install "$@" >/dev/null; }
# What the image holds, so that a removed package can be put back.
fetch --reinstall $(in_root dpkg-query -W -f '${Package} ')
# One by one: some of them exclude each other.
for package in @WANTED@; do
    fetch -o APT::Install-Recommends=true "$package"
done
cp "$root"/var/cache/apt/archives/*.deb @POOL@/
in_root useradd --create-home --shell /bin/bash @USER@
printf '%s ALL=(ALL) NOPASSWD: ALL\\n' @USER@ > "$root/etc/sudoers.d/@USER@"
chmod 0440 "$root/etc/sudoers.d/@USER@"
printf 'PasswordAuthentication no\\nPermitRootLogin prohibit-password\\n' > "$root/etc/ssh/sshd_config.d/node.conf"
rm -f "$root"/etc/ssh/ssh_host_*
for unit in @MASKED@; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
: > "$root/etc/fstab"
"""


def wanted() -> list[str]:
    lines = (line.split("#")[0].strip() for line in PACKAGES.read_text().splitlines())
    return [line for line in lines if line]


def key() -> str:
    """Changes with anything that decides what is in the image or in the pool."""
    text = "\n".join([SUITE, CUSTOMIZE, SOURCES, USER, *INCLUDE, *MASKED, *wanted()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def name() -> str:
    return f"localhost/nusy-node:{key()}"


def exists() -> bool:
    marker = CACHE / f"image-{key()}"
    return marker.exists() and (APT / "debian" / "InRelease").exists()


def build(*, rebuild: bool = False) -> dict[str, float]:
    """Make image and pool unless they are there; returns the seconds that each part took."""
    with lock("image"):
        if exists() and not rebuild:
            return {}
        for old in CACHE.glob("image-*"):
            old.unlink()
        APT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            return _build(Path(scratch))


def _build(scratch: Path) -> dict[str, float]:
    pool, rootfs, hook = scratch / "pool", scratch / "rootfs.tar", scratch / "customize.sh"
    pool.mkdir()
    values = {
        "@WANTED@": " ".join(wanted()),
        "@POOL@": shlex.quote(str(pool)),
        "@USER@": USER,
        "@MASKED@": " ".join(MASKED),
    }
    text = CUSTOMIZE
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    hook.write_text(text)
    started = time.monotonic()
    run(
        ["mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(INCLUDE)}",
         f"--customize-hook=sh {shlex.quote(str(hook))} \"$1\"",
         # After the hook, because until then apt needs the real archive.
         "--customize-hook=rm -f \"$1\"/etc/apt/sources.list \"$1\"/etc/apt/sources.list.d/*",
         f"--customize-hook=printf %s {shlex.quote(SOURCES)} > \"$1\"/etc/apt/sources.list.d/node.sources",
         SUITE, rootfs],
        timeout=900,
    )  # fmt: skip
    bootstrapped = time.monotonic()
    AptRepo("debian").publish(debs=sorted(pool.glob("*.deb")))
    published = time.monotonic()
    images = run(podman(["images", "--quiet", "--filter", "reference=localhost/nusy-node"])).split()
    if images:
        # Without --force: an older image that a running node still uses stays.
        run(podman(["rmi", *images]), check=False)
    run(podman(["import", "--quiet", rootfs, name()]), timeout=300)
    shutil.rmtree(pool)
    (CACHE / f"image-{key()}").touch()
    return {
        "mmdebstrap and downloads": bootstrapped - started,
        "local repository": published - bootstrapped,
        "podman import": time.monotonic() - published,
    }
