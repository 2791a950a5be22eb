# SPDX-License-Identifier: GPL-3.0-or-later
"""What every emulated machine starts from: QEMU, a disk, and the state right after its first boot.

All of it is kept in one folder per key, made of everything that decides its content. A machine
that is switched on continues from that state, so it is there in a second and never boots twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import shlex
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "nodes"))

import apt_repo
import emulator
import image
from host import REPO, NodesError, run

CACHE = REPO / "build" / "cache" / "machines"
PACKAGES = Path(__file__).with_name("packages.txt")
# Debian 12's QEMU 7.2 panics current kernels when it emulates: always that of this release, on any host.
SUITE = image.SUITE
TOOLS = ("qemu-system-x86", "qemu-utils")
# A server as its installer leaves it, with what a container does not have: kernel, boot loader, udev.
INCLUDE = (
    *image.INCLUDE, "apparmor", "e2fsprogs", "grub-pc", "initramfs-tools", "kmod", "linux-image-amd64",
    "qemu-guest-agent", "udev", "zstd",
)  # fmt: skip
ROOT_UUID = "6e757379-0000-4000-8000-000000000001"
# Speculation is not emulated, so nothing is mitigated by what would only cost time.
OPTIONS = "console=ttyS0 mitigations=off"
# Kept from running while tests measure; they are as enabled as the installer left them.
TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer")
BOOT_SECONDS = 400
HOST_NAME = "machine"
DISK_GIB = 8
KEPT_DAYS = 7

ESSENTIAL = """\
set -eu
root=$1
mkdir -p "$root/etc/initramfs-tools/conf.d"
# Not the modules of this host, and not those of every machine in the world.
echo MODULES=list > "$root/etc/initramfs-tools/conf.d/machine"
printf 'ext4\\nvirtio_pci\\nvirtio_blk\\n' > "$root/etc/initramfs-tools/modules"
echo 'grub-pc grub-pc/install_devices_empty boolean true' | chroot "$root" debconf-set-selections
"""
CUSTOMIZE = """\
set -eu
root=$1
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }
pool="$root/srv/apt/debian"
mkdir -p "$pool"
# One by one: some of them exclude each other.
for package in @WANTED@; do
    in_root apt-get -q -y --no-install-recommends --download-only install "$package" >/dev/null
done
cp "$root"/var/cache/apt/archives/*.deb "$pool/"
in_root useradd --create-home --shell /bin/bash @USER@
printf '%s ALL=(ALL) NOPASSWD: ALL\\n' @USER@ > "$root/etc/sudoers.d/@USER@"
chmod 0440 "$root/etc/sudoers.d/@USER@"
printf 'PasswordAuthentication no\\nPermitRootLogin prohibit-password\\n' > "$root/etc/ssh/sshd_config.d/node.conf"
for home in root home/@USER@; do
    mkdir -p -m 0700 "$root/$home/.ssh"
    cp @KEY@.pub "$root/$home/.ssh/authorized_keys"
done
in_root chown -R @USER@: "/home/@USER@/.ssh"
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
printf 'UUID=%s / ext4 defaults 0 1\\n' @UUID@ > "$root/etc/fstab"
echo @NAME@ > "$root/etc/hostname"
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' @NAME@ > "$root/etc/hosts"
echo '# No name server: nothing leads out of here.' > "$root/etc/resolv.conf"
cat > "$root/etc/systemd/network/machine.network" <<'E'
[Match]
Name=e*
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
E
in_root systemctl -q enable systemd-networkd
# The way in for tests: neither memory pressure nor a crash may close it.
mkdir -p "$root/etc/systemd/system/qemu-guest-agent.service.d"
printf '[Service]\\nOOMScoreAdjust=-1000\\nRestart=always\\n' \
    > "$root/etc/systemd/system/qemu-guest-agent.service.d/test.conf"
sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/; s/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX="@OPTIONS@"/' \
    "$root/etc/default/grub"
printf 'GRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND=serial\n' >> "$root/etc/default/grub"
# What grub-install does, but for the boot sector, which gets a disk of its own.
mkdir -p "$root/boot/grub/i386-pc"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
kernel=$(basename "$root"/boot/vmlinuz-*)
# For the first boot of all: update-grub needs the running machine.
cat > "$root/boot/grub/grub.cfg" <<E
linux /boot/$kernel root=UUID=@UUID@ ro @OPTIONS@ quiet
initrd /boot/initrd.img-${kernel#vmlinuz-}
boot
E
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' @UUID@ > "$root/tmp/grub.cfg"
in_root grub-mkimage -O i386-pc -p /boot/grub -c /tmp/grub.cfg -o /tmp/core.img \
    biosdisk configfile echo ext2 linux normal search search_fs_uuid serial terminal test
cat "$root/usr/lib/grub/i386-pc/boot.img" "$root/tmp/core.img" > @BOOT@
truncate -s 4M @BOOT@
rm "$root/tmp/grub.cfg" "$root/tmp/core.img"
"""
FIRST_BOOT = f"""\
set -eu
update-grub
apt-get update -q
systemctl stop {" ".join(TIMERS)}
# What the first command of each kind would otherwise pay for in every test.
python3 -c 'import json, subprocess, tempfile, zipfile'
sudo -n true
sync
"""


def wanted() -> list[str]:
    lines = (line.split("#")[0].strip() for line in PACKAGES.read_text().splitlines())
    return [line for line in lines if line]


def key() -> str:
    """Changes with anything that decides what a machine starts from; the emulated hardware is part of it."""
    parts = [SUITE, *TOOLS, *INCLUDE, *wanted(), ROOT_UUID, OPTIONS, ESSENTIAL, CUSTOMIZE, FIRST_BOOT, image.SOURCES]
    nowhere = emulator.Files(*[Path()] * 6)
    parts += [str(DISK_GIB), *emulator.hardware(nowhere, 0)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def folder() -> Path:
    return CACHE / key()


def exists() -> bool:
    return (folder() / "state").exists()


def build() -> dict[str, float]:
    """Make it unless it is there; returns the seconds that each part took."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # Beside what it guards: several checkouts may share one cache.
    with (CACHE / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if exists():
            return {}
        _forget_old()
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            seconds = _build(Path(scratch))
            shutil.rmtree(Path(scratch) / "root")
            shutil.rmtree(folder(), ignore_errors=True)
            folder().mkdir()
            for path in Path(scratch).iterdir():
                # The state last: it says that all is there.
                if path.name != "state":
                    path.rename(folder() / path.name)
            (Path(scratch) / "state").rename(folder() / "state")
        return seconds


def _forget_old() -> None:
    """What no checkout has switched a machine on from for a while."""
    for old in CACHE.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(old)


def _build(scratch: Path) -> dict[str, float]:
    tools, root, key_file, boot = scratch / "tools", scratch / "root", scratch / "id_ed25519", scratch / "boot.raw"
    disk, base = scratch / "root.img", scratch / "base.qcow2"
    scratch.chmod(0o755)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "controller", "-f", key_file])
    started = time.monotonic()
    run(["mmdebstrap", "--mode=root", "--variant=extract", f"--include={','.join(TOOLS)}", SUITE, tools], timeout=600)
    fetched = time.monotonic()
    values = {
        "@WANTED@": " ".join(wanted()),
        "@USER@": image.USER,
        "@KEY@": shlex.quote(str(key_file)),
        "@UUID@": ROOT_UUID,
        "@NAME@": HOST_NAME,
        "@OPTIONS@": OPTIONS,
        "@BOOT@": shlex.quote(str(boot)),
    }
    customize = CUSTOMIZE
    for placeholder, value in values.items():
        customize = customize.replace(placeholder, value)
    hooks = []
    for stage, text in (("essential", ESSENTIAL), ("customize", customize)):
        script = scratch / f"{stage}.sh"
        script.write_text(text)
        hooks.append(f'--{stage}-hook=sh {shlex.quote(str(script))} "$1"')
    run(
        ["mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(INCLUDE)}", *hooks,
         "--customize-hook=rm -f \"$1\"/etc/apt/sources.list \"$1\"/etc/apt/sources.list.d/*",
         SUITE, root],
        timeout=1200,
    )  # fmt: skip
    (root / "etc/apt/sources.list.d/node.sources").write_text(image.SOURCES)
    apt_repo.index_and_sign(root / "srv/apt/debian", "debian")
    shutil.copy(apt_repo.PUBLIC_KEY, root / "srv/apt" / apt_repo.PUBLIC_KEY.name)
    shutil.copy(root / "etc/ssh/ssh_host_ed25519_key.pub", scratch / "host_key.pub")
    installed = time.monotonic()
    with disk.open("wb") as handle:
        handle.truncate(DISK_GIB << 30)
    # Without what GRUB's reader of this file system does not know.
    run(["mke2fs", "-q", "-t", "ext4", "-U", ROOT_UUID, "-O", "^metadata_csum_seed,^orphan_file",
         "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d", root, disk], timeout=300)  # fmt: skip
    run([*emulator.tool(tools, "qemu-img"), "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk.name, base])
    files = emulator.Files(tools, boot, base, scratch / "console.log", scratch / "pid", _sockets())
    emulator.start(files, port=free_port())
    try:
        wait_for_boot(emulator.Agent(files), time.monotonic() + BOOT_SECONDS, scratch / "console.log")
        booted = time.monotonic()
        emulator.Agent(files).run(["sh", "-c", FIRST_BOOT], timeout=300)
        emulator.save(files, scratch / "state")
    finally:
        emulator.stop(files)
        shutil.rmtree(files.sockets, ignore_errors=True)
    return {
        "QEMU": fetched - started,
        "mmdebstrap and downloads": installed - fetched,
        "first boot": booted - installed,
        "boot menu, state": time.monotonic() - booted,
    }


def _sockets() -> Path:
    return Path(tempfile.mkdtemp(prefix="nusy-machine-"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_boot(agent: emulator.Agent, deadline: float, console: Path, *, other_than: str = "") -> None:
    """Until systemd has started everything; with ``other_than``, in another boot than that one."""
    while time.monotonic() < deadline:
        time.sleep(0.5)
        if not agent.answers():
            continue
        try:
            if other_than and agent.run(["cat", "/proc/sys/kernel/random/boot_id"]).strip() == other_than:
                continue
            left = max(deadline - time.monotonic(), 1)
            wait = ["systemctl", "is-system-running", "--wait"]
            state = agent.run(wait, timeout=left, check=False).strip()
        except NodesError:
            continue  # it went down while it was asked
        if state == "running":
            return
        if state == "degraded":
            failed = agent.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
            raise NodesError(f"the machine booted with failed units:\n{failed}")
    said = console.read_text("utf-8", "replace")[-1500:]
    raise NodesError(f"the machine did not boot in time; its console ends with:\n{said}")
