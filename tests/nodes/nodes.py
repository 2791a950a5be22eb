# SPDX-License-Identifier: GPL-3.0-or-later
"""Real test nodes: systemd containers that are reached by OpenSSH, as any managed machine.

    nodes.py doctor                    what this machine lacks
    nodes.py install                   install that (changes the machine: CI, or INSTALL=1)
    nodes.py image                     build the image once
    nodes.py up a b --flavour full     start nodes; inventory in build/nodes/inventory.yml
    nodes.py exec a -- systemctl status
    nodes.py reset a                   a fresh node of the same name, address and keys
    nodes.py restart a                 "reboot": the disk stays, all processes start anew
    nodes.py down [a …]                remove nodes; without a name, all but those of running tests
    nodes.py down --all                remove those as well

README.md beside this file says what these nodes can and cannot show.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import apt_repo
import host
import image
from host import BRIDGE, CHECKOUT, RUN, STATE, SUBNET, NodesError, lock, podman, run
from identity import (
    INVENTORY,
    Node,
    close_ssh,
    container,
    execute,
    files,
    get,
    hosts_file,
    keys,
    known,
    neighbours,
    publish,
    ssh,
)

FLAVOURS = {
    "base": "the image as it is, without python3-apt",
    "full": "with python3-apt, which Ansible's own apt module needs",
    "dgx": "looks like DGX OS 7 to whoever reads os-release and dgx-release; still Debian underneath",
}
# Named one by one, never --privileged and never "all": a node must not be able to set the
# host's clock (SYS_TIME), load modules, empty its kernel log (SYSLOG) or do raw I/O.
CAPABILITIES = (
    "AUDIT_WRITE", "BPF", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER",
    "KILL", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_TTY_CONFIG",
)  # fmt: skip
BOOT_SECONDS = 90


# --- start and stop ----------------------------------------------------------------------


def up(names: Sequence[str], *, flavour: str = "base", mounts: Sequence[str] = (), owner: int = 0) -> list[Node]:
    """Start nodes that answer by SSH and know each other by name. Running ones stay as they are."""
    if missing := host.doctor():
        raise NodesError("this machine cannot run test nodes, missing: " + "; ".join(missing))
    image.build()
    fresh: list[Node] = []
    try:
        with lock("nodes"):
            _remove_orphans()
            _bridge()
            present = known()
            for name in dict.fromkeys(names):
                if name in present:
                    continue
                taken = {node.number for node in present.values()}
                present[name] = Node(name, next(n for n in range(11, 250) if n not in taken), flavour, [*mounts], owner)
                fresh.append(present[name])
            for node in fresh:
                keys(node)
                node.save()
            publish()
            _create(fresh)
        _boot(fresh)
        _finish(fresh)
    except BaseException:
        if not os.environ.get("NUSY_KEEP_NODES"):  # set it to look at a node that would not start
            down([node.name for node in fresh])
        raise
    return [present[name] for name in names]


def reset(names: Sequence[str]) -> list[Node]:
    """Throw the nodes' disks away and start again under the same names, addresses and keys."""
    nodes = [get(name) for name in names]
    for node in nodes:
        _delete_container(node)
    with lock("nodes"):
        _create(nodes)
    _boot(nodes)
    _finish(nodes)
    return nodes


def restart(names: Sequence[str]) -> list[Node]:
    """Stop and start again with the disk kept: shows what comes back after a reboot."""
    nodes = [get(name) for name in names]
    for node in nodes:
        close_ssh(node)
        run(podman(["stop", "--time", "20", container(node)]), timeout=60)
    _boot(nodes)
    return nodes


def down(names: Iterable[str] | None = None) -> None:
    """Remove nodes; when none is left, everything that is not a cache."""
    with lock("nodes"):
        present = known()
        for name in list(present) if names is None else names:
            if name in present:
                _remove(present.pop(name))
        if not present:
            _remove_rest()
        publish()


def _create(nodes: Sequence[Node]) -> None:
    for node in nodes:
        _create_container(node)
        # --archive would give every file to root.
        run(podman(["cp", "--archive=false", "-", f"{container(node)}:/"]), stdin=files(node))
    shutil.rmtree(host.SCRATCH, ignore_errors=True)


def _finish(nodes: Sequence[Node]) -> None:
    """What needs a running node: package lists, as an installer leaves them, and the flavour."""
    for node in nodes:
        execute(node.name, ["apt-get", "update", "-q"])
        if node.flavour == "full":
            execute(node.name, ["apt-get", "install", "-q", "-y", "python3-apt"])
    for other in {other.name: other for node in nodes for other in neighbours(node)}.values():
        if other not in nodes:
            # Not checked: it may be about to stop, and then it need not know.
            write = ["sh", "-c", 'printf %s "$1" > /etc/hosts', "sh", hosts_file(other)]
            execute(other.name, write, check=False)


def _create_container(node: Node) -> None:
    mounts = [f"{apt_repo.APT}:{apt_repo.SEEN_BY_NODES}", *node.mounts]
    run(podman([
        "create", "--name", container(node), "--hostname", node.name, "--pull=never", "--systemd=always",
        "--cap-drop=all", *(f"--cap-add={capability}" for capability in CAPABILITIES),
        # systemd sandboxes its services with calls that the default filter forbids.
        "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
        # The network is ours (_wire): no firewall rule, no forwarding, no DNS on the host.
        "--network=none", "--no-hosts", f"--cgroup-parent=/{host.CGROUP}",
        *(f"--volume={mount}:ro" for mount in mounts),
        # As on every machine that boots; in a container systemd leaves it as it finds it, and credentials go nowhere.
        image.name(), "/bin/sh", "-c", "mount --make-rshared / && exec /sbin/init",
    ]))  # fmt: skip


def _boot(nodes: Sequence[Node]) -> None:
    """Start all, then wait for all: they boot side by side."""
    for node in nodes:
        run(podman(["start", container(node)]))
        _wire(node)
    deadline = time.monotonic() + BOOT_SECONDS
    for node in nodes:
        _wait_for_systemd(node, deadline)
        _wait_for_ssh(node, deadline)


def _wait_for_systemd(node: Node, deadline: float) -> None:
    state = ""
    # To ask again and again would take more of the machine than the boot itself.
    ask = ["timeout", str(BOOT_SECONDS), "systemctl", "is-system-running", "--wait"]
    while time.monotonic() < deadline:
        state = run(podman(["exec", container(node), *ask]), check=False).strip()
        if state == "running":
            return
        if state == "degraded":
            failed = execute(node.name, ["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
            raise NodesError(f"{node.name} booted with failed units:\n{failed}")
        time.sleep(0.2)
    raise NodesError(f"{node.name} did not finish booting in {BOOT_SECONDS} s, last state: {state or 'none'}")


def _wait_for_ssh(node: Node, deadline: float) -> None:
    last = "nothing tried"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((node.address, 22), timeout=2) as connection:
                answered = connection.recv(4) == b"SSH-"
        except OSError as error:
            last, answered = str(error), False
        if answered:
            run([*ssh(node.name), "true"], timeout=20)  # a refusal now will not go away by waiting
            return
        time.sleep(0.1)
    raise NodesError(f"{node.name} ({node.address}) did not answer by SSH: {last}")


def _remove(node: Node) -> None:
    _delete_container(node)
    shutil.rmtree(node.directory, ignore_errors=True)


def _delete_container(node: Node) -> None:
    close_ssh(node)
    run(podman(["rm", "--force", "--time", "0", "--ignore", container(node)]), timeout=60)


def _remove_orphans() -> None:
    """Nodes of a test run that was killed before it could tidy up."""
    for node in known().values():
        if node.owner and not _owned(node):
            _remove(node)


def _owned(node: Node) -> bool:
    """Whether a test run that is still going on started it."""
    return bool(node.owner) and Path(f"/proc/{node.owner}").exists()


def _remove_rest() -> None:
    run(["ip", "link", "delete", BRIDGE], check=False)
    host.remove_cgroups()
    for directory in (RUN, host.SCRATCH, STATE / "node"):
        shutil.rmtree(directory, ignore_errors=True)


# --- network -----------------------------------------------------------------------------


def _bridge() -> None:
    """One bridge per checkout. The host has an address on it and forwards nothing."""
    if Path("/sys/class/net", BRIDGE).exists():
        return
    routes = run(["ip", "-4", "route", "show", f"{SUBNET}.0/24"])
    if routes.strip():
        raise NodesError(f"the test subnet {SUBNET}.0/24 is in use here: {routes.strip()}")
    run(["ip", "link", "add", BRIDGE, "address", _mac(1), "type", "bridge"])
    run(["ip", "address", "add", f"{SUBNET}.1/24", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])


def _mac(number: int) -> str:
    """Always the same per address: a neighbour that remembers the old one waits for half a minute."""
    return f"02:{':'.join(CHECKOUT[i : i + 2] for i in (0, 2, 4, 6))}:{number:02x}"


def _wire(node: Node) -> None:
    """A cable from the bridge into the node; it disappears with the node."""
    pid = run(podman(["inspect", "--format", "{{.State.Pid}}", container(node)])).strip()
    plug = f"n{CHECKOUT}{node.number}"
    inside = ["nsenter", "-t", pid, "-n", "ip"]
    cable = ["type", "veth", "peer", "name", "eth0", "address", _mac(node.number), "netns", pid]
    run(["ip", "link", "add", plug, *cable])
    run(["ip", "link", "set", plug, "master", BRIDGE, "up"])
    run([*inside, "address", "add", f"{node.address}/24", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])
    # So that the node has a default interface like any machine. Nobody has that address:
    # there is no way out, whatever the host's forwarding is set to.
    run([*inside, "route", "add", "default", "via", f"{SUBNET}.254"])
    # /proc/sys is read-only in a node, because vm.* and most of kernel.* are the host's own.
    # What belongs to the node's own network is made writable again.
    script = """
        mount -t proc proc /mnt && mount --bind /mnt/sys/net /proc/sys/net && umount /mnt
    """
    run(["nsenter", "-t", pid, "-m", "-p", "-n", "--", "sh", "-c", script])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for word in ("doctor", "install", "list"):
        commands.add_parser(word)
    commands.add_parser("image").add_argument("--rebuild", action="store_true")
    starter = commands.add_parser("up")
    starter.add_argument("names", nargs="+")
    starter.add_argument("--flavour", choices=FLAVOURS, default="base")
    starter.add_argument("--mount", action="append", default=[], metavar="HOST:NODE")
    for word in ("reset", "restart"):
        commands.add_parser(word).add_argument("names", nargs="+")
    stopper = commands.add_parser("down")
    stopper.add_argument("names", nargs="*")
    stopper.add_argument("--all", action="store_true")
    for word in ("exec", "ssh"):
        inner = commands.add_parser(word)
        inner.add_argument("name")
        inner.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        return _dispatch(options)
    except NodesError as error:
        print(f"nodes.py: {error}", file=sys.stderr)
        return 1


def _dispatch(options: argparse.Namespace) -> int:
    started = time.monotonic()
    match options.command:
        case "doctor":
            missing = host.doctor()
            print("\n".join(f"missing: {line}" for line in missing) or "this machine can run test nodes")
            return 1 if missing else 0
        case "install":
            host.install()
        case "image":
            for part, seconds in image.build(rebuild=options.rebuild).items():
                print(f"{part}: {seconds:.1f} s")
            print(image.name())
        case "up":
            nodes = up(options.names, flavour=options.flavour, mounts=options.mount)
            print(f"{', '.join(f'{n.name} {n.address}' for n in nodes)} in {time.monotonic() - started:.1f} s")
            print(f"inventory: {INVENTORY}")
        case "reset" | "restart":
            (reset if options.command == "reset" else restart)(options.names)
            print(f"{options.command} in {time.monotonic() - started:.1f} s")
        case "down":
            free = [node.name for node in known().values() if not _owned(node)]
            down(None if options.all else options.names or free)
        case "list":
            for node in known().values():
                print(f"{node.name} {node.address} {node.flavour}")
        case "exec" | "ssh":
            words = options.words[1:] if options.words[:1] == ["--"] else options.words
            inside = container(get(options.name))
            if options.command == "ssh":
                return subprocess.run([*ssh(options.name), *words]).returncode
            terminal = ["-t"] if sys.stdin.isatty() else []
            return subprocess.run(podman(["exec", "-i", *terminal, inside, *words])).returncode
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        os.umask(0o022)
        sys.exit(main())
    sys.exit(130)
