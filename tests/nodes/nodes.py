# SPDX-License-Identifier: GPL-3.0-or-later
"""Real test nodes: systemd containers that are reached by OpenSSH, as any managed machine.

    nodes.py doctor                    what this machine lacks
    nodes.py install                   install that (changes the machine: CI, or INSTALL=1)
    nodes.py image                     build the image once
    nodes.py up a b --flavour full     start nodes; inventory in build/nodes/inventory.yml
    nodes.py exec a -- systemctl status
    nodes.py reset a                   a fresh node of the same name, address and keys
    nodes.py restart a                 "reboot": the disk stays, all processes start anew
    nodes.py down [a …]                remove nodes; all of them without a name

README.md beside this file says what these nodes can and cannot show.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import apt_repo
import host
import image
from host import BRIDGE, CHECKOUT, RUN, STATE, SUBNET, NodesError, lock, podman, run

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
INVENTORY = STATE / "inventory.yml"
SSH_CONFIG = STATE / "ssh_config"
KNOWN_HOSTS = STATE / "known_hosts"
KEY = STATE / "id_ed25519"
BOOT_SECONDS = 90


@dataclass
class Node:
    name: str
    number: int
    flavour: str = "base"
    mounts: list[str] = field(default_factory=list)  # "/host/path:/node/path", always read-only
    owner: int = 0  # process id after whose end the node may be removed; 0 = nobody's

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

    @property
    def directory(self) -> Path:
        return STATE / "node" / self.name

    def save(self) -> None:
        (self.directory / "node.json").write_text(json.dumps(asdict(self)))


def known() -> dict[str, Node]:
    """Every node that was brought up and not taken down, by name."""
    files = sorted((STATE / "node").glob("*/node.json"))
    nodes = [Node(**json.loads(path.read_text())) for path in files]
    return {node.name: node for node in nodes}


def get(name: str) -> Node:
    try:
        return known()[name]
    except KeyError:
        raise NodesError(f"no node {name!r}; there are: {', '.join(known()) or 'none'}") from None


# --- start and stop ----------------------------------------------------------------------


def up(names: Sequence[str], *, flavour: str = "base", mounts: Sequence[str] = (), owner: int = 0) -> list[Node]:
    """Start nodes that answer by SSH and know each other by name. Running ones stay as they are."""
    if missing := host.doctor():
        raise NodesError("this machine cannot run test nodes, missing: " + "; ".join(missing))
    image.build()
    with lock("nodes"):
        _remove_orphans()
        _bridge()
        present = known()
        fresh = []
        for name in dict.fromkeys(names):
            if name in present:
                continue
            taken = {node.number for node in present.values()}
            number = next(n for n in range(11, 250) if n not in taken)
            present[name] = Node(name, number, flavour, [*mounts], owner)
            fresh.append(present[name])
        try:
            _start(fresh, present.values())
        except BaseException:
            if not os.environ.get("NUSY_KEEP_NODES"):  # set it to look at a node that would not start
                for node in fresh:
                    _remove(node)
                _publish()
            raise
        return [present[name] for name in names]


def reset(names: Sequence[str]) -> list[Node]:
    """Throw the nodes' disks away and start again under the same names, addresses and keys."""
    with lock("nodes"):
        nodes = [get(name) for name in names]
        for node in nodes:
            _delete_container(node)
        _start(nodes, known().values())
        return nodes


def restart(names: Sequence[str]) -> list[Node]:
    """Stop and start again with the disk kept: shows what comes back after a reboot."""
    with lock("nodes"):
        nodes = [get(name) for name in names]
        for node in nodes:
            _close_ssh(node)
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
        _publish()


def container(node: Node) -> str:
    return f"nusy-{CHECKOUT}-{node.name}"


def _start(nodes: Sequence[Node], everybody: Iterable[Node]) -> None:
    hosts = "127.0.0.1 localhost\n" + "".join(f"{node.address} {node.name}\n" for node in everybody)
    for node in nodes:
        node.directory.mkdir(parents=True, exist_ok=True)
        _keys(node)
        node.save()
        _create(node)
        # --archive would give every file to root.
        run(podman(["cp", "--archive=false", "-", f"{container(node)}:/"]), stdin=_files(node, hosts))
    shutil.rmtree(host.SCRATCH)
    _publish()
    _boot(nodes)
    for node in known().values():
        if node not in nodes:
            execute(node.name, ["sh", "-c", 'printf %s "$1" > /etc/hosts', "sh", hosts])
    for node in nodes:
        execute(node.name, ["apt-get", "update", "-q"])  # as an installer leaves a machine
        if node.flavour == "full":
            execute(node.name, ["apt-get", "install", "-q", "-y", "python3-apt"])


def _create(node: Node) -> None:
    mounts = [f"{apt_repo.APT}:{apt_repo.SEEN_BY_NODES}", *node.mounts]
    run(podman([
        "create", "--name", container(node), "--hostname", node.name, "--pull=never", "--systemd=always",
        "--cap-drop=all", *(f"--cap-add={capability}" for capability in CAPABILITIES),
        # systemd sandboxes its services with calls that the default filter forbids.
        "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
        # The network is ours (_wire): no firewall rule, no forwarding, no DNS on the host.
        "--network=none", "--no-hosts", f"--cgroup-parent=/{host.CGROUP}",
        *(f"--volume={mount}:ro" for mount in mounts),
        image.name(), "/sbin/init",
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
    while time.monotonic() < deadline:
        state = run(podman(["exec", container(node), "systemctl", "is-system-running"]), check=False).strip()
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
    _close_ssh(node)
    run(podman(["rm", "--force", "--time", "0", "--ignore", container(node)]), timeout=60)


def _remove_orphans() -> None:
    """Nodes of a test run that was killed before it could tidy up."""
    for node in known().values():
        if node.owner and not Path(f"/proc/{node.owner}").exists():
            _remove(node)


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


# --- keys, files, inventory --------------------------------------------------------------


def _keys(node: Node) -> None:
    """Key pairs of the controller and of the node, made here so that they can be pinned."""
    node_key = node.directory / "ssh_host_ed25519_key"
    for path, comment in ((KEY, "controller"), (node_key, node.name)):
        if not path.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    machine_id = node.directory / "machine-id"
    if not machine_id.exists():
        machine_id.write_text(uuid.uuid4().hex + "\n")


def _files(node: Node, hosts: str) -> bytes:
    """What makes this node this node, as a tar archive of its root."""
    read = Path.read_text
    public = read(KEY.with_suffix(".pub"))
    entries: dict[str, tuple[str, int, int]] = {
        "etc/hosts": (hosts, 0o644, 0),
        "etc/resolv.conf": ("# No name server: nodes know each other from /etc/hosts.\n", 0o644, 0),
        "etc/machine-id": (read(node.directory / "machine-id"), 0o444, 0),
        "etc/ssh/ssh_host_ed25519_key": (read(node.directory / "ssh_host_ed25519_key"), 0o600, 0),
        "etc/ssh/ssh_host_ed25519_key.pub": (read(node.directory / "ssh_host_ed25519_key.pub"), 0o644, 0),
        "root/.ssh/authorized_keys": (public, 0o600, 0),
        f"home/{image.USER}/.ssh/authorized_keys": (public, 0o600, 1000),
    }
    if node.flavour == "dgx":
        for path in sorted((Path(__file__).parent / "dgx").iterdir()):
            entries[f"etc/{path.name}"] = (read(path), 0o644, 0)
    return tar(entries)


def tar(entries: Mapping[str, tuple[str, int, int]]) -> bytes:
    """path → (content, mode, owner) as a tar archive; .ssh folders are private."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (content, mode, owner) in entries.items():
            folder = tarfile.TarInfo(str(Path(path).parent))
            folder.type, folder.uid, folder.gid = tarfile.DIRTYPE, owner, owner
            folder.mode = 0o700 if folder.name.endswith(".ssh") else 0o755
            archive.addfile(folder)
            data = content.encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, owner, owner
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _publish() -> None:
    """Write known_hosts, SSH configuration and inventory for the nodes that exist."""
    nodes = list(known().values())
    if not nodes:
        for path in (INVENTORY, SSH_CONFIG, KNOWN_HOSTS):
            path.unlink(missing_ok=True)
        return
    RUN.mkdir(mode=0o700, exist_ok=True)
    pins, blocks = [], []
    for node in nodes:
        public = (node.directory / "ssh_host_ed25519_key.pub").read_text().split()
        pins.append(f"{node.name},{node.address} {public[0]} {public[1]}\n")
        blocks.append(f"Host {node.name}\n    HostName {node.address}\n    HostKeyAlias {node.name}\n")
    KNOWN_HOSTS.write_text("".join(pins))
    common = {
        "User": image.USER,
        "IdentityFile": f'"{KEY}"',
        "IdentitiesOnly": "yes",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{KNOWN_HOSTS}"',
        "GlobalKnownHostsFile": "none",
        "UpdateHostKeys": "no",
        "ConnectTimeout": "10",
        "ControlMaster": "auto",
        "ControlPersist": "60",
        "ControlPath": _control_path(),
    }
    settings = "".join(f"    {key} {value}\n" for key, value in common.items())
    SSH_CONFIG.write_text("".join(blocks) + "Host *\n" + settings)
    INVENTORY.write_text(json.dumps(inventory(node.name for node in nodes), indent=2) + "\n")


def _control_path() -> str:
    return f"{RUN}/ssh-%n-%r"


def inventory(names: Iterable[str]) -> dict[str, object]:
    """An Ansible inventory of these nodes; every JSON document is YAML.

    Root is asked for with --become: ``ansible_become`` here would overrule a task's ``become: false``.
    """
    sharing = ("ControlMaster=auto", "ControlPersist=60s", f"ControlPath={_control_path()}")
    # Named here as well, because Ansible looks for ControlPersist in its own arguments.
    arguments = ["-F", str(SSH_CONFIG), *(word for option in sharing for word in ("-o", option))]
    variables = {
        "ansible_user": image.USER,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_args": shlex.join(arguments),
    }
    hosts = {name: {"spark_test_address": get(name).address} for name in names}
    return {"all": {"children": {"spark": {"hosts": hosts, "vars": variables}}}}


def ssh(name: str) -> list[str]:
    """The OpenSSH command line to a node: pinned host key, no question asked."""
    return ["ssh", "-F", str(SSH_CONFIG), "-o", "BatchMode=yes", name]


def _close_ssh(node: Node) -> None:
    """End shared connections: they would answer for the node that is about to go away."""
    for control in RUN.glob(f"ssh-{node.name}-*"):
        run(["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", node.name], check=False)
        control.unlink(missing_ok=True)


# --- inside a node -----------------------------------------------------------------------


def execute(name: str, command: Sequence[str], *, timeout: float = 300, check: bool = True) -> str:
    """Run a command on a node as root without SSH.

    By ``podman exec`` and never by nsenter: that would keep the host's capabilities.
    """
    return run(podman(["exec", container(get(name)), *command]), timeout=timeout, check=check)


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
    commands.add_parser("down").add_argument("names", nargs="*")
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
            down(options.names or None)
        case "list":
            for node in known().values():
                print(f"{node.name} {node.address} {node.flavour}")
        case "exec" | "ssh":
            words = options.words[1:] if options.words[:1] == ["--"] else options.words
            terminal = ["-t"] if sys.stdin.isatty() else []
            get(options.name)
            command = podman(["exec", "-i", *terminal, container(get(options.name)), *words])
            return subprocess.run(command if options.command == "exec" else [*ssh(options.name), *words]).returncode
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        os.umask(0o022)
        sys.exit(main())
    sys.exit(130)
