# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a node is and how one gets to it: name, address, keys, files of its own, inventory.

All of it is made on the controller's side and survives a reset of the node, so host keys
can be pinned before the first connection.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import tarfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import image
from host import CHECKOUT, RUN, STATE, SUBNET, NodesError, podman, run

INVENTORY = STATE / "inventory.yml"
# A node may not set the clock of the machine that carries it, and systemd would skip time services
# in a container. Under their true names something sleeps: enabling, starting and stopping stay real.
TIME_SERVICES = ("systemd-timesyncd", "chrony")
STAND_IN = """\
[Unit]
ConditionVirtualization=
ConditionCapability=
[Service]
Type=exec
PIDFile=
ExecStart=
ExecStart=/usr/bin/sleep infinity
WatchdogSec=0
User=root
AmbientCapabilities=
CapabilityBoundingSet=
"""
SSH_CONFIG = STATE / "ssh_config"
KNOWN_HOSTS = STATE / "known_hosts"
KEY = STATE / "id_ed25519"


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
        _replace(self.directory / "node.json", json.dumps(asdict(self)))


def known() -> dict[str, Node]:
    """Every node that was brought up and not taken down, by name."""
    found = {}
    for path in sorted((STATE / "node").glob("*/node.json")):
        with contextlib.suppress(FileNotFoundError):  # another test run takes its node down right now
            node = Node(**json.loads(path.read_text()))
            found[node.name] = node
    return found


def _replace(path: Path, text: str) -> None:
    """Write a file whole: other test runs read it at any moment."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


def get(name: str) -> Node:
    try:
        return known()[name]
    except KeyError:
        raise NodesError(f"no node {name!r}; there are: {', '.join(known()) or 'none'}") from None


def container(node: Node) -> str:
    return f"nusy-{CHECKOUT}-{node.name}"


def neighbours(node: Node) -> list[Node]:
    """The nodes that this one knows by name: those of the same test run, itself among them."""
    return [other for other in known().values() if other.owner == node.owner]


def hosts_file(node: Node) -> str:
    return "127.0.0.1 localhost\n" + "".join(f"{other.address} {other.name}\n" for other in neighbours(node))


def keys(node: Node) -> None:
    """Key pairs of the controller and of the node, and the node's machine id."""
    node.directory.mkdir(parents=True, exist_ok=True)
    node_key = node.directory / "ssh_host_ed25519_key"
    for path, comment in ((KEY, "controller"), (node_key, node.name)):
        if not path.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    machine_id = node.directory / "machine-id"
    if not machine_id.exists():
        machine_id.write_text(uuid.uuid4().hex + "\n")


def files(node: Node) -> bytes:
    """What makes this node this node, as a tar archive of its root."""
    read = Path.read_text
    public = read(KEY.with_suffix(".pub"))
    entries: dict[str, tuple[str, int, int]] = {
        "etc/hosts": (hosts_file(node), 0o644, 0),
        "etc/resolv.conf": ("# No name server: nodes know each other from /etc/hosts.\n", 0o644, 0),
        "etc/machine-id": (read(node.directory / "machine-id"), 0o444, 0),
        "etc/ssh/ssh_host_ed25519_key": (read(node.directory / "ssh_host_ed25519_key"), 0o600, 0),
        "etc/ssh/ssh_host_ed25519_key.pub": (read(node.directory / "ssh_host_ed25519_key.pub"), 0o644, 0),
        "root/.ssh/authorized_keys": (public, 0o600, 0),
        f"home/{image.USER}/.ssh/authorized_keys": (public, 0o600, 1000),
        **{f"etc/systemd/system/{name}.service.d/stand-in.conf": (STAND_IN, 0o644, 0) for name in TIME_SERVICES},
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


def publish() -> None:
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
    _replace(KNOWN_HOSTS, "".join(pins))
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
    _replace(SSH_CONFIG, "".join(blocks) + "Host *\n" + settings)
    _replace(INVENTORY, json.dumps(inventory(node.name for node in nodes), indent=2) + "\n")


def _control_path() -> str:
    return f"{RUN}/ssh-%n-%r"


def variables(name: str) -> dict[str, object]:
    """How Ansible gets to a node.

    Root is asked for with --become: ``ansible_become`` here would overrule a task's ``become: false``.
    """
    sharing = ("ControlMaster=auto", "ControlPersist=60s", f"ControlPath={_control_path()}")
    # Named here as well, because Ansible looks for ControlPersist in its own arguments.
    arguments = ["-F", str(SSH_CONFIG), *(word for option in sharing for word in ("-o", option))]
    return {
        "ansible_user": image.USER,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_args": shlex.join(arguments),
        "node_test_address": get(name).address,
    }


def inventory(names: Iterable[str]) -> dict[str, object]:
    """An Ansible inventory of these nodes; every JSON document is YAML."""
    return {"all": {"children": {"spark": {"hosts": {name: variables(name) for name in names}}}}}


def ssh(name: str) -> list[str]:
    """The OpenSSH command line to a node: pinned host key, no question asked."""
    return ["ssh", "-F", str(SSH_CONFIG), "-o", "BatchMode=yes", name]


def close_ssh(node: Node) -> None:
    """End shared connections: they would answer for the node that is about to go away."""
    for control in RUN.glob(f"ssh-{node.name}-*"):
        run(["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", node.name], check=False)
        control.unlink(missing_ok=True)


def execute(name: str, command: Sequence[str], *, timeout: float = 300, check: bool = True) -> str:
    """Run a command on a node as root without SSH.

    By ``podman exec`` and never by nsenter: that would keep the host's capabilities.
    """
    return run(podman(["exec", container(get(name)), *command]), timeout=timeout, check=check)
