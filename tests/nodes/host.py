# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine that carries the test nodes must have, and how podman is called on it.

Nothing of the machine's own podman is used or changed: images and containers are kept
under build/cache/nodes, run-time state under /run/nusy-<id of this checkout>.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
CACHE = REPO / "build" / "cache" / "nodes"
STATE = REPO / "build" / "nodes"
# Two checkouts on one machine must not share a bridge, a subnet or a podman.
CHECKOUT = hashlib.sha256(os.fsencode(REPO)).hexdigest()[:8]
RUN = Path("/run") / f"nusy-{CHECKOUT}"
CGROUP = f"nusy-{CHECKOUT}"
SCRATCH = STATE / "scratch"
BRIDGE = f"nusy{CHECKOUT}"
# 198.18.0.0/15 is reserved for tests of network gear: nobody's office or VPN uses it.
SUBNET = f"198.{18 + (int(CHECKOUT[0], 16) & 1)}.{int(CHECKOUT[1:3], 16)}"

# Tool → Debian or Ubuntu package that brings it.
TOOLS = {
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "netavark": "netavark",  # podman 4 will not start without a network backend, used or not
    "aardvark-dns": "aardvark-dns",
    "mmdebstrap": "mmdebstrap",
    "apt-ftparchive": "apt-utils",
    "dpkg-deb": "dpkg",
    "gpg": "gnupg",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
# The oldest releases with what is asked of them; those of Debian 12 are the oldest that were tried. Podman: a network
# backend that can be absent, and locks in files. mmdebstrap: trixie, whose /bin is a link.
OLDEST = {"podman": (4, 3), "runc": (1, 1), "mmdebstrap": (1, 3)}
# Not in PATH: podman looks for its helpers here.
HELPER_DIRECTORIES = "/usr/local/libexec/podman:/usr/libexec/podman:/usr/local/lib/podman:/usr/lib/podman"
# Roles that would change the kernel of the machine that carries the nodes, or prove nothing here: no
# run on these nodes plays them; tests/machines has what they need. A contract test says which ones these are.
NEED_A_KERNEL: tuple[str, ...] = ("kernel_tuning", "memory_guard", "os_hardening")
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

CONTAINERS_CONF = """\
[containers]
# The values that still work where the caller may not raise limits (no CAP_SYS_RESOURCE).
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
cgroupns = "private"
# 0 = no limit: the controller "pids" is missing from cgroup2 on hosts that give it to cgroup1.
pids_limit = 0
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
# The default is one shared-memory segment for all of the machine.
lock_type = "file"
[network]
network_config_dir = "{run}/networks"
"""

STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{graph}"
runroot = "{run}/storage"
"""


class NodesError(Exception):
    """Says what went wrong with the test nodes and what to do."""


def run(argv: Sequence[str | Path], *, timeout: float = 120, stdin: bytes | None = None, check: bool = True) -> str:
    """Standard output of a command, bounded in time; its last words in the error."""
    command = [str(part) for part in argv]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NodesError(f"still running after {timeout:g} s: {_shown(command)}") from error
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if check and done.returncode != 0:
        said = "\n".join((err + out).strip().splitlines()[-25:])
        raise NodesError(f"exit {done.returncode}: {_shown(command)}\n{said}")
    return out


def _shown(command: list[str]) -> str:
    """The part of a command that says something: not the way into the private namespace."""
    return " ".join(command[command.index("podman") :] if "podman" in command else command)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """One at a time in this checkout: two test runs must not build or address the same thing."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cgroup2_is_whole() -> bool:
    """True where /sys/fs/cgroup itself is cgroup2, as on every current distribution."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, where, kind, *_rest = line.split()
        if where == "/sys/fs/cgroup":
            return kind == "cgroup2"
    return False


def private_namespace(command: Sequence[str | Path]) -> list[str]:
    """``command`` as it sees a machine whose /sys/fs/cgroup is nothing but cgroup2.

    systemd in a container needs that, and a host with cgroup1 controllers does not offer it.
    The mount namespace lives as long as the command and the container it starts: nothing is
    pinned on the host, so nothing can be left behind there.
    """
    argv = [str(part) for part in command]
    if cgroup2_is_whole():
        return argv
    script = 'umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh", *argv]


def podman(arguments: Sequence[str | Path]) -> list[str]:
    """The command line of this checkout's own podman."""
    RUN.mkdir(mode=0o700, exist_ok=True)
    containers, storage = RUN / "containers.conf", RUN / "storage.conf"
    if not storage.exists():
        containers.write_text(CONTAINERS_CONF.format(run=RUN))
        storage.write_text(STORAGE_CONF.format(graph=CACHE / "podman", run=RUN))
    # podman forgets to remove the archives it was given by a pipe: they go where we clear up.
    SCRATCH.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = (f"CONTAINERS_CONF={containers}", f"CONTAINERS_STORAGE_CONF={storage}", f"TMPDIR={SCRATCH}")
    return private_namespace(["env", *settings, "podman", "--tmpdir", RUN / "tmp", *arguments])


def remove_cgroups() -> None:
    """The empty groups in which the containers ran; podman leaves their parents behind."""
    script = 'test ! -d "$1" || find "$1" -depth -type d -exec rmdir {} +'
    run(private_namespace(["sh", "-c", script, "sh", f"/sys/fs/cgroup/{CGROUP}"]), check=False)


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:{HELPER_DIRECTORIES}")


@functools.cache
def versions() -> dict[str, str]:
    """What the tools of OLDEST say of themselves; those that are not there say nothing."""
    found = {}
    for tool in OLDEST:
        if path := _which(tool):
            said = re.search(r"\d+(?:\.\d+)+", run([path, "--version"], timeout=20, check=False))
            found[tool] = said.group() if said else "of unknown version"
    return found


def packages() -> list[str]:
    """What apt-get would have to bring."""
    lacking = {package for tool, package in TOOLS.items() if _which(tool) is None}
    return sorted(lacking if DEBIAN_KEYRING.exists() else {*lacking, "debian-archive-keyring"})


def _too_old(tool: str, version: str) -> bool:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST[tool]


def doctor() -> list[str]:
    """What is missing here, one sentence each; empty when nodes can run."""
    missing = [f"{tool} (package {package})" for tool, package in TOOLS.items() if _which(tool) is None]
    if not DEBIAN_KEYRING.exists():
        missing.append(f"{DEBIAN_KEYRING} (package debian-archive-keyring)")
    missing += [
        f"{tool} {'.'.join(map(str, OLDEST[tool]))} or newer: this is {version}, and a newer system would bring it"
        for tool, version in versions().items()
        if _too_old(tool, version)
    ]
    if os.geteuid() != 0:
        missing.append("root: containers with systemd need it, run with sudo")
    elif not missing:
        try:
            run(private_namespace(["test", "-e", "/sys/fs/cgroup/cgroup.controllers"]), timeout=20)
        except NodesError as error:
            missing.append(f"cgroup2 cannot be mounted in a private mount namespace: {error}")
    return missing


def install() -> None:
    """Install what ``doctor`` misses from the machine's own package sources."""
    if os.geteuid() != 0:
        raise NodesError("installing packages needs root")
    packages = sorted({*TOOLS.values(), "debian-archive-keyring"})
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run([*environment, "apt-get", "update", "-q"], timeout=300)
    run([*environment, "apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], timeout=600)
